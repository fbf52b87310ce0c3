"""The files that ``predict`` reads and writes: regular ones, ``-`` for stdin and stdout, pipes and devices."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile, TemporaryFile
from typing import IO, BinaryIO, TextIO

from abalone.settings import UserError
from abalone.tracking.drafts import draft_of, remove_dead_drafts
from abalone.tracking.plain_errors import fault

STDOUT = ("-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")
STDIN = ("-", "/dev/stdin")
LARGEST_COPY = 10_000_000  # bytes of a file that a run keeps; of a larger one it keeps digest and path


def shown_source(source: str) -> str:
    """How messages name an input."""
    return "stdin" if source in STDIN else source


def shown_target(target: str) -> str:
    """How messages name an output."""
    return "stdout" if target in STDOUT else target


def _path(what: str, given: str) -> Path:
    """The path that was given, which need not exist."""
    try:
        path = Path(given).expanduser()
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return path
    except (OSError, ValueError, RuntimeError) as error:  # too long, a NUL in it, an unknown ~user
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{what} {given!r}: not a path that can be used ({reason})") from None
    return path


@contextmanager
def open_input(source: str, stdin: BinaryIO) -> Iterator[BinaryIO]:
    """Open a file to read as bytes; what cannot be read twice, such as a pipe, is copied to a temporary file first.

    Parameters
    ----------
    source : str
        Path, or ``-`` for ``stdin``.
    stdin : binary file

    Raises
    ------
    UserError
        If it cannot be read.
    """
    if source in STDIN:
        with _copy(stdin) as file:
            yield file
        return
    path = _path("input", source)
    if not source or not path.exists() or path.is_dir():
        raise UserError(f"input {source!r}: no such file in {Path.cwd()}; give -P input=ROWS.csv, or - for stdin")
    try:
        opened = path.open("rb")
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error
    with opened as file:
        if path.is_file():
            yield file
        else:
            with _copy(file) as copied:
                yield copied


@contextmanager
def _copy(file: BinaryIO) -> Iterator[BinaryIO]:
    with TemporaryFile() as copied:
        shutil.copyfileobj(file, copied)
        copied.seek(0)
        yield copied


@contextmanager
def open_output(target: str, stdout: TextIO) -> Iterator[IO[str]]:
    """Open a text file to write, of which nothing appears before the block ends without an error.

    Parameters
    ----------
    target : str
        Path, or ``-`` for ``stdout``. A file that is replaced keeps its mode, and a symbolic link stays a link.
    stdout : text file

    Raises
    ------
    UserError
        If it cannot be written.
    """
    if target in STDOUT:
        with _deliver_to(stdout, target) as file:
            yield file
        return
    given = _path("output", target)
    if given.is_fifo() or given.is_char_device():
        with given.open("w", encoding="utf-8") as device, _deliver_to(device, target) as file:
            yield file
        return
    path = Path(os.path.realpath(given))
    if not target or not path.parent.is_dir():
        raise UserError(f"output {target!r}: not a file in a folder that exists; give -P output=SCORED.csv")
    if os.path.lexists(path) and not path.is_file():
        raise UserError(f"output {target!r}: cannot be written; give -P output=SCORED.csv, or - for stdout")
    with _replacement_of(path) as file:
        yield file


@contextmanager
def _deliver_to(stream: IO[str], name: str) -> Iterator[IO[str]]:
    """Collect text in a temporary file, and copy it to a stream at the end."""
    with NamedTemporaryFile("w+", encoding="utf-8") as file:
        yield file
        file.seek(0)
        try:
            shutil.copyfileobj(file, stream)
            stream.flush()
        except BrokenPipeError as error:
            raise UserError(f"output {name!r}: its reader went away") from error


@contextmanager
def _replacement_of(path: Path) -> Iterator[TextIO]:
    remove_dead_drafts(path)
    part = draft_of(path)
    try:
        with part.open("w", encoding="utf-8") as file:
            if path.exists():
                shutil.copymode(path, part)
            yield file
        part.replace(path)
    except OSError as error:
        error.filename = str(path)  # it names the part, which tells the user nothing
        raise UserError(fault(error) or f"{path}: {error.strerror}") from error
    finally:
        part.unlink(missing_ok=True)


def skipped_file(target: str) -> str:
    """Where the rows that were left out are listed: beside the output, or nowhere if that is stdout or a pipe."""
    given = Path(target).expanduser()
    if target in STDOUT or (given.exists() and not given.is_file()):
        return os.devnull
    path = Path(os.path.realpath(given))
    return str(path.with_name(f"{path.stem}.skipped.csv"))


def digest(file: IO[str]) -> str:
    """SHA-256 of what has been written to a file."""
    with open(file.name, "rb") as written:
        return hashlib.file_digest(written, "sha256").hexdigest()


def keep_copy(file: IO[str], folder: Path | None, name: str) -> None:
    """Copy what has been written to a file into a folder, unless it is larger than ``LARGEST_COPY``."""
    if folder and os.path.getsize(file.name) <= LARGEST_COPY:
        shutil.copyfile(file.name, folder / name)

"""The journal file in which Optuna keeps studies, and what a power cut or a full disk leaves of it.

Optuna appends a line of JSON per operation. If the last line was not written to its end, the next one is appended to
it, and then neither they nor any study in the file can be read. So whoever takes the journal's lock, to open it or to
append to it, first cuts off an unfinished last line.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from pathlib import Path

from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock

from abalone.settings import UserError
from abalone.tracking.plain_errors import named

SHOWN_CHARACTERS = 60  # of a damaged line


class MendingLock(JournalFileSymlinkLock):
    """Optuna's lock of a journal, whose holder finds every line finished.

    Parameters
    ----------
    path : str
        Path of the journal.
    """

    def __init__(self, path: str):
        super().__init__(path)
        self.path = Path(path)

    def acquire(self) -> bool:
        """Wait for the lock, then cut off an unfinished last line."""
        is_taken = super().acquire()
        try:
            _cut_unfinished_line(self.path)
        except BaseException:
            self.release()
            raise
        return is_taken


def open_journal(path: str) -> JournalStorage:
    """Open a journal to work with it; it is created if it does not exist.

    Parameters
    ----------
    path : str

    Raises
    ------
    UserError
        If a line that is not the last one is damaged.
    """
    lock = MendingLock(path)
    backend = JournalFileBackend(path, lock)
    setattr(backend, "append_logs", named(path)(backend.append_logs))  # noqa: B010
    lock.acquire()
    lock.release()
    _check_lines(Path(path))
    return JournalStorage(backend)


def read_journal(path: str) -> JournalStorage:
    """Open a journal that exists to read it; writes nothing.

    Raises
    ------
    UserError
        As ``open_journal`` does.
    """
    _check_lines(Path(path))
    return JournalStorage(JournalFileBackend(path))


def _cut_unfinished_line(path: Path) -> None:
    """Cut off what follows the last line end; the caller holds the lock, so nobody is still writing it."""
    with path.open("rb+") as file:
        if file.seek(0, os.SEEK_END) == 0:
            return
        file.seek(-1, os.SEEK_END)
        if file.read() == b"\n":
            return
        file.seek(0)
        content = file.read()
        end = content.rfind(b"\n") + 1
        file.truncate(end)
        os.fsync(file.fileno())
    print(
        f"{path} ended with an unfinished line, as after a power cut or on a full disk: its {len(content) - end} bytes "
        "were cut off, and all that was finished is kept.",
        file=sys.stderr,  # not through logging, whose level is MLflow's to set
    )


def _check_lines(path: Path) -> None:
    """Raise if a finished line is not JSON: Optuna would say so without its number, or not until the next line."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                return
            try:
                json.loads(line)
            except ValueError:
                raise UserError(_damaged(path, number, line)) from None


def _damaged(path: Path, number: int, line: bytes) -> str:
    start = line[:SHOWN_CHARACTERS].decode(errors="replace")
    journal = shlex.quote(str(path))
    kept = shlex.quote(f"{path}.kept")
    return (
        f"the journal {path} is damaged in line {number} (expected a JSON object, found {start!r}), so no study in it "
        f"can be continued; keep what was recorded before that line with: head -n {number - 1} {journal} > {kept} && "
        f"mv {kept} {journal}; or use another journal with -P storage=PATH"
    )

"""Read a table of text that may be compressed or in another encoding, a batch of lines at a time.

``layout`` finds out which form a table has; pandas parses its fields.
"""

from __future__ import annotations

import gzip
import io
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from typing import IO, BinaryIO

import pandas as pd

from abalone.data.layout import Layout, Lines, read_layout, split_fields
from abalone.model.rows import BadRows

Content = IO[bytes] | gzip.GzipFile
COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
ENCODINGS = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}  # by byte order mark


@dataclass(frozen=True)
class Batch:
    """Some consecutive lines of a table.

    Parameters
    ----------
    lines : dict of int to str
        The lines that have the right number of columns, by number.
    all_lines : dict of int to str
        The other lines too.
    frame : DataFrame [n, columns]
        The columns of the layout, under its names for them; the index holds the line numbers. Fields are numbers where
        a whole column is, and text otherwise.
    problems : list of (int, str)
        Number of each other line, and what is wrong with it.
    """

    lines: dict[int, str]
    all_lines: dict[int, str]
    frame: pd.DataFrame
    problems: list[tuple[int, str]]


@contextmanager
def open_table(file: BinaryIO) -> Iterator[tuple[Layout, Lines]]:
    """Open a table of text, which may be compressed by gzip, or zipped as the only file of an archive.

    Parameters
    ----------
    file : binary file
        At its beginning, and seekable.

    Yields
    ------
    layout, lines
        As ``read_layout`` returns them.

    Raises
    ------
    BadRows
        As for ``read_layout``; also if the file is not text, then or while its lines are read.
    """
    try:
        content, compression = _decompress(file)
        text = io.TextIOWrapper(content, encoding=_encoding(_peek(content)))
        layout, lines = read_layout(text)
        encoding = "" if text.encoding.startswith("utf-8") else text.encoding.upper()
        kinds = [kind for kind in (compression, encoding, layout.kind) if kind]
        yield replace(layout, kind=", ".join(kinds)), lines
    except UnicodeError as error:
        raise BadRows(f"not text in UTF-8 or UTF-16 ({error}); save it as UTF-8") from None
    except (EOFError, zlib.error, gzip.BadGzipFile, zipfile.BadZipFile, RuntimeError, NotImplementedError) as error:
        raise BadRows(f"cannot be decompressed ({error}); expected a whole .gz, or a .zip without a password") from None


def _decompress(file: BinaryIO) -> tuple[Content, str]:
    """The content of a file, and how it was compressed."""
    head = _peek(file)
    if head.startswith(b"\x1f\x8b"):
        return gzip.GzipFile(fileobj=file), "gzip"
    if head.startswith(b"PK\x03\x04"):
        return _only_member(file), "zip"
    return file, ""


def _peek(file: Content) -> bytes:
    head = file.read(4)
    file.seek(0)
    return head


def _only_member(file: BinaryIO) -> Content:
    """The only file of a zip archive, which is read where it is: its name leads nowhere."""
    try:
        archive = zipfile.ZipFile(file)
        names = [name for name in archive.namelist() if not name.endswith("/") and not name.startswith("__MACOSX/")]
        if len(names) != 1:
            raise BadRows(f"a zip archive of {len(names)} files ({', '.join(names[:5])}); expected one table")
        method = archive.getinfo(names[0]).compress_type
        if method not in COMPRESSIONS:  # the other ones have errors of their own for damaged content
            raise BadRows(f"a zip archive of compression method {method}; expected the usual one, deflate")
        return archive.open(names[0])
    except BadRows:
        raise
    except Exception as error:  # a damaged archive raises errors of any kind
        raise zipfile.BadZipFile(str(error)) from error


def _encoding(head: bytes) -> str:
    for mark, encoding in ENCODINGS.items():
        if head.startswith(mark):
            return encoding
    if len(head) == 4 and head[1] == head[3] == 0:
        return "utf-16-le"
    if len(head) == 4 and head[0] == head[2] == 0:
        return "utf-16-be"
    return "utf-8"


def batches(layout: Layout, lines: Lines, size: int) -> Iterator[Batch]:
    """Parse a table, ``size`` lines at a time."""
    for chunk in iter(lambda: dict(islice(lines, size)), {}):
        good = {}
        problems = []
        for number, line in chunk.items():
            problem = _wrong_width(line, layout)
            if problem:
                problems.append((number, problem))
            else:
                good[number] = line
        yield Batch(good, chunk, _parse(good, layout), problems)


def _wrong_width(line: str, layout: Layout) -> str:
    """What is wrong with the number of columns of a line; "" if it is right."""
    width = len(layout.names)
    if '"' not in line and layout.separator != " ":
        count = line.count(layout.separator) + 1
    else:
        try:
            count = len(split_fields(line, layout.separator))
        except BadRows as error:
            return error.message
    if count == width:
        return ""
    noun = "column" if count == 1 else "columns"
    return f"{count} {noun}, expected {width}: {', '.join(layout.names)}"


def _parse(lines: dict[int, str], layout: Layout) -> pd.DataFrame:
    """The columns of the layout; the index holds the line numbers."""
    names = sorted(layout.columns, key=layout.columns.__getitem__)
    index = pd.Index(lines, name="line", dtype="int64")
    if not lines:
        return pd.DataFrame(columns=names, index=index)
    text = "\n".join(lines.values())
    # Not pandas' own option, which leaves a column as it is if one of its fields is no number.
    if layout.decimal == ",":
        text = text.replace(",", ".")
    frame = pd.read_csv(
        io.StringIO(text),
        header=None,
        sep=r"\s+" if layout.separator == " " else layout.separator,
        usecols=sorted(layout.columns.values()),
        na_filter=False,
        skipinitialspace=True,
        low_memory=False,
    )
    return frame.set_axis(names, axis=1).set_axis(index)

"""Read a data file and check every field of it.

A file that cannot be used is refused with one message that names lines, columns, values and what was expected.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from abalone.data.labels import is_old
from abalone.model.columns import MEASUREMENTS, OLD_FROM_RINGS, RAW_COLUMNS, SEXES
from abalone.settings import UserError

SHIPPED_FILE = Path(__file__).parent / "abalone.data"
SHIPPED_SHA256 = "de37cdcdcaaa50c309d514f248f7c2302a5f1f88c168905eba23fe2fbc78449f"
FILE_COLUMNS = (*RAW_COLUMNS, "Rings")
SHOWN_PROBLEMS = 5
SHOWN_CHARACTERS = 40  # of an invalid value
MIN_ROWS_PER_CLASS = 10  # gives each class a row in the smallest part of the split
MAX_MEASUREMENT = float(np.finfo("float32").max)  # models take float32, where larger values are infinite
MAX_RINGS = 1_000_000  # beyond any animal, yet its square is exact enough for a float32 loss


class DataError(UserError):
    """A data file that cannot be used; the message names lines, columns, values and what was expected."""


@dataclass(frozen=True)
class Dataset:
    """A checked data file.

    Parameters
    ----------
    frame : DataFrame [n, 9]
        ``Sex`` (I, F or M), seven measurements (float64, units of the file: mm/200 and g/200), ``Rings`` (int64).
    name : str
        Name of the data set in MLflow.
    path : Path
        File that was read.
    sha256 : str
        SHA-256 of the file's bytes.
    """

    frame: pd.DataFrame
    name: str
    path: Path
    sha256: str


def read(source: str = "uci") -> Dataset:
    """Read a data file and check every field of it.

    Parameters
    ----------
    source : str
        ``uci`` for the shipped file, whose SHA-256 is checked, or a path to a file of the same form: no header, nine
        columns separated by commas.

    Returns
    -------
    Dataset

    Raises
    ------
    DataError
        If the file is missing or not text, or if a field is invalid.
    """
    is_shipped = source == "uci"
    path, content = _read_bytes(SHIPPED_FILE if is_shipped else Path(source))
    sha256 = hashlib.sha256(content).hexdigest()
    try:
        if is_shipped and sha256 != SHIPPED_SHA256:
            raise DataError(f"SHA-256 is {sha256}, expected {SHIPPED_SHA256}; restore the shipped file")
        frame = _parse(_decode(content))
    except DataError as error:
        raise DataError(f"data file {path}: {error}") from None
    name = "abalone" if is_shipped else path.stem
    return Dataset(frame=frame, name=name, path=path, sha256=sha256)


def _read_bytes(path: Path) -> tuple[Path, bytes]:
    """Absolute path and content of a file."""
    try:
        path = path.expanduser().resolve()
        return path, path.read_bytes()
    except OSError as error:
        raise DataError(f"data file {path}: cannot be read ({error.strerror}); give -P data=PATH or data=uci") from None
    except (RuntimeError, ValueError) as error:  # an unknown ~user, a loop of symbolic links, a NUL in the name
        raise DataError(f"data file {str(path)!r}: not a path ({error}); give -P data=PATH or data=uci") from None


def _decode(content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"not text (byte {error.start} is not UTF-8); expected comma-separated text") from None


def _parse(text: str) -> pd.DataFrame:
    """The rows of a file with a type per column; all problems together in one error."""
    if not text.strip():
        raise DataError(f"no rows; expected {len(FILE_COLUMNS)} columns a line: {', '.join(FILE_COLUMNS)}")
    # Not splitlines(), which also breaks at form feeds and other characters that do not end a line of a CSV file.
    lines = text.replace("\r\n", "\n").rstrip().split("\n")
    rows = {}  # by line number
    problems = []
    for number, line in enumerate(lines, 1):
        fields = [field.strip() for field in line.split(",")]
        if len(fields) == len(FILE_COLUMNS):
            rows[number] = fields
        else:
            columns = _count(len(fields), "column")
            problems.append((number, f"{columns}, expected {len(FILE_COLUMNS)}: {', '.join(FILE_COLUMNS)}"))
    raw = pd.DataFrame(list(rows.values()), columns=FILE_COLUMNS, index=list(rows), dtype=object)
    numbers, invalid_fields = _check_fields(raw)
    problems += invalid_fields
    if problems:
        if lines[0].split(",")[0].strip().lower() == "sex":
            raise DataError("line 1 is a header; expected data from the first line on, so remove it")
        raise DataError(_describe(problems))
    frame = numbers.astype({"Rings": "int64"})
    frame.insert(0, "Sex", raw["Sex"])
    _check_classes(frame["Rings"].to_numpy())
    return frame.reset_index(drop=True)


def _check_fields(raw: pd.DataFrame) -> tuple[pd.DataFrame, list[tuple[int, str]]]:
    """The number columns as float64, and a (line, text) for each invalid field of any column."""
    numbers = raw.drop(columns="Sex").apply(pd.to_numeric, errors="coerce").astype("float64")
    valid = (numbers >= 0) & (numbers <= MAX_MEASUREMENT)  # false for NaN
    valid["Rings"] = numbers["Rings"].between(1, MAX_RINGS) & (numbers["Rings"] % 1 == 0)
    valid.insert(0, "Sex", raw["Sex"].isin(SEXES))
    expected = dict.fromkeys(MEASUREMENTS, f"a number of at least 0 and at most {MAX_MEASUREMENT:.1e}")
    expected["Sex"] = "M, F or I"
    expected["Rings"] = f"an integer of at least 1 and at most {MAX_RINGS}"
    problems = []
    for row, column in np.argwhere(~valid.to_numpy()):
        name = FILE_COLUMNS[column]
        value = raw.iat[row, column][:SHOWN_CHARACTERS]
        problems.append((int(raw.index[row]), f"{name} is {value!r}, expected {expected[name]}"))
    return numbers, problems


def _describe(problems: list[tuple[int, str]]) -> str:
    """The number of problems and the first few of them, in the order of lines and columns."""
    problems = sorted(problems, key=lambda problem: problem[0])
    lines = [_count(len(problems), "problem")]
    for number, text in problems[:SHOWN_PROBLEMS]:
        lines.append(f"  line {number}: {text}")
    if len(problems) > SHOWN_PROBLEMS:
        lines.append(f"  and {len(problems) - SHOWN_PROBLEMS} more")
    return "\n".join(lines)


def _count(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _check_classes(rings: np.ndarray) -> None:
    """Refuse a file that cannot be split with both classes in every part."""
    old = int(is_old(rings).sum())
    counts = {
        f"young (rings below {OLD_FROM_RINGS})": len(rings) - old,
        f"old (rings {OLD_FROM_RINGS} or more)": old,
    }
    for name, count in counts.items():
        if count < MIN_ROWS_PER_CLASS:
            raise DataError(f"{count} {name} rows, expected at least {MIN_ROWS_PER_CLASS} to split; add rows")

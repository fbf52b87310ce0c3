"""Read a data file for training, and check every field of it.

A file that cannot be used is refused with one message that names lines, columns, values and what was expected.
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from abalone.data.layout import FILE_COLUMNS, Layout, Lines
from abalone.data.problems import Problem, Problems, check_batch, written
from abalone.data.tables import Batch, batches, open_table
from abalone.model.columns import DIVISORS, MOST_RINGS, YEARS_BEFORE_FIRST_RING
from abalone.model.rows import BadRows, are_rings, find_columns, parse_numbers, shown_value
from abalone.settings import UserError

SHIPPED_FILE = Path(__file__).parent / "abalone.data"
SHIPPED_SHA256 = "de37cdcdcaaa50c309d514f248f7c2302a5f1f88c168905eba23fe2fbc78449f"
LINES_AT_ONCE = 10_000
TWO_WAYS = "say which with -P target=rings or -P target=age"
EXPECTED_RINGS = f"an integer of at least 1 and at most {MOST_RINGS}"
EXPECTED_AGE = "years of at least 2, whole or half (rings + 1.5)"


class DataError(UserError):
    """A data file that cannot be used; the message names lines, columns, values and what was expected."""


@dataclass(frozen=True)
class Dataset:
    """A checked data file.

    Parameters
    ----------
    frame : DataFrame [n, 9]
        ``Sex`` (I, F or M), seven measurements (float64, units of the UCI file: mm/200 and g/200), ``Rings`` (int64).
    name : str
        Name of the data set in MLflow.
    path : Path
        File that was read.
    sha256 : str
        SHA-256 of the file's bytes.
    understood : str
        How the file was read, in one line: its rows, its form, which column was taken for what; "" for the shipped
        file.
    """

    frame: pd.DataFrame
    name: str
    path: Path
    sha256: str
    understood: str = ""


def read(source: str = "uci", units: str = "file", target: str = "auto") -> Dataset:
    """Read a data file and check every field of it.

    Parameters
    ----------
    source : str
        ``uci`` for the shipped file, whose SHA-256 is checked, or a path to a table in any form that ``tables`` knows.
        Without names, it has nine columns in the order of the shipped file.
    units : str, default "file"
        ``file`` for mm/200 and g/200, ``mm_g`` for millimetres and grams, which are converted.
    target : str, default "auto"
        What the target column holds: ``rings``, ``age`` in years, or ``auto``: a column ``Rings`` holds rings, and
        a column ``Age`` of half numbers (16.5) holds rings + 1.5.

    Returns
    -------
    Dataset

    Raises
    ------
    DataError
        If the file is missing or no table, or if a field is invalid.
    """
    is_shipped = source == "uci"
    path, content = _read_bytes(SHIPPED_FILE if is_shipped else Path(source))
    sha256 = hashlib.sha256(content).hexdigest()
    try:
        if is_shipped and sha256 != SHIPPED_SHA256:
            raise BadRows(f"SHA-256 is {sha256}, expected {SHIPPED_SHA256}; restore the shipped file")
        if is_shipped and target == "age":
            raise BadRows("the shipped file holds rings; leave out -P target=age")
        with open_table(io.BytesIO(content)) as (layout, lines):
            column = _target_column(layout, target)
            frame = _read_rows(layout, lines, units, column, target)
    except BadRows as error:
        raise DataError(f"data file {path}: {error.message}") from None
    if is_shipped:
        return Dataset(frame=frame, name="abalone", path=path, sha256=sha256)
    understood = f"{path.name}: {len(frame)} rows; {layout.understood(column)}"
    if _holds_age(column, target):
        understood += f"; Rings computed from {column if layout.has_names else 'the last column'} in years"
    elif column == "Age":
        understood += "; Age taken for Rings"
    if units != "file":
        understood += f"; millimetres and grams, divided by {DIVISORS[units]:g}"
    return Dataset(frame=frame, name=path.stem, path=path, sha256=sha256, understood=understood)


def _read_bytes(path: Path) -> tuple[Path, bytes]:
    """Absolute path and content of a file."""
    try:
        path = path.expanduser().resolve()
        return path, path.read_bytes()
    except OSError as error:
        raise DataError(f"data file {path}: cannot be read ({error.strerror}); give -P data=PATH or data=uci") from None
    except (RuntimeError, ValueError) as error:  # an unknown ~user, a loop of symbolic links, a NUL in the name
        raise DataError(f"data file {str(path)!r}: not a path ({error}); give -P data=PATH or data=uci") from None


def _target_column(layout: Layout, target: str) -> str:
    """The column that holds the target: ``Rings`` or ``Age``."""
    found = [name for name in ("Rings", "Age") if name in layout.columns]
    if target == "age" and layout.has_names:
        found = [name for name in found if name == "Age"]
    if not found:
        find_columns(layout.names, ("Age",) if target == "age" else ("Rings",))  # says if there are two
        expected = "Age" if target == "age" else "Rings (or Age)"
        raise BadRows(f"missing column {expected}; found {', '.join(layout.names)}")
    return found[0]


def _holds_age(column: str, target: str) -> bool:
    return target == "age" or (target == "auto" and column == "Age")


def _read_rows(layout: Layout, lines: Lines, units: str, column: str, target: str) -> pd.DataFrame:
    """The rows of a table; all problems together in one error."""
    problems = Problems()
    frames = []
    for place, batch in enumerate(batches(layout, lines, LINES_AT_ONCE)):
        checked, found = check_batch(batch, layout, units, is_first=place == 0)
        checked["Rings"], bad_targets = _read_rings(batch, layout, column, target)
        problems.add([*found, *bad_targets])
        if not problems.count:
            frames.append(checked.astype({"Rings": "int64"}))
    if problems.count:
        raise BadRows(problems.message())
    return pd.concat(frames, ignore_index=True)[list(FILE_COLUMNS)]


def _is_whole(values: np.ndarray) -> np.ndarray:
    """Whether each value is a whole number."""
    return np.isfinite(values) & (np.floor(values) == values)


def _is_half(values: np.ndarray) -> np.ndarray:
    """Whether each value is a whole number and a half."""
    return _is_whole(values - 0.5)


def _read_rings(batch: Batch, layout: Layout, column: str, target: str) -> tuple[np.ndarray, list[Problem]]:
    """Rings [n], float64, from the column that holds them or the age, and a problem for each invalid field."""
    values = parse_numbers(batch.frame[column])
    rings = values
    is_good = are_rings(rings)
    expected = EXPECTED_RINGS
    if _holds_age(column, target):
        rings = np.ceil(values - YEARS_BEFORE_FIRST_RING)  # 16 completed years are 16.5, of 15 rings
        is_good = are_rings(rings) & (_is_half(values) | _is_whole(values))
        expected = EXPECTED_AGE
        if target == "auto" and _is_whole(values).any():
            number = batch.frame.index[np.argmax(_is_whole(values))]
            value = written(batch, layout, number, column)
            raise BadRows(f"line {number}: Age is {value}, which may be rings or completed years; {TWO_WAYS}")
    elif (_is_half(values) & ~is_good).any():
        expected += " (half numbers are ages: -P target=age)"
    found = []
    for number in batch.frame.index[~is_good]:
        value = shown_value(written(batch, layout, number, column))
        wanted = "" if value == "missing" else f", expected {expected}"
        found.append((number, f"{column} is {value}{wanted}"))
    return rings, found

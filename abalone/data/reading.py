"""Read and check the data file; label, split and fingerprint its rows."""

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
LONGEST_SHOWN = 40  # characters of a bad value
FEWEST_OF_A_CLASS = 10  # gives each class a row in the smallest part of the split
LARGEST_MEASUREMENT = float(np.finfo("float32").max)  # a model takes float32, in which more is infinite
MOST_RINGS = 1_000_000  # beyond any animal, and its square still exact enough in a float32 loss


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
        Name for MLflow.
    path : Path
        Where it was read from.
    sha256 : str
        Of the file's bytes.
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
        ``uci`` for the shipped file, or a path to a file of the same form: no header, nine columns, commas.

    Raises
    ------
    DataError
        For a file that is missing, not text, or has a field that is not as it must be.
    """
    path = SHIPPED_FILE if source == "uci" else Path(source)
    try:
        path = path.expanduser().resolve()
        content = path.read_bytes()
        text = content.decode("utf-8-sig")
    except OSError as error:
        raise DataError(f"data file {path}: cannot be read ({error.strerror}); give -P data=PATH or data=uci") from None
    except UnicodeDecodeError as error:
        raise DataError(
            f"data file {path}: not text (byte {error.start} is not UTF-8); expected comma-separated text"
        ) from None
    except (RuntimeError, ValueError) as error:  # an unknown ~user, a loop of links, a NUL in the name
        raise DataError(f"data file {str(path)!r}: not a path ({error}); give -P data=PATH or data=uci") from None
    sha256 = hashlib.sha256(content).hexdigest()
    if source == "uci" and sha256 != SHIPPED_SHA256:
        raise DataError(f"data file {path}: SHA-256 is {sha256}, expected {SHIPPED_SHA256}; restore the shipped file")
    try:
        frame = _parse(text)
    except DataError as error:
        raise DataError(f"data file {path}: {error}") from None
    return Dataset(frame, "abalone" if source == "uci" else path.stem, path, sha256)


def _parse(text: str) -> pd.DataFrame:
    # Not splitlines(): it also breaks at form feeds and other marks that are no line ends in a CSV file.
    lines = text.replace("\r\n", "\n").rstrip().split("\n")
    if not text.strip():
        raise DataError(f"no rows; expected {len(FILE_COLUMNS)} columns a line: {', '.join(FILE_COLUMNS)}")
    fields = [line.split(",") for line in lines]
    problems = [
        (
            number,
            f"{len(row)} column{'' if len(row) == 1 else 's'}, expected {len(FILE_COLUMNS)}: {', '.join(FILE_COLUMNS)}",
        )
        for number, row in enumerate(fields, 1)
        if len(row) != len(FILE_COLUMNS)
    ]
    good = [(number, row) for number, row in enumerate(fields, 1) if len(row) == len(FILE_COLUMNS)]
    raw = pd.DataFrame([row for _, row in good], columns=FILE_COLUMNS, index=[n for n, _ in good], dtype=object)
    raw = raw.apply(lambda column: column.str.strip())
    values, found = _check_fields(raw)
    if problems := sorted(problems + found, key=lambda problem: problem[0]):
        if fields[0][0].strip().lower() == "sex":
            raise DataError("line 1 is a header; expected data from the first line on, so remove it")
        shown = "".join(f"\n  line {number}: {what}" for number, what in problems[:SHOWN_PROBLEMS])
        rest, count = len(problems) - SHOWN_PROBLEMS, len(problems)
        what = "problem" if count == 1 else "problems"
        raise DataError(f"{count} {what}{shown}" + (f"\n  and {rest} more" if rest > 0 else ""))
    _check_classes(values["Rings"].to_numpy())
    return values.reset_index(drop=True)


def _check_fields(raw: pd.DataFrame) -> tuple[pd.DataFrame, list[tuple[int, str]]]:
    """Typed values, and a (line, text) for each field that is not what its column holds."""
    numbers = raw.drop(columns="Sex").apply(pd.to_numeric, errors="coerce").astype("float64")
    bad = ~((numbers >= 0) & (numbers <= LARGEST_MEASUREMENT))  # true for NaN too
    bad["Rings"] |= ~numbers["Rings"].between(1, MOST_RINGS) | (numbers["Rings"] % 1 != 0)
    bad.insert(0, "Sex", ~raw["Sex"].isin(SEXES))
    expected = {"Sex": "M, F or I", "Rings": f"an integer of at least 1 and at most {MOST_RINGS}"}
    expected |= dict.fromkeys(MEASUREMENTS, f"a number of at least 0 and at most {LARGEST_MEASUREMENT:.1e}")
    problems = [
        (
            int(raw.index[i]),
            f"{FILE_COLUMNS[j]} is {raw.iat[i, j][:LONGEST_SHOWN]!r}, expected {expected[FILE_COLUMNS[j]]}",
        )
        for i, j in np.argwhere(bad.to_numpy())
    ]
    values = numbers if problems else numbers.astype({"Rings": "int64"})
    values.insert(0, "Sex", raw["Sex"])
    return values, problems


def _check_classes(rings: np.ndarray) -> None:
    old = int(is_old(rings).sum())
    for count, what in (
        (len(rings) - old, f"young (rings below {OLD_FROM_RINGS})"),
        (old, f"old (rings {OLD_FROM_RINGS} or more)"),
    ):
        if count < FEWEST_OF_A_CLASS:
            raise DataError(f"{count} {what} rows, expected at least {FEWEST_OF_A_CLASS} to split; add rows")

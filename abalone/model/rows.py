"""What a valid row is: find the columns of a table and check every field of them.

MLflow enforces a logged model's signature before rows get here and words its own refusals, of a missing column for
example. ``check`` relies on none of that and accepts more than a signature does, such as numbers as text.
"""

from __future__ import annotations

from decimal import Decimal
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE

from .columns import LIMITS, MEASUREMENTS, RAW_COLUMNS, SEXES
from .features import rename_guide_spelling

SHOWN_PROBLEMS = 5
SHOWN_COLUMNS = 20
SHOWN_CHARACTERS = 50
MEASUREMENT_INDEX = pd.Index(MEASUREMENTS)  # built once, which matters for single rows


class BadRows(MlflowException):
    """Rows that cannot be scored. The message names row, column, value and what was expected; REST answers 400."""

    def __init__(self, message: str):
        super().__init__(message, error_code=INVALID_PARAMETER_VALUE)


def check(rows: Any) -> pd.DataFrame:
    """Find the eight raw columns in a table and check every field of them.

    Parameters
    ----------
    rows : DataFrame [n, at least 8], or what ``pandas.DataFrame`` accepts
        ``Sex`` and the seven measurements, in any order and among other columns. The guide's spelling
        ``Shell weights`` is accepted for ``Shell weight``, and numbers may be text.

    Returns
    -------
    DataFrame [n, 8]
        ``columns.RAW_COLUMNS``, the measurements as float64.

    Raises
    ------
    BadRows
        If a column is missing, or a field is missing, not a number or out of range. The message shows the first five
        fields and counts the others.
    """
    frame = _select_columns(rows)
    numbers = np.column_stack([_numbers(frame[name]) for name in MEASUREMENTS])  # [n, 7]
    limits = [LIMITS[name] for name in MEASUREMENTS]
    in_range = (numbers >= 0) & (numbers <= limits)  # False for NaN
    is_good = np.column_stack([_is_sex(frame["Sex"]), in_range])  # [n, 8]
    if not is_good.all():
        raise BadRows(_describe_problems(frame, np.argwhere(~is_good)))
    checked = pd.DataFrame(numbers, columns=MEASUREMENT_INDEX, index=frame.index)
    checked.insert(0, "Sex", frame["Sex"])
    return checked


def _select_columns(rows: Any) -> pd.DataFrame:
    """[n, 8]; columns of other names are left out."""
    try:
        frame = rename_guide_spelling(pd.DataFrame(rows))
        names = [str(name) for name in frame.columns]
        missing = [name for name in RAW_COLUMNS if name not in frame.columns]
    except (TypeError, ValueError) as error:
        raise BadRows(f"not a table ({error}); expected columns {', '.join(RAW_COLUMNS)}") from None
    if list(frame.columns) == list(RAW_COLUMNS):  # as MLflow passes them; selecting would cost more than scoring a row
        return frame
    if missing:
        found = ", ".join(names[:SHOWN_COLUMNS]) or "none"
        raise BadRows(f"missing column {', '.join(missing)}; found {found}")
    repeated = [name for name in RAW_COLUMNS if names.count(name) > 1]
    if repeated:
        raise BadRows(f"column {', '.join(repeated)} appears more than once")
    return frame[list(RAW_COLUMNS)]


def _is_sex(column: pd.Series) -> np.ndarray:
    """Bool [n]."""
    try:
        return column.isin(SEXES).to_numpy()
    except TypeError:  # a value without a hash, such as a list
        return np.array([isinstance(value, str) and value in SEXES for value in column])


def _numbers(column: pd.Series) -> np.ndarray:
    """Float64 [n], NaN for anything that is neither a number nor the text of one."""
    if column.dtype.kind in "iuf":
        return column.to_numpy(dtype=np.float64, na_value=np.nan)
    return np.array([_parse_number(value) for value in column], dtype=np.float64)


def _parse_number(value: Any) -> float:
    """Convert like ``float``, but to NaN for booleans, bytes, ``1_000``, digits of other scripts and other objects."""
    if isinstance(value, str):
        if not value.isascii() or "_" in value:
            return np.nan
    elif isinstance(value, bool) or not isinstance(value, Real | Decimal):
        return np.nan
    try:
        return float(value)
    except (ValueError, OverflowError):
        return np.nan


def _describe_problems(frame: pd.DataFrame, places: np.ndarray) -> str:
    """Describe the fields at ``places`` [problems, 2], each a row and a column number of ``frame`` [n, 8]."""
    row_name = frame.index.name or "row"
    shown = []
    for row, column in places[:SHOWN_PROBLEMS]:
        problem = _describe_field(RAW_COLUMNS[column], frame.iat[row, column])
        shown.append(f"{row_name} {frame.index[row]}: {problem}")
    if len(places) > SHOWN_PROBLEMS:
        shown.append(f"and {len(places) - SHOWN_PROBLEMS} more")
    return "; ".join(shown)


def _describe_field(name: str, value: Any) -> str:
    try:
        text = str(value)
    except ValueError:  # Python refuses to write integers of more than 4,300 digits
        text = "too long to show"
    if value is None or value is pd.NA or value is pd.NaT or text.strip() in ("", "nan"):
        return f"{name} is missing"
    text = text[:SHOWN_CHARACTERS]
    if isinstance(value, str):
        text = repr(text)
    if name == "Sex":
        return f"Sex is {text}, expected M, F or I"
    return f"{name} is {text}, expected a number from 0 to {LIMITS[name]} (ten times the largest known)"

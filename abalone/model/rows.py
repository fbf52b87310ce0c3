"""What a valid row is: find the columns of a table by their names, and check every field of them.

This is the one definition, for training, for scoring and for a served model. MLflow enforces a logged model's signature
before rows get here and words its own refusals, of a missing column for example. ``check`` relies on none of that and
accepts more than a signature does, such as other spellings of a name and numbers as text.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE

from .columns import (
    ALIASES,
    DIVISORS,
    KNOWN_DENSITY,
    KNOWN_LENGTHS,
    LIMITS,
    MEASUREMENTS,
    MOST_RINGS,
    RAW_COLUMNS,
    SEX_SPELLINGS,
    SEXES,
    simplify,
)

SHOWN_PROBLEMS = 5
SHOWN_COLUMNS = 20
SHOWN_CHARACTERS = 50
PADDING = " \t\u00a0'\""  # around a value; the no-break space comes from spreadsheets and web pages
MISSING = ("", "nan", "na", "n/a", "null", "none", "?")
MEASUREMENT_INDEX = pd.Index(MEASUREMENTS)  # built once, which matters for single rows
UPPER_LIMITS = np.array([LIMITS[name] for name in MEASUREMENTS])


class BadRows(MlflowException):
    """Rows that cannot be scored. The message names row, column, value and what was expected; REST answers 400."""

    def __init__(self, message: str):
        super().__init__(message, error_code=INVALID_PARAMETER_VALUE)


def check(rows: Any) -> pd.DataFrame:
    """Find the eight raw columns in a table and check every field of them.

    Parameters
    ----------
    rows : DataFrame [n, at least 8], or what ``pandas.DataFrame`` accepts
        ``Sex`` and the seven measurements in the units of the UCI file, in any order and among other columns, under any
        name that ``find_columns`` knows. Numbers may be text.

    Returns
    -------
    DataFrame [n, 8]
        ``columns.RAW_COLUMNS``: ``Sex`` as M, F or I, the measurements as float64.

    Raises
    ------
    BadRows
        If there is no row, a column is missing, or a field is missing, not a number or out of range. The message shows
        the first five fields and counts the others.
    """
    frame = _select_columns(rows)
    if not len(frame):
        raise BadRows("no rows; expected at least one")
    checked, is_good = examine(frame)
    if not is_good.all():
        hint = unit_hint(checked)
        problems = _describe_problems(frame, np.argwhere(~is_good))
        raise BadRows(f"{problems}; {hint}" if hint else problems)
    return checked


def examine(frame: pd.DataFrame, units: str = "file") -> tuple[pd.DataFrame, np.ndarray]:
    """Check every field of a table of the raw columns.

    Parameters
    ----------
    frame : DataFrame [n, 8]
        The columns of ``columns.RAW_COLUMNS``, in that order.
    units : str, default "file"
        Units of the measurements: a key of ``columns.DIVISORS``.

    Returns
    -------
    checked : DataFrame [n, 8]
        ``Sex`` as M, F or I, or as it was if it is unknown. The measurements as float64 in mm / 200 and g / 200, NaN
        for what is not a number.
    is_good : ndarray [n, 8], bool
        Which fields are valid.
    """
    numbers = np.column_stack([parse_numbers(frame[name]) for name in MEASUREMENTS])  # [n, 7]
    if units != "file":
        numbers /= DIVISORS[units]
    in_range = (numbers >= 0) & (numbers <= UPPER_LIMITS)  # False for NaN
    sexes, is_known = _parse_sexes(frame["Sex"])
    checked = pd.DataFrame(numbers, columns=MEASUREMENT_INDEX, index=frame.index)
    checked.insert(0, "Sex", sexes)
    return checked, np.column_stack([is_known, in_range])


def find_columns(names: Sequence[Any], wanted: Sequence[str] = RAW_COLUMNS) -> dict[str, int]:
    """Find columns by name. Case, blanks, ``_``, ``.``, ``-`` and quotes do not matter, and aliases are known.

    Parameters
    ----------
    names : sequence
        Names of all columns of a table.
    wanted : sequence of str, default RAW_COLUMNS
        Names to look for.

    Returns
    -------
    dict
        Position of each column that was found, by its name in ``wanted``. Where several columns qualify, the exact name
        is preferred to another spelling of it, and that to an alias.

    Raises
    ------
    BadRows
        If two columns qualify equally.
    """
    simplified = [simplify(name) for name in names]
    found = {}
    for column in wanted:
        accepted = [
            [i for i, name in enumerate(names) if str(name) == column],
            [i for i, name in enumerate(simplified) if name == simplify(column)],
            [i for i, name in enumerate(simplified) if name in ALIASES.get(column, ())],
        ]
        positions = next((positions for positions in accepted if positions), [])
        if len(positions) > 1:
            spellings = ", ".join(repr(str(names[position])) for position in positions)
            raise BadRows(f"column {column} appears more than once ({spellings}); rename or remove one")
        if positions:
            found[column] = positions[0]
    return found


def require_columns(names: Sequence[Any]) -> dict[str, int]:
    """Find the eight raw columns as ``find_columns`` does.

    Raises
    ------
    BadRows
        If one is missing, or two columns qualify equally.
    """
    found = find_columns(names)
    missing = [name for name in RAW_COLUMNS if name not in found]
    if missing:
        shown = ", ".join(str(name) for name in names[:SHOWN_COLUMNS]) or "none"
        noun = "column" if len(missing) == 1 else "columns"
        raise BadRows(f"missing {noun} {', '.join(missing)}; found {shown}")
    return found


def are_rings(numbers: np.ndarray) -> np.ndarray:
    """Whether each of some numbers [n] is a valid number of rings; bool [n]."""
    return (numbers >= 1) & (numbers <= MOST_RINGS) & (np.floor(numbers) == numbers)


def unit_hint(checked: pd.DataFrame, units: str = "file") -> str:
    """What to say about the units of a table, if its medians show that they are not those expected.

    Parameters
    ----------
    checked : DataFrame [n, at least 7]
        As ``examine`` returns it.
    units : str, default "file"
        As for ``examine``.

    Returns
    -------
    str
        "" if the measurements are plausible, or implausible in all units.
    """
    length = _median(checked["Length"]) * DIVISORS[units]  # as it was given
    shortest, longest = KNOWN_LENGTHS
    if units == "file" and shortest <= length / DIVISORS["mm_g"] <= longest:
        return (
            f"the median Length is {length:g}; these look like millimetres and grams: give -P units=mm_g, or divide by "
            "200 for a model that is served"
        )
    if units == "mm_g" and shortest <= length <= longest:
        return (
            f"the median Length is {length:g}; these look like the units of the UCI file (mm / 200, g / 200): "
            "leave out -P units=mm_g"
        )
    if units == "file" and LIMITS["Length"] < length < shortest * DIVISORS["mm_g"]:
        return f"the median Length is {length:g}; these look like centimetres: convert to millimetres and grams"
    if shortest <= length / DIVISORS[units] <= longest:
        return _weight_hint(checked, units)
    return ""


def _weight_hint(checked: pd.DataFrame, units: str) -> str:
    """What to say if the weights are in another unit than the lengths, which are as expected."""
    volume = checked["Length"] * checked["Diameter"] * checked["Height"]
    density = _median(checked["Whole weight"] / volume.where(volume > 0))
    if density == 0:
        return ""
    factor = density / KNOWN_DENSITY
    tolerance = DIVISORS["mm_g"] / 4
    if tolerance < factor < DIVISORS["mm_g"] * 4:
        return "the weights look like grams, the lengths do not look like millimetres: give both in the same units"
    if units != "file" and tolerance < 1 / factor < DIVISORS["mm_g"] * 4:
        return "the lengths look like millimetres, the weights do not look like grams: give both in the same units"
    return ""


def _median(values: pd.Series) -> float:
    """Median of the finite values; 0 without any."""
    numbers = values.to_numpy(dtype=np.float64)
    finite = numbers[np.isfinite(numbers)]
    return float(np.median(finite)) if len(finite) else 0.0


def parse_numbers(column: pd.Series) -> np.ndarray:
    """Float64 [n], NaN for anything that is neither a number nor the text of one."""
    if column.dtype.kind in "iuf":
        return column.to_numpy(dtype=np.float64, na_value=np.nan)
    return np.array([_parse_number(value) for value in column], dtype=np.float64)


def describe_field(name: str, value: Any, units: str = "file") -> str:
    """Say what is wrong with a field of a raw column, and what was expected.

    Parameters
    ----------
    name : str
        Name of the column.
    value : Any
        The field.
    units : str, default "file"
        As for ``examine``.
    """
    text = shown_value(value)
    if text == "missing":
        return f"{name} is missing"
    if name == "Sex":
        reason = "; there is no one code of numbers" if np.isfinite(_parse_number(value)) else ""
        return f"Sex is {text}, expected M, F or I{reason}"
    limit = LIMITS[name] * DIVISORS[units]
    return f"{name} is {text}, expected a number from 0 to {limit:g} (ten times the largest known)"


def shown_value(value: Any) -> str:
    """A field as a message shows it, cut if it is long; "missing" for none."""
    value = _unwrap(value)
    try:
        text = str(value)
    except ValueError:  # Python refuses to write integers of more than 4,300 digits
        text = "too long to show"
    if value is None or value is pd.NA or value is pd.NaT or text.strip().lower() in MISSING:
        return "missing"
    text = text[:SHOWN_CHARACTERS]
    return repr(text) if isinstance(value, str) else text


def _select_columns(rows: Any) -> pd.DataFrame:
    """[n, 8]; columns of other names are left out."""
    try:
        frame = pd.DataFrame(rows)
    except (TypeError, ValueError) as error:
        raise BadRows(f"not a table ({error}); expected columns {', '.join(RAW_COLUMNS)}") from None
    names = list(frame.columns)
    if names == list(RAW_COLUMNS):  # as MLflow passes them; selecting would cost more than scoring a row
        return frame
    found = require_columns(names)
    return frame.iloc[:, [found[name] for name in RAW_COLUMNS]].set_axis(list(RAW_COLUMNS), axis=1)


def _parse_sexes(column: pd.Series) -> tuple[pd.Series, np.ndarray]:
    """The column with every known spelling as M, F or I, and which of its fields are known, bool [n]."""
    try:
        is_known = column.isin(SEXES).to_numpy()
    except TypeError:  # a value without a hash, such as a list
        is_known = np.zeros(len(column), dtype=bool)
    if is_known.all():
        return column, is_known
    letters = np.array([_parse_sex(value) for value in column], dtype=object)
    is_known = np.isin(letters.astype(str), SEXES)
    return pd.Series(np.where(is_known, letters, column.astype(object)), index=column.index), is_known


def _parse_sex(value: Any) -> str:
    """M, F or I; "" for anything else."""
    value = _unwrap(value)
    if isinstance(value, bytes):
        value = value.decode("ascii", "replace")
    if not isinstance(value, str):
        return ""
    return SEX_SPELLINGS.get(value.strip(PADDING).lower(), "")


def _parse_number(value: Any) -> float:
    """Convert like ``float``, but to NaN for booleans, bytes, ``1_000``, digits of other scripts and other objects."""
    value = _unwrap(value)
    if isinstance(value, str):
        value = value.strip(PADDING)
        if not value.isascii() or "_" in value:
            return np.nan
    elif isinstance(value, bool) or not isinstance(value, Real | Decimal):
        return np.nan
    try:
        return float(value)
    except (ValueError, OverflowError):
        return np.nan


def _unwrap(value: Any) -> Any:
    """The only element of an array without dimensions, which is how some clients send a scalar."""
    if isinstance(value, np.ndarray) and value.ndim == 0:
        return value.item()
    return value


def _describe_problems(frame: pd.DataFrame, places: np.ndarray) -> str:
    """Describe the fields at ``places`` [problems, 2], each a row and a column number of ``frame`` [n, 8]."""
    row_name = frame.index.name or "row"
    shown = []
    for row, column in places[:SHOWN_PROBLEMS]:
        problem = describe_field(RAW_COLUMNS[column], frame.iat[row, column])
        shown.append(f"{row_name} {frame.index[row]}: {problem}")
    if len(places) > SHOWN_PROBLEMS:
        shown.append(f"and {len(places) - SHOWN_PROBLEMS} more")
    return "; ".join(shown)

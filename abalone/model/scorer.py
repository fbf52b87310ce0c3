"""One saved model, two flavors: an ``nn.Module`` for PyTorch, and raw rows in, named predictions out, for pyfunc.

The pyfunc side is rebuilt from a JSON-like configuration and a ``state_dict`` read with ``weights_only``, so it
works where unpickling is forbidden. This file and the ones it imports travel inside each model (``code/``), so
both flavors load without the project.

The rows are checked here and not by MLflow: with input columns in the signature, MLflow converts them first, and
its own refusals name no row and, for CSV over REST, carry a stack trace. So the signature holds the outputs, and
``inputs`` in the model's metadata the columns that go in.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from torch import Tensor, nn

from .columns import CLASS_LABELS, INTERVAL_OUTPUTS, LIMITS, MEASUREMENTS, RAW_COLUMNS, SEXES, YEARS_BEFORE_FIRST_RING
from .features import encode
from .networks import RingDistribution, RingRegressor, build, mean_rings, ring_interval

WEIGHTS = "weights.pt"
SHOWN_PROBLEMS = 5
SCORED_AT_ONCE = 8192  # keeps the hidden layers' outputs in the processor's cache


class BadRows(MlflowException):
    """Rows that cannot be scored; the message names rows, columns, values and what was expected. HTTP 400 over REST."""

    def __init__(self, message: str):
        super().__init__(message, error_code=INVALID_PARAMETER_VALUE)


def check(rows: Any) -> pd.DataFrame:
    """Find the eight columns in ``rows``, in any order and among others, and check every field of them.

    Parameters
    ----------
    rows : DataFrame [n, at least 8], or what makes one
        ``Sex`` and seven measurements; ``Shell weights``, the guide's own name, is taken for ``Shell weight``.

    Returns
    -------
    DataFrame [n, 8]
        ``columns.RAW_COLUMNS``, measurements as float64.

    Raises
    ------
    BadRows
        For a missing column, and for fields that are not as they must be: the first five, and how many more.
    """
    frame = _eight_columns(rows)
    numbers = np.column_stack([_numbers(frame[name]) for name in MEASUREMENTS])  # [n, 7]
    bad = ~((numbers >= 0) & (numbers <= list(LIMITS.values())))  # true for NaN too
    bad = np.column_stack([~_is_sex(frame["Sex"]), bad])  # [n, 8]
    if bad.any():
        what, places = frame.index.name or "row", np.argwhere(bad)
        shown = [f"{what} {frame.index[i]}: {_complaint(frame.iat[i, j], j)}" for i, j in places[:SHOWN_PROBLEMS]]
        more = [f"and {len(places) - SHOWN_PROBLEMS} more"] if len(places) > SHOWN_PROBLEMS else []
        raise BadRows("; ".join(shown + more))
    checked = pd.DataFrame(numbers, columns=MEASUREMENTS, index=frame.index)
    checked.insert(0, "Sex", frame["Sex"])
    return checked


def _eight_columns(rows: Any) -> pd.DataFrame:
    try:
        frame = pd.DataFrame(rows)
        set(frame.columns)  # a name that is a list has no hash
    except (TypeError, ValueError) as error:
        if isinstance(rows, pd.DataFrame):  # MLflow prints it beside our message, and cannot with such a name
            rows.columns = [str(name) for name in rows.columns]
        raise BadRows(f"not a table ({error}); expected columns {', '.join(RAW_COLUMNS)}") from None
    if "Shell weight" not in frame.columns:
        frame = frame.rename(columns={"Shell weights": "Shell weight"})
    found = list(frame.columns)
    if missing := [name for name in RAW_COLUMNS if name not in found]:
        raise BadRows(f"missing column {', '.join(missing)}; found {', '.join(map(str, found[:20])) or 'none'}")
    if twice := [name for name in RAW_COLUMNS if found.count(name) > 1]:
        raise BadRows(f"column {', '.join(twice)} appears more than once")
    return frame[list(RAW_COLUMNS)]


def _is_sex(column: pd.Series) -> np.ndarray:
    """bool [n]."""
    try:
        return column.isin(SEXES).to_numpy()
    except TypeError:  # something unhashable among them
        return np.array([isinstance(value, str) and value in SEXES for value in column])


def _numbers(column: pd.Series) -> np.ndarray:
    """float64 [n]; NaN for all that is not a number or the text of one."""
    if column.dtype.kind in "iuf":
        return column.to_numpy(dtype=np.float64, na_value=np.nan)
    return np.array([_parse_number(value) for value in column], dtype=np.float64)


def _parse_number(value: Any) -> float:
    """NaN for what ``float`` takes beyond that, too: truth values, bytes, ``1_000``, the digits of other scripts."""
    is_plain = value.isascii() and "_" not in value if isinstance(value, str) else isinstance(value, Real | Decimal)
    try:
        return float(value) if is_plain and not isinstance(value, bool) else np.nan
    except (ValueError, OverflowError):
        return np.nan


def _complaint(value: Any, column: int) -> str:
    name = RAW_COLUMNS[column]
    try:
        text = str(value)
    except ValueError:  # Python writes no integer of more than 4,300 digits
        text = "too long to show"
    if value is None or value is pd.NA or value is pd.NaT or text.strip() in ("", "nan"):
        return f"{name} is missing"
    expected = "M, F or I" if name == "Sex" else f"a number from 0 to {LIMITS[name]} (ten times the largest known)"
    shown = repr(text[:50]) if isinstance(value, str) else text[:50]
    return f"{name} is {shown}, expected {expected}"


class Scorer:
    """The python_function side of a model.

    Parameters
    ----------
    weights : Path
        File that ``save_model`` wrote: configuration and ``state_dict``.
    """

    def __init__(self, weights: Path):
        saved = torch.load(weights, weights_only=True)
        self.model = build(saved["config"])
        self.model.load_state_dict(saved["state"])
        self.model.eval()
        self.task = saved["config"]["task"]

    def predict(self, rows: Any, params: Mapping[str, Any] | None = None) -> pd.DataFrame:
        """Score raw rows.

        Parameters
        ----------
        rows : DataFrame [n, at least 8]
            ``Sex`` as text and seven measurements in the units of the data file, in any order and among others.

        Returns
        -------
        DataFrame [n, 2], or [n, 4]
            ``label`` and ``probability_old``; or ``rings`` and ``age_years``, of a ring distribution with ``rings_low``
            and ``rings_high`` too.

        Raises
        ------
        BadRows
            Where ``check`` finds something.
        """
        checked = check(rows)
        x: Tensor = encode(checked)  # [n, 10]
        network = self.model.distribution if isinstance(self.model, RingRegressor) else self.model
        with torch.inference_mode():
            output = torch.cat([network(part) for part in x.split(SCORED_AT_ONCE)]).double()
        if self.task == "regression":
            return pd.DataFrame(_rings(network, output), index=checked.index)
        old = output.softmax(1)[:, 1].numpy()
        labels = np.array(CLASS_LABELS, dtype=object)[(old >= 0.5).astype(int)]
        return pd.DataFrame({"label": labels, "probability_old": old}, index=checked.index)


def _rings(network: nn.Module, output: Tensor) -> dict[str, np.ndarray]:
    """Named columns [n] from rings [n, 1], or from the distribution of rings [n, 28]."""
    distributed = isinstance(network, RingDistribution)
    rings = (mean_rings(output) if distributed else output[:, 0]).numpy()
    low_high = ring_interval(output) if distributed else ()
    interval = {name: end.double().numpy() for name, end in zip(INTERVAL_OUTPUTS, low_high)}
    return {"rings": rings, "age_years": rings + YEARS_BEFORE_FIRST_RING} | interval


def _load_pyfunc(path: str, model_config: Mapping[str, Any] | None = None) -> Scorer:
    """Entry point of MLflow for ``loader_module``."""
    return Scorer(Path(path))

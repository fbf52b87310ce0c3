"""Score raw rows: check them (``rows``), encode them, run the network and name its outputs.

This is the model behind ``mlflow.pyfunc.load_model``, ``mlflow models serve`` and ``spark_udf``. It is rebuilt from a
configuration and a ``state_dict`` that torch reads with ``weights_only=True``, so it loads where unpickling is
forbidden.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from torch import Tensor, nn

from .columns import (
    CLASS_LABELS,
    DISTRIBUTION_OUTPUTS,
    INTERVAL_OUTPUTS,
    MEDIAN_OUTPUT,
    OUTSIDE,
    PARAMS,
    YEARS_BEFORE_FIRST_RING,
)
from .distribution import INTERVAL_SHARE, mean_rings, median_rings, ring_interval, ring_shares
from .features import encode
from .networks import RingRegressor, build
from .rows import check
from .training_range import TrainingRange

WEIGHTS = "weights.pt"
ODDS_RATIO = INTERVAL_SHARE / (1 - INTERVAL_SHARE) * (1 - PARAMS["interval"]) / PARAMS["interval"]
SCORED_AT_ONCE = 8192  # rows; keeps the hidden layers in the CPU cache


def save_weights(path: Path, model: nn.Module, config: Mapping[str, Any], fitted: pd.DataFrame) -> None:
    """Write the file from which a ``Scorer`` is built.

    Parameters
    ----------
    path : Path
        File to write.
    model : nn.Module
        Network whose weights are saved.
    config : mapping
        Configuration from which ``networks.build`` builds the same network.
    fitted : DataFrame [m, at least 9]
        The rows that the network was fitted on.
    """
    training = TrainingRange.of(fitted).state()
    torch.save({"config": dict(config), "state": model.state_dict(), "training": training}, path)


class Scorer:
    """A trained network that takes raw rows and returns named columns.

    Parameters
    ----------
    path : Path
        File written by ``save_weights``.
    """

    def __init__(self, path: Path):
        saved = torch.load(path, weights_only=True)
        self.task = saved["config"]["task"]
        self.model = build(saved["config"])
        self.model.load_state_dict(saved["state"])
        self.model.eval()
        self.training = TrainingRange(**saved["training"])

    def get_raw_model(self) -> Scorer:
        """Return this object; MLflow's ``PyFuncModel.get_raw_model`` asks for it."""
        return self

    def predict(self, rows: Any, params: Mapping[str, Any] | None = None) -> pd.DataFrame:
        """Score raw rows.

        Parameters
        ----------
        rows : DataFrame [n, at least 8]
            As ``check`` takes them: ``Sex`` as text and the measurements in mm / 200 and g / 200.
        params : mapping, optional
            Of a regressor that predicts the distribution of rings: ``interval``, the share of the animals that
            ``rings_low`` and ``rings_high`` are to hold (default 0.8), and ``distribution``, whether to add
            ``p_rings_1`` to ``p_rings_29`` (default false). Other models ignore them.

        Returns
        -------
        DataFrame [n, 3] or [n, 6]
            With the index of ``rows``: ``label`` and ``probability_old``, or ``rings`` and ``age_years``. A ring
            ensemble adds ``rings_median``, ``rings_low`` and ``rings_high``. The last column is
            ``outside_training_range``, see ``TrainingRange.outside``.

        Raises
        ------
        BadRows
            If ``check`` finds a problem.
        MlflowException
            If ``interval`` is not between 0 and 1.
        """
        checked = check(rows)
        x: Tensor = encode(checked)  # [n, 10]
        if self.task == "classification":
            columns = _classes(_run(self.model, x))
        elif isinstance(self.model, RingRegressor):
            columns = _rings_of_distribution(_run(self.model.distribution, x), {**PARAMS, **(params or {})})
        else:
            columns = _rings(_run(self.model, x)[:, 0])
        columns[OUTSIDE] = self.training.outside(x)
        return pd.DataFrame(columns, index=checked.index)


def _run(network: nn.Module, x: Tensor) -> Tensor:
    """Outputs of a network for rows [n, 10], float64."""
    with torch.inference_mode():
        return torch.cat([network(part) for part in x.split(SCORED_AT_ONCE)]).double()


def _classes(output: Tensor) -> dict[str, np.ndarray]:
    """Columns [n] from logits [n, 2]."""
    probability_old = output.softmax(1)[:, 1].numpy()
    is_old = probability_old >= 0.5
    labels = np.array(CLASS_LABELS, dtype=object)[is_old.astype(int)]
    return {"label": labels, "probability_old": probability_old}


def _rings(rings: Tensor) -> dict[str, np.ndarray]:
    """Columns [n] from rings [n]."""
    return {"rings": rings.numpy(), "age_years": rings.numpy() + YEARS_BEFORE_FIRST_RING}


def _rings_of_distribution(probabilities: Tensor, params: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Columns [n] from P(rings >= t) [n, 28]."""
    columns = _rings(mean_rings(probabilities))
    columns[MEDIAN_OUTPUT] = median_rings(probabilities).double().numpy()
    for name, end in zip(INTERVAL_OUTPUTS, ring_interval(probabilities, _share_inside(params["interval"]))):
        columns[name] = end.double().numpy()
    if params["distribution"]:
        columns |= zip(DISTRIBUTION_OUTPUTS, ring_shares(probabilities).numpy().T)
    return columns


def _share_inside(interval: float) -> float:
    """Share of the distribution inside an interval that is to hold a share of the animals."""
    if not 0 < interval < 1:
        raise MlflowException(
            f"interval is {interval}, expected a share above 0 and below 1, such as 0.9",
            error_code=INVALID_PARAMETER_VALUE,
        )
    # A shift of the log-odds, which is right for the default interval and vanishes towards 0 and 1.
    odds = interval / (1 - interval) * ODDS_RATIO
    return odds / (1 + odds)


def _load_pyfunc(path: str, model_config: Mapping[str, Any] | None = None) -> Scorer:
    """Load a model; MLflow calls this function of the ``loader_module`` that the model's ``MLmodel`` names."""
    return Scorer(Path(path))

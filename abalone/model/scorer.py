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
from torch import Tensor, nn

from .columns import CLASS_LABELS, DISTRIBUTION_OUTPUTS, YEARS_BEFORE_FIRST_RING
from .distribution import mean_rings, median_rings, ring_interval
from .features import encode
from .networks import RingRegressor, build
from .rows import check

WEIGHTS = "weights.pt"
SCORED_AT_ONCE = 8192  # rows; keeps the hidden layers in the CPU cache


def save_weights(path: Path, model: nn.Module, config: Mapping[str, Any]) -> None:
    """Write the file from which a ``Scorer`` is built.

    Parameters
    ----------
    path : Path
        File to write.
    model : nn.Module
        Network whose weights are saved.
    config : mapping
        Configuration from which ``networks.build`` builds the same network.
    """
    torch.save({"config": dict(config), "state": model.state_dict()}, path)


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

    def predict(self, rows: Any, params: Mapping[str, Any] | None = None) -> pd.DataFrame:
        """Score raw rows.

        Parameters
        ----------
        rows : DataFrame [n, at least 8]
            As ``check`` takes them: ``Sex`` as text and the measurements in mm / 200 and g / 200.
        params : mapping, optional
            Passed by MLflow; there are none.

        Returns
        -------
        DataFrame [n, 2] or [n, 5]
            With the index of ``rows``: ``label`` and ``probability_old``, or ``rings`` and ``age_years``. A ring
            ensemble adds ``rings_median``, ``rings_low`` and ``rings_high``.

        Raises
        ------
        BadRows
            If ``check`` finds a problem.
        """
        checked = check(rows)
        x: Tensor = encode(checked)  # [n, 10]
        if self.task == "classification":
            columns = _classes(_run(self.model, x))
        elif isinstance(self.model, RingRegressor):
            columns = _rings_of_distribution(_run(self.model.distribution, x))
        else:
            columns = _rings(_run(self.model, x)[:, 0])
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


def _rings_of_distribution(probabilities: Tensor) -> dict[str, np.ndarray]:
    """Columns [n] from P(rings >= t) [n, 28]."""
    columns = _rings(mean_rings(probabilities))
    low, high = ring_interval(probabilities)
    counts = (median_rings(probabilities), low, high)
    for name, values in zip(DISTRIBUTION_OUTPUTS, counts):
        columns[name] = values.double().numpy()
    return columns


def _load_pyfunc(path: str, model_config: Mapping[str, Any] | None = None) -> Scorer:
    """Load a model; MLflow calls this function of the ``loader_module`` that the model's ``MLmodel`` names."""
    return Scorer(Path(path))

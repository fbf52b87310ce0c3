"""What a champion promised: its scores on the test rows of its own run, and the noise in them."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from abalone.registry.answer_scores import measure, resample
from abalone.registry.candidates import predicted_rows
from abalone.settings import ANSWER_COLUMNS, PREDICTION_COLUMNS, SELECTION


@dataclass(frozen=True)
class Promise:
    """Scores of a champion on its own test rows.

    Parameters
    ----------
    scores : mapping of metric to float
        A run of both tasks has those of both.
    rows : int
        Number of test rows; 0 if their predictions are lost.
    sampled : mapping of metric to ndarray [samples]
        Scores on bootstrap samples of the test rows; empty if these are too few, or lost.
    """

    scores: Mapping[str, float]
    rows: int
    sampled: Mapping[str, np.ndarray]

    def differences(self, sampled: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Scores on bootstrap samples of other rows minus those on the test rows, where both have a score."""
        return {name: values - self.sampled[name] for name, values in sampled.items() if name in self.sampled}


def read_promise(task: str, version: Any) -> Promise:
    """Read what a version promised.

    Parameters
    ----------
    task : str
        classification or regression.
    version : ModelVersion
        If its run was deleted for good, it has kept one score.
    """
    promised = _logged_scores(version.run_id)
    kept = f"test/{SELECTION[task]}"
    if SELECTION[task] not in promised and kept in version.tags:
        promised[SELECTION[task]] = float(version.tags[kept])
    with suppress(Exception):  # a lost or damaged file raises errors of any kind
        rows = predicted_rows(version.run_id, "test").rename(columns={PREDICTION_COLUMNS[task]: ANSWER_COLUMNS[task]})
        rings = rows["Rings"].to_numpy()
        return Promise(
            scores=measure(task, rings, rows) | promised,  # the bias is not logged
            rows=len(rows),
            sampled=resample(task, rings, rows, seed=1),
        )
    return Promise(scores=promised, rows=0, sampled={})


def _logged_scores(run_id: str) -> dict[str, float]:
    """Test scores of a run; none if it was deleted for good."""
    try:
        metrics = MlflowClient().get_run(run_id).data.metrics
    except MlflowException:
        return {}
    return {name.removeprefix("test/"): value for name, value in metrics.items() if name.startswith("test/")}

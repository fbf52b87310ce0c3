"""The table of metrics: what each is called, how it is computed, and which direction is better."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Metric:
    """A metric: what it is called, how it is computed, and which direction is better.

    Parameters
    ----------
    label : str
        Name in tables and figures.
    unit : str
        "" for none.
    greater_is_better : bool
    task : str
        classification, regression, or distribution: of P(rings = r), by ``evaluation.distribution_scores``.
    meaning : str
        What it is, for the pages of runs.
    function : str or callable
        Of the truth and the predictions, both [n]; a string names a function of ``sklearn.metrics``.
    of : str
        What it is computed from: ``label`` or ``probability`` (of Old), ``rings`` or ``median`` (of the rings, where a
        model knows it).
    options : mapping
        Further arguments of ``function``.
    """

    label: str
    unit: str
    greater_is_better: bool
    task: str
    meaning: str
    function: str | Callable[..., float] = ""
    of: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def label_with_unit(self) -> str:
        """Label for an axis or a table header, such as ``RMSE (rings)``."""
        if self.unit:
            return f"{self.label} ({self.unit})"
        return self.label


# All that a new metric needs is an entry here. The first of a task is the one that the page of a run begins with.
METRICS = {
    "accuracy": Metric(
        "accuracy",
        unit="",
        greater_is_better=True,
        task="classification",
        meaning="share of rows labelled correctly",
        function="accuracy_score",
        of="label",
    ),
    "balanced_accuracy": Metric(
        "balanced accuracy",
        unit="",
        greater_is_better=True,
        task="classification",
        meaning="mean of the shares of young and of old rows labelled correctly",
        function="balanced_accuracy_score",
        of="label",
    ),
    "roc_auc": Metric(
        "AUC",
        unit="",
        greater_is_better=True,
        task="classification",
        meaning="how often a random old animal gets a higher probability of Old than a random young one",
        function="roc_auc_score",
        of="probability",
    ),
    "log_loss": Metric(
        "log loss",
        unit="nats",
        greater_is_better=False,
        task="classification",
        meaning="cross-entropy, with natural logarithms: its unit is the nat",
        function="log_loss",
        of="probability",
        options={"labels": [0, 1]},
    ),
    "brier": Metric(
        "Brier score",
        unit="",
        greater_is_better=False,
        task="classification",
        meaning="mean squared error of the probability of Old",
        function="brier_score_loss",
        of="probability",
    ),
    "rmse": Metric(
        "RMSE",
        unit="rings",
        greater_is_better=False,
        task="regression",
        meaning="root of the mean squared error, in rings",
        function="root_mean_squared_error",
        of="rings",
    ),
    "mae": Metric(
        "MAE",
        unit="rings",
        greater_is_better=False,
        task="regression",
        meaning="mean absolute error, in rings",
        function="mean_absolute_error",
        of="median",
    ),
    "r2": Metric(
        "R²",
        unit="",
        greater_is_better=True,
        task="regression",
        meaning="share of the variance of rings that is explained",
        function="r2_score",
        of="rings",
    ),
    "crps": Metric(
        "CRPS",
        unit="rings",
        greater_is_better=False,
        task="distribution",
        meaning="continuous ranked probability score: the absolute error, generalised to the distribution of rings",
    ),
    "ring_log_score": Metric(
        "ring log score",
        unit="nats",
        greater_is_better=False,
        task="distribution",
        meaning="minus the logarithm of the probability of the true number of rings",
    ),
}


def metrics_of(task: str) -> list[str]:
    """Names of the metrics of a task, or of a distribution."""
    return [name for name, metric in METRICS.items() if metric.task == task]

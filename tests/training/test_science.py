"""The stages' scores over ten seeds, splits included, against the bands measured for the guide's networks."""

from __future__ import annotations

import numpy as np
import pytest

from abalone.data.reading import read
from abalone.data.splitting import split
from abalone.evaluation.scores import predict, scores
from abalone.model.features import encode
from abalone.settings import load_settings
from abalone.training.population import fit_many

SEEDS = range(10)
BANDS = {
    "classify": {"accuracy": (0.735, 0.755), "roc_auc": (0.820, 0.840)},
    "deepen": {"accuracy": (0.735, 0.755), "roc_auc": (0.820, 0.840)},
    "encode": {"accuracy": (0.738, 0.758), "roc_auc": (0.825, 0.848)},
    "regularize": {"accuracy": (0.731, 0.751)},
    "dropout": {"accuracy": (0.734, 0.754)},
    "regress": {"rmse": (2.30, 2.51)},
}
AS_WRITTEN = {"clip": 0, "standardize_target": False}


def mean_scores(stage: str, overrides: dict | None = None) -> dict[str, float]:
    """Mean test scores of a stage over the seeds."""
    dataset = read()
    x, rings = encode(dataset.frame), dataset.frame["Rings"].to_numpy()
    experiments = [load_settings(stage, {**(overrides or {}), "seed": seed}) for seed in SEEDS]
    splits = [split(dataset, seed) for seed in SEEDS]
    results = [
        scores(experiment.task, rings[rows.test], predict(model, x[rows.test]))
        for experiment, rows, (model, _) in zip(experiments, splits, fit_many(experiments, x, rings, splits))
    ]
    return {name: float(np.mean([result[name] for result in results])) for name in results[0]}


@pytest.mark.slow
@pytest.mark.parametrize("stage", BANDS)
def test_the_mean_of_ten_seeds_lies_in_its_band(stage):
    means = mean_scores(stage)
    print(stage, means)
    for name, (low, high) in BANDS[stage].items():
        assert low <= means[name] <= high, f"{stage}: mean {name} {means[name]:.4f}"


@pytest.mark.slow
def test_regression_as_the_guide_writes_it_is_worse_by_far_and_the_cure_is_on_by_default():
    naive = mean_scores("regress", AS_WRITTEN)
    print(naive)
    assert 2.6 <= naive["rmse"] <= 3.0

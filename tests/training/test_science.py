"""Mean test scores of the stages over ten seeds and splits, within bands measured for the guide's networks."""

from __future__ import annotations

import pytest

from abalone.claims.claims import Measured, measure_stages, train_stages
from abalone.data.reading import read
from abalone.settings import load_settings

SEEDS = 10
BANDS = {
    "classify": {"accuracy": (0.735, 0.755), "roc_auc": (0.820, 0.840)},
    "deepen": {"accuracy": (0.735, 0.755), "roc_auc": (0.820, 0.840)},
    "encode": {"accuracy": (0.738, 0.758), "roc_auc": (0.825, 0.848)},
    "regularize": {"accuracy": (0.731, 0.751)},
    "dropout": {"accuracy": (0.734, 0.754)},
    "regress": {"rmse": (2.30, 2.51)},
}
AS_IN_THE_GUIDE = {"clip": 0, "standardize_target": False}


@pytest.fixture(scope="module")
def measured() -> Measured:
    """Test scores of every stage, and of ``regress`` as in the guide, over the seeds."""
    stages = {stage: load_settings(stage) for stage in BANDS}
    stages["as in the guide"] = load_settings("regress", AS_IN_THE_GUIDE)
    dataset = read()
    return measure_stages(stages, dataset, train_stages(stages, dataset, SEEDS))


@pytest.mark.slow
@pytest.mark.parametrize("stage", BANDS)
def test_the_mean_of_ten_seeds_lies_within_its_band(measured, stage):
    for name, (low, high) in BANDS[stage].items():
        mean = measured[stage][name].mean()
        assert low <= mean <= high, f"{stage}: mean {name} {mean:.4f}"


@pytest.mark.slow
def test_regression_as_in_the_guide_is_far_worse_and_the_remedy_is_on_by_default(measured):
    assert 2.6 <= measured["as in the guide"]["rmse"].mean() <= 3.0

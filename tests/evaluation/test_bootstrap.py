"""Bootstrap intervals: the weighted scores are scikit-learn's of the same resample, and the width is the noise's."""

from __future__ import annotations

import numpy as np
import pytest

from abalone.evaluation import bootstrap
from abalone.evaluation.bootstrap import bootstrap_scores, percentile_intervals, weighted_scores
from abalone.evaluation.scores import scores

GENERATOR = np.random.default_rng(0)
RINGS = GENERATOR.integers(3, 20, 60)
PREDICTED = {
    "classification": GENERATOR.uniform(size=60).round(1),  # rounded, so that there are ties
    "regression": RINGS + GENERATOR.normal(size=60),
}


@pytest.mark.parametrize("task", PREDICTED)
def test_the_scores_of_a_weighting_are_those_of_rows_that_occur_so_often(task):
    resamples = [GENERATOR.integers(0, 60, 60) for _ in range(5)]
    weights = np.array([np.bincount(drawn, minlength=60) for drawn in resamples], dtype=float)
    fast = weighted_scores(task, RINGS, PREDICTED[task], weights)
    for place, drawn in enumerate(resamples):
        expected = scores(task, RINGS[drawn], PREDICTED[task][drawn])
        assert {name: values[place] for name, values in fast.items()} == pytest.approx(expected)


def test_the_interval_of_a_mean_has_the_width_of_the_normal_approximation():
    rings = np.full(900, 9)
    errors = np.random.default_rng(1).normal(size=900)
    sampled = bootstrap_scores("regression", rings, rings + errors, {"value": errors})
    low, high = percentile_intervals(sampled)["value"]
    assert (low + high) / 2 == pytest.approx(errors.mean(), abs=0.01)
    assert high - low == pytest.approx(2 * 1.96 * errors.std() / 30, rel=0.1)


def test_the_same_seed_gives_the_same_interval_in_one_part_or_many(monkeypatch):
    def intervals(seed: int) -> dict:
        return percentile_intervals(
            bootstrap_scores("regression", RINGS, PREDICTED["regression"], {}, samples=50, seed=seed)
        )

    whole = intervals(0)
    assert intervals(1) != whole
    monkeypatch.setattr(bootstrap, "WEIGHTS_AT_ONCE", 7 * 60)
    parts = intervals(0)
    assert all(parts[name] == pytest.approx(whole[name]) for name in whole)


def test_a_score_that_one_class_does_not_define_has_no_interval():
    rings = np.full(40, 5)
    intervals = percentile_intervals(bootstrap_scores("classification", rings, np.linspace(0, 1, 40), {}))
    assert set(intervals) == {"accuracy", "log_loss", "brier"}

"""Scores against cases small enough to work out by hand."""

from __future__ import annotations

from math import log, sqrt

import numpy as np
import pytest
import torch
from torch import nn

from abalone.evaluation import scores
from abalone.evaluation.calibration import calibration_error, coverage, reliability
from abalone.evaluation.scores import baseline, paired_bootstrap, predict, scores
from abalone.settings import METRICS, SELECTION, UserError

RINGS = np.array([9, 10, 12, 29])  # one young, three old
DRAW = np.random.default_rng(0)


def test_scores_of_a_classifier():
    # Right on the young one and on two of three old ones; 2 of 3 pairs (old, young) are in order.
    found = scores("classification", RINGS, np.array([0.4, 0.9, 0.8, 0.3]))
    assert found == pytest.approx(
        {
            "accuracy": 3 / 4,
            "balanced_accuracy": (1 + 2 / 3) / 2,
            "roc_auc": 2 / 3,
            "log_loss": -(log(0.6) + log(0.9) + log(0.8) + log(0.3)) / 4,
            "brier": (0.4**2 + 0.1**2 + 0.2**2 + 0.7**2) / 4,
        }
    )


def test_a_probability_of_one_half_counts_as_old():
    assert scores("classification", RINGS, np.full(4, 0.5))["accuracy"] == 3 / 4


def test_scores_of_a_regressor():
    found = scores("regression", np.array([5, 10, 15]), np.array([6.0, 10.0, 13.0]))
    assert found == pytest.approx({"rmse": sqrt(5 / 3), "mae": 1.0, "r2": 1 - 5 / 50})


def test_every_score_has_a_direction_and_selection_goes_by_one_of_them():
    for task in ("classification", "regression"):
        poor, good = (np.array(p, dtype=float) for p in ([0.9, 0.6, 0.4, 0.7], [0.1, 0.8, 0.9, 0.8]))
        if task == "regression":
            poor, good = RINGS + 3.0, RINGS + 1.0
        worse, better = scores(task, RINGS, poor), scores(task, RINGS, good)
        assert SELECTION[task] in better
        assert all((better[name] > worse[name]) == METRICS[name].greater_is_better for name in better)


@pytest.mark.parametrize("task", ["classification", "regression"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_predictions_that_are_not_finite_are_refused(task, bad):
    with pytest.raises(UserError, match="1 of 4 predictions are not finite; lower learning_rate"):
        scores(task, RINGS, np.array([0.1, bad, 0.9, 0.9]))


def test_the_baseline_of_a_classifier_is_the_training_share_of_old():
    found = baseline("classification", np.array([5, 12, 12, 12]), RINGS[:2])
    assert found == pytest.approx(
        {
            "accuracy": 1 / 2,
            "balanced_accuracy": 1 / 2,
            "roc_auc": 1 / 2,
            "log_loss": -(log(0.75) + log(0.25)) / 2,
            "brier": (0.75**2 + 0.25**2) / 2,
        }
    )


def test_the_baseline_of_a_regressor_is_the_training_mean():
    found = baseline("regression", np.array([4, 8]), np.array([5, 9]))
    assert found == pytest.approx({"rmse": sqrt((1 + 9) / 2), "mae": 2.0, "r2": 1 - 10 / 8})


class Fixed(nn.Module):
    """Gives the first columns of its input as output."""

    def __init__(self, outputs: int):
        super().__init__()
        self.outputs = outputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, : self.outputs]


@pytest.mark.parametrize("at_once", [65_536, 3])
def test_predict_gives_the_probability_of_old_or_rings(monkeypatch, at_once):
    monkeypatch.setattr(scores, "PREDICTED_AT_ONCE", at_once)
    x = torch.tensor(DRAW.normal(size=(10, 10)), dtype=torch.float32, requires_grad=True)
    young, old = x.detach()[:, :2].double().numpy().T
    probability, rings = predict(Fixed(2), x), predict(Fixed(1), x)
    np.testing.assert_allclose(probability, 1 / (1 + np.exp(young - old)), rtol=1e-12)
    np.testing.assert_array_equal(rings, young)
    assert probability.shape == rings.shape == (10,) and probability.dtype == rings.dtype == np.float64


TASKS = pytest.mark.parametrize("task", ["classification", "regression"])
ROWS = DRAW.integers(4, 16, 300)


def guess(task: str, noise: float, seed: int = 1) -> np.ndarray:
    """Predictions for ``ROWS`` that are the worse, the more noise there is."""
    errors = np.random.default_rng(seed).normal(0, noise, len(ROWS))
    return ROWS + errors if task == "regression" else 1 / (1 + np.exp(-(np.where(ROWS >= 10, 1, -1) + errors)))


@TASKS
def test_bootstrap_is_negative_where_the_first_model_is_better(task):
    good, poor, name = guess(task, 1), guess(task, 3), SELECTION[task]
    difference, low, high = paired_bootstrap(task, ROWS, good, poor)
    assert difference == pytest.approx(scores(task, ROWS, good)[name] - scores(task, ROWS, poor)[name])
    assert low < difference < high < 0
    assert paired_bootstrap(task, ROWS, poor, good) == pytest.approx((-difference, -high, -low))


@TASKS
def test_bootstrap_of_models_that_are_equally_good_contains_zero(task):
    one, other = guess(task, 1, seed=1), guess(task, 1, seed=2)
    assert paired_bootstrap(task, ROWS, one, one) == (0, 0, 0)
    _, low, high = paired_bootstrap(task, ROWS, one, other)
    assert low < 0 < high


@TASKS
def test_bootstrap_is_the_same_each_time_and_depends_on_its_seed(task):
    once, again, other = (
        paired_bootstrap(task, ROWS, guess(task, 1), guess(task, 3), samples=200, seed=seed) for seed in (0, 0, 1)
    )
    assert once == again
    assert once[0] == other[0] and once[1:] != other[1:]


def test_the_interval_is_as_wide_as_theory_says():
    good, poor = guess("classification", 1), guess("classification", 3)
    losses = [-np.log(np.where(ROWS >= 10, p, 1 - p)) for p in (good, poor)]
    error = (losses[0] - losses[1]).std(ddof=1) / sqrt(len(ROWS))  # of a mean paired difference
    _, low, high = paired_bootstrap("classification", ROWS, good, poor)
    assert high - low == pytest.approx(2 * 1.96 * error, rel=0.1)


def test_certain_and_wrong_stays_finite():
    assert np.isfinite(paired_bootstrap("classification", RINGS, np.zeros(4), np.ones(4))).all()


def test_calibration_of_two_bins_by_hand():
    old, said = np.array([0, 1, 1, 1]), np.array([0.21, 0.29, 0.81, 0.89])
    assert reliability(old, said) == pytest.approx(np.array([[0.25, 0.5, 2], [0.85, 1.0, 2]]))
    assert calibration_error(old, said) == pytest.approx((0.25 + 0.15) / 2)
    assert calibration_error(old, old.astype(float)) == 0, "certain and right; 1.0 has a bin"


def test_calibrated_probabilities_have_a_small_error_and_overconfident_ones_a_large_one():
    truth = DRAW.uniform(size=20_000)
    old = (DRAW.uniform(size=20_000) < truth).astype(int)
    assert calibration_error(old, truth) < 0.02
    assert calibration_error(old, np.where(truth > 0.5, 1.0, 0.0)) > 0.2


def test_coverage_counts_both_ends():
    assert coverage(np.array([4, 5, 6, 7]), np.full(4, 5.0), np.full(4, 6.0)) == 0.5

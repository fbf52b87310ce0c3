"""Scores against cases small enough to work out by hand."""

from __future__ import annotations

from math import log, sqrt

import numpy as np
import pytest
import torch
from torch import nn

from abalone.evaluation.scores import (
    PREDICTED_AT_ONCE,
    accuracy_interval,
    baseline,
    noise_of_difference,
    paired_bootstrap,
    predict,
    scores,
)
from abalone.metrics import METRICS
from abalone.settings import SELECTION, UserError

RINGS = np.array([9, 10, 12, 29])  # one young, three old


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


def test_the_absolute_error_is_of_the_median_if_it_is_given():
    rings = np.array([5, 10, 15])
    median = np.array([5, 10, 16])
    found = scores("regression", rings, np.array([6.0, 10.0, 13.0]), median)
    assert found == pytest.approx({"rmse": sqrt(5 / 3), "mae": 1 / 3, "r2": 1 - 5 / 50})
    probability_old = np.array([0.1, 0.6, 0.9])
    assert scores("classification", rings, probability_old, median) == scores("classification", rings, probability_old)


@pytest.mark.parametrize(
    "task, poor, good",
    [
        ("classification", np.array([0.9, 0.6, 0.4, 0.7]), np.array([0.1, 0.8, 0.9, 0.8])),
        ("regression", RINGS + 3.0, RINGS + 1.0),
    ],
)
def test_every_score_improves_in_the_direction_that_the_table_of_metrics_states(task, poor, good):
    worse = scores(task, RINGS, poor)
    better = scores(task, RINGS, good)
    assert SELECTION[task] in better
    for name in better:
        assert (better[name] > worse[name]) == METRICS[name].greater_is_better, name


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


class FirstColumns(nn.Module):
    """Returns the first columns of its input."""

    def __init__(self, outputs: int):
        super().__init__()
        self.outputs = outputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, : self.outputs]


@pytest.mark.parametrize("rows_at_once", [PREDICTED_AT_ONCE, 3])
def test_predict_returns_the_probability_of_old_or_rings(rows_at_once):
    values = np.random.default_rng(0).normal(size=(10, 10))
    x = torch.tensor(values, dtype=torch.float32, requires_grad=True)
    young, old = x.detach()[:, :2].double().numpy().T
    probability = predict(FirstColumns(2), x, rows_at_once)
    rings = predict(FirstColumns(1), x, rows_at_once)
    np.testing.assert_allclose(probability, 1 / (1 + np.exp(young - old)), rtol=1e-12)
    np.testing.assert_array_equal(rings, young)
    assert probability.shape == rings.shape == (10,)
    assert probability.dtype == rings.dtype == np.float64


TASKS = pytest.mark.parametrize("task", ["classification", "regression"])
ROWS = np.random.default_rng(0).integers(4, 16, 300)


def guess(task: str, noise: float, seed: int = 1) -> np.ndarray:
    """Predictions for ``ROWS``; the more noise, the worse."""
    errors = np.random.default_rng(seed).normal(0, noise, len(ROWS))
    if task == "regression":
        return ROWS + errors
    logits = np.where(ROWS >= 10, 1, -1) + errors
    return 1 / (1 + np.exp(-logits))


@TASKS
def test_the_bootstrap_is_negative_where_the_first_model_is_better(task):
    good = guess(task, 1)
    poor = guess(task, 3)
    metric = SELECTION[task]
    difference, low, high = paired_bootstrap(task, ROWS, good, poor)
    assert difference == pytest.approx(scores(task, ROWS, good)[metric] - scores(task, ROWS, poor)[metric])
    assert low < difference < high < 0
    assert paired_bootstrap(task, ROWS, poor, good) == pytest.approx((-difference, -high, -low))


@TASKS
def test_the_bootstrap_interval_of_equally_good_models_contains_zero(task):
    one = guess(task, 1, seed=1)
    other = guess(task, 1, seed=2)
    assert paired_bootstrap(task, ROWS, one, one) == (0, 0, 0)
    _, low, high = paired_bootstrap(task, ROWS, one, other)
    assert low < 0 < high


@TASKS
def test_the_bootstrap_is_reproducible_and_depends_on_its_seed(task):
    def bootstrap(seed: int) -> tuple[float, float, float]:
        return paired_bootstrap(task, ROWS, guess(task, 1), guess(task, 3), samples=200, seed=seed)

    first = bootstrap(seed=0)
    other = bootstrap(seed=1)
    assert bootstrap(seed=0) == first
    assert other[0] == first[0]
    assert other[1:] != first[1:]


def test_the_bootstrap_interval_is_as_wide_as_theory_says():
    good = guess("classification", 1)
    poor = guess("classification", 3)
    losses = [-np.log(np.where(ROWS >= 10, p, 1 - p)) for p in (good, poor)]
    error = (losses[0] - losses[1]).std(ddof=1) / sqrt(len(ROWS))  # of a mean paired difference
    _, low, high = paired_bootstrap("classification", ROWS, good, poor)
    assert high - low == pytest.approx(2 * 1.96 * error, rel=0.1)


def test_the_bootstrap_of_certain_but_wrong_probabilities_is_finite():
    assert np.isfinite(paired_bootstrap("classification", RINGS, np.zeros(4), np.ones(4))).all()


def test_the_noise_of_an_accuracy_is_that_of_a_binomial_share():
    low, high = accuracy_interval(0.75, 2089)
    simulated = np.random.default_rng(0).binomial(2089, 0.75, 20_000) / 2089
    assert [low, high] == pytest.approx(np.percentile(simulated, [2.5, 97.5]), abs=1e-3)
    # The errors of two independent models add up to sqrt(2) times that of one.
    assert noise_of_difference(0.75, 0.75, 2089) == pytest.approx(sqrt(2) * (high - low) / 2)

"""Predictions of a model, their scores, the scores of a constant baseline, and the noise of a comparison."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from abalone.data.labels import is_old
from abalone.metrics import METRICS, metrics_of
from abalone.settings import UserError

if TYPE_CHECKING:
    from torch import Tensor, nn

PREDICTED_AT_ONCE = 65_536
NORMAL_95 = 1.96  # half width of the 95 % interval of a normal distribution, in standard deviations


def predict(model: nn.Module, x: Tensor, rows_at_once: int = PREDICTED_AT_ONCE) -> np.ndarray:
    """Predict with a model in eval mode.

    Parameters
    ----------
    model : nn.Module
        float32 ``[n, 10]`` to logits ``[n, 2]`` or rings ``[n, 1]``.
    x : Tensor [n, 10]
        Input of the model.
    rows_at_once : int
        Rows per call of the model, which bounds the memory needed.

    Returns
    -------
    ndarray [n], float64
        Probability of Old, or rings.
    """
    import torch

    with torch.inference_mode():
        outputs = [model(rows) for rows in x.split(rows_at_once)]
        output = torch.cat(outputs).double()
        if output.shape[1] == 1:
            return output[:, 0].numpy()
        return output.softmax(1)[:, 1].numpy()


def scores(task: str, rings: np.ndarray, predicted: np.ndarray, median: np.ndarray | None = None) -> dict[str, float]:
    """Score predictions.

    The mean of a distribution has the least squared error, its median the least absolute error. So a model that knows
    both is scored on both.

    Parameters
    ----------
    task : str
        classification or regression.
    rings : ndarray [n], int64
        The truth, in rings, for both tasks.
    predicted : ndarray [n]
        Probability of Old, or rings.
    median : ndarray [n], optional
        Median of the rings, from a regressor that predicts their distribution; ``mae`` is of these if they are given.

    Returns
    -------
    dict
        The metrics of the task, in the order of ``settings.METRICS``.

    Raises
    ------
    UserError
        If a prediction is not finite.
    """
    return {name: score(name, rings, predicted, median) for name in metrics_of(task)}


def score(name: str, rings: np.ndarray, predicted: np.ndarray, median: np.ndarray | None = None) -> float:
    """Score predictions by one metric, as ``scores`` does by all metrics of its task.

    Parameters
    ----------
    name : str
        Name of the metric, of classification or regression.
    rings, predicted, median
        As for ``scores``.

    Raises
    ------
    UserError
        If a prediction is not finite.
    """
    from sklearn import metrics

    bad = int((~np.isfinite(predicted)).sum())
    if bad:
        raise UserError(f"{bad} of {len(predicted)} predictions are not finite; lower learning_rate")
    metric = METRICS[name]
    truth = rings
    given = {"rings": predicted, "median": predicted if median is None else median}
    if metric.task == "classification":
        truth = is_old(rings)
        given = {"probability": predicted, "label": predicted >= 0.5}
    function = metric.function
    if isinstance(function, str):
        function = getattr(metrics, function)
    return float(function(truth, given[metric.of], **metric.options))


def baseline(task: str, rings_train: np.ndarray, rings: np.ndarray) -> dict[str, float]:
    """Score a constant prediction that uses the training targets alone.

    For classification it is the share of Old in the training rows, so the label is their majority class; for
    regression it is their mean number of rings.

    Parameters
    ----------
    task : str
        classification or regression.
    rings_train : ndarray [m], int64
        Rings of the training rows.
    rings : ndarray [n], int64
        Rings of the rows to score.

    Returns
    -------
    dict
        As ``scores`` returns.
    """
    constant = is_old(rings_train).mean() if task == "classification" else rings_train.mean()
    return scores(task, rings, np.full(len(rings), float(constant)))


def accuracy_interval(accuracy: float, rows: int) -> tuple[float, float]:
    """95 % interval of an accuracy that was measured on ``rows`` rows, by the normal approximation of the binomial."""
    half_width = NORMAL_95 * math.sqrt(accuracy * (1 - accuracy) / rows)
    return accuracy - half_width, accuracy + half_width


def noise_of_difference(accuracy_a: float, accuracy_b: float, rows: int) -> float:
    """Half width of the 95 % interval of the difference of two accuracies on ``rows`` rows each.

    The errors are taken as independent. Two models that err on the same rows differ by less.
    """
    variance = (accuracy_a * (1 - accuracy_a) + accuracy_b * (1 - accuracy_b)) / rows
    return NORMAL_95 * math.sqrt(variance)


def paired_bootstrap(
    task: str, rings: np.ndarray, predicted_a: np.ndarray, predicted_b: np.ndarray, samples: int = 2000, seed: int = 0
) -> tuple[float, float, float]:
    """Difference a - b of two models in the selection metric, on the same rows, with its 95 % percentile interval.

    Source: Efron & Tibshirani (1993), An Introduction to the Bootstrap, chapter 13.

    Parameters
    ----------
    task : str
        classification or regression.
    rings : ndarray [n], int64
        The truth.
    predicted_a, predicted_b : ndarray [n]
        Predictions of the two models.
    samples : int, default 2000
        Bootstrap samples.
    seed : int, default 0
        Seed of the samples.

    Returns
    -------
    difference, low, high : float
        In nats (``log_loss``) or rings (``rmse``); negative where a is better.
    """
    losses = np.stack([row_losses(task, rings, predicted_a), row_losses(task, rings, predicted_b)])  # [2, n]
    drawn = np.random.default_rng(seed).integers(0, len(rings), (samples, len(rings)))  # [samples, n]
    metric = mean_loss(task, losses)  # [2]
    sampled_metric = mean_loss(task, losses[:, drawn])  # [2, samples]
    low, high = np.percentile(sampled_metric[0] - sampled_metric[1], [2.5, 97.5])
    return float(metric[0] - metric[1]), float(low), float(high)


def row_losses(task: str, rings: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Squared error or negative log likelihood of each row.

    Parameters
    ----------
    task, rings, predicted
        As for ``scores``.

    Returns
    -------
    ndarray [n]
    """
    if task == "regression":
        return (predicted - rings) ** 2
    tiny = np.finfo(float).eps
    probability_old = np.clip(predicted, tiny, 1 - tiny)
    probability_of_truth = np.where(is_old(rings) == 1, probability_old, 1 - probability_old)
    return -np.log(probability_of_truth)


def mean_loss(task: str, losses: np.ndarray) -> np.ndarray:
    """The selection metric of rows.

    Parameters
    ----------
    task : str
    losses : ndarray [..., n]
        As ``row_losses`` returns them.

    Returns
    -------
    ndarray [...]
    """
    mean = losses.mean(-1)
    return np.sqrt(mean) if task == "regression" else mean

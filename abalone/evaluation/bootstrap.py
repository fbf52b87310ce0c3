"""Intervals of scores by the bootstrap: how much a score depends on which rows it was measured on.

A bootstrap sample is a weight for each row, the number of times that it was drawn, and nearly every score is made of
weighted means. So a thousand samples are scored in a few matrix products, where ``scipy.stats.bootstrap`` would call
scikit-learn a thousand times.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from abalone.data.labels import is_old
from abalone.evaluation.scores import row_losses

SAMPLES = 1000
PERCENTILES = (2.5, 97.5)
WEIGHTS_AT_ONCE = 4_000_000  # bounds the memory

Weights = np.ndarray  # [s, n], each row sums to n


def bootstrap_scores(
    task: str,
    rings: np.ndarray,
    predicted: np.ndarray,
    row_scores: Mapping[str, np.ndarray],
    samples: int = SAMPLES,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """Scores of predictions on bootstrap samples of the rows.

    Source: Efron & Tibshirani (1993), An Introduction to the Bootstrap, chapter 13.

    Parameters
    ----------
    task : str
        classification or regression.
    rings : ndarray [n], int64
        The truth.
    predicted : ndarray [n]
        Probability of Old, or rings.
    row_scores : mapping of name to ndarray [n]
        More scores, each the mean of a value per row.
    samples : int
        Bootstrap samples.
    seed : int
        Seed of the samples.

    Returns
    -------
    dict of name to ndarray [samples]
        Of the scores that ``scores`` returns, and of ``row_scores``; NaN where a score is not defined, such as the AUC
        of one class.
    """
    generator = np.random.default_rng(seed)
    at_once = max(1, WEIGHTS_AT_ONCE // len(rings))
    parts = []
    for start in range(0, samples, at_once):
        weights = _draw(generator, min(at_once, samples - start), len(rings))
        part = weighted_scores(task, rings, predicted, weights)
        part |= {name: weights @ values / len(rings) for name, values in row_scores.items()}
        parts.append(part)
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def percentile_intervals(sampled: Mapping[str, np.ndarray]) -> dict[str, tuple[float, float]]:
    """95 % percentile intervals of scores, or of differences of scores.

    Parameters
    ----------
    sampled : mapping of name to ndarray [samples]
        As ``bootstrap_scores`` returns them.

    Returns
    -------
    dict of name to (low, high)
        NaN are left out; a score that is defined in no sample has no interval.
    """
    intervals = {}
    for name, values in sampled.items():
        defined = values[np.isfinite(values)]
        if len(defined):
            low, high = np.percentile(defined, PERCENTILES)
            intervals[name] = (float(low), float(high))
    return intervals


def _draw(generator: np.random.Generator, samples: int, rows: int) -> Weights:
    """Count how often each row is drawn, with replacement, in each sample."""
    drawn = generator.integers(0, rows, (samples, rows))
    drawn += rows * np.arange(samples)[:, None]  # a number of its own for each row of each sample
    return np.bincount(drawn.ravel(), minlength=samples * rows).reshape(samples, rows).astype(np.float64)


def weighted_scores(task: str, rings: np.ndarray, predicted: np.ndarray, weights: Weights) -> dict[str, np.ndarray]:
    """Do what ``scores`` does for many weightings of the same rows.

    Parameters
    ----------
    task, rings, predicted
        As for ``scores``.
    weights : ndarray [s, n]
        How often each row counts; each row of weights sums to n.

    Returns
    -------
    dict of name to ndarray [s]
        NaN where a score is not defined.
    """
    if task == "regression":
        return _regression_scores(rings, predicted, weights)
    old = is_old(rings)
    correct = ((predicted >= 0.5) == old).astype(np.float64)
    with np.errstate(invalid="ignore"):  # 0 / 0 where a class is missing
        by_class = [weights @ (correct * members) / (weights @ members) for members in (old, 1 - old)]
        area = _areas(old, predicted, weights)
    return {
        "accuracy": weights @ correct / len(old),
        "balanced_accuracy": (by_class[0] + by_class[1]) / 2,
        "roc_auc": area,
        "log_loss": weights @ row_losses(task, rings, predicted) / len(old),
        "brier": weights @ (predicted - old) ** 2 / len(old),
    }


def _regression_scores(rings: np.ndarray, predicted: np.ndarray, weights: Weights) -> dict[str, np.ndarray]:
    rows = len(rings)
    centred = rings - rings.mean()
    squared = weights @ (predicted - rings) ** 2 / rows
    variance = weights @ centred**2 / rows - (weights @ centred / rows) ** 2
    with np.errstate(divide="ignore", invalid="ignore"):  # all rings the same
        explained = 1 - squared / variance
    return {
        "rmse": np.sqrt(squared),
        "mae": weights @ np.abs(predicted - rings) / rows,
        "r2": explained,
    }


def _areas(old: np.ndarray, predicted: np.ndarray, weights: Weights) -> np.ndarray:
    """Area under the ROC curve [s]: the share of pairs in which the old animal has the higher probability."""
    order = np.argsort(predicted)
    _, starts = np.unique(predicted[order], return_index=True)  # rows with equal predictions are one group
    in_order = weights[:, order]
    positive = np.add.reduceat(in_order * old[order], starts, axis=1)  # [s, groups]
    negative = np.add.reduceat(in_order * (1 - old[order]), starts, axis=1)
    below = negative.cumsum(1) - negative / 2  # ties count half
    return (positive * below).sum(1) / (positive.sum(1) * negative.sum(1))

"""How far probabilities and intervals can be trusted: calibration of a classifier, coverage of an interval."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np


def reliability(old: np.ndarray, probability: np.ndarray, bins: int = 10) -> np.ndarray:
    """Compare probabilities with outcomes in bins of equal width.

    Parameters
    ----------
    old : ndarray [n], int
        1 for Old, 0 for Young.
    probability : ndarray [n]
        Probability of Old.
    bins : int, default 10
        Number of bins from 0 to 1.

    Returns
    -------
    ndarray [b, 3], b <= bins
        Mean probability, share of Old and number of rows of each bin that holds any rows.
    """
    bin_of_row = np.minimum((probability * bins).astype(int), bins - 1)  # a probability of 1 goes into the last bin
    found = []
    for i in range(bins):
        rows = bin_of_row == i
        if rows.any():
            found.append((probability[rows].mean(), old[rows].mean(), rows.sum()))
    return np.array(found)


def calibration_error(old: np.ndarray, probability: np.ndarray) -> float:
    """Expected calibration error: mean distance between probability and share of Old over the bins of ``reliability``.

    Even a perfectly calibrated model has an error above 0, and the fewer the rows, the larger it is.

    Source: Guo et al. (2017), On Calibration of Modern Neural Networks.

    Parameters
    ----------
    old : ndarray [n], int
        1 for Old, 0 for Young.
    probability : ndarray [n]
        Probability of Old.

    Returns
    -------
    float
        From 0 (best) to 1.
    """
    predicted, share, rows = reliability(old, probability).T
    return float((np.abs(predicted - share) * rows).sum() / rows.sum())


def coverage(rings: np.ndarray, low: np.ndarray, high: np.ndarray) -> float:
    """Share of rows whose number of rings lies within its interval, ends included.

    Parameters
    ----------
    rings, low, high : ndarray [n]
        True number of rings, and the ends of the predicted interval.

    Returns
    -------
    float
        From 0 to 1.
    """
    return float(((low <= rings) & (rings <= high)).mean())


def reliability_text(metrics: Mapping[str, float]) -> str:
    """Describe calibration and interval coverage in Markdown.

    Parameters
    ----------
    metrics : mapping of name to value
        Final metrics of a run.

    Returns
    -------
    str
        One paragraph; empty for a run without these metrics.
    """
    if "val/ece" not in metrics:
        return ""
    return (
        f"**Calibration** (of the classifier): expected calibration error {metrics['val/ece']:.3f} on validation, "
        f"{metrics['test/ece']:.3f} on test; with so few rows, even a perfectly calibrated model is above 0. "
        "**Interval** (of the regressor): `rings_low` to `rings_high` should hold 80 % of the animals; it holds "
        f"{metrics['val/coverage80']:.1%} on validation, {metrics['test/coverage80']:.1%} on test. "
        "Validation scores come from the fit on the training rows, test scores from the logged model."
    )

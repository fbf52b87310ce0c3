"""Scores of a predicted distribution of rings. Both reward the true distribution most; both are lower for better."""

from __future__ import annotations

import numpy as np

LARGEST_COUNT = 29  # in the distributions; more rings count as 29
SMALLEST_PROBABILITY = 1e-12  # keeps the log score of a count that was ruled out finite


def distribution_scores(probabilities: np.ndarray, rings: np.ndarray) -> dict[str, float]:
    """Score a distribution of rings.

    Parameters
    ----------
    probabilities : ndarray [n, 29]
        P(rings = r) for r = 1 to 29; each row sums to 1.
    rings : ndarray [n], int64
        The truth, in rings.

    Returns
    -------
    dict
        ``crps`` (rings) and ``ring_log_score`` (nats).
    """
    return {name: float(values.mean()) for name, values in row_distribution_scores(probabilities, rings).items()}


def row_distribution_scores(probabilities: np.ndarray, rings: np.ndarray) -> dict[str, np.ndarray]:
    """Score the distribution of each row; arguments and names as those of ``distribution_scores``, values [n]."""
    return {"crps": _row_crps(probabilities, rings), "ring_log_score": _row_log_scores(probabilities, rings)}


def ring_frequencies(rings: np.ndarray) -> np.ndarray:
    """Share of each number of rings among some animals: the baseline that a predicted distribution must beat.

    Parameters
    ----------
    rings : ndarray [m], int64

    Returns
    -------
    ndarray [29]
    """
    counts = np.bincount(np.minimum(rings, LARGEST_COUNT), minlength=LARGEST_COUNT + 1)[1:]
    return counts / counts.sum()


def crps(probabilities: np.ndarray, rings: np.ndarray) -> float:
    """Continuous ranked probability score: the absolute error, generalised to distributions.

    Source: Gneiting and Raftery (2007), Strictly Proper Scoring Rules, Prediction, and Estimation.

    Parameters
    ----------
    probabilities : ndarray [n, 29]
        P(rings = r) for r = 1 to 29; each row sums to 1.
    rings : ndarray [n], int64
        The truth, in rings.

    Returns
    -------
    float
        Mean over the rows, in rings.
    """
    return float(_row_crps(probabilities, rings).mean())


def log_score(probabilities: np.ndarray, rings: np.ndarray) -> float:
    """Logarithmic score: minus the logarithm of the probability of the true number of rings.

    Parameters
    ----------
    probabilities : ndarray [n, 29]
        P(rings = r) for r = 1 to 29.
    rings : ndarray [n], int64
        The truth, in rings.

    Returns
    -------
    float
        Mean over the rows, in nats.
    """
    return float(_row_log_scores(probabilities, rings).mean())


def _row_crps(probabilities: np.ndarray, rings: np.ndarray) -> np.ndarray:
    truth = np.minimum(rings, LARGEST_COUNT)
    below = probabilities.cumsum(1)  # [n, 29], P(rings <= r)
    reached = truth[:, None] <= np.arange(1, LARGEST_COUNT + 1)
    return ((below - reached) ** 2).sum(1)


def _row_log_scores(probabilities: np.ndarray, rings: np.ndarray) -> np.ndarray:
    truth = np.minimum(rings, LARGEST_COUNT)
    of_truth = probabilities[np.arange(len(truth)), truth - 1]
    return -np.log(np.maximum(of_truth, SMALLEST_PROBABILITY))

"""TODO evaluation.calibration"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np


def reliability(old: np.ndarray, probability: np.ndarray, bins: int = 10) -> np.ndarray:
    """Mean probability, share of Old, and rows, in bins of equal width that hold any rows; [bins, 3]."""
    place = np.minimum((probability * bins).astype(int), bins - 1)
    groups = [place == i for i in range(bins)]
    return np.array([(probability[g].mean(), old[g].mean(), g.sum()) for g in groups if g.any()])


def calibration_error(old: np.ndarray, probability: np.ndarray) -> float:
    """Expected calibration error: mean distance of probability and share over the bins of ``reliability``.

    Source: Guo et al. (2017), On Calibration of Modern Neural Networks. Even a perfect model has one above 0, the
    more so the fewer the rows.
    """
    said, share, rows = reliability(old, probability).T
    return float((np.abs(said - share) * rows).sum() / rows.sum())


def coverage(rings: np.ndarray, low: np.ndarray, high: np.ndarray) -> float:
    """Share of rows whose number of rings lies in its interval, ends included."""
    return float(((low <= rings) & (rings <= high)).mean())


def reliability_text(metrics: Mapping[str, float]) -> str:
    """Calibration and interval coverage in words; empty for a run that has none."""
    if "ece/val" not in metrics:
        return ""
    ece, held = ([metrics[f"{name}/{part}"] for part in ("val", "test")] for name in ("ece", "coverage80"))
    return (
        f"**Calibration** (of the classifier): expected calibration error {ece[0]:.3f} on validation, {ece[1]:.3f} on "
        "test; so few rows give even a perfect model one above 0. **Interval** (of the regressor): `rings_low` to "
        f"`rings_high` is to hold 80 % of the animals; it holds {held[0]:.1%} on validation, {held[1]:.1%} on test. "
        "Validation is of the fit on the training rows, test of the logged model."
    )

"""How far off predictions are for young, middle and old animals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from abalone.data.labels import is_old

# In the shipped file 20 % of the animals have fewer rings than the first bound, and 23 % the second or more.
AGE_BOUNDS = (8, 12)


@dataclass(frozen=True)
class AgeGroup:
    """How far off predictions are for one age group.

    Parameters
    ----------
    name : str
        young, middle or old.
    rings : str
        Their number of rings, in words.
    rows : int
        Number of animals.
    right : float or None
        Of a classifier: share of animals with the correct label.
    bias : float or None
        Of a regressor: mean of predicted minus true rings.
    mae : float or None
        Of a regressor: mean absolute error in rings.
    is_of_median : bool
        Whether ``mae`` is the error of the median; ``bias`` is always that of the mean.
    """

    name: str
    rings: str
    rows: int
    right: float | None = None
    bias: float | None = None
    mae: float | None = None
    is_of_median: bool = False


def group_by_age(
    task: str, rings: np.ndarray, predicted: np.ndarray, median: np.ndarray | None = None
) -> list[AgeGroup]:
    """Measure predictions by age.

    Parameters
    ----------
    task : str
        classification or regression.
    rings : ndarray [n], int64
        The truth.
    predicted : ndarray [n]
        Probability of Old, or rings.
    median : ndarray [n], optional
        Median of the rings, from a regressor that predicts their distribution; ``mae`` is of these if they are given.

    Returns
    -------
    list of AgeGroup
        Young, middle and old; a group without animals has no numbers.
    """
    nearest = predicted if median is None else median
    low, high = AGE_BOUNDS
    members = {
        ("young", f"below {low}"): rings < low,
        ("middle", f"{low} to {high - 1}"): (rings >= low) & (rings < high),
        ("old", f"{high} and more"): rings >= high,
    }
    groups = []
    for (name, described), chosen in members.items():
        errors = _errors(task, rings[chosen], predicted[chosen], nearest[chosen]) if chosen.any() else {}
        groups.append(
            AgeGroup(name=name, rings=described, rows=int(chosen.sum()), **errors, is_of_median=median is not None)
        )
    return groups


def _errors(task: str, rings: np.ndarray, predicted: np.ndarray, nearest: np.ndarray) -> dict[str, float]:
    if task == "classification":
        right = (predicted >= 0.5) == is_old(rings)
        return {"right": float(right.mean())}
    return {"bias": float((predicted - rings).mean()), "mae": float(np.abs(nearest - rings).mean())}

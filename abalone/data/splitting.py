"""The split of the rows into training, validation and test parts."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from abalone.data.labels import is_old
from abalone.data.reading import Dataset


@dataclass(frozen=True)
class Split:
    """Row numbers (int64, from 0) of the three parts, and a fingerprint of data and parts together."""

    train: np.ndarray
    val: np.ndarray
    test: np.ndarray
    fingerprint: str

    def parts(self) -> dict[str, np.ndarray]:
        """Row numbers by MLflow's names for the use of a data set."""
        return {"train": self.train, "validation": self.val, "test": self.test}

    def scored(self) -> dict[str, np.ndarray]:
        """Row numbers of the two parts that a finished model is scored on."""
        return {"val": self.val, "test": self.test}


def split(dataset: Dataset, seed: int) -> Split:
    """Half of the rows for test, the rest 80/20 into train and validation, with equal shares of Old.

    Parameters
    ----------
    dataset : Dataset
    seed : int
        Seed of both shuffles.
    """
    from sklearn.model_selection import train_test_split

    old = is_old(dataset.frame["Rings"].to_numpy())
    first, test = train_test_split(np.arange(len(old)), test_size=0.5, random_state=seed, stratify=old)
    train, val = train_test_split(first, test_size=0.2, random_state=seed, stratify=old[first])
    digest = hashlib.sha256(dataset.sha256.encode())
    for rows in (train, val, test):
        digest.update(rows.astype("<i8").tobytes() + b"|")
    return Split(train, val, test, digest.hexdigest()[:12])

"""The split of the rows into training, validation and test parts.

Every task uses the same split, stratified by the label Old. Results are comparable only on the same rows, so each
split has a fingerprint, which is a tag of every run.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from abalone.data.labels import is_old
from abalone.data.reading import DataError, Dataset
from abalone.model.columns import OLD_FROM_RINGS

MIN_ROWS_PER_CLASS = 10  # gives each class a row in the smallest part of the split


@dataclass(frozen=True)
class Split:
    """Rows of the training, validation and test parts.

    Parameters
    ----------
    train, val, test : ndarray, int64
        Row numbers, from 0.
    fingerprint : str
        Digest of the data and of the three parts, 12 hexadecimal digits.
    """

    train: np.ndarray
    val: np.ndarray
    test: np.ndarray
    fingerprint: str

    def parts(self) -> dict[str, np.ndarray]:
        """Row numbers of all parts, under the names that MLflow shows for the uses of a data set."""
        return {"train": self.train, "validation": self.val, "test": self.test}

    def scored(self) -> dict[str, np.ndarray]:
        """Row numbers of the parts on which a finished model is scored, under the names used in metrics."""
        return {"val": self.val, "test": self.test}


def split(dataset: Dataset, seed: int) -> Split:
    """Put half of the rows into the test part and split the others 80/20 into training and validation.

    Each part has the same share of Old.

    Parameters
    ----------
    dataset : Dataset
    seed : int
        Seed of both shuffles.

    Returns
    -------
    Split

    Raises
    ------
    DataError
        If there are too few rows of a class to have both in every part.
    """
    from sklearn.model_selection import train_test_split

    old = is_old(dataset.frame["Rings"].to_numpy())
    _check_classes(dataset, old)
    rest, test = train_test_split(np.arange(len(old)), test_size=0.5, random_state=seed, stratify=old)
    train, val = train_test_split(rest, test_size=0.2, random_state=seed, stratify=old[rest])
    digest = hashlib.sha256(dataset.sha256.encode())
    for rows in (train, val, test):
        digest.update(rows.astype("<i8").tobytes() + b"|")
    return Split(train=train, val=val, test=test, fingerprint=digest.hexdigest()[:12])


def _check_classes(dataset: Dataset, old: np.ndarray) -> None:
    counts = {
        f"young (rings below {OLD_FROM_RINGS})": int((old == 0).sum()),
        f"old (rings {OLD_FROM_RINGS} or more)": int(old.sum()),
    }
    for name, count in counts.items():
        if count < MIN_ROWS_PER_CLASS:
            expected = f"expected at least {MIN_ROWS_PER_CLASS} to split; add rows"
            raise DataError(f"data file {dataset.path}: {count} {name} rows, {expected}")

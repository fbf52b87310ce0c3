"""Load a data file for training: read and check it, split its rows, encode them as a tensor."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from abalone.data.reading import Dataset, read
from abalone.data.splitting import Split, split
from abalone.model.features import encode


@dataclass(frozen=True)
class LoadedData:
    """All rows of a data file, ready for training.

    Parameters
    ----------
    dataset : Dataset
        The checked file.
    split : Split
        Row numbers of the training, validation and test parts.
    x : Tensor [n, 10], float32
        Input of every model, raw units.
    rings : ndarray [n], int64
        Number of rings of each row.
    """

    dataset: Dataset
    split: Split
    x: Tensor
    rings: np.ndarray


def load_data(source: str, seed: int, units: str = "file", target: str = "auto") -> LoadedData:
    """Read a data file, split its rows and encode them.

    Parameters
    ----------
    source : str
        ``uci`` for the shipped file, or a path.
    seed : int
        Seed of the split.
    units, target : str
        As for ``read``.

    Returns
    -------
    LoadedData

    Raises
    ------
    DataError
        If the file cannot be used, or has too few rows to split.
    """
    dataset = read(source, units, target)
    return LoadedData(
        dataset=dataset,
        split=split(dataset, seed),
        x=encode(dataset.frame),
        rings=dataset.frame["Rings"].to_numpy(),
    )

"""Data frame to tensor, and the preparation (column choice, standardisation, clipping) that lives inside a model."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from abalone.columns import FEATURES, MEASUREMENTS, SEXES


def encode(frame: pd.DataFrame) -> Tensor:
    """Turn raw rows into the input that every model takes.

    Parameters
    ----------
    frame : DataFrame [n, at least 8]
        ``Sex`` as text and the seven measurements in the units of the data file. The guide's own name
        ``Shell weights`` is taken for ``Shell weight``.

    Returns
    -------
    Tensor [n, 10], float32
        Columns in the order of ``columns.FEATURES``: sex one-hot, then the measurements, unscaled.
    """
    frame = frame.rename(columns={"Shell weights": "Shell weight"})
    sex = frame["Sex"].to_numpy()[:, None] == np.array(SEXES, dtype=object)  # [n, 3]
    measured = frame[list(MEASUREMENTS)].to_numpy(dtype=np.float32)  # [n, 7]
    return torch.from_numpy(np.hstack([sex.astype(np.float32), measured]))


class Prepare(nn.Module):
    """Choose columns, standardise the measured ones, limit outliers. The one-hot columns pass as they are.

    Parameters
    ----------
    features : sequence of str
        Names out of ``columns.FEATURES``.
    clip : float
        Limit of a standardised measurement, in standard deviations; 0 means none.

    Shape
    -----
    Input [n, 10], output [n, len(features)], float32.
    """

    index: Tensor
    mean: Tensor
    scale: Tensor
    limit: Tensor

    def __init__(self, features: Sequence[str], clip: float):
        super().__init__()
        one_hot = torch.tensor([name in SEXES for name in features])
        limit = torch.full((len(features),), clip or math.inf).masked_fill(one_hot, math.inf)
        self.register_buffer("index", torch.tensor([FEATURES.index(name) for name in features]))
        self.register_buffer("mean", torch.zeros(len(features)))
        self.register_buffer("scale", torch.ones(len(features)))
        # Not a part of the state: it follows from the arguments.
        self.register_buffer("limit", limit, persistent=False)
        self.register_buffer("one_hot", one_hot, persistent=False)

    def fit(self, x_train: Tensor) -> Prepare:
        """Take mean and standard deviation (population) from the training rows, and only from them.

        Parameters
        ----------
        x_train : Tensor [n, 10], float32
        """
        chosen = x_train[:, self.index].double()  # float32 sums would make the result depend on the row order
        mean, scale = chosen.mean(0), chosen.std(0, correction=0)
        self.mean.copy_(mean.masked_fill(self.one_hot, 0.0))
        self.scale.copy_(scale.masked_fill(self.one_hot | (scale == 0), 1.0))  # a constant column stays finite
        return self

    def forward(self, x: Tensor) -> Tensor:
        z = (x[:, self.index] - self.mean) / self.scale  # [n, d]
        return z.clamp(-self.limit, self.limit)

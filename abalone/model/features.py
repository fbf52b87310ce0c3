"""Data frame to tensor, and the preparation (column choice, standardisation, clipping) that lives inside a model."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from .columns import FEATURES, MEASUREMENTS, SEXES

LEAST = 5e-4  # of a measurement, in the file's unit: the smallest weight in the shipped file, so that logs are finite
HEIGHTS = (0.01, 0.26)  # a slip of the pen beyond these: four rows of the shipped file
LIMIT = 4.0  # standard deviations


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

    Raises
    ------
    ValueError
        For a ``Sex`` that is none of the three: the first such row.
    """
    if "Shell weight" not in frame.columns:
        frame = frame.rename(columns={"Shell weights": "Shell weight"})
    sex = pd.Index(SEXES, dtype=object).get_indexer(frame["Sex"])  # [n], -1 for what is none of them
    if (sex < 0).any():
        first = int(np.argmax(sex < 0))
        raise ValueError(f"row {frame.index[first]}: Sex is {frame['Sex'].iloc[first]!r}, expected M, F or I")
    measured = frame[list(MEASUREMENTS)].to_numpy(dtype=np.float32)  # [n, 7]
    return torch.from_numpy(np.hstack([np.eye(len(SEXES), dtype=np.float32)[sex], measured]))


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


class Derive(nn.Module):
    """Sizes and weights with their logarithms and ratios, standardised and limited; sex as it is.

    The shape of an animal and the shares of its parts tell more of its age than any size does: an old one grows no
    longer, but its shell grows heavier.

    Shape
    -----
    Input [n, 10], output [n, 28], float32.
    """

    mean: Tensor
    scale: Tensor
    outputs = 28

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(self.outputs - len(SEXES)))
        self.register_buffer("scale", torch.ones(self.outputs - len(SEXES)))

    def fit(self, x_train: Tensor) -> Derive:
        """Take mean and standard deviation (population) from the training rows, and only from them.

        Parameters
        ----------
        x_train : Tensor [n, 10], float32
        """
        derived = self._derived(x_train).double()
        scale = derived.std(0, correction=0)
        self.mean.copy_(derived.mean(0))
        self.scale.copy_(scale.masked_fill(scale == 0, 1.0))
        return self

    def forward(self, x: Tensor) -> Tensor:
        z = (self._derived(x) - self.mean) / self.scale  # [n, 25]
        return torch.cat([x[:, : len(SEXES)], z.clamp(-LIMIT, LIMIT)], 1)

    def _derived(self, x: Tensor) -> Tensor:
        """[n, 25]: what is measured, density and thickness, shape, and the share of each part."""
        length, diameter, height, whole, *parts = x[:, len(SEXES) :].clamp_min(LEAST).unbind(1)
        height = height.clamp(*HEIGHTS)
        shucked, viscera, shell = parts
        residual = whole - sum(parts)  # water and blood lost in cutting
        measured = [length, diameter, height, whole, *parts]
        density, thickness = whole / (length * diameter * height), shell / (length * diameter)
        logarithms = [v.log() for v in (*measured, density, thickness, shell / shucked, shell / viscera)]
        ratios = [diameter / length, height / length, *(part / whole for part in (*parts, residual))]
        return torch.stack([*measured, *logarithms, *ratios, residual], 1)

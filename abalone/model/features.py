"""From a table of raw rows to the tensor that every network takes, and the first layers of the networks.

Column choice, standardisation, clipping and derived ratios are layers of a network (``Prepare``, ``Derive``), so that
their statistics are saved together with its weights.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from .columns import FEATURES, GUIDE_SPELLING, MEASUREMENTS, SEXES

SMALLEST_MEASUREMENT = 5e-4  # the smallest weight of the UCI file; keeps the logarithms of zeros finite
HEIGHT_RANGE = (0.01, 0.26)  # four heights of the UCI file lie outside and look like recording errors
DERIVED_CLIP = 4.0  # standard deviations


def encode(frame: pd.DataFrame) -> Tensor:
    """Turn raw rows into the input that every network takes.

    Parameters
    ----------
    frame : DataFrame [n, at least 8]
        ``Sex`` as text and the seven measurements in the units of the UCI file (mm / 200 and g / 200). The guide's
        spelling ``Shell weights`` is accepted for ``Shell weight``.

    Returns
    -------
    Tensor [n, 10], float32
        Columns in the order of ``columns.FEATURES``: sex one-hot, then the measurements, unscaled.

    Raises
    ------
    ValueError
        If a ``Sex`` is not M, F or I; the message names the first such row.
    """
    frame = rename_guide_spelling(frame)
    sex = pd.Index(SEXES, dtype=object).get_indexer(frame["Sex"])  # [n], -1 for any other value
    if (sex < 0).any():
        first = int(np.argmax(sex < 0))
        raise ValueError(f"row {frame.index[first]}: Sex is {frame['Sex'].iloc[first]!r}, expected M, F or I")
    one_hot = np.eye(len(SEXES), dtype=np.float32)[sex]  # [n, 3]
    measured = [frame[name].to_numpy(dtype=np.float32) for name in MEASUREMENTS]  # 7 of [n]
    return torch.from_numpy(np.column_stack([one_hot, *measured]))


def rename_guide_spelling(frame: pd.DataFrame) -> pd.DataFrame:
    """Rename ``Shell weights`` to ``Shell weight``, unless there is a column of that name already."""
    if "Shell weight" in frame.columns:
        return frame
    return frame.rename(columns=GUIDE_SPELLING)


class Prepare(nn.Module):
    """Choose columns, standardise the measurements among them and clip outliers. One-hot columns pass unchanged.

    Parameters
    ----------
    features : sequence of str
        Names out of ``columns.FEATURES``.
    clip : float
        Limit of a standardised measurement, in standard deviations; 0 for no limit.

    Shape
    -----
    Input [n, 10], output [n, len(features)], float32.
    """

    index: Tensor
    mean: Tensor
    scale: Tensor
    limit: Tensor
    one_hot: Tensor

    def __init__(self, features: Sequence[str], clip: float):
        super().__init__()
        one_hot = torch.tensor([name in SEXES for name in features])
        largest = math.inf if clip == 0 else float(clip)
        limit = torch.full((len(features),), largest).masked_fill(one_hot, math.inf)
        self.register_buffer("index", torch.tensor([FEATURES.index(name) for name in features]))
        self.register_buffer("mean", torch.zeros(len(features)))
        self.register_buffer("scale", torch.ones(len(features)))
        # These two follow from the arguments, so they need no place in the saved state.
        self.register_buffer("limit", limit, persistent=False)
        self.register_buffer("one_hot", one_hot, persistent=False)

    def fit(self, x_train: Tensor) -> Prepare:
        """Set mean and scale to the mean and the population standard deviation of the training rows.

        Parameters
        ----------
        x_train : Tensor [n, 10], float32
        """
        chosen = x_train[:, self.index].double()  # float32 sums would make the result depend on the order of the rows
        mean = chosen.mean(0)
        scale = chosen.std(0, correction=0)
        self.mean.copy_(mean.masked_fill(self.one_hot, 0.0))
        self.scale.copy_(scale.masked_fill(self.one_hot | (scale == 0), 1.0))  # 1 keeps a constant column finite
        return self

    def forward(self, x: Tensor) -> Tensor:
        z = (x[:, self.index] - self.mean) / self.scale  # [n, d]
        return z.clamp(-self.limit, self.limit)


class Derive(nn.Module):
    """Add logarithms and ratios to the measurements, standardise and clip them all. One-hot columns pass unchanged.

    Ratios say more about age than sizes do: an old animal no longer grows longer, but its shell grows heavier.

    Shape
    -----
    Input [n, 10], output [n, 28], float32.
    """

    mean: Tensor
    scale: Tensor
    outputs = 28

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(self.outputs - len(SEXES)))
        self.register_buffer("scale", torch.ones(self.outputs - len(SEXES)))

    def fit(self, x_train: Tensor) -> Derive:
        """Set mean and scale to the mean and the population standard deviation of the training rows.

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
        return torch.cat([x[:, : len(SEXES)], z.clamp(-DERIVED_CLIP, DERIVED_CLIP)], 1)

    def _derived(self, x: Tensor) -> Tensor:
        """[n, 25]: 7 measurements, 11 logarithms, 6 ratios and the residual weight."""
        columns = x[:, len(SEXES) :].clamp_min(SMALLEST_MEASUREMENT).unbind(1)
        length, diameter, height, whole, shucked, viscera, shell = columns
        height = height.clamp(*HEIGHT_RANGE)
        residual = whole - (shucked + viscera + shell)  # water and blood lost in cutting
        density = whole / (length * diameter * height)
        thickness = shell / (length * diameter)

        measured = [length, diameter, height, whole, shucked, viscera, shell]
        positive = [*measured, density, thickness, shell / shucked, shell / viscera]
        logarithms = [values.log() for values in positive]
        shapes = [diameter / length, height / length]
        shares = [shucked / whole, viscera / whole, shell / whole, residual / whole]
        return torch.stack([*measured, *logarithms, *shapes, *shares, residual], 1)

"""What the tests of training share: the rows to train on, and a shorthand to train on them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from abalone.data.loading import load_data
from abalone.data.splitting import Split
from abalone.settings import load_settings
from abalone.training.fit import fit
from abalone.training.history import History


class Data(NamedTuple):
    """The arguments of ``fit`` that follow the settings."""

    x: Tensor
    rings: np.ndarray
    split: Split


def shipped_data() -> Data:
    """The shipped file, split by seed 0."""
    loaded = load_data("uci", 0)
    return Data(x=loaded.x, rings=loaded.rings, split=loaded.split)


def first_rows(data: Data, n: int) -> Data:
    """The same data with only ``n`` rows in each part."""
    split = Split(
        train=data.split.train[:n],
        val=data.split.val[:n],
        test=data.split.test[:n],
        fingerprint="few",
    )
    return data._replace(split=split)


def train(data: Data, stage: str, **overrides) -> tuple[nn.Module, History]:
    """Train a stage for three epochs, unless the overrides say otherwise."""
    return fit(load_settings(stage, {"epochs": 3, **overrides}), *data)


def weights(model: nn.Module) -> Tensor:
    """All weights of a model's network in one vector."""
    return nn.utils.parameters_to_vector(model.network.parameters()).detach()


def same_weights(model: nn.Module, other: nn.Module) -> bool:
    """Whether all weights of two models are equal, bit for bit."""
    return torch.equal(weights(model), weights(other))

"""What the tests of ``rings`` share: the shipped rows, their split by seed 0, and short fits of small ensembles."""

from __future__ import annotations

import numpy as np
import torch

from abalone.data.reading import read
from abalone.data.splitting import split
from abalone.model.features import encode
from abalone.model.networks import RingDistribution
from abalone.settings import load_settings
from abalone.training.ring_ensemble import fit_rings

FRAME = read().frame
X = encode(FRAME)
RINGS = FRAME["Rings"].to_numpy()
ROWS = split(read(), 0)
SHORT = {"members": 3, "epochs": 4, "hidden_sizes": "16,16", "average": 0.5}


def short_fit(train: np.ndarray = ROWS.train, x: torch.Tensor = X, **overrides) -> RingDistribution:
    """A few small members after a few epochs, which is enough for what holds of any ensemble."""
    distribution, _ = fit_rings(load_settings("rings", {**SHORT, **overrides}), x, RINGS, train)
    return distribution


@torch.no_grad()
def probabilities(distribution: RingDistribution, x: torch.Tensor = X) -> torch.Tensor:
    """P(rings >= t), [n, 28]."""
    return distribution(x)


def member(distribution: RingDistribution, k: int) -> RingDistribution:
    """An ensemble of member k alone."""
    alone = RingDistribution(1, [weight.shape[2] for weight in distribution.weights[:-1]])
    state = {}
    for name, value in distribution.state_dict().items():
        state[name] = value[k : k + 1] if value.ndim == 3 else value
    alone.load_state_dict(state)
    return alone

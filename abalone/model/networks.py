"""The networks. Each takes the same input, float32 [n, 10] in raw units, and prepares it in its first layer.

Networks return logits or rings; probabilities of classes are made where they are evaluated or served.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .columns import CLASS_LABELS, MLP, OLD_FROM_RINGS, RING_ENSEMBLE
from .distribution import THRESHOLDS, mean_rings, with_log_normal
from .features import Derive, Prepare

CONFIG_KEYS = {MLP: ("features", "dropout", "clip"), RING_ENSEMBLE: ("members",)}  # beside those that both have
ENSEMBLE_ROWS_AT_ONCE = 192  # keeps the hidden layers of an ensemble in the CPU cache


def mlp(inputs: int, hidden_sizes: Sequence[int], outputs: int, dropout: float = 0.0) -> nn.Sequential:
    """Build fully connected layers with a ReLU, and optionally dropout, after each hidden one.

    Parameters
    ----------
    inputs, outputs : int
        Width of the input and of the output.
    hidden_sizes : sequence of int
        Width of each hidden layer.
    dropout : float, default 0
        Probability of dropping a hidden unit during training; 0 adds no dropout layers.

    Shape
    -----
    Input [n, inputs], output [n, outputs].
    """
    layers: list[nn.Module] = []
    for width in hidden_sizes:
        layers += [nn.Linear(inputs, width), nn.ReLU()]
        if dropout > 0:
            layers.append(nn.Dropout(dropout))
        inputs = width
    return nn.Sequential(*layers, nn.Linear(inputs, outputs))


class Classifier(nn.Module):
    """Tell young animals from old ones.

    Parameters
    ----------
    prepare : Prepare
        First layer, from raw units to standardised features.
    network : nn.Sequential
        From those features to two logits.

    Shape
    -----
    Input [n, 10] raw units, output logits [n, 2] (Young, Old).
    """

    def __init__(self, prepare: Prepare, network: nn.Sequential):
        super().__init__()
        self.prepare = prepare
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return self.network(self.prepare(x))


class Regressor(nn.Module):
    """Predict the number of rings.

    Training may standardise its target; ``target_mean`` and ``target_scale`` turn the output back into rings.

    Parameters
    ----------
    prepare : Prepare
        First layer, from raw units to standardised features.
    network : nn.Sequential
        From those features to one number.

    Shape
    -----
    Input [n, 10] raw units, output rings [n, 1].
    """

    target_mean: Tensor
    target_scale: Tensor

    def __init__(self, prepare: Prepare, network: nn.Sequential):
        super().__init__()
        self.prepare = prepare
        self.network = network
        self.register_buffer("target_mean", torch.tensor(0.0))
        self.register_buffer("target_scale", torch.tensor(1.0))

    def forward(self, x: Tensor) -> Tensor:
        return self.network(self.prepare(x)) * self.target_scale + self.target_mean


class RingDistribution(nn.Module):
    """Predict the distribution of rings by an ensemble of networks.

    Each member has one logit for each threshold t = 2 to 29, for P(rings >= t), and SiLU between its layers. Its
    probabilities are made non-increasing in t by a running minimum, then averaged over the members, and the average is
    mixed with a log-normal. Mean, median, interval and P(old) are all read from this one distribution.

    Source: Frank and Hall (2001), A Simple Approach to Ordinal Classification.

    Parameters
    ----------
    members : int
        Number K of networks in the ensemble; their weights are stacked, [K, inputs, outputs].
    hidden_sizes : sequence of int
        Width of each hidden layer of a member.

    Shape
    -----
    Input [n, 10] raw units, output probabilities [n, 28], non-increasing from one threshold to the next.
    """

    def __init__(self, members: int, hidden_sizes: Sequence[int]):
        super().__init__()
        self.prepare = Derive()
        widths = (Derive.outputs, *hidden_sizes, len(THRESHOLDS))
        self.weights = nn.ParameterList(torch.zeros(members, i, o) for i, o in pairwise(widths))
        self.biases = nn.ParameterList(torch.zeros(members, 1, o) for o in widths[1:])

    def logits(self, z: Tensor) -> Tensor:
        """Apply each member to its own rows.

        Parameters
        ----------
        z : Tensor [K, n, D]
            Prepared rows for each member.

        Returns
        -------
        Tensor [K, n, 28]
        """
        layers = list(zip(self.weights, self.biases))
        for weight, bias in layers[:-1]:
            z = F.silu(torch.baddbmm(bias, z, weight))  # [K, n, H]
        weight, bias = layers[-1]
        return torch.baddbmm(bias, z, weight)

    def forward(self, x: Tensor) -> Tensor:
        members = len(self.weights[0])
        z = self.prepare(x).expand(members, -1, -1)  # [K, n, D]
        averaged = torch.cat([self._average(rows) for rows in z.split(ENSEMBLE_ROWS_AT_ONCE, 1)])
        return with_log_normal(averaged)

    def _average(self, z: Tensor) -> Tensor:
        """[K, n, D] to [n, 28]."""
        falling = self.logits(z).sigmoid().cummin(2).values  # [K, n, 28]
        return falling.mean(0)


class RingClassifier(nn.Module):
    """Tell young animals from old ones by the distribution of rings; the softmax of the logits is P(rings >= 10).

    Shape
    -----
    Input [n, 10] raw units, output logits [n, 2] (Young, Old).
    """

    def __init__(self, distribution: RingDistribution):
        super().__init__()
        self.distribution = distribution

    def forward(self, x: Tensor) -> Tensor:
        old = self.distribution(x)[:, THRESHOLDS.index(OLD_FROM_RINGS)]
        return torch.stack([1 - old, old], 1).clamp_min(torch.finfo(old.dtype).tiny).log()


class RingRegressor(nn.Module):
    """Predict the number of rings as the mean of their distribution.

    Shape
    -----
    Input [n, 10] raw units, output rings [n, 1].
    """

    def __init__(self, distribution: RingDistribution):
        super().__init__()
        self.distribution = distribution

    def forward(self, x: Tensor) -> Tensor:
        return mean_rings(self.distribution(x))[:, None].to(x.dtype)


def build(config: Mapping[str, Any]) -> nn.Module:
    """Build an untrained network; a saved model is a configuration and a ``state_dict``.

    Parameters
    ----------
    config : mapping
        ``architecture`` (``mlp`` or ``ring_ensemble``), ``task`` (``classification`` or ``regression``) and
        ``hidden_sizes``; an ``mlp`` also needs ``features``, ``dropout`` and ``clip``, a ``ring_ensemble`` also
        ``members``.

    Raises
    ------
    ValueError
        If there is no such architecture, or if it does not have a key.
    """
    architecture = config["architecture"]
    if architecture not in CONFIG_KEYS:
        raise ValueError(f"architecture is {architecture!r}, expected {' or '.join(CONFIG_KEYS)}")
    unknown = set(config) - {"architecture", "task", "hidden_sizes", *CONFIG_KEYS[architecture]}
    if unknown:
        raise ValueError(f"{architecture} has no {', '.join(sorted(unknown))}")
    is_classifier = config["task"] == "classification"
    if architecture == RING_ENSEMBLE:
        distribution = RingDistribution(config["members"], config["hidden_sizes"])
        return RingClassifier(distribution) if is_classifier else RingRegressor(distribution)
    prepare = Prepare(config["features"], config["clip"])
    outputs = len(CLASS_LABELS) if is_classifier else 1
    network = mlp(len(config["features"]), config["hidden_sizes"], outputs, config["dropout"])
    return Classifier(prepare, network) if is_classifier else Regressor(prepare, network)


@torch.no_grad()
def init_weights(module: nn.Module, generator: torch.Generator) -> None:
    """Initialise every ``Linear`` as torch does by default, but from a given generator instead of the global one."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            bound = 1 / math.sqrt(layer.in_features)
            layer.weight.uniform_(-bound, bound, generator=generator)
            layer.bias.uniform_(-bound, bound, generator=generator)

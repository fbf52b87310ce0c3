"""The networks, each with its own preparation inside: float32 [n, 10] in raw units goes in."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .columns import CLASS_LABELS, OLD_FROM_RINGS, RING_ENSEMBLE
from .features import Derive, Prepare

THRESHOLDS = range(2, 30)  # an animal has 1 ring at least, and 29 at most in the shipped file
LEVEL = 0.78  # of the interval of rings, so that it holds 80 % of the rows of validation folds (0.8 holds 82 %)
ENSEMBLE_ROWS_AT_ONCE = 1024  # keeps an ensemble's hidden layers in the processor's cache


def mlp(inputs: int, hidden_sizes: Sequence[int], outputs: int, dropout: float = 0.0) -> nn.Sequential:
    """Fully connected layers with ReLU between them, and dropout after each hidden layer if asked for.

    Parameters
    ----------
    inputs, outputs : int
        Width of the first and of the last tensor.
    hidden_sizes : sequence of int
        Width of each hidden layer.
    dropout : float, default 0
        Probability of dropping a hidden unit while training.

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
    """Young or Old.

    Shape
    -----
    Input [n, 10] raw units, output logits [n, 2] (Young, Old).
    """

    def __init__(self, prepare: Prepare, network: nn.Sequential):
        super().__init__()
        self.prepare, self.network = prepare, network

    def forward(self, x: Tensor) -> Tensor:
        return self.network(self.prepare(x))


class Regressor(nn.Module):
    """Number of rings. The network's own output is in standard deviations of the target, if that is standardised.

    Shape
    -----
    Input [n, 10] raw units, output rings [n, 1].
    """

    target_mean: Tensor
    target_scale: Tensor

    def __init__(self, prepare: Prepare, network: nn.Sequential):
        super().__init__()
        self.prepare, self.network = prepare, network
        self.register_buffer("target_mean", torch.tensor(0.0))
        self.register_buffer("target_scale", torch.tensor(1.0))

    def forward(self, x: Tensor) -> Tensor:
        return self.network(self.prepare(x)) * self.target_scale + self.target_mean


class RingDistribution(nn.Module):
    """An ensemble of networks that answer, for every number of rings, how probable it is that there are as many.

    Each member has one logit per threshold t = 2 to 29, for P(rings >= t), after layers with SiLU between them. A
    member's probabilities are made to fall with t (running minimum), and then averaged over the members. Source of
    the thresholds: Frank and Hall (2001), A Simple Approach to Ordinal Classification.

    Parameters
    ----------
    members : int, K
        Networks in the ensemble; their weights are stacked, [K, inputs, outputs].
    hidden_sizes : sequence of int
        Width of each hidden layer of a member.

    Shape
    -----
    Input [n, 10] raw units, output probabilities [n, 28], which never rise from one threshold to the next.
    """

    def __init__(self, members: int, hidden_sizes: Sequence[int]):
        super().__init__()
        self.prepare = Derive()
        widths = (Derive.outputs, *hidden_sizes, len(THRESHOLDS))
        self.weights = nn.ParameterList(torch.zeros(members, i, o) for i, o in pairwise(widths))
        self.biases = nn.ParameterList(torch.zeros(members, 1, o) for o in widths[1:])

    def logits(self, z: Tensor) -> Tensor:
        """Prepared rows [K, n, D], of each member its own, to logits [K, n, 28]."""
        *hidden, (readout, bias) = zip(self.weights, self.biases)
        for weight, b in hidden:
            z = F.silu(torch.baddbmm(b, z, weight))  # [K, n, H]
        return torch.baddbmm(bias, z, readout)

    def forward(self, x: Tensor) -> Tensor:
        z = self.prepare(x).expand(len(self.weights[0]), -1, -1)
        return torch.cat([self._probabilities(rows) for rows in z.split(ENSEMBLE_ROWS_AT_ONCE, 1)])

    def _probabilities(self, z: Tensor) -> Tensor:
        return self.logits(z).sigmoid().cummin(2).values.mean(0)


class RingClassifier(nn.Module):
    """Young or Old by the distribution of rings: the softmax of the logits gives P(rings >= 10).

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
    """Mean of the distribution of rings.

    Shape
    -----
    Input [n, 10] raw units, output rings [n, 1].
    """

    def __init__(self, distribution: RingDistribution):
        super().__init__()
        self.distribution = distribution

    def forward(self, x: Tensor) -> Tensor:
        return mean_rings(self.distribution(x))[:, None].to(x.dtype)


def mean_rings(probabilities: Tensor) -> Tensor:
    """P(rings >= t) [n, 28] to the mean number of rings [n], float64."""
    return THRESHOLDS[0] - 1 + probabilities.double().sum(1)


def ring_interval(probabilities: Tensor) -> tuple[Tensor, Tensor]:
    """The least and the most rings [n] of an interval that holds the true number with a probability of 80 %.

    Both ends are counts that belong to the interval. A closed interval between plain quantiles of so few counts holds
    more than it says; so a count belongs to this one if the middle of its own step in the distribution function does,
    which is right on average. Source: Ma, Genton and Parzen (2011), Asymptotic properties of sample quantiles of
    discrete distributions.

    Parameters
    ----------
    probabilities : Tensor [n, 28]
        P(rings >= t).
    """
    at_least = F.pad(F.pad(probabilities, (1, 0), value=1.0), (0, 1))  # [n, 30], for 1 to 30 rings
    middle = 1 - (at_least[:, :-1] + at_least[:, 1:]) / 2  # [n, 29], for 1 to 29 rings
    tail = (1 - LEVEL) / 2
    return 1 + (middle < tail).sum(1), (middle <= 1 - tail).sum(1)


def build(config: Mapping[str, Any]) -> nn.Module:
    """Make an untrained model; with its ``state_dict`` this is all that a saved model needs.

    Parameters
    ----------
    config : mapping
        ``architecture`` and ``task`` (classification or regression). An ``mlp`` has ``features``, ``hidden_sizes``,
        ``dropout`` and ``clip`` too, a ``ring_ensemble`` has ``members`` and ``hidden_sizes``. Other keys are ignored.
    """
    is_classifier = config["task"] == "classification"
    if config["architecture"] == RING_ENSEMBLE:
        distribution = RingDistribution(config["members"], config["hidden_sizes"])
        return RingClassifier(distribution) if is_classifier else RingRegressor(distribution)
    prepare = Prepare(config["features"], config["clip"])
    outputs = len(CLASS_LABELS) if is_classifier else 1
    network = mlp(len(config["features"]), config["hidden_sizes"], outputs, config["dropout"])
    return Classifier(prepare, network) if is_classifier else Regressor(prepare, network)


@torch.no_grad()
def init_weights(module: nn.Module, generator: torch.Generator) -> None:
    """Draw every ``Linear`` anew, in torch's default way, but from a generator of our own."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            bound = 1 / math.sqrt(layer.in_features)
            layer.weight.uniform_(-bound, bound, generator=generator)
            layer.bias.uniform_(-bound, bound, generator=generator)

"""The networks of the guide, each with its own preparation inside: float32 [n, 10] in raw units goes in."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from abalone.columns import CLASS_LABELS
from abalone.features import Prepare


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


def build(config: Mapping[str, Any]) -> Classifier | Regressor:
    """Make an untrained model; with its ``state_dict`` this is all that a saved model needs.

    Parameters
    ----------
    config : mapping
        ``task`` (classification or regression), ``features``, ``hidden_sizes``, ``dropout``, ``clip``, as in an
        ``Experiment``; other keys are ignored.
    """
    kind, outputs = {"classification": (Classifier, len(CLASS_LABELS)), "regression": (Regressor, 1)}[config["task"]]
    prepare = Prepare(config["features"], config["clip"])
    return kind(prepare, mlp(len(config["features"]), config["hidden_sizes"], outputs, config["dropout"]))


@torch.no_grad()
def init_weights(module: nn.Module, generator: torch.Generator) -> None:
    """Draw every ``Linear`` anew, in torch's default way, but from a generator of our own."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            bound = 1 / math.sqrt(layer.in_features)
            layer.weight.uniform_(-bound, bound, generator=generator)
            layer.bias.uniform_(-bound, bound, generator=generator)

"""Make a network cheap to train: all parameters in one flat tensor, layers without ``nn.Module``'s overhead."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def flatten(network: nn.Module) -> nn.Parameter:
    """Move all parameters and their gradients into two flat tensors, of which they become views.

    The optimiser then has one tensor to step, and one gradient to set to zero, instead of one per layer.

    Returns
    -------
    Parameter [number of weights]
        In the dtype of the network; its ``grad`` is zero.
    """
    parameters = list(network.parameters())
    flat = nn.Parameter(nn.utils.parameters_to_vector(parameters).detach())
    flat.grad = torch.zeros_like(flat)
    start = 0
    for p in parameters:
        end = start + p.numel()
        p.data = flat.data[start:end].view_as(p)
        p.grad = flat.grad[start:end].view_as(p)
        start = end
    return flat


def unflatten(network: nn.Module) -> None:
    """Undo ``flatten``: give every parameter its own storage again, and no gradient, as saving a model expects."""
    for p in network.parameters():
        p.data = p.data.clone()
        p.grad = None


def bare_forward(network: nn.Sequential) -> Callable[[Tensor], Tensor]:
    """The forward pass of ``network`` without the lookups that ``nn.Module`` makes at every call of a layer.

    Hooks are not called. Dropout follows the mode of its layer, as ever.
    """
    layers = [_bare(layer) for layer in network]

    def forward(x: Tensor) -> Tensor:
        for layer in layers:
            x = layer(x)
        return x

    return forward


def _bare(layer: nn.Module) -> Callable[[Tensor], Tensor]:
    if isinstance(layer, nn.Linear):
        return partial(F.linear, weight=layer.weight, bias=layer.bias)
    if isinstance(layer, nn.ReLU):
        return torch.relu
    return layer.forward

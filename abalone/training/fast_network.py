"""Make a network cheap to train: all parameters in one flat tensor, and gradients without autograd's overhead.

To record layers as small as these takes autograd longer than to compute them. ``batch_gradient`` calls the kernels that
autograd would call, so that its gradients are the same bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Criterion = Callable[[Tensor, Tensor], Tensor]


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


def batch_gradient(network: nn.Sequential, criterion: Criterion) -> Callable[[Tensor, Tensor], None]:
    """Make the function that computes gradients in training.

    Parameters
    ----------
    network : nn.Sequential
        Flattened. With another layer than Linear, ReLU and Dropout, or one that is used twice, autograd computes the
        gradients.
    criterion : callable
        ``F.cross_entropy`` or ``F.mse_loss``.

    Returns
    -------
    callable
        Takes inputs and labels of a batch, and sets ``grad`` of every parameter to the gradient of their mean loss.
    """
    layers = [_direct(layer) for layer in network]
    known = [layer for layer in layers if layer is not None]
    if len(known) < len(layers) or len(set(network)) < len(layers):
        return partial(_by_autograd, network, criterion)
    return partial(_by_kernels, known, OUTPUT_GRADIENTS[criterion])


def _by_autograd(network: nn.Sequential, criterion: Criterion, inputs: Tensor, labels: Tensor) -> None:
    for p in network.parameters():
        assert p.grad is not None  # made by ``flatten``
        p.grad.zero_()
    criterion(network(inputs), labels).backward()


@torch.inference_mode()
def _by_kernels(layers: Sequence[_Direct], output_gradient: Criterion, inputs: Tensor, labels: Tensor) -> None:
    x = inputs
    for layer in layers:
        x = layer.forward(x)
    dx = output_gradient(x, labels)
    for layer in reversed(layers):
        dx = layer.backward(dx)


def _cross_entropy_gradient(logits: Tensor, labels: Tensor) -> Tensor:
    log_probabilities = torch.log_softmax(logits, 1)
    gradient = torch.zeros_like(logits).scatter_(1, labels[:, None], -1 / len(labels))
    return torch.ops.aten._log_softmax_backward_data(gradient, log_probabilities, 1, logits.dtype)


def _mse_gradient(output: Tensor, labels: Tensor) -> Tensor:
    return (output - labels).mul_(2 / output.numel())


OUTPUT_GRADIENTS: dict[Criterion, Criterion] = {F.cross_entropy: _cross_entropy_gradient, F.mse_loss: _mse_gradient}


class _Linear:
    def __init__(self, layer: nn.Linear):
        assert layer.weight.grad is not None  # made by ``flatten``
        self.weight = layer.weight.detach()
        self.bias = layer.bias.detach()
        self.weight_gradient = layer.weight.grad
        self.bias_gradient = layer.bias.grad

    def forward(self, x: Tensor) -> Tensor:
        self.x = x
        return torch.addmm(self.bias, x, self.weight.T)

    def backward(self, dz: Tensor) -> Tensor:
        self.weight_gradient.copy_(torch.mm(dz.T, self.x))  # MKL may round otherwise into a view
        torch.sum(dz, 0, out=self.bias_gradient)
        return torch.mm(dz, self.weight)


class _ReLU:
    def forward(self, z: Tensor) -> Tensor:
        self.h = torch.relu(z)
        return self.h

    def backward(self, dh: Tensor) -> Tensor:
        return torch.ops.aten.threshold_backward(dh, self.h, 0)


class _Dropout:
    def __init__(self, layer: nn.Dropout):
        self.keep = 1 - layer.p

    def forward(self, h: Tensor) -> Tensor:
        self.noise = torch.empty_like(h).bernoulli_(self.keep).div_(self.keep)
        return h * self.noise

    def backward(self, dh: Tensor) -> Tensor:
        return dh * self.noise


_Direct = _Linear | _ReLU | _Dropout


def _direct(layer: nn.Module) -> _Direct | None:
    """The layer by its kernels, if it is one of those that are known."""
    # By the type itself: a class that is derived from it may compute something else.
    if type(layer) is nn.Linear and layer.bias is not None:
        return _Linear(layer)
    if type(layer) is nn.ReLU:
        return _ReLU()
    if type(layer) is nn.Dropout and 0 < layer.p < 1:
        return _Dropout(layer)
    return None

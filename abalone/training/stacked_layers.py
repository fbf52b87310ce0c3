"""Weights of a group's members, stacked layer by layer, with the state of Adam.

Notation and shapes are those of ``population``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from abalone.training.padding import BIAS_ROWS, OUTPUT_COLUMNS, padded_widths
from abalone.training.population_members import Member

BETA1 = 0.9
BETA2 = 0.999
EPS = 1e-8


class StackedLayer:
    """One layer of all K members, from I inputs (bias included) to O outputs.

    Parameters
    ----------
    shape : tuple of int
        (K, I, O).
    scratch : Tensor [at least K * I * O]
        Memory for the gradient. It is used up by ``step`` at once, so that all layers can share it.

    Attributes
    ----------
    w : Tensor [K, I, O]
        Weights; the last row is the bias.
    best : Tensor [K, I, O]
        Weights of each member's best epoch.
    q, m, v : Tensor [K, I, O]
        ``w`` divided by the learning rate, and Adam's moving averages.
    grad : Tensor [K, I, O]
        Gradient, in ``scratch``.
    forward : Tensor [K, O, I]
        View of ``w``, transposed.
    backward : Tensor [K, I - 4, O]
        View of ``w`` without the bias.
    """

    def __init__(self, shape: tuple[int, int, int], scratch: Tensor):
        self.w = scratch.new_zeros(shape)
        self.best = scratch.new_zeros(shape)
        self.q = scratch.new_zeros(shape)
        self.m = scratch.new_zeros(shape)
        self.v = scratch.new_zeros(shape)
        self.grad = scratch[: self.w.numel()].view(shape)
        self.forward = self.w.mT
        self.backward = self.w[:, :-BIAS_ROWS]

    def kept(self) -> list[Tensor]:
        """The tensors whose values last from one step to the next."""
        return [self.w, self.best, self.q, self.m, self.v]

    def step(self, time: Tensor, learning_rate: Tensor, eps: float) -> None:
        """Adam's step from ``grad``, at each member's own learning rate.

        Parameters
        ----------
        time : Tensor, scalar
            Number of the step, counted from 1.
        learning_rate : Tensor [K, 1, 1]
        eps : float
            ``EPS`` in the scale of the gradient.
        """
        torch._fused_adam_(
            [self.q], [self.grad], [self.m], [self.v], [], [time],
            lr=1.0, beta1=BETA1, beta2=BETA2, weight_decay=0.0, eps=eps, amsgrad=False, maximize=False,
        )  # fmt: skip
        torch.mul(self.q, learning_rate, out=self.w)


def stack_layers(members: Sequence[Member], x: Tensor) -> list[StackedLayer]:
    """Stack the weights of the members' models, in the dtype and on the device of their inputs ``x`` [inputs, n]."""
    widths = padded_widths(members[0].settings)
    heights = [len(x)] + [width + BIAS_ROWS for width in widths]
    shapes = [(len(members), height, width) for height, width in zip(heights, [*widths, OUTPUT_COLUMNS])]
    scratch = x.new_empty(max(math.prod(shape) for shape in shapes))
    layers = [StackedLayer(shape, scratch) for shape in shapes]
    for place, member in enumerate(members):
        matrices = [layer.w[place] for layer in layers]
        for parameter, part in _parts(member.model.network, matrices):
            part.copy_(parameter)
    return layers


def unstack(network: nn.Sequential, matrices: Sequence[Tensor]) -> None:
    """Copy one member's weights, a matrix [I, O] per layer, into its network."""
    for parameter, part in _parts(network, matrices):
        parameter.copy_(part)


def _parts(network: nn.Sequential, matrices: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
    """Each parameter of a network, and the part of its layer's matrix [I, O] that holds it."""
    linears = [layer for layer in network if isinstance(layer, nn.Linear)]
    for linear, matrix in zip(linears, matrices):
        outputs, inputs = linear.weight.shape
        yield linear.weight, matrix[:inputs, :outputs].T
        yield linear.bias, matrix[-1, :outputs]

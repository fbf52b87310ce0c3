"""Training of a group: batches, and the forward and backward pass of ``population`` over its stacked layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from abalone.model.networks import Classifier
from abalone.training.padding import BIAS_ROWS, round_up
from abalone.training.population_members import Member
from abalone.training.prepared_rows import StackedRows
from abalone.training.stacked_layers import EPS, StackedLayer

LEAST_RATE = 1e-30  # keeps w / lr finite in float32; a learning rate this small moves no weight
relu_backward = torch.ops.aten.threshold_backward.grad_input


class Batch(NamedTuple):
    """Columns of the stacked rows, int64 [K * B], B of each member, of which the first ``size`` are not padding."""

    columns: Tensor
    size: int


class BatchBuffers:
    """Tensors for a batch of B rows of each member, reused for every batch of that size.

    Attributes
    ----------
    x : Tensor [inputs, K * B]
        Inputs; ``h[0]`` is a view of them.
    y : Tensor [C, K * B]
        Targets; ``labels`` [K, C, B] is a view of them.
    h : list of Tensor [K, I, B]
        What enters each layer, the row of ones for the bias included.
    relu : list of Tensor [K, I - 4, B]
        Views of all ``h`` but the first, without the rows for the bias.
    z : list of Tensor [K, O, B]
        Products of each layer; in the backward pass, their gradients. ``z_t`` are their transposes.
    outputs, output_gradients : Tensor [K, C, B]
        Of the networks, without padding; the gradients are a view of the last ``z``.
    noise : list of Tensor [K, I - 4, B]
        Dropout's factors for each ``relu``; empty without dropout.
    masks : list of Tensor [K, B, I - 4]
        On the CPU, where they are drawn.
    """

    def __init__(self, layers: Sequence[StackedLayer], rows: int, classes: int, dropout: bool):
        weights = layers[0].w
        members, inputs, _ = weights.shape
        self.x = weights.new_empty(inputs, members * rows)
        self.y = weights.new_empty(classes, members * rows)
        self.labels = self.y.view(classes, members, rows).transpose(0, 1)
        self.h = [self.x.view(inputs, members, rows).transpose(0, 1)]
        for layer in layers[1:]:
            h = weights.new_zeros(members, layer.w.shape[1], rows)
            h[:, -1] = 1
            self.h.append(h)
        self.relu = [h[:, :-BIAS_ROWS] for h in self.h[1:]]
        self.z = [weights.new_zeros(members, layer.w.shape[2], rows) for layer in layers]
        self.z_t = [z.mT for z in self.z]
        self.outputs = weights.new_empty(members, classes, rows)
        self.output_gradients = self.z[-1][:, :classes]
        self.noise = [torch.zeros_like(relu) for relu in self.relu] if dropout else []
        self.masks = [torch.zeros(noise.mT.shape, dtype=noise.dtype) for noise in self.noise]


class GroupTrainer:
    """Trains the stacked layers of a group, epoch by epoch.

    Parameters
    ----------
    members : sequence of Member, K
        With the same task and batch size, all with dropout or all without.
    rows : StackedRows
        Their prepared rows.
    layers : sequence of StackedLayer
        Their weights.
    steps : int
        Steps that the weights have been trained for.
    """

    def __init__(self, members: Sequence[Member], rows: StackedRows, layers: Sequence[StackedLayer], steps: int):
        self.members = members
        self.rows = rows
        self.layers = layers
        self.steps = steps
        self.classifying = isinstance(members[0].model, Classifier)
        self.dropout = members[0].settings.dropout > 0
        self.batch_size = min(members[0].settings.batch_size, rows.sizes[0])
        self.loss_scale = self.batch_size if self.classifying else self.batch_size / 2
        decays = [member.settings.weight_decay * self.loss_scale for member in members]
        self.decay = rows.per_member(decays) if any(decays) else None
        self.keep = rows.per_member([1 - member.settings.dropout for member in members])
        self.readout = layers[-1].forward[:, : len(rows.y)]  # without the columns of padding
        self.buffers: dict[int, BatchBuffers] = {}  # by number of rows

    @torch.inference_mode()
    def train_epoch(self) -> None:
        """One pass over the training rows, in batches."""
        rates = [max(member.learning_rate, LEAST_RATE) for member in self.members]
        learning_rate = self.rows.per_member(rates)
        for layer in self.layers:
            torch.div(layer.w, learning_rate, out=layer.q)
        batches = self._draw_batches()
        times = torch.arange(self.steps + 1.0, self.steps + 1 + len(batches), device=self.rows.x.device)
        self.steps += len(batches)
        for batch, time in zip(batches, times):
            if batch.size not in self.buffers:
                rows = round_up(batch.size, 4)
                self.buffers[batch.size] = BatchBuffers(self.layers, rows, len(self.rows.y), self.dropout)
            buffers = self.buffers[batch.size]
            self._forward(buffers, batch)
            self._backward(buffers, batch, time, learning_rate)

    def _draw_batches(self) -> list[Batch]:
        """The batches of an epoch, each member's in the order that ``fit`` draws."""
        rows = self.rows.sizes[0]
        size = self.batch_size
        order = torch.stack([torch.randperm(rows, generator=member.order) for member in self.members])  # [K, rows]
        order = F.pad(order, (0, -rows % size)).view(len(order), -1, size)  # [K, batches, size]
        order = F.pad(order, (0, -size % 4)) + self.rows.first_column  # [K, batches, B]
        order = order.transpose(0, 1).contiguous().to(self.rows.x.device)  # [batches, K, B]
        batches = [Batch(columns.view(-1), size) for columns in order[:-1]]
        count = rows - len(batches) * size
        last = order[-1, :, : round_up(count, 4)]  # may have fewer rows than the others
        batches.append(Batch(last.reshape(-1), count))
        return batches

    def _draw_noise(self, buffers: BatchBuffers, hidden: int, count: int) -> Tensor:
        """Dropout's factors for a hidden layer, as nn.Dropout draws them, from each member's own generator."""
        for mask, member in zip(buffers.masks[hidden], self.members):
            width = member.settings.hidden_sizes[hidden]
            mask[:count, :width].bernoulli_(1 - member.settings.dropout, generator=member.dropout)
        return buffers.noise[hidden].copy_(buffers.masks[hidden].mT).div_(self.keep)

    def _forward(self, buffers: BatchBuffers, batch: Batch) -> None:
        torch.index_select(self.rows.x, 1, batch.columns, out=buffers.x)
        for i, layer in enumerate(self.layers[:-1]):
            torch.bmm(layer.forward, buffers.h[i], out=buffers.z[i])
            torch.clamp_min(buffers.z[i], 0, out=buffers.relu[i])
            if self.dropout:
                buffers.relu[i].mul_(self._draw_noise(buffers, i, batch.size))
        torch.bmm(self.readout, buffers.h[-1], out=buffers.outputs)

    def _backward(self, buffers: BatchBuffers, batch: Batch, time: Tensor, learning_rate: Tensor) -> None:
        """Gradients and Adam's step, layer by layer, while both are in the processor's cache."""
        self._output_gradients(buffers, batch)
        last = len(self.layers) - 1
        for i in range(last, -1, -1):
            layer = self.layers[i]
            dz = buffers.z[i]
            if i < last:  # dz is still dh', the gradient of what enters the next layer
                if self.dropout:
                    dz.mul_(buffers.noise[i])
                relu_backward(dz, buffers.relu[i], 0, grad_input=dz)
            if i > 0:
                torch.bmm(layer.backward, dz, out=buffers.z[i - 1])
            torch.bmm(buffers.h[i], buffers.z_t[i], out=layer.grad)
            if self.decay is not None:
                layer.grad.addcmul_(layer.w, self.decay)
            layer.step(time, learning_rate, EPS * self.loss_scale)

    def _output_gradients(self, buffers: BatchBuffers, batch: Batch) -> None:
        """dz of the last layer, of a loss summed over ``batch_size`` rows."""
        torch.index_select(self.rows.y, 1, batch.columns, out=buffers.y)
        if self.classifying:
            torch.softmax(buffers.outputs, 1, out=buffers.outputs)
        torch.sub(buffers.outputs, buffers.labels, out=buffers.output_gradients)
        if batch.size < self.batch_size:
            buffers.z[-1].mul_(self.batch_size / batch.size)
        if batch.size % 4 > 0:
            buffers.z[-1][:, :, batch.size :] = 0  # rows of padding

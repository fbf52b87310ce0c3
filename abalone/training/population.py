"""``training.fit`` for K models at once: the same steps and results at a fraction of the time per model.

Members of one shape form a group, whose matrices are stacked and multiplied in one call (``torch.bmm``). Below: K
members, B rows of a batch, a layer from I to O units, C outputs; dz is the gradient with respect to z, and so on.

**Forward.** The last row of every ``h`` is 1 and the last row of every ``W`` the bias, so that a bias and its gradient
need no operation of their own. ``noise`` (dropout, in training only) is 0 or 1 / (1 - p)::

    z = W^T h                        [K, O, B] = [K, O, I] [K, I, B]; of the last layer, the output
    h' = (relu(z) * noise, 1)        [K, O + 4, B], what enters the next layer

**Backward.** The loss is the sum over the batch of cross-entropy or of half the squared error::

    dz = softmax(z) - y              [K, C, B] of the last layer, y one-hot; or z - y, y rings
    dz = dh' * noise * (h' > 0)      [K, O, B] of the others, relu' being 1 where h' > 0
    dh = W dz                        [K, I, B], without the bias
    dW = h dz^T                      [K, I, O] = [K, I, B] [K, B, O]

**Padding.** Hidden widths are filled up to a multiple of 16; inputs with their bias, outputs and rows to one of 4.
Weights that are padding are 0 and stay so: a unit of padding has z = 0, relu lets no gradient back into it, and h = 0
lets none into the weights that leave it; a row of padding has dz = 0. Padding depends on nothing but the member itself
and lets every matrix begin at a multiple of 64 bytes, so that a member's result is the same, to the last bit, in any
company.

**Adam.** Its kernel takes one learning rate for all, members have their own. A step being lr times something that is
free of lr, the kernel moves q = w / lr at learning rate 1, and w = lr q follows::

    m = b1 m + (1 - b1) g            v = b2 v + (1 - b2) g^2
    q = q - (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)

The gradient g of a sum is that of the mean times B (or B / 2 with half squares). Nothing changes if eps and the weight
decay, which is added to g, are multiplied by the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from abalone.data.splitting import Split
from abalone.model.networks import Classifier, Regressor
from abalone.settings import StageSettings
from abalone.training.history import SPLITS, History, TrainingDiverged, roots
from abalone.training.members import EVALUATED_PER_MEMBER, Member, in_groups, padded_widths, round_up, untrained_members
from abalone.training.torch_setup import cpu_settings, find_device

BIAS = OUTPUTS = 4  # rows of W for the bias, and columns of the last W: one, or one per class, and padding
LEAST_RATE = 1e-30  # keeps w / lr finite in float32; a weight cannot tell a smaller learning rate from this one
relu_backward = torch.ops.aten.threshold_backward.grad_input


def fit_many(
    settings: Sequence[StageSettings],
    x: Tensor,
    rings: np.ndarray | Tensor,
    splits: Split | Sequence[Split],
    *,
    stop: Callable[[int, np.ndarray], Iterable[int]] | None = None,
    train_curves: bool = True,
) -> list[tuple[Classifier | Regressor, History] | TrainingDiverged]:
    """Train the models that ``settings`` describe, as ``fit`` would one by one.

    Parameters
    ----------
    settings : sequence of Experiment, K
        They may differ in every key. Those of the same number of layers and (but for padding) widths, batch size,
        number of inputs and of rows are computed together: the more of them, the faster.
    x : Tensor [n, 10], float32
        All rows, as ``features.encode`` gives them; if float64, everything is computed in that.
    rings : array or Tensor [n], int64
        Number of rings of each row.
    splits : Split or sequence of Split, K
        One for all, or each member's own.
    stop : callable, optional
        Called after every epoch with its number, counted from 1, and the members' ``loss/val``, array [K], float64,
        NaN for those that are no longer training. Members whose places it returns end here, as if this had been the
        last of their ``epochs``.
    train_curves : bool, default True
        Whether the curves include those of the training rows, which take about a sixth of the time.

    Returns
    -------
    list, K
        ``(model, history)`` as from ``fit``; or, for a member whose loss became infinite or not a number, the
        ``TrainingDiverged`` that ``fit`` would have raised, which does not disturb the others.

        A member's result is the same, bit for bit on one machine, whoever else is trained. It differs from that of
        ``fit`` by rounding only, with dropout too (except on CUDA, where masks are others); but in float32 rounding
        alone drives two trainings apart over many epochs.

    Raises
    ------
    BadValue
        If a device is not there.
    """
    splits = [splits] * len(settings) if isinstance(splits, Split) else splits
    with cpu_settings():
        members = untrained_members(settings, x, rings, splits)
        groups, epoch = [_Group(alike, train_curves) for alike in in_groups(members)], 0
        while groups:
            epoch += 1
            for group in groups:
                group.train_epoch()
                group.record(epoch)
            losses = [m.metrics["loss/val"][-1] if m.result is None else math.nan for m in members]
            stopped = {members[place] for place in stop(epoch, np.array(losses))} if stop else set()
            for group in groups:
                group.finish(epoch, stopped)
            groups = [rest for group in groups if (rest := group.unfinished())]
    return [member.result for member in members]


class _Layer:
    """``W`` [K, I, O] of all members, its best values so far, and Adam's tensors of the same shape."""

    def __init__(self, shape: tuple[int, int, int], memory: Tensor):
        self.w, self.best, self.q, self.m, self.v = self.kept = [memory.new_zeros(shape) for _ in range(5)]
        self.forward, self.backward = self.w.mT, self.w[:, :-BIAS]
        self.grad = memory[: self.w.numel()].view(shape)  # used up at once, so that all layers share it
        self.adam = [self.q], [self.grad], [self.m], [self.v], []


class _Room:
    """Memory for a batch of B rows, used again for every batch of that size."""

    def __init__(self, layers: list[_Layer], rows: int, classes: int, dropout: bool):
        like, (k, inputs, _) = layers[0].w, layers[0].w.shape
        self.x, self.y = like.new_empty(inputs, k * rows), like.new_empty(classes, k * rows)
        self.labels = self.y.view(classes, k, rows).transpose(0, 1)
        self.h = [self.x.view(inputs, k, rows).transpose(0, 1)]
        self.h += [like.new_zeros(k, layer.w.shape[1], rows) for layer in layers[1:]]
        for h in self.h[1:]:
            h[:, -1] = 1
        self.relu = [h[:, :-BIAS] for h in self.h[1:]]
        self.z = [like.new_zeros(k, layer.w.shape[2], rows) for layer in layers]  # in the backward pass: dz
        self.z_t = [z.mT for z in self.z]
        self.out, self.d_out = like.new_empty(k, classes, rows), self.z[-1][:, :classes]
        self.noise = [torch.zeros_like(relu) for relu in self.relu] if dropout else []
        self.drawn = [torch.zeros(noise.mT.shape, dtype=like.dtype) for noise in self.noise]  # on the CPU, [K, B, O]


class _Group:
    """Members of one shape, each with a place in the stacked tensors."""

    @torch.inference_mode()
    def __init__(self, members: list[Member], train_curves: bool):
        first, k, self.train_curves = members[0], len(members), train_curves
        self.members, self.sizes, self.steps = members, first.sizes, 0
        self.classifying, self.dropout = isinstance(first.model, Classifier), first.settings.dropout > 0
        self.batch_size = min(first.settings.batch_size, first.sizes[0])

        device, tables = find_device(first.settings.device), list(dict.fromkeys(m.table for m in members))
        self.x = torch.cat([table.x for table in tables], 1).to(device)  # [inputs, tables * n]
        self.y = torch.cat([table.y for table in tables], 1).to(device)  # [C, tables * n]
        self.classes, self.n = first.table.y.shape
        table = torch.tensor([tables.index(m.table) for m in members])  # [K]
        self.table, self.first_row = table.to(device), self.n * table[:, None, None]  # batches are drawn on the CPU

        heights = [len(self.x), *(width + BIAS for width in padded_widths(first.settings))]
        shapes = [(k, i, o) for i, o in zip(heights, [*padded_widths(first.settings), OUTPUTS])]
        memory = self.x.new_empty(max(math.prod(shape) for shape in shapes))
        self.layers = [_Layer(shape, memory) for shape in shapes]
        *self.hidden, last = self.layers
        self.readout = last.forward[:, : self.classes]
        self.scale = self.batch_size if self.classifying else self.batch_size / 2
        self.adam = {"lr": 1.0, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8 * self.scale}
        self.adam |= {"weight_decay": 0.0, "amsgrad": False, "maximize": False}
        decays = [m.settings.weight_decay * self.scale for m in members]
        self.decay = self._per_member(decays) if any(decays) else None
        self.keep = self._per_member([1 - m.settings.dropout for m in members])
        self.rooms: dict[int, _Room] = {}
        for place in range(k):
            for parameter, stacked in self._places(place, "w"):
                stacked.copy_(parameter)

    def _per_member(self, values: list[float]) -> Tensor:
        return torch.tensor(values, dtype=self.x.dtype, device=self.x.device)[:, None, None]  # [K, 1, 1]

    def _places(self, place: int, name: str) -> Iterator[tuple[nn.Parameter, Tensor]]:
        """Each parameter of a member's network, and its place in the stacked tensors of that name."""
        linears = [layer for layer in self.members[place].model.network if isinstance(layer, nn.Linear)]
        for linear, layer in zip(linears, self.layers):
            outputs, inputs = linear.weight.shape
            stacked = getattr(layer, name)[place]  # [I, O]
            yield linear.weight, stacked[:inputs, :outputs].T
            yield linear.bias, stacked[-1, :outputs]

    @torch.inference_mode()
    def train_epoch(self) -> None:
        """One pass over the training rows, in batches."""
        learning_rate = self._per_member([max(m.learning_rate, LEAST_RATE) for m in self.members])
        for layer in self.layers:
            torch.div(layer.w, learning_rate, out=layer.q)
        batches = self._batches()
        times = torch.arange(self.steps + 1.0, self.steps + 1 + len(batches), device=self.x.device)
        self.steps += len(batches)
        for (rows, count), t in zip(batches, times):
            if count not in self.rooms:
                self.rooms[count] = _Room(self.layers, round_up(count, 4), self.classes, self.dropout)
            self._forward(self.rooms[count], rows, count)
            self._backward(self.rooms[count], rows, count, [t], learning_rate)

    def _batches(self) -> list[tuple[Tensor, int]]:
        """Row numbers [K * B], padding included, and how many of the B are real, in the order that ``fit`` draws."""
        rows, size = self.sizes[0], self.batch_size
        order = torch.stack([torch.randperm(rows, generator=m.order) for m in self.members])
        order = F.pad(order, (0, -rows % size)).view(len(order), -1, size)  # [K, batches, B]
        order = F.pad(order, (0, -size % 4)) + self.first_row
        *full, last = order.transpose(0, 1).contiguous().to(self.x.device)
        count = rows - len(full) * size
        return [*((batch.view(-1), size) for batch in full), (last[:, : round_up(count, 4)].reshape(-1), count)]

    def _draw(self, room: _Room, i: int, count: int) -> Tensor:
        """Masks of layer ``i``, as nn.Dropout draws them, each from a generator that no one else uses."""
        for drawn, m in zip(room.drawn[i], self.members):
            drawn[:count, : m.settings.hidden_sizes[i]].bernoulli_(1 - m.settings.dropout, generator=m.dropout)
        return room.noise[i].copy_(room.drawn[i].mT).div_(self.keep)

    def _forward(self, room: _Room, rows: Tensor, count: int) -> None:
        torch.index_select(self.x, 1, rows, out=room.x)
        for i, layer in enumerate(self.hidden):
            torch.bmm(layer.forward, room.h[i], out=room.z[i])
            torch.clamp_min(room.z[i], 0, out=room.relu[i])
            if self.dropout:
                room.relu[i].mul_(self._draw(room, i, count))
        torch.bmm(self.readout, room.h[-1], out=room.out)

    def _backward(self, room: _Room, rows: Tensor, count: int, t: list[Tensor], learning_rate: Tensor) -> None:
        """Gradients and Adam's step of one layer after the other, while both are in the processor's cache."""
        torch.index_select(self.y, 1, rows, out=room.y)
        out = torch.softmax(room.out, 1, out=room.out) if self.classifying else room.out
        torch.sub(out, room.labels, out=room.d_out)
        if count < self.batch_size:
            room.z[-1].mul_(self.batch_size / count)
        if count % 4:
            room.z[-1][:, :, count:] = 0
        for i in reversed(range(len(self.layers))):
            layer, dz = self.layers[i], room.z[i]
            if i < len(self.hidden):  # until here, dz is dh'
                if self.dropout:
                    dz.mul_(room.noise[i])
                relu_backward(dz, room.relu[i], 0, grad_input=dz)
            if i:
                torch.bmm(layer.backward, dz, out=room.z[i - 1])
            torch.bmm(room.h[i], room.z_t[i], out=layer.grad)
            if self.decay is not None:
                layer.grad.addcmul_(layer.w, self.decay)
            torch._fused_adam_(*layer.adam, t, **self.adam)
            torch.mul(layer.q, learning_rate, out=layer.w)

    @torch.inference_mode()
    def record(self, epoch: int) -> None:
        """Measure the members on all splits, and keep the weights of those that are at their best."""
        measured = self._measure()
        places = [k for k, m in enumerate(self.members) if m.result is None and m.record(epoch, measured[k])]
        for layer in self.layers:
            layer.best[places] = layer.w[places]

    def _measure(self) -> list[dict[str, float]]:
        """Each member's values of ``History`` at this moment."""
        out, y = self._predict(), self.y.view(self.classes, -1, self.n)[:, self.table].transpose(0, 1)  # [K, C, n]
        if self.classifying:
            hits = (out[:, 1] > out[:, 0]) == (y[:, 1] > y[:, 0])
            values = {"loss": -(out.log_softmax(1) * y).sum(1), "accuracy": hits.to(out.dtype)}  # [K, n]
        else:
            scale = self._per_member([m.model.target_scale for m in self.members])
            values = {"loss": ((out - y).square() * scale**2)[:, 0]}
        parts = {
            f"{name}/{split}": part.mean(1)
            for name, value in values.items()
            for split, part in zip(SPLITS, value[:, : sum(self.sizes)].split(self.sizes, 1))
            if part.shape[1] and (self.train_curves or split != "train")
        }
        measured = [dict(zip(parts, row)) for row in torch.stack(list(parts.values()), 1).tolist()]
        return measured if self.classifying else [row | roots(row) for row in measured]

    def _predict(self) -> Tensor:
        """The networks' own outputs for all rows, [K, C, n].

        As relu(z + b) = max(z, -b) + b, the b that is added may as well join the next bias, b' + W'^T b. So z turns
        into h in place, without a row of ones, which is less to move about than in training.
        """
        k, x = len(self.members), self.x.view(len(self.x), -1, self.n).transpose(0, 1)  # [tables, inputs, n]
        first, *others = self.layers
        b = x.new_zeros(k, first.w.shape[2], 1)  # the first layer's own comes with the ones in x
        steps = [(first.forward, b)]
        for layer in others:
            b = layer.forward[:, :, -1:] + layer.forward[:, :, :-BIAS] @ b  # [K, O, 1]
            steps.append((layer.forward[:, :, :-BIAS], -b))
        *steps, (readout, _) = steps
        z = [x.new_empty(k, len(least[0]), EVALUATED_PER_MEMBER) for _, least in steps]
        outputs = x.new_zeros(k, self.classes, self.n)
        unseen = 0 if self.train_curves else self.sizes[0] // EVALUATED_PER_MEMBER
        for start in range(unseen * EVALUATED_PER_MEMBER, self.n, EVALUATED_PER_MEMBER):
            rows = slice(start, start + EVALUATED_PER_MEMBER)
            h = x[:, :, rows].index_select(0, self.table)
            for (w, least), out in zip(steps, z):
                h = torch.maximum(torch.bmm(w, h, out=out), least, out=out)
            outputs[:, :, rows] = torch.baddbmm(b, readout, h)[:, : self.classes]
        return outputs

    @torch.inference_mode()
    def finish(self, epoch: int, stopped: set[Member]) -> None:
        """Hand over those that are stopped or have trained for all of their epochs."""
        for place, m in enumerate(self.members):
            if m.result is None and (m in stopped or epoch == m.settings.epochs):
                best = m.settings.checkpoint == "best"
                for parameter, stacked in self._places(place, "best" if best else "w"):
                    parameter.copy_(stacked)
                m.result = m.model.eval(), History(m.metrics, m.best_epoch, m.best_epoch if best else epoch)

    @torch.inference_mode()
    def unfinished(self) -> _Group | None:
        """This group, or a smaller one once half of the members have left, or none."""
        places = [place for place, m in enumerate(self.members) if m.result is None]
        if 2 * len(places) > len(self.members) or not places:
            return self if places else None
        rest = _Group([self.members[place] for place in places], self.train_curves)
        rest.steps = self.steps
        for smaller, layer in zip(rest.layers, self.layers):
            for new, old in zip(smaller.kept, layer.kept):
                new.copy_(old[places])
        return rest

"""``training.fit`` for K models at once: the same steps and results at a fraction of the time per model.

Members of one shape form a group, whose matrices are stacked and multiplied in one call (``torch.bmm``). Shapes
below: K members, B rows of a batch, a layer from I to O units, C outputs; d• stands for dLoss/d•.

**Forward.** The last column of every ``h`` is 1 and the last row of every ``W`` the bias, so that a bias and its gradient
need no operation of their own. ``noise`` (dropout, in training) is 0 or 1 / (1 - p)::

    z = h W                          [K, B, O] = [K, B, I] [K, I, O]
    h' = (relu(z) * noise, 1)        [K, B, O + 4]
    out = V h^T                      [K, C, B] = [K, C, I] [K, I, B], the last layer: softmax is slow over the last
                                     dimension, hence this order

**Backward.** The loss is the mean over the batch of cross-entropy or squared error::

    dout = (softmax(out) - y) / B    [K, C, B], y one-hot; or 2 (out - y) / B, y rings
    dV = dout h                      [K, C, I]
    dh' = dout^T V or dz' W'^T       [K, B, O], from the layer above, without its bias
    dz = dh' * noise * (h' > 0)      [K, B, O]
    dW = h^T dz                      [K, I, O]

**Padding.** Hidden widths are filled up to a multiple of 16; inputs with their bias, outputs and rows to one of 4.
Weights that are padding are 0 and stay so: a unit of padding has z = 0, so relu lets no gradient back into it, and
h = 0, so none reaches the weights that leave it; a row of padding has dout = 0. As padding depends on nothing but
the member itself, and every matrix begins at a multiple of 64 bytes, a member's result is the same, to the last bit,
in any company.

**Adam.** Its kernel takes one learning rate and one weight decay; members have their own. The decay is therefore
added before, g += weight_decay * w. And as a step is lr times something free of lr, the kernel moves q = w / lr by steps
of learning rate 1, after which w = lr q::

    m = b1 m + (1 - b1) g            v = b2 v + (1 - b2) g^2
    q = q - (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from abalone.columns import CLASS_LABELS
from abalone.config import Experiment
from abalone.dataset import Split
from abalone.models import Classifier, Regressor
from abalone.training import SPLITS, History, TrainingDiverged, check_finite, cpu_settings, find_device, untrained

MEMBERS_AT_ONCE = 32
EVALUATED_AT_ONCE = 96  # rows of each member, a multiple of 16; their activations stay in the processor's cache
OUTPUTS = 4  # classes, or rings; and padding
BIAS = 4  # rows of W: three of padding, and the bias
ADAM = {"lr": 1.0, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0.0, "amsgrad": False, "maximize": False}
LEAST_RATE = 1e-30  # keeps w / lr finite in float32; to weights a smaller learning rate is the same as this one

relu_backward = torch.ops.aten.threshold_backward.grad_input


def fit_many(
    experiments: Sequence[Experiment],
    x: Tensor,
    rings: np.ndarray | Tensor,
    splits: Split | Sequence[Split],
    *,
    stop: Callable[[int, np.ndarray], Iterable[int]] | None = None,
) -> list[tuple[Classifier | Regressor, History] | TrainingDiverged]:
    """Train the models that ``experiments`` describe, as ``fit`` would one by one.

    Parameters
    ----------
    experiments : sequence of Experiment, K
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
    splits = [splits] * len(experiments) if isinstance(splits, Split) else splits
    with cpu_settings(), torch.no_grad():
        members = _members(experiments, x, rings, splits)
        groups, epoch = [_Group(alike) for alike in _alike(members)], 0
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


@dataclass(eq=False)
class _Table:
    """Prepared rows in the order train, val, test, then padding; one for all members that prepare them alike."""

    x: Tensor  # [n, inputs], the last column is 1
    y: Tensor  # [C, n], one-hot classes or (standardised) rings


@dataclass(eq=False)
class _Member:
    experiment: Experiment
    model: Classifier | Regressor
    table: _Table
    sizes: list[int]  # rows of train, val, test
    order: torch.Generator
    dropout: torch.Generator
    learning_rate: float
    metrics: dict[str, list[float]] = field(default_factory=dict)
    best_epoch: int = 0
    result: tuple[Classifier | Regressor, History] | TrainingDiverged | None = None

    def record(self, epoch: int, measured: dict[str, float]) -> bool:
        """Continue the curves, and tell whether this epoch is the best so far."""
        measured["learning_rate"] = self.learning_rate
        try:
            check_finite(measured, epoch, self.experiment)
        except TrainingDiverged as error:
            self.result = error.with_traceback(None)  # whose frames would keep the group's memory
            return False
        for name, value in measured.items():
            self.metrics.setdefault(name, []).append(value)
        self.learning_rate *= self.experiment.gamma
        losses = self.metrics["loss/val"]
        if self.best_epoch and losses[-1] >= losses[self.best_epoch - 1]:
            return False
        self.best_epoch = epoch
        return True


def _members(experiments: Sequence[Experiment], x: Tensor, rings, splits: Sequence[Split]) -> list[_Member]:
    members, tables = [], {}
    with torch.random.fork_rng(range(torch.cuda.device_count())):
        for e, split in zip(experiments, splits, strict=True):
            model, y, order = untrained(e, x, rings, split)
            dropout = torch.Generator().set_state(torch.get_rng_state())
            key = (id(split), e.task, e.features, e.clip, e.standardize_target)
            if key not in tables:
                tables[key] = _table(model, x, y, split)
            sizes = [len(getattr(split, name)) for name in SPLITS]
            members.append(_Member(e, model, tables[key], sizes, order, dropout, e.learning_rate))
    return members


def _table(model: Classifier | Regressor, x: Tensor, y: Tensor, split: Split) -> _Table:
    rows = torch.from_numpy(np.concatenate([getattr(split, name) for name in SPLITS]))
    inputs, labels = model.prepare(x)[rows], y[rows]
    if isinstance(model, Classifier):
        labels = F.one_hot(labels, len(CLASS_LABELS)).to(x.dtype)
    n, d = inputs.shape
    table = x.new_zeros(_up(n, EVALUATED_AT_ONCE), _up(d + 1, 4))
    table[:n, :d], table[:, -1] = inputs, 1
    return _Table(table, F.pad(labels.T, (0, len(table) - n)))


def _alike(members: list[_Member]) -> list[list[_Member]]:
    """Members whose tensors have the same shapes, which only their own settings and rows decide."""
    alike: dict[tuple, list[_Member]] = {}
    for m in members:
        e = m.experiment
        inputs, batch_size = m.table.x.shape[1], min(e.batch_size, m.sizes[0])
        shapes = (e.task, e.device, inputs, *_widths(e), "batch", batch_size, e.dropout > 0, *m.sizes)
        alike.setdefault(shapes, []).append(m)
    return [same[i::n] for same in alike.values() for n in [-(-len(same) // MEMBERS_AT_ONCE)] for i in range(n)]


def _widths(experiment: Experiment) -> tuple[int, ...]:
    return tuple(_up(width, 16) for width in experiment.hidden_sizes)


def _up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple


class _Layer:
    """``W`` [K, I, O] or ``V`` [K, C, I], its best values so far, and Adam's tensors of the same shape."""

    def __init__(self, shape: tuple[int, int, int], memory: Tensor, last: bool):
        self.w, self.best, self.q, self.m, self.v = self.kept = [memory.new_zeros(shape) for _ in range(5)]
        self.grad = memory[: self.w.numel()].view(shape)  # used up at once, so that all layers share it
        self.backward = self.w[:, :, :-BIAS] if last else self.w[:, :-BIAS].mT  # [K, O, I] without the bias
        self.adam = [self.q], [self.grad], [self.m], [self.v], []

    def step(self, t: Tensor, learning_rate: Tensor, decay: Tensor | None) -> None:
        """Adam's step number ``t``."""
        if decay is not None:
            self.grad.addcmul_(self.w, decay)
        torch._fused_adam_(*self.adam, [t], **ADAM)
        torch.mul(self.q, learning_rate, out=self.w)


class _Room:
    """Memory for a batch of B rows, used again for every batch of that size."""

    def __init__(self, layers: list[_Layer], rows: int, classes: int, like: Tensor):
        *hidden, last = [layer.w.shape for layer in layers]
        k = last[0]
        self.h = [like.new_zeros(k, rows, inputs) for inputs in (*(shape[1] for shape in hidden), last[2])]
        for h in self.h[1:]:
            h[:, :, -1] = 1
        self.x = self.h[0].flatten(0, 1)  # a view
        self.relu = [h[:, :, :-BIAS] for h in self.h[1:]]
        self.z = [like.new_empty(relu.shape) for relu in self.relu]  # in the backward pass: dz
        self.noise = [torch.zeros(relu.shape, dtype=like.dtype) for relu in self.relu]
        self.out, self.y = like.new_empty(k, classes, rows), like.new_empty(classes, k * rows)
        self.labels = self.y.view(classes, k, rows).transpose(0, 1)
        self.d_out = like.new_zeros(k, OUTPUTS, rows)
        self.d_classes, self.d_out_t = self.d_out[:, :classes], self.d_out.mT
        self.h_t = [h.mT for h in self.h]


class _Group:
    """Members of one shape, each with a place in the stacked tensors."""

    def __init__(self, members: list[_Member]):
        first, k = members[0], len(members)
        self.members, self.sizes, self.steps = members, first.sizes, 0
        self.classifying, self.dropout = isinstance(first.model, Classifier), first.experiment.dropout > 0

        device, tables = find_device(first.experiment.device), list(dict.fromkeys(m.table for m in members))
        self.x = torch.cat([table.x for table in tables]).to(device)  # [tables * n, inputs]
        self.y = torch.cat([table.y for table in tables], 1).to(device)  # [C, tables * n]
        self.n, self.classes = len(first.table.x), len(first.table.y)
        self.table = torch.tensor([tables.index(m.table) for m in members])  # [K]

        widths = _widths(first.experiment)
        inputs = [self.x.shape[1], *(width + BIAS for width in widths)]
        shapes = [*((k, i, o) for i, o in zip(inputs, widths)), (k, OUTPUTS, inputs[-1])]
        memory = self.x.new_empty(max(math.prod(shape) for shape in shapes))
        *self.hidden, self.last = self.layers = [_Layer(shape, memory, shape is shapes[-1]) for shape in shapes]
        self.v = self.last.w[:, : self.classes]
        decays = [m.experiment.weight_decay for m in members]
        self.decay = self._per_member(decays) if any(decays) else None
        self.rooms: dict[int, _Room] = {}
        for place in range(k):
            for parameter, stacked in self._places(place, "w"):
                stacked.copy_(parameter)

    def _per_member(self, values: list[float]) -> Tensor:
        return torch.tensor(values, dtype=self.x.dtype, device=self.x.device)[:, None, None]  # [K, 1, 1]

    def _places(self, place: int, name: str) -> Iterator[tuple[nn.Parameter, Tensor]]:
        """Each parameter of a member's network, and its place in the stacked tensors of that name."""
        linears = [layer for layer in self.members[place].model.network if isinstance(layer, nn.Linear)]
        *hidden, last = [getattr(layer, name)[place] for layer in self.layers]
        for linear, matrix in zip(linears, [*(w.T for w in hidden), last]):  # [O, I], as in nn.Linear
            outputs, inputs = linear.weight.shape
            yield linear.weight, matrix[:outputs, :inputs]
            yield linear.bias, matrix[:outputs, -1]

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
                self.rooms[count] = _Room(self.layers, _up(count, 4), self.classes, self.x)
            self._forward(self.rooms[count], rows, count)
            self._backward(self.rooms[count], rows, count, (t, learning_rate, self.decay))

    def _batches(self) -> list[tuple[Tensor, int]]:
        """Row numbers [K * B], padding included, and how many of the B are real, in the order that ``fit`` draws."""
        rows, k = self.sizes[0], len(self.members)
        size = min(self.members[0].experiment.batch_size, rows)
        order = torch.stack([torch.randperm(rows, generator=m.order) for m in self.members])
        order = F.pad(order, (0, -rows % size)).view(k, -1, size)  # [K, batches, B]
        order = F.pad(order, (0, -size % 4)) + self.n * self.table[:, None, None]
        *full, last = order.transpose(0, 1).contiguous().to(self.x.device)
        count = rows - len(full) * size
        return [*((batch.view(-1), size) for batch in full), (last[:, : _up(count, 4)].reshape(-1), count)]

    def _draw(self, noise: Tensor, i: int, count: int) -> Tensor:
        """Dropout's masks of layer ``i``, as nn.Dropout draws them, from generators that no one else uses."""
        for mask, m in zip(noise, self.members):
            keep = 1 - m.experiment.dropout
            mask[:count, : m.experiment.hidden_sizes[i]].bernoulli_(keep, generator=m.dropout).div_(keep)
        return noise.to(self.x.device)

    def _forward(self, room: _Room, rows: Tensor, count: int) -> None:
        torch.index_select(self.x, 0, rows, out=room.x)
        for i, layer in enumerate(self.hidden):
            torch.bmm(room.h[i], layer.w, out=room.z[i])
            torch.clamp_min(room.z[i], 0, out=room.relu[i])
            if self.dropout:
                room.relu[i].mul_(self._draw(room.noise[i], i, count))
        torch.bmm(self.v, room.h_t[-1], out=room.out)

    def _backward(self, room: _Room, rows: Tensor, count: int, step: tuple[Tensor, Tensor, Tensor | None]) -> None:
        """Gradients and Adam's step of one layer after the other, while both are in the processor's cache."""
        torch.index_select(self.y, 1, rows, out=room.y)
        out = torch.softmax(room.out, 1, out=room.out) if self.classifying else room.out
        torch.sub(out, room.labels, out=room.d_classes)
        room.d_out.mul_((1 if self.classifying else 2) / count)
        if count % 4:
            room.d_out[:, :, count:] = 0
        torch.bmm(room.d_out_t, self.last.backward, out=room.z[-1])
        torch.bmm(room.d_out, room.h[-1], out=self.last.grad)
        self.last.step(*step)
        for i in reversed(range(len(self.hidden))):
            layer, dz = self.hidden[i], room.z[i]  # so far dh'
            if self.dropout:
                dz.mul_(room.noise[i].to(dz.device))
            relu_backward(dz, room.relu[i], 0, grad_input=dz)
            if i:
                torch.bmm(dz, layer.backward, out=room.z[i - 1])
            torch.bmm(room.h_t[i], dz, out=layer.grad)
            layer.step(*step)

    def record(self, epoch: int) -> None:
        """Measure the members on all splits, and keep the weights of those that are at their best."""
        measured = self._measure()
        places = [k for k, m in enumerate(self.members) if m.result is None and m.record(epoch, measured[k])]
        for layer in self.layers:
            layer.best[places] = layer.w[places]

    def _measure(self) -> list[dict[str, float]]:
        """Each member's values of ``History`` at this moment."""
        out, table = self._predict(), self.table.to(self.x.device)
        y = self.y.view(self.classes, -1, self.n)[:, table].transpose(0, 1)  # [K, C, n]
        if self.classifying:
            hits = (out[:, 1] > out[:, 0]) == (y[:, 1] > y[:, 0])
            values = {"loss": -(out.log_softmax(1) * y).sum(1), "accuracy": hits.to(out.dtype)}  # [K, n]
        else:
            scale = self._per_member([m.model.target_scale for m in self.members])
            values = {"loss": ((out - y).square() * scale**2)[:, 0]}
        parts = [part for value in values.values() for part in value[:, : sum(self.sizes)].split(self.sizes, 1)]
        names = [f"{name}/{split}" for name in values for split in SPLITS]
        measured = [dict(zip(names, row)) for row in torch.stack([part.mean(1) for part in parts], 1).tolist()]
        for row in measured if not self.classifying else ():
            row.update({f"rmse/{split}": math.sqrt(row[f"loss/{split}"]) for split in SPLITS})
        return measured

    def _predict(self) -> Tensor:
        """The networks' own outputs for all rows, [K, C, n].

        As relu(z + b) = max(z, -b) + b, the b that is added can go on as a part of the next bias, b' + b W', and ``z``
        become ``h`` in place, without a column of ones: less to move about than in training.
        """
        k, x = len(self.members), self.x.view(-1, self.n, self.x.shape[1])
        b = x.new_zeros(k, 1, self.hidden[0].w.shape[2])  # there the bias is in W, and the ones in x
        steps = [(self.hidden[0].w, b)]
        for layer in self.hidden[1:]:
            b = layer.w[:, -1:] + b @ layer.w[:, :-BIAS]  # [K, 1, O]
            steps.append((layer.w[:, :-BIAS], -b))
        v = self.last.w[:, : self.classes, :-BIAS]
        b = self.last.w[:, : self.classes, -1:] + v @ b.mT  # [K, C, 1]
        memory = x.new_empty(2, k * EVALUATED_AT_ONCE * max(w.shape[2] for w, _ in steps))
        z = [memory[i % 2, : least.numel() * EVALUATED_AT_ONCE] for i, (_, least) in enumerate(steps)]
        z = [part.view(k, EVALUATED_AT_ONCE, -1) for part in z]
        outputs = x.new_empty(k, self.classes, self.n)
        for first in range(0, self.n, EVALUATED_AT_ONCE):
            rows = slice(first, first + EVALUATED_AT_ONCE)
            h = x[self.table, rows]
            for (w, least), out in zip(steps, z):
                h = torch.maximum(torch.bmm(h, w, out=out), least, out=out)
            outputs[:, :, rows] = torch.baddbmm(b, v, h.mT)
        return outputs

    def finish(self, epoch: int, stopped: set[_Member]) -> None:
        """Hand over those that are stopped or have trained for all of their epochs."""
        for place, m in enumerate(self.members):
            if m.result is None and (m in stopped or epoch == m.experiment.epochs):
                best = m.experiment.checkpoint == "best"
                for parameter, stacked in self._places(place, "best" if best else "w"):
                    parameter.copy_(stacked)
                m.result = m.model.eval(), History(m.metrics, m.best_epoch, m.best_epoch if best else epoch)

    def unfinished(self) -> _Group | None:
        """This group, or a smaller one once half of the members have left, or none."""
        places = [place for place, m in enumerate(self.members) if m.result is None]
        if 2 * len(places) > len(self.members) or not places:
            return self if places else None
        rest = _Group([self.members[place] for place in places])
        rest.steps = self.steps
        for smaller, layer in zip(rest.layers, self.layers):
            for new, old in zip(smaller.kept, layer.kept):
                new.copy_(old[places])
        return rest

"""``training.fit`` for K models at once: the same steps and results, several times less CPU for each of them.

Members of the same shape form a group, whose matrices are stacked and multiplied in one call (``torch.bmm``). Shapes
below are those of one group: K members, B rows of a batch, a layer from I to O units, C outputs.

**Forward.** ``h`` enters a layer; its last column is 1 and the last row of ``W`` is the bias, so that bias and gradient
of the bias cost nothing of their own. ``noise`` (dropout, in training only) is 0 or 1 / (1 - p). ::

    z = h W                          [K, B, O] = [K, B, I] [K, I, O]
    h' = (relu(z) * noise, 1)        [K, B, O + 4]
    out = V h^T                      [K, C, B] = [K, C, I] [K, I, B], the last layer

(Softmax is fast over any dimension but the last, hence the other order of the last layer.)

**Backward.** The loss is the mean over the batch of cross-entropy or of squared error. With d• for dLoss/d•::

    dout = (softmax(out) - y) / B    [K, C, B], y one-hot
    dout = 2 (out - y) / B           [K, 1, B], y rings
    dV = dout h                      [K, C, I]
    dh' = dout^T V or dz' W'^T       [K, B, O], from the layer above, without its bias
    dz = dh' * noise * (h' > 0)      [K, B, O]
    dW = h^T dz                      [K, I, O]

**Padding.** Hidden widths are filled up to a multiple of 16, inputs with their bias, outputs and rows to one of 4. A
weight that is padding is 0 and stays so: a unit with weights 0 has z = 0, relu passes no gradient back through
it, and with h = 0 the weights that leave it get none either; rows of padding have dout = 0. So each matrix has the size
and the place in memory, in multiples of 64 bytes, that it would have in any other company, and a member's result does
not depend, to the last bit, on who else is there.

**Adam.** Weight decay and learning rate are a member's own, Adam's kernel takes one of each. The decay is therefore
added before, g += weight_decay * w. A step is lr * u with u free of lr, and lr is constant within an epoch::

    m, v = b1 m + (1 - b1) g, b2 v + (1 - b2) g^2
    u = (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)
    w = w at the epoch's start - lr * (sum of the epoch's u)

so the kernel, called with learning rate 1, sums the u of all members in one call.
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

MEMBERS_AT_ONCE = 32  # more do not fit the processor's cache
EVALUATED_AT_ONCE = 128  # rows of each member, for the same reason; a multiple of 16
OUTPUTS = 4  # classes, or rings; and padding

ADAM = {"lr": 1.0, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0.0, "amsgrad": False, "maximize": False}
threshold_backward = torch.ops.aten.threshold_backward.grad_input

Stop = Callable[[int, np.ndarray], Iterable[int]]


def fit_many(
    experiments: Sequence[Experiment],
    x: Tensor,
    rings: np.ndarray | Tensor,
    splits: Split | Sequence[Split],
    *,
    stop: Stop | None = None,
) -> list[tuple[Classifier | Regressor, History] | TrainingDiverged]:
    """Train the models that ``experiments`` describe, as ``fit`` would one by one.

    Parameters
    ----------
    experiments : sequence of Experiment, K
        They may differ in every key. It is fast if several have the same number and (but for padding) width of layers,
        batch size, number of inputs and rows.
    x : Tensor [n, 10], float32
        All rows, as ``features.encode`` gives them; if float64, everything is computed in that.
    rings : array or Tensor [n], int64
    splits : Split or sequence of Split, K
        One for all, or each member's own.
    stop : callable, optional
        Called after every epoch with its number, counted from 1, and the members' ``loss/val`` [K], float64 (NaN for
        those that are no longer training). The members whose places it returns stop here: their result is that of
        as many epochs.

    Returns
    -------
    list, K
        ``(model, history)`` as from ``fit``, or, in the place of a member whose loss became infinite or not a number,
        the ``TrainingDiverged`` that ``fit`` would have raised. The others are not disturbed by it.

        A member's result is the same, bit for bit on one machine, in any population. It equals that of ``fit`` but for
        rounding, in dropout masks too (on CUDA those are others). In float32 rounding alone drives two trainings
        apart over many epochs.

    Raises
    ------
    BadValue
        If a device is not there.
    """
    splits = [splits] * len(experiments) if isinstance(splits, Split) else splits
    with cpu_settings(), torch.no_grad():
        members = _members(experiments, x, rings, splits)
        groups, epoch = [_Group(same) for same in _alike(members)], 0
        while groups:
            epoch += 1
            for group in groups:
                group.train_epoch()
                group.record(epoch)
            losses = [math.nan if m.result else m.metrics["loss/val"][-1] for m in members]
            stopped = {members[place] for place in stop(epoch, np.array(losses))} if stop else set()
            for group in groups:
                group.finish(epoch, stopped)
            groups = [smaller for group in groups if (smaller := group.without_finished())]
    return [member.result for member in members]


@dataclass(eq=False)
class _Table:
    """A split's rows in the order train, val, test, then zeros; one for all members that prepare it in the same way."""

    x: Tensor  # [n, inputs], standardised, 1 in the last column
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
        measured = {**measured, "learning_rate": self.learning_rate}
        try:
            check_finite(measured, epoch, self.experiment)
        except TrainingDiverged as error:
            self.result = error.with_traceback(None)  # it would keep this group's memory alive
            return False
        for name, value in measured.items():
            self.metrics.setdefault(name, []).append(value)
        self.learning_rate *= self.experiment.gamma
        losses = self.metrics["loss/val"]
        if self.best_epoch and not losses[-1] < losses[self.best_epoch - 1]:
            return False
        self.best_epoch = epoch
        return True


def _members(experiments, x: Tensor, rings, splits: Sequence[Split]) -> list[_Member]:
    members, tables = [], {}
    with torch.random.fork_rng(range(torch.cuda.device_count())):
        for experiment, split in zip(experiments, splits, strict=True):
            model, y, order = untrained(experiment, x, rings, split)
            dropout = torch.Generator().set_state(torch.get_rng_state())
            key = (id(split), experiment.task, experiment.features, experiment.clip, experiment.standardize_target)
            if key not in tables:
                tables[key] = _table(model, x, y, split)
            sizes = [len(getattr(split, name)) for name in SPLITS]
            members.append(_Member(experiment, model, tables[key], sizes, order, dropout, experiment.learning_rate))
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


def _alike(members: Iterable[_Member]) -> list[list[_Member]]:
    """Members whose tensors have the same shapes, which nothing but their own settings decides."""
    alike: dict[tuple, list[_Member]] = {}
    for m in members:
        e = m.experiment
        batch, inputs = min(e.batch_size, m.sizes[0]), m.table.x.shape[1]
        key = (e.task, e.device, e.dropout > 0, _widths(e), batch, inputs, *m.sizes)
        alike.setdefault(key, []).append(m)
    chunks = [(same, math.ceil(len(same) / MEMBERS_AT_ONCE)) for same in alike.values()]
    return [same[i::n] for same, n in chunks for i in range(n)]


def _widths(experiment: Experiment) -> tuple[int, ...]:
    return tuple(_up(width, 16) for width in experiment.hidden_sizes)


def _up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple


class _Layer:
    """``W`` [K, I, O] of a hidden layer, or ``V`` [K, C, I], with its best values so far and Adam's moments."""

    def __init__(self, shape: tuple[int, int, int], scratch: Tensor, last: bool):
        self.w, self.best, self.m, self.v, self.q = (scratch.new_zeros(shape) for _ in range(5))
        self.grad = scratch[: self.w.numel()].view(shape)
        self.back = self.w[:, :, :-4] if last else self.w[:, :-4].mT  # without the bias
        self.matrices = self.w, self.best, self.m, self.v
        self.adam = [self.q], [self.grad], [self.m], [self.v], []


class _Room:
    """Memory for one pass of K members over B rows, used again for every batch of that size."""

    def __init__(self, layers: list[_Layer], rows: int, classes: int, dropout: bool):
        *hidden, last = [layer.w for layer in layers]
        k, inputs = len(last), [*(w.shape[1] for w in hidden), last.shape[2]]
        self.h = [last.new_zeros(k, rows, i) for i in inputs]
        if rows == EVALUATED_AT_ONCE:
            self.h = [self.h[0]] + [self.h[1 + i % 2] for i in range(len(hidden))]
        for h in self.h[1:]:
            h[:, :, -1] = 1
        self.x = self.h[0].view(-1, inputs[0])
        self.z = [last.new_empty(k, rows, w.shape[2]) for w in hidden]
        self.z = [self.z[i % 2] for i in range(len(hidden))]
        if rows == EVALUATED_AT_ONCE:
            self.z = [self.z[0]] * len(hidden)
        self.relu = [h[:, :, :-4] for h in self.h[1:]]
        self.noise = [torch.zeros_like(z, device="cpu") for z in self.z] if dropout else []
        self.out, self.y = last.new_empty(k, classes, rows), last.new_empty(classes, k * rows)
        self.labels = self.y.view(classes, k, rows).transpose(0, 1)
        self.d_out = last.new_zeros(k, OUTPUTS, rows)
        self.d_classes = self.d_out[:, :classes]


class _Group:
    """Members of one shape, each with a place in the stacked tensors."""

    def __init__(self, members: list[_Member]):
        first, k = members[0], len(members)
        self.members, self.sizes, self.classifying = members, first.sizes, isinstance(first.model, Classifier)
        self.batch_size = min(first.experiment.batch_size, first.sizes[0])
        self.dropout = first.experiment.dropout > 0

        device, tables = find_device(first.experiment.device), list(dict.fromkeys(m.table for m in members))
        self.x = torch.cat([table.x for table in tables]).to(device)  # [tables * n, inputs]
        self.y = torch.cat([table.y for table in tables], 1).to(device)  # [C, tables * n]
        self.rows = len(first.table.x)
        self.table = torch.tensor([tables.index(m.table) for m in members], device=device)  # [K]

        widths = _widths(first.experiment)
        inputs = [self.x.shape[1], *(width + 4 for width in widths)]
        shapes = [*((k, i, o) for i, o in zip(inputs, widths)), (k, OUTPUTS, inputs[-1])]
        scratch = self.x.new_empty(max(math.prod(shape) for shape in shapes))
        self.layers = [_Layer(shape, scratch, shape is shapes[-1]) for shape in shapes]
        self.steps = 0
        self.classes = self.layers[-1].w[:, : len(self.y)]
        self.weight_decay = self._per_member([m.experiment.weight_decay for m in members])
        self.decays = any(m.experiment.weight_decay for m in members)
        self.rooms: dict[int, _Room] = {}
        for place in range(k):
            for parameter, stacked in self._places(place, [layer.w for layer in self.layers]):
                stacked.copy_(parameter)

    def _per_member(self, values: list[float]) -> Tensor:
        return torch.tensor(values, dtype=self.x.dtype, device=self.x.device)[:, None, None]  # [K, 1, 1]

    def _places(self, place: int, stacked: list[Tensor]) -> Iterator[tuple[nn.Parameter, Tensor]]:
        """Each parameter of a member's network, and where it is in the stacked ones."""
        linears = [layer for layer in self.members[place].model.network if isinstance(layer, nn.Linear)]
        *hidden, last = (layer[place] for layer in stacked)
        for linear, matrix in zip(linears, [*(w.T for w in hidden), last]):  # [O, I], as in nn.Linear
            outputs, inputs = linear.weight.shape
            yield linear.weight, matrix[:outputs, :inputs]
            yield linear.bias, matrix[:outputs, -1]

    def _room(self, rows: int) -> _Room:
        if rows not in self.rooms:
            self.rooms[rows] = _Room(self.layers, rows, len(self.y), self.dropout)
        return self.rooms[rows]

    def train_epoch(self) -> None:
        """One pass over the training rows, in batches."""
        learning_rate = self._per_member([max(m.learning_rate, 1e-30) for m in self.members])
        for layer in self.layers:
            torch.div(layer.w, learning_rate, out=layer.q)
        n, b = self.sizes[0], self.batch_size
        steps = range(self.steps + 1, self.steps + 1 + math.ceil(n / b))
        self.steps = steps[-1]
        steps = torch.tensor(steps, dtype=torch.float32, device=self.x.device)
        for (rows, count), t in zip(self._batches(), steps):
            room = self._room(len(rows) // len(self.members))
            if self.dropout:
                self._draw_noise(room, count)
            self._forward(room, rows, self.dropout)
            self._descend(room, rows, count, [t], learning_rate)

    def _batches(self) -> Iterator[tuple[Tensor, int]]:
        """Rows of ``x`` and ``y`` [K * B] with padding, and how many of B are none, in the order of ``fit``."""
        n, b = self.sizes[0], self.batch_size
        order = torch.stack([torch.randperm(n, generator=m.order) for m in self.members])  # [K, n]
        order = F.pad(order, (0, -n % b)).view(len(order), -1, b)
        order = F.pad(order, (0, -b % 4)).transpose(0, 1).to(self.x.device)  # [batches, K, B]
        order = order + self.rows * self.table[:, None]
        for i, rows in enumerate(order):
            count = min(b, n - i * b)
            yield rows[:, : _up(count, 4)].reshape(-1), count

    def _draw_noise(self, room: _Room, count: int) -> None:
        """As nn.Dropout draws it: [count, width], layer after layer, from a generator that no one else uses."""
        for place, member in enumerate(self.members):
            keep = 1 - member.experiment.dropout
            for noise, width in zip(room.noise, member.experiment.hidden_sizes):
                noise[place, :count, :width].bernoulli_(keep, generator=member.dropout).div_(keep)

    def _forward(self, room: _Room, rows: Tensor, dropout: bool) -> None:
        torch.index_select(self.x, 0, rows, out=room.x)
        for i, (layer, h, z, relu) in enumerate(zip(self.layers, room.h, room.z, room.relu)):
            torch.bmm(h, layer.w, out=z)
            torch.clamp_min(z, 0, out=relu)
            if dropout:
                relu.mul_(room.noise[i].to(z.device))
        torch.bmm(self.classes, room.h[-1].mT, out=room.out)

    def _descend(self, room: _Room, rows: Tensor, count: int, t: list[Tensor], learning_rate: Tensor) -> None:
        """Backward pass and step, a layer at a time, while its tensors are in the processor's cache."""
        torch.index_select(self.y, 1, rows, out=room.y)
        out = torch.softmax(room.out, 1, out=room.out) if self.classifying else room.out
        torch.sub(out, room.labels, out=room.d_classes)
        room.d_out.mul_((1 if self.classifying else 2) / count)
        if count < room.out.shape[2]:
            room.d_out[:, :, count:] = 0
        last = self.layers[-1]
        torch.bmm(room.d_out.mT, last.back, out=room.z[-1])
        torch.bmm(room.d_out, room.h[-1], out=last.grad)
        self._step(last, t, learning_rate)
        for i in reversed(range(len(room.z))):
            layer, dz = self.layers[i], room.z[i]
            if self.dropout:
                dz.mul_(room.noise[i].to(dz.device))
            threshold_backward(dz, room.relu[i], 0, grad_input=dz)  # dz * (h' > 0)
            if i:
                torch.bmm(dz, layer.back, out=room.z[i - 1])
            torch.bmm(room.h[i].mT, dz, out=layer.grad)
            self._step(layer, t, learning_rate)

    def _step(self, layer: _Layer, t: list[Tensor], learning_rate: Tensor) -> None:
        if self.decays:
            layer.grad.addcmul_(layer.w, self.weight_decay)
        torch._fused_adam_(*layer.adam, t, **ADAM)
        torch.mul(layer.q, learning_rate, out=layer.w)

    def record(self, epoch: int) -> None:
        """Measure every member on all splits, and keep the weights of those that were never better."""
        pairs = enumerate(zip(self.members, self._measure()))
        better = [place for place, (m, values) in pairs if m.result is None and m.record(epoch, values)]
        for layer in self.layers:
            layer.best[better] = layer.w[better]

    def _measure(self) -> list[dict[str, float]]:
        """What ``History`` holds, for each member."""
        out = self._predict()
        y = self.y.view(len(self.y), -1, self.rows)[:, self.table].transpose(0, 1)  # [K, C, n]
        if self.classifying:
            hits = (out[:, 1] > out[:, 0]) == (y[:, 1] > y[:, 0])
            values = {"loss": -(out.log_softmax(1) * y).sum(1), "accuracy": hits.to(out.dtype)}  # [K, n]
        else:
            scale = torch.stack([m.model.target_scale for m in self.members]).to(out.device)
            values = {"loss": (out - y)[:, 0].square() * scale[:, None] ** 2}
        names = [f"{name}/{part}" for name in values for part in SPLITS]
        means = [part.mean(1) for v in values.values() for part in v[:, : sum(self.sizes)].split(self.sizes, 1)]
        measured = [dict(zip(names, row)) for row in torch.stack(means, 1).tolist()]
        if not self.classifying:
            for row in measured:
                row.update({f"rmse/{part}": math.sqrt(row[f"loss/{part}"]) for part in SPLITS})
        return measured

    def _predict(self) -> Tensor:
        """The networks' own outputs for all rows, [K, C, n]."""
        outputs, room = self.x.new_empty(len(self.members), len(self.y), self.rows), self._room(EVALUATED_AT_ONCE)
        for first in range(0, self.rows, EVALUATED_AT_ONCE):
            rows = torch.arange(first, first + EVALUATED_AT_ONCE, device=self.x.device)
            self._forward(room, (rows + self.rows * self.table[:, None]).view(-1), dropout=False)
            outputs[:, :, first : first + EVALUATED_AT_ONCE] = room.out
        return outputs

    def finish(self, epoch: int, stopped: set[_Member]) -> None:
        """Give their results to those that are stopped or have trained for all of their epochs."""
        for place, m in enumerate(self.members):
            if m.result is None and (m in stopped or epoch == m.experiment.epochs):
                is_best = m.experiment.checkpoint == "best"
                for parameter, stacked in self._places(place, [layer.best if is_best else layer.w for layer in self.layers]):
                    parameter.copy_(stacked)
                m.result = m.model.eval(), History(m.metrics, m.best_epoch, m.best_epoch if is_best else epoch)

    def without_finished(self) -> _Group | None:
        """This group, or a smaller one as soon as half of the members have left, or none."""
        places = [place for place, m in enumerate(self.members) if m.result is None]
        if 2 * len(places) > len(self.members):
            return self
        if not places:
            return None
        rest = _Group([self.members[place] for place in places])
        rest.steps = self.steps
        for layer, old in zip(rest.layers, self.layers):
            for matrix, larger in zip(layer.matrices, old.matrices):
                matrix.copy_(larger[places])
        return rest

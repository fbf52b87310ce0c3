"""Who is in a population: models before training, their prepared rows, and whose tensors have the same shapes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from abalone.data.splitting import Split
from abalone.model.columns import CLASS_LABELS
from abalone.model.networks import Classifier, Regressor
from abalone.settings import StageSettings
from abalone.training.beginning import untrained_model
from abalone.training.history import SPLITS, History, TrainingDiverged, check_finite

MEMBERS_AT_ONCE = 16
EVALUATED_PER_MEMBER = 96  # rows of each member, a multiple of 16; their activations stay in the processor's cache


@dataclass(eq=False)
class PreparedRows:
    """Prepared rows in the order train, val, test, then padding; one for all members that prepare them alike."""

    x: Tensor  # [inputs, n], the last row is 1
    y: Tensor  # [C, n], one-hot classes or (standardised) rings


@dataclass(eq=False)
class Member:
    """One model of a population, from its untrained beginning to its result."""

    settings: StageSettings
    model: Classifier | Regressor
    table: PreparedRows
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
            check_finite(measured, epoch, self.settings, self.metrics)
        except TrainingDiverged as error:
            self.result = error.with_traceback(None)  # whose frames would keep the group's memory
            return False
        for name, value in measured.items():
            self.metrics.setdefault(name, []).append(value)
        self.learning_rate *= self.settings.gamma
        losses = self.metrics["loss/val"]
        if self.best_epoch and losses[-1] >= losses[self.best_epoch - 1]:
            return False
        self.best_epoch = epoch
        return True


def untrained_members(settings: Sequence[StageSettings], x: Tensor, rings, splits: Sequence[Split]) -> list[Member]:
    """Each model as ``fit`` would begin it, with generators of its own."""
    members, tables = [], {}
    with torch.random.fork_rng(range(torch.cuda.device_count())):
        for e, split in zip(settings, splits, strict=True):
            model, y, order = untrained_model(e, x, rings, split)
            dropout = torch.Generator().set_state(torch.get_rng_state())
            key = (id(split), e.task, e.features, e.clip, e.standardize_target)
            if key not in tables:
                tables[key] = _table(model, x, y, split)
            sizes = [len(getattr(split, name)) for name in SPLITS]
            members.append(Member(e, model, tables[key], sizes, order, dropout, e.learning_rate))
    return members


def _table(model: Classifier | Regressor, x: Tensor, y: Tensor, split: Split) -> PreparedRows:
    rows = torch.from_numpy(np.concatenate([getattr(split, name) for name in SPLITS]))
    inputs, labels = model.prepare(x)[rows], y[rows]
    if isinstance(model, Classifier):
        labels = F.one_hot(labels, len(CLASS_LABELS)).to(x.dtype)
    n, d = inputs.shape
    table = x.new_zeros(round_up(d + 1, 4), round_up(n, EVALUATED_PER_MEMBER))
    table[:d, :n], table[-1] = inputs.T, 1
    return PreparedRows(table, F.pad(labels.T, (0, table.shape[1] - n)))


def in_groups(members: list[Member]) -> Iterator[list[Member]]:
    """Members whose tensors have the same shapes, which only their own settings and rows decide; few at once."""
    found: dict[tuple, list[Member]] = {}
    for m in members:
        e = m.settings
        shapes = (padded_widths(e), len(m.table.x), min(e.batch_size, m.sizes[0]), e.dropout > 0, *m.sizes)
        found.setdefault((e.task, e.device, shapes), []).append(m)
    for same in found.values():
        parts = math.ceil(len(same) / MEMBERS_AT_ONCE)
        yield from (same[part::parts] for part in range(parts))


def padded_widths(settings: StageSettings) -> tuple[int, ...]:
    """Widths of the hidden layers, up to the next multiple of 16."""
    return tuple(round_up(width, 16) for width in settings.hidden_sizes)


def round_up(number: int, multiple: int) -> int:
    """The next multiple from ``number`` on."""
    return -(-number // multiple) * multiple

"""Prepared rows of a population: a table for members that prepare them alike, and the tables of a group together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from abalone.data.splitting import Split
from abalone.model.columns import CLASS_LABELS
from abalone.model.networks import Classifier, Regressor
from abalone.training.padding import EVALUATED_PER_MEMBER, round_up


@dataclass(eq=False)
class PreparedRows:
    """Prepared inputs and targets of a split's rows, one column each: train, val, test, then padding.

    Parameters
    ----------
    x : Tensor [inputs, n]
        The last input is 1, for the bias.
    y : Tensor [C, n]
        One-hot classes, or rings as the network learns them (``initialization.targets``).
    sizes : list of int
        Rows of train, val and test.
    """

    x: Tensor
    y: Tensor
    sizes: list[int]


def prepare_rows(model: Classifier | Regressor, x: Tensor, y: Tensor, split: Split) -> PreparedRows:
    """Prepare the rows of a split as ``model`` does.

    Parameters
    ----------
    model : Classifier or Regressor
        With fitted preparation.
    x : Tensor [rows, 10]
        All rows in raw units.
    y : Tensor
        ``initialization.targets`` of all rows.
    split : Split
    """
    parts = [split.train, split.val, split.test]
    rows = torch.from_numpy(np.concatenate(parts))
    inputs = model.prepare(x)[rows]  # [n, d]
    labels = y[rows]
    if isinstance(model, Classifier):
        labels = F.one_hot(labels, len(CLASS_LABELS)).to(x.dtype)  # [n, C]
    count, width = inputs.shape
    columns = round_up(count, EVALUATED_PER_MEMBER)
    table = x.new_zeros(round_up(width + 1, 4), columns)
    table[:width, :count] = inputs.T
    table[-1] = 1
    return PreparedRows(x=table, y=F.pad(labels.T, (0, columns - count)), sizes=[len(part) for part in parts])


class StackedRows:
    """Prepared rows of the K members of a group, on the group's device.

    Attributes
    ----------
    x : Tensor [inputs, tables * n]
        The members' tables side by side, each table once.
    y : Tensor [C, tables * n]
        Their targets.
    n : int
        Columns of a table, padding included.
    sizes : list of int
        Rows of train, val and test, the same in every table.
    table : Tensor [K], int64
        Number of each member's table.
    first_column : Tensor [K, 1, 1], int64, on the CPU
        Column at which each member's table begins.
    """

    def __init__(self, rows: Sequence[PreparedRows], device: torch.device):
        tables = list(dict.fromkeys(rows))
        table = torch.tensor([tables.index(own) for own in rows])
        self.x = torch.cat([each.x for each in tables], 1).to(device)
        self.y = torch.cat([each.y for each in tables], 1).to(device)
        self.n = tables[0].x.shape[1]
        self.sizes = tables[0].sizes
        self.table = table.to(device)
        self.first_column = self.n * table[:, None, None]

    def inputs_by_table(self) -> Tensor:
        """View of ``x`` as [tables, inputs, n]."""
        return self.x.view(len(self.x), -1, self.n).transpose(0, 1)

    def targets_by_member(self) -> Tensor:
        """Each member's own targets, [K, C, n]."""
        return self.y.view(len(self.y), -1, self.n)[:, self.table].transpose(0, 1)

    def per_member(self, values: Sequence[float]) -> Tensor:
        """One value per member, [K, 1, 1], in the dtype and on the device of the rows."""
        return torch.tensor(values, dtype=self.x.dtype, device=self.x.device)[:, None, None]

"""Population members, each from its untrained model to its result, and grouped by tensor shape."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from abalone.data.splitting import Split
from abalone.model.networks import Classifier, Regressor
from abalone.settings import StageSettings
from abalone.training.history import Curves, History, TrainingDiverged, append_epoch, check_finite
from abalone.training.implemented import require_layers, require_settings
from abalone.training.initialization import untrained_model
from abalone.training.padding import padded_widths
from abalone.training.prepared_rows import PreparedRows, prepare_rows

MEMBERS_AT_ONCE = 16  # in a group
ENGINE = "fit_many"
IMPLEMENTED = (  # beside the settings of the network, whose layers are checked
    "standardize_target",
    "learning_rate",
    "gamma",
    "weight_decay",
    "batch_size",
    "epochs",
    "checkpoint",
    "seed",
    "device",
)


@dataclass(eq=False)
class Member:
    """One model of a population and the state of its training.

    Parameters
    ----------
    settings : StageSettings
    model : Classifier or Regressor
        On the CPU. It keeps its initial weights until the member has finished.
    rows : PreparedRows
        Shared with members that prepare the same rows in the same way.
    order, dropout : Generator
        Draw the batch order and the dropout masks.
    learning_rate : float
        Of the next epoch.
    metrics : dict of str to list of float
        As in ``History``.
    best_epoch : int
        0 before the first epoch.
    result : (model, History) or TrainingDiverged, optional
        None while the member is in training.
    """

    settings: StageSettings
    model: Classifier | Regressor
    rows: PreparedRows
    order: torch.Generator
    dropout: torch.Generator
    learning_rate: float
    metrics: Curves = field(default_factory=dict)
    best_epoch: int = 0
    result: tuple[Classifier | Regressor, History] | TrainingDiverged | None = None

    def record(self, epoch: int, measured: dict[str, float]) -> bool:
        """Append an epoch to the curves; return whether its validation loss is the lowest so far.

        If a value is not finite, ``TrainingDiverged`` becomes the result.
        """
        measured["learning_rate"] = self.learning_rate
        try:
            check_finite(measured, epoch, self.settings, self.metrics)
        except TrainingDiverged as error:
            self.result = error.with_traceback(None)  # its frames would keep the group's tensors in memory
            return False
        append_epoch(self.metrics, measured)
        self.learning_rate *= self.settings.gamma
        losses = self.metrics["loss/val"]
        if self.best_epoch > 0 and losses[-1] >= losses[self.best_epoch - 1]:
            return False
        self.best_epoch = epoch
        return True


def untrained_members(
    settings: Sequence[StageSettings], x: Tensor, rings: np.ndarray | Tensor, splits: Sequence[Split]
) -> list[Member]:
    """Members with the same initial models that ``fit`` starts from, and generators of their own.

    Parameters
    ----------
    settings, splits : sequence, K
        Of each member.
    x : Tensor [n, 10]
        All rows in raw units.
    rings : array or Tensor [n], int64
        Number of rings of each row.

    Raises
    ------
    NotImplementedByEngine
        If a member has a layer or a setting that ``fit_many`` does not know.
    """
    members = []
    tables: dict[tuple, PreparedRows] = {}
    with torch.random.fork_rng(range(torch.cuda.device_count())):
        for own, split in zip(settings, splits, strict=True):
            model, y, order = untrained_model(own, x, rings, split)
            require_implemented(own, model)
            dropout = torch.Generator().set_state(torch.get_rng_state())
            preparation = (id(split), own.task, own.features, own.clip, own.standardize_target)
            if preparation not in tables:
                tables[preparation] = prepare_rows(model, x, y, split)
            members.append(
                Member(
                    settings=own,
                    model=model,
                    rows=tables[preparation],
                    order=order,
                    dropout=dropout,
                    learning_rate=own.learning_rate,
                )
            )
    return members


def require_implemented(settings: StageSettings, model: Classifier | Regressor) -> None:
    """Raise ``NotImplementedByEngine`` if ``fit_many`` does not know a setting of a member, or a layer of its model."""
    require_settings(ENGINE, settings, settings.model_config(), IMPLEMENTED)
    require_layers(ENGINE, model.network, _stackable_layers(settings))


def _stackable_layers(settings: StageSettings) -> list[type[nn.Module]]:
    """Types of the layers that ``stacked_layers`` and ``group_training`` compute."""
    hidden: list[type[nn.Module]] = [nn.Linear, nn.ReLU]
    if settings.dropout > 0:
        hidden.append(nn.Dropout)
    return hidden * len(settings.hidden_sizes) + [nn.Linear]


def group_by_shape(members: Sequence[Member]) -> list[list[Member]]:
    """Lists of at most ``MEMBERS_AT_ONCE`` members whose tensors have the same shapes, as even in size as possible."""
    by_shape: dict[tuple, list[Member]] = {}
    for member in members:
        by_shape.setdefault(_shape(member), []).append(member)
    groups = []
    for alike in by_shape.values():
        parts = math.ceil(len(alike) / MEMBERS_AT_ONCE)
        groups += [alike[part::parts] for part in range(parts)]
    return groups


def _shape(member: Member) -> tuple:
    """What members of a group have in common; it depends on nothing but the member's own settings and rows."""
    settings = member.settings
    inputs = len(member.rows.x)
    train_rows = member.rows.sizes[0]
    return (
        settings.task,
        settings.device,
        tuple(padded_widths(settings)),
        inputs,
        min(settings.batch_size, train_rows),
        settings.dropout > 0,
        tuple(member.rows.sizes),
    )

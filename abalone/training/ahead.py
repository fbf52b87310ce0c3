"""Begin the trainings of stages in workers before their runs are open."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from abalone.data.loading import load_data
from abalone.model.networks import RingDistribution
from abalone.settings import RingsSettings, StageSettings
from abalone.side_by_side import begin, has_workers
from abalone.training.fit import fit
from abalone.training.history import Curves, History
from abalone.training.ring_ensemble import fit_rings

Wait = Callable[[], Any]  # for the result of a training


def can_begin(settings: StageSettings | RingsSettings) -> bool:
    """Whether there are workers and the training would not run on a GPU, which computes one thing after the other."""
    return has_workers() and (settings.device == "cpu" or not torch.cuda.is_available())


def begin_stage(settings: StageSettings) -> Wait | None:
    """Begin ``fit``; what is returned waits for the model and its history, and is None if this process has to do it."""
    if not can_begin(settings):
        return None
    return begin(_fit_stage, settings)


def begin_rings(settings: RingsSettings) -> dict[str, Wait]:
    """Begin the fits of ``rings``; each key, ``validation`` or ``refit``, waits for the ensemble and its curves.

    It is empty if this process has to do them.
    """
    if not can_begin(settings):
        return {}
    begun = {"validation": begin(_fit_rings, settings, False)}
    if settings.refit:
        begun["refit"] = begin(_fit_rings, settings, True)
    return begun


def _fit_stage(settings: StageSettings) -> tuple[nn.Module, History]:
    data = load_data(settings.data, settings.seed, settings.units, settings.target)
    return fit(settings, data.x, data.rings, data.split)


def _fit_rings(settings: RingsSettings, refit: bool) -> tuple[RingDistribution, Curves]:
    data = load_data(settings.data, settings.seed, settings.units, settings.target)
    split = data.split
    if refit:
        return fit_rings(settings, data.x, data.rings, np.concatenate([split.train, split.val]))
    return fit_rings(settings, data.x, data.rings, split.train, split.val)

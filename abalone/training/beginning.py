"""TODO training.beginning"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from abalone.data.labels import is_old
from abalone.data.splitting import Split
from abalone.model.networks import Classifier, Regressor, build, init_weights
from abalone.settings import StageSettings


def seeds(seed: int) -> tuple[int, int, int]:
    """Independent seeds for initial weights, batch order and dropout masks, all from the settings's one."""
    return tuple(np.random.SeedSequence(seed).generate_state(3).tolist())


def untrained_model(
    settings: StageSettings, x: Tensor, rings: np.ndarray | Tensor, split: Split
) -> tuple[Classifier | Regressor, Tensor, torch.Generator]:
    """Where every training begins; it leaves torch's global generator where the first dropout mask will be drawn.

    Returns
    -------
    model : Classifier or Regressor
        Initial weights, preparation fitted; in the type of ``x``.
    y : Tensor
        ``targets`` of all rows.
    order : Generator
        Of the batch order.
    """
    init_seed, order_seed, dropout_seed = seeds(settings.seed)
    torch.manual_seed(dropout_seed)
    model = build(settings.model_config())
    init_weights(model.network, torch.Generator().manual_seed(init_seed))
    rings = torch.from_numpy(np.array(rings, dtype=np.int64))  # a copy: pandas gives read-only arrays
    y = _fit_preparation(model.to(x.dtype), settings, x, rings, split)
    return model, y, torch.Generator().manual_seed(order_seed)


def targets(model: Classifier | Regressor, rings: Tensor) -> Tensor:
    """What the network itself learns: classes [n], int64, or (standardised) rings [n, 1], in the model's type."""
    if isinstance(model, Classifier):
        return torch.as_tensor(is_old(rings.numpy()))
    return (rings[:, None].to(model.target_mean.dtype) - model.target_mean) / model.target_scale


def _fit_preparation(model, settings: StageSettings, x: Tensor, rings: Tensor, split: Split) -> Tensor:
    """Fit everything that is not a weight, on training rows, and return the targets."""
    model.prepare.fit(x[split.train])
    if isinstance(model, Regressor) and settings.standardize_target:
        known = rings[split.train].double()
        model.target_mean.copy_(known.mean())
        model.target_scale.copy_(known.std(correction=0) or 1.0)
    return targets(model, rings)

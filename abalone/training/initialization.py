"""A model before training: initial weights, fitted preparation, and generators seeded independently."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from abalone.data.labels import is_old
from abalone.data.splitting import Split
from abalone.model.networks import Classifier, Regressor, build, init_weights
from abalone.settings import StageSettings


def derive_seeds(seed: int) -> tuple[int, int, int]:
    """Independent seeds for initial weights, batch order and dropout masks, derived from the one in the settings."""
    init_seed, order_seed, dropout_seed = np.random.SeedSequence(seed).generate_state(3).tolist()
    return init_seed, order_seed, dropout_seed


def untrained_model(
    settings: StageSettings, x: Tensor, rings: np.ndarray | Tensor, split: Split
) -> tuple[Classifier | Regressor, Tensor, torch.Generator]:
    """Build the model that a training starts from, and seed torch's global generator for its dropout masks.

    Parameters
    ----------
    settings : StageSettings
        Network, task and seed.
    x : Tensor [n, 10], float32 or float64
        All rows, as ``features.encode`` gives them.
    rings : array or Tensor [n], int64
        Number of rings of each row.
    split : Split
        Row numbers; the preparation is fitted on the training rows.

    Returns
    -------
    model : Classifier or Regressor
        With initial weights and fitted preparation, in the dtype of ``x``.
    y : Tensor
        ``targets`` of all rows.
    order : Generator
        Draws the batch order.
    """
    init_seed, order_seed, dropout_seed = derive_seeds(settings.seed)
    torch.manual_seed(dropout_seed)
    model = build(settings.model_config())
    assert isinstance(model, Classifier | Regressor)  # as for every stage of the guide
    init_weights(model.network, torch.Generator().manual_seed(init_seed))
    model.to(x.dtype)
    rings = torch.from_numpy(np.array(rings, dtype=np.int64))  # a copy, as arrays from pandas are read-only
    _fit_preparation(model, settings, x, rings, split)
    return model, targets(model, rings), torch.Generator().manual_seed(order_seed)


def targets(model: Classifier | Regressor, rings: Tensor) -> Tensor:
    """What the network itself is trained on.

    Parameters
    ----------
    model : Classifier or Regressor
        With fitted preparation.
    rings : Tensor [n], int64
        Number of rings of each row.

    Returns
    -------
    Tensor
        Of a classifier, classes [n], int64; of a regressor, rings [n, 1] in the dtype of the model, standardised if
        the settings say so.
    """
    if isinstance(model, Classifier):
        return torch.as_tensor(is_old(rings.numpy()))
    return (rings[:, None].to(model.target_mean.dtype) - model.target_mean) / model.target_scale


def _fit_preparation(
    model: Classifier | Regressor, settings: StageSettings, x: Tensor, rings: Tensor, split: Split
) -> None:
    """Fit everything that is not a weight, on the training rows."""
    model.prepare.fit(x[split.train])
    if isinstance(model, Regressor) and settings.standardize_target:
        train_rings = rings[split.train].double()
        scale = train_rings.std(correction=0)
        model.target_mean.copy_(train_rings.mean())
        if scale != 0:  # else it stays 1
            model.target_scale.copy_(scale)

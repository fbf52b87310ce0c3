"""What a model's predictions depend on: permutation importance and partial dependence."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from abalone.evaluation.scores import predict
from abalone.model.columns import FEATURES, MEASUREMENTS, SEXES, YEARS_BEFORE_FIRST_RING

REPEATS = 10  # shuffles per column
POINTS = 15  # values per measurement


def permutation_importance(
    losses: Callable[[Tensor], Mapping[str, float]], x: Tensor, seed: int = 0
) -> dict[str, dict[str, np.ndarray]]:
    """How much the losses of a model rise when one column is shuffled among the rows.

    Correlated columns, such as all of these that grow with the animal, stand in for one another: each of them alone
    looks less important than they are together.

    Source: Breiman (2001), Random Forests, section 10.

    Parameters
    ----------
    losses : callable
        Maps rows [n, 10] to numbers by name, each lower for better predictions of these rows.
    x : Tensor [n, 10]
        Rows that the model was not trained on.
    seed : int, default 0
        Seed of the shuffles.

    Returns
    -------
    dict of str to dict of str to ndarray [R]
        By loss and by column of the data file: its rise in each of ``REPEATS`` shuffles.
    """
    generator = np.random.default_rng(seed)
    orders = [torch.from_numpy(generator.permutation(len(x))) for _ in range(REPEATS)]
    before = losses(x)
    rises: dict[str, dict[str, np.ndarray]] = {name: {} for name in before}
    for column, places in _input_places().items():
        after = []
        for order in orders:
            shuffled = x.clone()
            shuffled[:, places] = x[order][:, places]
            after.append(losses(shuffled))
        for name, loss in before.items():
            rises[name][column] = np.array([each[name] - loss for each in after])
    return rises


def _input_places() -> dict[str, list[int]]:
    """Columns of the model input by column of the data file: sex is one column there and three here."""
    places = {"Sex": [FEATURES.index(sex) for sex in SEXES]}
    for name in MEASUREMENTS:
        places[name] = [FEATURES.index(name)]
    return places


def partial_dependence(model: nn.Module, x: Tensor) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Mean predicted age when one measurement is set to a value in all rows and the others stay as they are.

    Source: Friedman (2001), Greedy function approximation: a gradient boosting machine, section 8.2.

    Parameters
    ----------
    model : nn.Module
        A regressor in eval mode.
    x : Tensor [n, 10]
        Rows to average over.

    Returns
    -------
    dict of str to (ndarray [P], ndarray [P])
        By measurement: ``POINTS`` values between its 5th and 95th percentile, in the file's unit, and the mean
        predicted age in years.
    """
    curves = {}
    for name in MEASUREMENTS:
        place = FEATURES.index(name)
        values = np.quantile(x[:, place].numpy(), np.linspace(0.05, 0.95, POINTS))
        grid = x.repeat(POINTS, 1, 1)  # [P, n, 10]
        grid[:, :, place] = torch.from_numpy(values.astype(np.float32))[:, None]
        rings = predict(model, grid.flatten(0, 1)).reshape(POINTS, len(x))
        curves[name] = (values, rings.mean(axis=1) + YEARS_BEFORE_FIRST_RING)
    return curves

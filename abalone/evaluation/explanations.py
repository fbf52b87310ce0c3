"""What a model looks at: the loss of a column's information, and the course of a prediction along a measurement."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from abalone.evaluation.scores import predict
from abalone.model.columns import FEATURES, MEASUREMENTS, SEXES, YEARS_BEFORE_FIRST_RING

REPEATS = 10
POINTS = 15
# A column of the data file to its places in the input of every model; sex is one column there.
INPUT_PLACES = {"Sex": [FEATURES.index(sex) for sex in SEXES]} | {name: [FEATURES.index(name)] for name in MEASUREMENTS}


def permutation_importance(
    model: nn.Module, x: Tensor, loss: Callable[[np.ndarray], float], seed: int = 0
) -> dict[str, np.ndarray]:
    """How much worse a model becomes when one column is shuffled among the rows.

    Columns that say nearly the same (all of these grow with the animal) stand in for one another, so that each alone
    looks less important than they are together. Source: Breiman (2001), Random Forests, section 10.

    Parameters
    ----------
    model : nn.Module
    x : Tensor [n, 10]
        Rows that the model was not trained on.
    loss : callable
        Predictions [n] to a number that is lower for better ones.
    seed : int, default 0
        Of the shuffles.

    Returns
    -------
    dict of str to ndarray [repeats]
        Rise of the loss, by column of the data file.
    """
    draw = np.random.default_rng(seed)
    shuffles = [torch.from_numpy(draw.permutation(len(x))) for _ in range(REPEATS)]
    whole = loss(predict(model, x))
    rises = {}
    for name, places in INPUT_PLACES.items():
        shuffled = x.repeat(REPEATS, 1)
        for i, order in enumerate(shuffles):
            shuffled[i * len(x) : (i + 1) * len(x), places] = x[order][:, places]
        rises[name] = np.array([loss(part) - whole for part in np.split(predict(model, shuffled), REPEATS)])
    return rises


def partial_dependence(model: nn.Module, x: Tensor) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Mean predicted age when one measurement is set to a value in all rows, and the others stay as they are.

    Source: Friedman (2001), Greedy function approximation: a gradient boosting machine, section 8.2.

    Parameters
    ----------
    model : nn.Module
        A regressor.
    x : Tensor [n, 10]

    Returns
    -------
    dict of str to (ndarray [points], ndarray [points])
        By measurement: values between its 5th and 95th percentile, in the file's unit, and years.
    """
    found = {}
    for name in MEASUREMENTS:
        [place] = INPUT_PLACES[name]
        values = np.quantile(x[:, place].numpy(), np.linspace(0.05, 0.95, POINTS))
        grid = x.repeat(POINTS, 1)
        grid[:, place] = torch.from_numpy(values.astype(np.float32)).repeat_interleave(len(x))
        found[name] = values, predict(model, grid).reshape(POINTS, -1).mean(1) + YEARS_BEFORE_FIRST_RING
    return found

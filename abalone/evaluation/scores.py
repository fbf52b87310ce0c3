"""Honest scores: from probabilities or rings, beside a baseline, with an interval where two models are compared."""

from __future__ import annotations

import numpy as np

from abalone.data.labels import is_old
from abalone.settings import UserError

PREDICTED_AT_ONCE = 65_536


def predict(model, x) -> np.ndarray:
    """Predict with a model in eval mode.

    Parameters
    ----------
    model : nn.Module
        float32 ``[n, 10]`` to logits ``[n, 2]`` or rings ``[n, 1]``.
    x : Tensor [n, 10]

    Returns
    -------
    ndarray [n], float64
        Probability of Old, or rings.
    """
    import torch

    with torch.inference_mode():
        output = torch.cat([model(rows) for rows in x.split(PREDICTED_AT_ONCE)]).double()
    return (output[:, 0] if output.shape[1] == 1 else output.softmax(1)[:, 1]).numpy()


def scores(task: str, rings: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """Score predictions.

    Parameters
    ----------
    task : str
        classification or regression.
    rings : ndarray [n], int64
        The truth, in rings, for both tasks.
    predicted : ndarray [n]
        Probability of Old, or rings.

    Returns
    -------
    dict
        ``accuracy``, ``balanced_accuracy``, ``roc_auc``, ``log_loss`` (nats), ``brier``; or ``rmse`` and ``mae``
        (rings) and ``r2``.

    Raises
    ------
    UserError
        If a prediction is not finite.
    """
    from sklearn import metrics

    if bad := int((~np.isfinite(predicted)).sum()):
        raise UserError(f"{bad} of {len(predicted)} predictions are not finite; lower learning_rate")
    if task == "regression":
        return {
            "rmse": float(metrics.root_mean_squared_error(rings, predicted)),
            "mae": float(metrics.mean_absolute_error(rings, predicted)),
            "r2": float(metrics.r2_score(rings, predicted)),
        }
    old = is_old(rings)
    label = predicted >= 0.5
    return {
        "accuracy": float(metrics.accuracy_score(old, label)),
        "balanced_accuracy": float(metrics.balanced_accuracy_score(old, label)),
        "roc_auc": float(metrics.roc_auc_score(old, predicted)),
        "log_loss": float(metrics.log_loss(old, predicted, labels=[0, 1])),
        "brier": float(metrics.brier_score_loss(old, predicted)),
    }


def baseline(task: str, rings_train: np.ndarray, rings: np.ndarray) -> dict[str, float]:
    """The scores of knowing nothing but the training targets.

    A classifier's baseline answers the training rows' share of Old (so its label is their majority class), a
    regressor's their mean number of rings.
    """
    constant = is_old(rings_train).mean() if task == "classification" else rings_train.mean()
    return scores(task, rings, np.full(len(rings), float(constant)))


def paired_bootstrap(
    task: str, rings: np.ndarray, predicted_a: np.ndarray, predicted_b: np.ndarray, samples: int = 2000, seed: int = 0
) -> tuple[float, float, float]:
    """Difference a - b in the selection metric on the same rows, with its 95 % percentile interval.

    Source: Efron & Tibshirani (1993), An Introduction to the Bootstrap, chapter 13.

    Returns
    -------
    difference, low, high : float
        In nats (``log_loss``) or rings (``rmse``); negative where a is better.
    """
    losses = np.stack([_row_losses(task, rings, p) for p in (predicted_a, predicted_b)])  # [2, n]
    drawn = np.random.default_rng(seed).integers(0, len(rings), (samples, len(rings)))
    means = losses[:, drawn].mean(-1)  # [2, samples]
    point = losses.mean(-1)
    if task == "regression":
        means, point = np.sqrt(means), np.sqrt(point)
    low, high = np.percentile(means[0] - means[1], [2.5, 97.5])
    return float(point[0] - point[1]), float(low), float(high)


def _row_losses(task: str, rings: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    if task == "regression":
        return (predicted - rings) ** 2
    tiny = np.finfo(float).eps
    p = np.clip(predicted, tiny, 1 - tiny)
    return -np.log(np.where(is_old(rings) == 1, p, 1 - p))

"""Every model of the comparison, fitted on one split: what it predicts for the test rows, and how well."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from abalone.data.loading import LoadedData
from abalone.evaluation.distribution_scores import distribution_scores
from abalone.evaluation.scores import predict, scores
from abalone.model.columns import OLD_FROM_RINGS
from abalone.model.distribution import THRESHOLDS, mean_rings, median_rings, ring_interval, ring_shares
from abalone.model.features import Derive
from abalone.settings import STAGES, TASKS, load_settings
from abalone.training.fit import fit
from abalone.training.ring_ensemble import fit_rings
from abalone.training.torch_setup import cpu_settings

OURS = "rings"
DISTRIBUTION = "distribution"  # section of the models that predict the distribution of rings
FIXED = "CatBoost, fixed"
LINEAR = "logistic / ridge"
NGBOOST = "NGBoost, log-normal"
SLOW = ("RealMLP", "TabM")  # need the extra `peers`
BOOSTING_ROUNDS = 2000
COVERAGES = (0.8, 0.9)
INTERVAL_SHARES = np.arange(0.5, 0.995, 0.01)
AGE_PARTS = 5


@dataclass(frozen=True)
class Prediction:
    """What a model predicts for the test rows.

    Parameters
    ----------
    section : str
        A task, or ``DISTRIBUTION``.
    predicted : ndarray
        P(Old) or rings [n]; P(rings >= t) [n, 28] of a distribution.
    cpu : float
        CPU seconds of tuning and fitting.
    median : ndarray [n], optional
        Of a regressor that knows the distribution.
    """

    section: str
    predicted: np.ndarray
    cpu: float
    median: np.ndarray | None = None


@dataclass(frozen=True)
class PeerInputs:
    """What the peers see: the features of ``rings``, [n, 28], with rings [n] where a peer may know them.

    Parameters
    ----------
    train, val
        Standardised by the training rows.
    both
        Training and validation rows, in this order, standardised by themselves.
    test
        Inputs alone, standardised as ``both``.
    """

    train: tuple[np.ndarray, np.ndarray]
    val: tuple[np.ndarray, np.ndarray]
    both: tuple[np.ndarray, np.ndarray]
    test: np.ndarray


def derive_inputs(data: LoadedData) -> PeerInputs:
    """Derive the features of ``rings`` for the peers."""
    x = data.x
    rings = data.rings
    rows = data.split
    known = np.concatenate([rows.train, rows.val])
    with cpu_settings():
        for_tuning = Derive().fit(x[rows.train])
        for_refit = Derive().fit(x[known])
        return PeerInputs(
            train=(for_tuning(x[rows.train]).numpy(), rings[rows.train]),
            val=(for_tuning(x[rows.val]).numpy(), rings[rows.val]),
            both=(for_refit(x[known]).numpy(), rings[known]),
            test=for_refit(x[rows.test]).numpy(),
        )


@dataclass(frozen=True)
class Effort:
    """How much the models may train; less makes a test quick.

    Parameters
    ----------
    overrides : mapping
        Settings of ``rings`` and the stages that differ from their files.
    boosting_rounds : int
        Upper limit of the rounds of boosting that are chosen on validation rows.
    fits : int
        Number of fits of the fixed CatBoost.
    """

    overrides: Mapping[str, Any]
    boosting_rounds: int = BOOSTING_ROUNDS
    fits: int = 8


FULL_EFFORT = Effort({})


def models() -> list[str]:
    """Every model that takes little time, in the order in which they are measured."""
    from benchmarks.peers import PEERS

    return [OURS, NGBOOST, FIXED, *PEERS, *(f"`{stage}`" for stage in STAGES)]


def slow_models() -> list[str]:
    """The models of the extra ``peers``; none without it."""
    return list(SLOW) if importlib.util.find_spec("pytabkit") else []


def predictions(name: str, data: LoadedData, seed: int, effort: Effort = FULL_EFFORT) -> list[Prediction]:
    """Fit a model on the training and validation rows of one split and predict the test rows.

    Parameters
    ----------
    name : str
        One of ``models()`` or ``slow_models()``.
    data : LoadedData
        Rows and split.
    seed : int
        Seed of the model.
    effort : Effort

    Returns
    -------
    list of Prediction
        One for each section in which the model appears.
    """
    if name == OURS:
        return _ours(data, {**effort.overrides, "seed": seed})
    if name.startswith("`"):
        return [_stage(name.strip("`"), data, {**effort.overrides, "seed": seed})]
    inputs = derive_inputs(data)
    if name == NGBOOST:
        from benchmarks.fixed_peers import fit_ngboost

        arguments = (inputs.train, inputs.val, inputs.both, seed, effort.boosting_rounds)
        model, cpu = timed(fit_ngboost, *arguments)
        return _from_distribution(torch.from_numpy(model(inputs.test)), cpu)
    return [_peer(name, task, inputs, seed, effort) for task in TASKS]


def _ours(data: LoadedData, given: Mapping[str, Any]) -> list[Prediction]:
    known = np.concatenate([data.split.train, data.split.val])
    (distribution, _), cpu = timed(fit_rings, load_settings(OURS, given), data.x, data.rings, known)
    with torch.inference_mode():
        return _from_distribution(distribution(data.x[data.split.test]).double(), cpu)


def _from_distribution(probabilities: torch.Tensor, cpu: float) -> list[Prediction]:
    """The three answers of P(rings >= t) [n, 28]."""
    old = probabilities[:, THRESHOLDS.index(OLD_FROM_RINGS)]
    median = median_rings(probabilities)
    return [
        Prediction("classification", old.numpy(), cpu),
        Prediction("regression", mean_rings(probabilities).numpy(), cpu, median.numpy()),
        Prediction(DISTRIBUTION, probabilities.numpy(), cpu),
    ]


def _stage(stage: str, data: LoadedData, given: Mapping[str, Any]) -> Prediction:
    settings = load_settings(stage, given)
    (model, _), cpu = timed(fit, settings, data.x, data.rings, data.split)
    return Prediction(settings.task, predict(model, data.x[data.split.test]), cpu)


def _peer(name: str, task: str, inputs: PeerInputs, seed: int, effort: Effort) -> Prediction:
    from benchmarks.fixed_peers import fit_fixed_catboost, fit_pytabkit
    from benchmarks.peers import fit_peer

    if name == FIXED:
        model, cpu = timed(fit_fixed_catboost, task, inputs.both, seed, effort.fits)
    elif name in SLOW:
        model, cpu = timed(fit_pytabkit, name, task, inputs.both, seed)
    else:
        arguments = (inputs.train, inputs.val, inputs.both, seed, effort.boosting_rounds)
        model, cpu = timed(fit_peer, name, task, *arguments)
    return Prediction(task, model(inputs.test), cpu)


def timed(work: Callable, *arguments: Any) -> tuple[Any, float]:
    """What ``work`` returns, and its CPU seconds."""
    start = time.process_time()
    result = work(*arguments)
    return result, time.process_time() - start


def score(prediction: Prediction, rings: np.ndarray) -> dict[str, float]:
    """Score a prediction: as ``scores`` does, or by ``score_distribution``."""
    if prediction.section == DISTRIBUTION:
        return score_distribution(torch.from_numpy(prediction.predicted), rings)
    found = scores(prediction.section, rings, prediction.predicted, prediction.median)
    if prediction.median is not None:
        found["mae_of_mean"] = scores(prediction.section, rings, prediction.predicted)["mae"]
    return found


def score_distribution(probabilities: torch.Tensor, rings: np.ndarray) -> dict[str, float]:
    """Score a distribution.

    Parameters
    ----------
    probabilities : Tensor [n, 28], float64
        P(rings >= t).
    rings : ndarray [n], int64
        The truth.

    Returns
    -------
    dict
        ``ring_log_score`` (nats); ``crps`` (rings); ``width_80`` and ``width_90``, the mean width in rings of intervals
        that cover 80 and 90 % of these rows; ``coverage``, of the intervals that a model of ``rings`` answers with, and
        ``coverage_1`` to ``coverage_5``, the same by fifth of the predicted number of rings.
    """
    found = distribution_scores(ring_shares(probabilities).numpy(), rings)
    coverages = []
    widths = []
    for share in INTERVAL_SHARES:
        held, width = _interval(probabilities, rings, share)
        coverages.append(held.mean())
        widths.append(width)
    for coverage in COVERAGES:
        found[f"width_{coverage:.0%}".rstrip("%")] = float(np.interp(coverage, coverages, widths))
    low, high = ring_interval(probabilities)
    held = (low.numpy() <= rings) & (rings <= high.numpy())
    found["coverage"] = float(held.mean())
    by_age = np.argsort(mean_rings(probabilities).numpy(), kind="stable")
    for part, rows in enumerate(np.array_split(by_age, AGE_PARTS), start=1):
        found[f"coverage_{part}"] = float(held[rows].mean())
    return found


def _interval(probabilities: torch.Tensor, rings: np.ndarray, share: float) -> tuple[np.ndarray, float]:
    """Whether each row is within its interval, and the mean width of the intervals."""
    low, high = ring_interval(probabilities, share)
    held = (low.numpy() <= rings) & (rings <= high.numpy())
    return held, float((high - low).double().mean())

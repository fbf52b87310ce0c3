"""Scores of a champion's answers, of new rows or of its own test rows, and the noise in them."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import numpy as np
import pandas as pd

from abalone.data.labels import is_old
from abalone.evaluation.bootstrap import bootstrap_scores
from abalone.evaluation.calibration import calibration_error
from abalone.evaluation.distribution_scores import row_distribution_scores
from abalone.evaluation.scores import scores
from abalone.model.columns import DISTRIBUTION_OUTPUTS, MEDIAN_OUTPUT
from abalone.settings import ANSWER_COLUMNS

FEWEST_ROWS = 30  # percentile intervals from fewer rows are too short


def measure(task: str, rings: np.ndarray, answers: pd.DataFrame) -> dict[str, float]:
    """Compute all scores that are defined on the rows.

    Parameters
    ----------
    task : str
        classification or regression.
    rings : ndarray [n], int64
        The truth.
    answers : DataFrame [n, ...]
        Columns of a logged model's answer, at least that of ``ANSWER_COLUMNS``.
    """
    if not len(rings):
        return {}
    measured = _quiet_scores(task, rings, answers[ANSWER_COLUMNS[task]].to_numpy())
    for name, values in _row_scores(task, rings, answers).items():
        measured[name] = float(values.mean())
    if task == "classification":  # without an interval: the resamples of a calibrated model are less calibrated
        measured["ece"] = calibration_error(is_old(rings), answers["probability_old"].to_numpy())
    return defined(measured)


def resample(task: str, rings: np.ndarray, answers: pd.DataFrame, seed: int = 0) -> dict[str, np.ndarray]:
    """Compute the scores on bootstrap samples of the rows.

    Parameters
    ----------
    task, rings, answers
        As for ``measure``.
    seed : int
        Seed of the samples; scores of two sets of rows are independent only with two seeds.

    Returns
    -------
    dict of name to ndarray [samples]
        Empty with fewer than ``FEWEST_ROWS`` rows.
    """
    if len(rings) < FEWEST_ROWS:
        return {}
    predicted = answers[ANSWER_COLUMNS[task]].to_numpy()
    return bootstrap_scores(task, rings, predicted, _row_scores(task, rings, answers), seed=seed)


def median_of(answers: pd.DataFrame) -> np.ndarray | None:
    """Median of the rings, if the champion answers with it."""
    return answers[MEDIAN_OUTPUT].to_numpy() if MEDIAN_OUTPUT in answers else None


def _row_scores(task: str, rings: np.ndarray, answers: pd.DataFrame) -> dict[str, np.ndarray]:
    """Scores that are means over the rows: the bias, and those of median, interval and distribution if answered."""
    values = {}
    if task == "regression":
        values["bias"] = answers["rings"].to_numpy() - rings
    if MEDIAN_OUTPUT in answers:  # as in the champion's own run, whose scores are what was promised
        values["mae"] = (answers[MEDIAN_OUTPUT] - rings).abs().to_numpy()
    if "rings_low" in answers:
        held = (answers["rings_low"] <= rings) & (rings <= answers["rings_high"])
        values["coverage80"] = held.to_numpy(dtype=np.float64)
    if DISTRIBUTION_OUTPUTS[0] in answers:
        values |= row_distribution_scores(answers[list(DISTRIBUTION_OUTPUTS)].to_numpy(), rings)
    return values


def _quiet_scores(task: str, rings: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """Scores, NaN where they are not defined, without scikit-learn's warning about it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return scores(task, rings, predicted)


def defined(values: Mapping[str, float]) -> dict[str, float]:
    """Leave out what is not finite."""
    return {name: value for name, value in values.items() if np.isfinite(value)}

"""What a study has found so far: counts, the best trial, a table of trials, importances of the settings."""

from __future__ import annotations

import warnings

import optuna
import pandas as pd
from optuna.trial import FrozenTrial, TrialState

from abalone.tuning.optuna_logging import quiet_optuna
from abalone.tuning.plan import Plan

DONE = (TrialState.COMPLETE, TrialState.PRUNED)


def count_trials(study: optuna.Study) -> int:
    """Count the trials that count towards a study's total."""
    return len(numbers_of_trials(study))


def numbers_of_trials(study: optuna.Study) -> list[int]:
    """Numbers of the trials that count towards a study's total, in ascending order.

    Those are the running, complete, pruned and diverged ones. Killed trials do not count, because their settings are
    tried again; nor do waiting ones.
    """
    numbers = []
    for trial in study.get_trials(deepcopy=False):
        has_diverged = "error" in trial.user_attrs
        if trial.state in (*DONE, TrialState.RUNNING) or has_diverged:
            numbers.append(trial.number)
    return numbers


def count_states(study: optuna.Study) -> dict[str, int]:
    """Count the trials that are ``complete``, ``pruned``, ``failed`` (diverged) and ``killed`` (and tried again)."""
    counts = {"complete": 0, "pruned": 0, "failed": 0, "killed": 0}
    for trial in study.get_trials(deepcopy=False):
        if trial.state == TrialState.COMPLETE:
            counts["complete"] += 1
        elif trial.state == TrialState.PRUNED:
            counts["pruned"] += 1
        elif trial.state == TrialState.FAIL and "error" in trial.user_attrs:
            counts["failed"] += 1
        elif trial.state == TrialState.FAIL and "surplus" not in trial.user_attrs:
            counts["killed"] += 1
    return counts


def best_trial(study: optuna.Study) -> FrozenTrial | None:
    """The best of the complete trials; None if no trial is complete."""
    if study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        return study.best_trial
    return None


def value_of(trial: FrozenTrial) -> float:
    """The value of a complete trial."""
    assert trial.value is not None
    return trial.value


def trials_table(study: optuna.Study, plan: Plan) -> pd.DataFrame:
    """One row per trial that was started, surplus ones left out.

    Returns
    -------
    DataFrame
        ``trial``, ``state``, ``epochs`` (NaN for failed and running trials), ``value`` (of a pruned trial the best it
        reached), ``is_base``, a column per searched setting, ``run_id``, and ``reason`` of a diverged trial.
    """
    rows = []
    for trial in study.get_trials(deepcopy=False):
        if trial.state == TrialState.WAITING or "surplus" in trial.user_attrs:
            continue
        row = {
            "trial": trial.number,
            "state": trial.state.name,
            "epochs": _epochs(trial, plan),
            "value": trial.value,
            "is_base": trial.params == plan.start(),
        }
        for name, value in trial.params.items():
            row[name] = plan.value(name, value)
        row["run_id"] = trial.user_attrs.get("run_id", "")
        row["reason"] = trial.user_attrs.get("error", "")
        rows.append(row)
    return pd.DataFrame(rows)


def setting_importances(study: optuna.Study) -> dict[str, float]:
    """Importance of each searched setting for the value of the complete trials.

    Returns
    -------
    dict
        Shares that add up to 1, largest first; empty if the trials are too few or too much alike to tell.

    Source: Watanabe et al. (2023), PED-ANOVA.
    """
    # Slow to import, and workers do not need it.
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    try:
        with quiet_optuna(), warnings.catch_warnings():
            # Optuna warns, and calls all settings equally important, where it cannot tell.
            warnings.simplefilter("error", UserWarning)
            return get_param_importances(study, evaluator=PedAnovaImportanceEvaluator())
    except (RuntimeError, ValueError, UserWarning):
        return {}


def _epochs(trial: FrozenTrial, plan: Plan) -> int | None:
    """Epochs that a trial was trained for, if it has a result."""
    if trial.state == TrialState.COMPLETE:
        return plan.settings.epochs
    if trial.state == TrialState.PRUNED:
        return trial.last_step
    return None

"""Trials that end without a result, because they were interrupted or their process was killed.

Optuna and MLflow both record them as FAILED. They do not count towards the study's total, and their settings are
requeued. Each trial records the process that works on it, so that a later process can find the dead ones. (Optuna's
heartbeats do this only for database storages under ``optimize``.)
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

import optuna
from mlflow.exceptions import MlflowException
from optuna.trial import FrozenTrial, TrialState

from abalone.tracking.processes import may_live
from abalone.tracking.signals import defer_signals
from abalone.tuning.trial_runs import close_trial

GRACE = timedelta(seconds=2)  # by then a process has recorded itself in a trial that it asked for


def fail_trial(study: optuna.Study, number: int, point: Mapping[str, Any], run_id: str, reason: str) -> None:
    """Fail an interrupted trial and requeue its settings.

    Parameters
    ----------
    study : optuna.Study
    number : int
        Number of the trial.
    point : mapping
        Its point of the space; empty if it was not known yet.
    run_id : str
        Id of its MLflow run; "" if there is none yet.
    reason : str
        Becomes the tag ``error`` of the run.
    """
    if run_id:
        with suppress(MlflowException):  # the run was deleted meanwhile
            close_trial(run_id, "FAILED", tags={"error": reason})
    study.tell(number, state=TrialState.FAIL, skip_if_finished=True)
    if point:
        study.enqueue_trial(dict(point))


@defer_signals()
def fail_dead_trials(study: optuna.Study, grace: timedelta = GRACE) -> None:
    """Fail the running trials whose process has ended, and requeue their settings.

    Parameters
    ----------
    study : optuna.Study
    grace : timedelta, default 2 seconds
        Age up to which a trial that names no process is taken to be alive.
    """
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if _may_be_alive(trial, grace):
            continue
        # While its parameters are being asked for one by one, a requeued trial holds all of them here.
        point = trial.params or trial.system_attrs.get("fixed_params", {})
        run_id = trial.user_attrs.get("run_id", "")
        fail_trial(study, trial.number, point, run_id, "the process was killed; marked FAILED by a later one")


def _may_be_alive(trial: FrozenTrial, grace: timedelta) -> bool:
    process = trial.user_attrs.get("process")
    if process:
        return may_live(process)
    return trial.datetime_start is not None and datetime.now() - trial.datetime_start < grace

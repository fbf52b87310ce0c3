"""Trials that end without a result, because they were interrupted or their process was killed.

Optuna and MLflow both record them as FAILED. They do not count towards the study's total, and their settings are
requeued, once: of several processes that find the same dead trial, the one whose FAIL Optuna accepts does so.

Each trial records the process that works on it, so that another process of the same machine can tell whether that one
still exists. Trials of other machines are failed when their heartbeats stop (``heartbeat.py``); a journal file has no
heartbeats, so there they are given up by hand (``release.py``).
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import optuna
from mlflow.exceptions import MlflowException
from optuna.exceptions import OptunaError, UpdateFinishedTrialError
from optuna.storages import fail_stale_trials
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import DBAPIError

from abalone.settings import UserError
from abalone.tracking.processes import PROCESS_TAG, may_live, on_this_machine, process_tags
from abalone.tracking.signals import defer_signals
from abalone.tuning import heartbeat
from abalone.tuning.optuna_logging import quiet_optuna
from abalone.tuning.trial_runs import close_trial

GRACE = timedelta(seconds=2)  # by then a process has recorded itself in a trial that it asked for
GRACE_OF_MACHINES = timedelta(seconds=heartbeat.GRACE)  # the same, where clocks may differ
KILLED = "the process was killed; marked FAILED by a later one"
LOST = f"nothing was heard of its machine for {heartbeat.GRACE} seconds; marked FAILED by another one"


def fail_trial(study: optuna.Study, number: int, point: Mapping[str, Any], run_id: str, reason: str) -> bool:
    """Fail an interrupted trial and requeue its settings; False if the trial had already ended.

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
    try:
        study.tell(number, state=TrialState.FAIL)
    except (ValueError, UpdateFinishedTrialError):  # another process was faster
        return False
    _requeue(study, point, run_id, reason)
    return True


def give_up_trial(study: optuna.Study, trial: FrozenTrial) -> None:
    """Requeue the settings of a trial that Optuna has failed because its heartbeats stopped, and end its run."""
    _requeue(study, point_of(trial), trial.user_attrs.get("run_id", ""), LOST)


def give_back(study: optuna.Study, trials: Mapping[optuna.Trial, str], reason: str) -> None:
    """Fail the trials that this process does not finish, as far as both stores can be reached; say what is left.

    Parameters
    ----------
    study : optuna.Study
    trials : mapping of Trial to str
        Ids of their runs; "" for a run that is not open yet.
    reason : str
        Becomes the tag ``error`` of the runs.
    """
    waiting = dict(trials)
    try:
        for trial in trials:
            fail_trial(study, trial.number, trial.params, "", reason)
            del waiting[trial]
    except (UserError, OptunaError, DBAPIError):
        _say(f"{len(waiting)} trials stay RUNNING: the storage does not answer. A later command tries them again.")
    open_runs = [run_id for run_id in trials.values() if run_id]
    try:
        while open_runs:
            _close_run(open_runs[0], reason)
            del open_runs[0]
    except (UserError, MlflowException):
        _say(
            f"{len(open_runs)} runs of trials stay RUNNING: the tracking store does not answer. "
            "The next command on this machine marks them FAILED."
        )


@defer_signals()
def fail_dead_trials(study: optuna.Study, grace: timedelta | None = None) -> None:
    """Fail the running trials whose process has ended or whose heartbeats have stopped, and requeue their settings.

    Parameters
    ----------
    study : optuna.Study
    grace : timedelta, optional
        Age up to which a trial that names no process is taken to be alive; by default two seconds, or a minute in a
        database, which other machines may use.
    """
    if grace is None:
        grace = GRACE_OF_MACHINES if heartbeat.has_heartbeats(study) else GRACE
    for trial in running_trials(study):
        if not _may_be_alive(trial, grace):
            fail_trial(study, trial.number, point_of(trial), trial.user_attrs.get("run_id", ""), KILLED)
    with quiet_optuna():
        fail_stale_trials(study)


def running_trials(study: optuna.Study) -> list[FrozenTrial]:
    """The trials that are being trained, or whose process was killed and not missed yet."""
    return study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))


def trials_of_others(study: optuna.Study) -> list[FrozenTrial]:
    """The running trials of other processes."""
    own = process_tags()
    return [trial for trial in running_trials(study) if trial.user_attrs.get("process") != own]


def unwatched(study: optuna.Study, trial: FrozenTrial) -> bool:
    """Whether nothing here can tell if a running trial is alive: it is of another machine and has no heartbeats."""
    process = trial.user_attrs.get("process")
    if not process:
        return False
    return not heartbeat.has_heartbeats(study) and not on_this_machine(process)


def point_of(trial: FrozenTrial) -> Mapping[str, Any]:
    """The point of the space of a trial; empty if it had none yet."""
    # While its parameters are being asked for one by one, a requeued trial holds all of them here.
    return trial.params or trial.system_attrs.get("fixed_params", {})


def host_of(trial: FrozenTrial) -> str:
    """Name of the machine that a trial is trained on; "" if it names no process yet."""
    return trial.user_attrs.get("process", {}).get(PROCESS_TAG, "").partition(" ")[0]


def holders(trials: Sequence[FrozenTrial]) -> str:
    """Which machines hold which trials, such as ``pod-1 (trials 16 to 31)``."""
    numbers: dict[str, list[int]] = {}
    for trial in trials:
        numbers.setdefault(host_of(trial) or "a process that has no name yet", []).append(trial.number)
    shown = []
    for host, held in sorted(numbers.items()):
        text = f"trial {held[0]}" if len(held) == 1 else f"{len(held)} trials, {held[0]} to {held[-1]}"
        shown.append(f"{host} ({text})")
    return ", ".join(shown)


def _requeue(study: optuna.Study, point: Mapping[str, Any], run_id: str, reason: str) -> None:
    if point:
        study.enqueue_trial(dict(point))
    if run_id:
        _close_run(run_id, reason)


def _close_run(run_id: str, reason: str) -> None:
    try:
        close_trial(run_id, "FAILED", tags={"error": reason})
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE", "INVALID_STATE"):
            raise  # otherwise the run was deleted meanwhile


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _may_be_alive(trial: FrozenTrial, grace: timedelta) -> bool:
    process = trial.user_attrs.get("process")
    if process:
        return may_live(process)
    return trial.datetime_start is not None and datetime.now() - trial.datetime_start < grace

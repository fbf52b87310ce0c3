"""The Optuna study: settings asked for in batches, trained as one population, pruned together, told back.

The study lives in Optuna's storage, trial by trial, and every trial is a run of MLflow; either may be read while the
other half is lost. Whoever opens a study that was killed finds its unfinished trials by the processes that ran them.
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from multiprocessing import get_context
from typing import Any

import numpy as np
import optuna
from mlflow.exceptions import MlflowException
from optuna.trial import TrialState

from abalone.data.reading import read
from abalone.data.splitting import split
from abalone.evaluation.scores import predict, scores
from abalone.model.features import encode
from abalone.settings import SELECTION, UserError
from abalone.tracking.processes import may_live, process_tags
from abalone.tracking.signals import defer_signals, ignore_ctrl_c
from abalone.training.history import TrainingDiverged
from abalone.training.population import fit_many
from abalone.tuning.plan import Plan
from abalone.tuning.pruning import Pruning
from abalone.tuning.results import count_trials
from abalone.tuning.storage import open_study, quiet
from abalone.tuning.trial_runs import close_trial, open_trials

BATCH = 16
SCORE_CURVES = {"classification": "accuracy/val", "regression": "rmse/val"}  # beside the losses
SPAWN = get_context("spawn")
SAYING_WHO = timedelta(seconds=2)  # by then a trial's process has written down which it is


@dataclass(frozen=True)
class Limits:
    """When a study ends, and what works on it.

    Parameters
    ----------
    trials : int
        In all, with those that the study has already.
    timeout : float
        Seconds after which no batch is begun but the first (of each worker); 0 for none.
    workers : int
        Processes.
    """

    trials: int
    timeout: float = 0.0
    workers: int = 1


def search(
    study: optuna.Study,
    plan: Plan,
    storage: str,
    run_id: str,
    limits: Limits,
    progress: Callable[[optuna.Study], None],
) -> None:
    """Work on a study until it has its trials.

    Parameters
    ----------
    study, plan, storage
        As ``open_study`` gives and takes them.
    run_id : str
        The study's own run, parent of the runs of its trials.
    limits : Limits
        When to end.
    progress : callable
        Called after every batch.

    Raises
    ------
    UserError
        If a worker fails.
    """
    with quiet():
        fail_dead_trials(study)
        deadline = time.monotonic() + (limits.timeout or math.inf)
        while (left := limits.trials - count_trials(study)) > 0:
            if limits.workers > 1:
                _share_out(study, plan, storage, run_id, limits, deadline, progress)
            else:
                _work(study, plan, run_id, limits.trials, left, deadline, progress)
            if time.monotonic() > deadline:
                break


def _share_out(study, plan, storage, run_id, limits: Limits, deadline: float, progress) -> None:
    """Give each worker process its share of the trials, and wait for all of them."""
    left = range(limits.trials - count_trials(study))
    shares = [len(part) for part in np.array_split(left, limits.workers) if len(part)]
    fixed = (plan, study.study_name, storage, run_id, limits.trials, deadline - time.monotonic())
    processes = [SPAWN.Process(target=_worker, args=(*fixed, i, share)) for i, share in enumerate(shares)]
    try:
        with ignore_ctrl_c():  # while they import, in which they could only leave a traceback
            for process in processes:
                process.start()
        while any(process.is_alive() for process in processes):
            next((p for p in processes if p.is_alive()), processes[0]).join(0.5)
            progress(study)
        if failed := [process.exitcode for process in processes if process.exitcode]:
            raise UserError(f"{len(failed)} of {len(processes)} workers failed, with exit status {failed[0]}")
    finally:
        with defer_signals():
            _end(processes)
            fail_dead_trials(study)


def _end(processes: Sequence[Any]) -> None:
    """Wait a moment for those that Ctrl-C in a terminal has reached too, then end the others."""
    deadline = time.monotonic() + 2
    for process in processes:
        if process.is_alive():
            process.join(max(0.0, deadline - time.monotonic()))
    for process in processes:
        if process.is_alive():
            process.terminate()
            process.join()


def _worker(
    plan: Plan, name: str, storage: str, run_id: str, total: int, seconds: float, place: int, share: int
) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    with quiet(), suppress(KeyboardInterrupt):
        study = open_study(plan, name, storage, sampler=place)
        _work(study, plan, run_id, total, share, time.monotonic() + seconds, lambda study: None)


def _work(study, plan: Plan, run_id: str, total: int, share: int, deadline: float, progress) -> None:
    """Batch after batch; looks before each what others, perhaps on other machines, have done meanwhile."""
    dataset = read(plan.settings.data)
    rows = split(dataset, plan.settings.seed)
    rows = replace(rows, test=rows.test[:0])  # what is not there cannot steer anything
    data = encode(dataset.frame), dataset.frame["Rings"].to_numpy(), rows
    while (size := min(BATCH, share, total - count_trials(study))) > 0:
        run_batch(study, plan, data, run_id, size, total)
        share -= size
        progress(study)
        if time.monotonic() > deadline:  # looked at here, so that a study with little time has something to show
            break


def run_batch(study: optuna.Study, plan: Plan, data: Sequence[Any], run_id: str, size: int, total: int) -> None:
    """Ask for ``size`` trials, train them together, tell what came out; whatever is left undone has failed.

    A signal ends the training at once, but waits while the study and the runs are written.
    """
    undone: dict[optuna.Trial, str] = {}
    try:
        with defer_signals():
            _ask(study, plan, run_id, size, total, undone)
        trials = list(undone)
        pruning = Pruning(study, plan, trials)
        results = fit_many([plan.at(t.params) for t in trials], *data, stop=pruning)
        with defer_signals():
            for place, (trial, result) in enumerate(zip(trials, results)):
                _tell(study, plan, data, trial, undone[trial], result, place in pruning.pruned)
                del undone[trial]
    except BaseException as error:
        with defer_signals():
            for trial, trial_run in undone.items():
                _fail_trial(study, trial.number, trial.params, trial_run, f"ended by {type(error).__name__}")
        raise


def _ask(study: optuna.Study, plan: Plan, run_id: str, size: int, total: int, undone: dict) -> None:
    """Put ``size`` trials, or as many as are still wanted, and the ids of their runs into ``undone``."""
    for _ in range(size):
        trial = study.ask(plan.distributions())
        undone[trial] = ""
        trial.set_user_attr("process", process_tags())
        if count_trials(study, before=trial.number) >= total:  # others have asked for the last ones meanwhile
            trial.set_user_attr("surplus", True)
            study.tell(trial, state=TrialState.FAIL)
            del undone[trial]
            break
    trials = list(undone)
    for trial, trial_run in zip(trials, open_trials(run_id, study.study_name, [t.number for t in trials])):
        undone[trial] = trial_run
        trial.set_user_attr("run_id", trial_run)


def _tell(study, plan: Plan, data: Sequence[Any], trial, trial_run: str, result: Any, pruned: bool) -> None:
    """First MLflow, then Optuna: a trial that Optuna knows as done has a whole run, whenever the process is killed."""
    params = plan.at(trial.params).as_text()
    if isinstance(result, TrainingDiverged):
        close_trial(trial_run, "FAILED", params, _trial_curves(plan, result.curves), tags={"error": str(result)})
        trial.set_user_attr("error", str(result))
        study.tell(trial, state=TrialState.FAIL, skip_if_finished=True)
        return
    model, history = result
    x, rings, rows = data
    final = scores(plan.task, rings[rows.val], predict(model, x[rows.val]))
    named = {f"{name}/val": value for name, value in final.items()} | {"best_epoch": history.best_epoch}
    epoch = len(history.metrics["loss/val"])
    status, tags = ("KILLED", {"pruned": f"after epoch {epoch}"}) if pruned else ("FINISHED", {})
    close_trial(trial_run, status, params, _trial_curves(plan, history.metrics), named, tags)
    if pruned:
        study.tell(trial, state=TrialState.PRUNED, skip_if_finished=True)
    else:
        study.tell(trial, final[SELECTION[plan.task]], skip_if_finished=True)


def _trial_curves(plan: Plan, metrics: Mapping[str, Sequence[float]]) -> dict[str, Sequence[float]]:
    return {name: metrics[name] for name in ("loss/train", "loss/val", SCORE_CURVES[plan.task]) if name in metrics}


def _fail_trial(study: optuna.Study, number: int, point: Mapping[str, Any], trial_run: str, reason: str) -> None:
    """A trial that was not to blame: it has failed, and its settings will be tried again."""
    if trial_run:
        with suppress(MlflowException):  # somebody has deleted the run
            close_trial(trial_run, "FAILED", tags={"error": reason})
    study.tell(number, state=TrialState.FAIL, skip_if_finished=True)
    if point:
        study.enqueue_trial(dict(point))


@defer_signals()
def fail_dead_trials(study: optuna.Study) -> None:
    """Fail the trials, and their runs, of processes that are no more."""
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        process = trial.user_attrs.get("process")
        young = datetime.now() - trial.datetime_start < SAYING_WHO
        if not (may_live(process) if process else young):
            trial_run = trial.user_attrs.get("run_id", "")
            # What it was to try stands elsewhere until all of it has been asked for.
            point = trial.params or trial.system_attrs.get("fixed_params", {})
            _fail_trial(study, trial.number, point, trial_run, "the process was killed; marked by a later one")

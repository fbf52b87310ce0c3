"""The Optuna study: settings asked for in batches, trained as one population, pruned together, told back.

The study lives in Optuna's storage, trial by trial, and every trial is a run of MLflow; either may be read while the
other half is lost. Whoever opens a study that was killed finds its unfinished trials by the processes that ran them.
"""

from __future__ import annotations

import math
import signal
import time
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from multiprocessing import get_context, parent_process
from typing import Any

import numpy as np
import optuna
import pandas as pd
from mlflow.exceptions import MlflowException
from optuna.trial import FrozenTrial, TrialState

from abalone import trial_runs
from abalone.config import UserError
from abalone.dataset import read, split
from abalone.evaluation import SELECTION, predict, scores
from abalone.features import encode
from abalone.population import fit_many
from abalone.processes import may_live, process_tags
from abalone.signals import ctrl_c_ignored, signals_held
from abalone.studies import Plan, open_study, quiet
from abalone.training import TrainingDiverged

BATCH = 16
RUNGS = (0.2, 0.4, 0.6)  # shares of the epochs after which the worse half of the trials ends
ENOUGH = 5  # trials that a median is taken of
DONE = (TrialState.COMPLETE, TrialState.PRUNED)
CURVES = {"classification": "accuracy/val", "regression": "rmse/val"}  # beside the losses
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
        _abandon_dead(study)
        deadline = time.monotonic() + (limits.timeout or math.inf)
        while (left := limits.trials - counted(study)) > 0:
            if limits.workers > 1:
                _share_out(study, plan, storage, run_id, limits, deadline, progress)
            else:
                _work(study, plan, run_id, limits.trials, left, deadline, progress)
            if time.monotonic() > deadline:
                break


def counted(study: optuna.Study, before: float = math.inf) -> int:
    """Trials (with a number below ``before``) that count: not those killed, nor those that wait to be tried again."""
    trials = study.get_trials(deepcopy=False)
    counts = (t.state in (*DONE, TrialState.RUNNING) or "error" in t.user_attrs for t in trials if t.number < before)
    return sum(counts)


def _share_out(study, plan, storage, run_id, limits: Limits, deadline: float, progress) -> None:
    """Give each worker process its share of the trials, and wait for all of them."""
    left = range(limits.trials - counted(study))
    shares = [len(part) for part in np.array_split(left, limits.workers) if len(part)]
    fixed = (plan, study.study_name, storage, run_id, limits.trials, deadline - time.monotonic())
    processes = [SPAWN.Process(target=_worker, args=(*fixed, i, share)) for i, share in enumerate(shares)]
    try:
        with ctrl_c_ignored():  # while they import, in which they could only leave a traceback
            for process in processes:
                process.start()
        while any(process.is_alive() for process in processes):
            next((p for p in processes if p.is_alive()), processes[0]).join(0.5)
            progress(study)
        if failed := [process.exitcode for process in processes if process.exitcode]:
            raise UserError(f"{len(failed)} of {len(processes)} workers failed, with exit status {failed[0]}")
    finally:
        with signals_held():
            _end(processes)
            _abandon_dead(study)


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
    dataset = read(plan.experiment.data)
    rows = split(dataset, plan.experiment.seed)
    rows = replace(rows, test=rows.test[:0])  # what is not there cannot steer anything
    data = encode(dataset.frame), dataset.frame["Rings"].to_numpy(), rows
    while (size := min(BATCH, share, total - counted(study))) > 0:
        _batch(study, plan, data, run_id, size, total)
        share -= size
        progress(study)
        if time.monotonic() > deadline:  # looked at here, so that a study with little time has something to show
            break


def _batch(study: optuna.Study, plan: Plan, data: Sequence[Any], run_id: str, size: int, total: int) -> None:
    """Ask for ``size`` trials, train them together, tell what came out; whatever is left undone has failed.

    A signal ends the training at once, but waits while the study and the runs are written.
    """
    undone: dict[optuna.Trial, str] = {}
    try:
        with signals_held():
            _ask(study, plan, run_id, size, total, undone)
        trials = list(undone)
        pruning = Pruning(study, plan, trials)
        results = fit_many([plan.at(t.params) for t in trials], *data, stop=pruning)
        with signals_held():
            for place, (trial, result) in enumerate(zip(trials, results)):
                _tell(study, plan, data, trial, undone[trial], result, place in pruning.pruned)
                del undone[trial]
    except BaseException as error:
        with signals_held():
            for trial, trial_run in undone.items():
                _abandon(study, trial.number, trial.params, trial_run, f"ended by {type(error).__name__}")
        raise


def _ask(study: optuna.Study, plan: Plan, run_id: str, size: int, total: int, undone: dict) -> None:
    """Put ``size`` trials, or as many as are still wanted, and the ids of their runs into ``undone``."""
    for _ in range(size):
        trial = study.ask(plan.distributions())
        undone[trial] = ""
        trial.set_user_attr("process", process_tags())
        if counted(study, before=trial.number) >= total:  # others have asked for the last ones meanwhile
            trial.set_user_attr("surplus", True)
            study.tell(trial, state=TrialState.FAIL)
            del undone[trial]
            break
    trials = list(undone)
    for trial, trial_run in zip(trials, trial_runs.open_trials(run_id, study.study_name, [t.number for t in trials])):
        undone[trial] = trial_run
        trial.set_user_attr("run_id", trial_run)


class Pruning:
    """Median pruning, of a whole batch at once: at each rung, whoever is worse than the median ends.

    The median is of the best values so far that all trials of the study, in this batch or before, had by that epoch;
    Optuna's own pruners compare a trial with those before it only. The base stage always goes on.

    Parameters
    ----------
    study, plan
        As for ``search``.
    trials : sequence of Trial, K
        The batch.
    """

    def __init__(self, study: optuna.Study, plan: Plan, trials: Sequence[optuna.Trial]):
        self.study, self.trials, self.pruned = study, trials, set()
        self.base = {k for k, trial in enumerate(trials) if trial.params == plan.start()}
        self.root = SELECTION[plan.task] == "rmse"  # its loss is the square
        self.rungs = {max(1, round(share * plan.experiment.epochs)) for share in RUNGS} - {plan.experiment.epochs}
        self.best = np.full(len(trials), np.inf)

    def __call__(self, epoch: int, losses: np.ndarray) -> set[int]:
        """Places of the trials that end; the form that ``fit_many`` wants."""
        if (parent := parent_process()) and not parent.is_alive():
            raise SystemExit("the process that gave the work is gone")
        self.best = np.fmin(self.best, np.sqrt(losses) if self.root else losses)
        if epoch not in self.rungs:
            return set()
        alive = np.flatnonzero(np.isfinite(losses))
        for place in alive:
            self.trials[place].report(self.best[place], epoch)
        known = [
            t.intermediate_values[epoch]
            for t in self.study.get_trials(deepcopy=False)
            if epoch in t.intermediate_values
        ]
        if len(known) < ENOUGH:
            return set()
        ends = {int(k) for k in alive if self.best[k] > np.median(known)} - self.base
        self.pruned |= ends
        return ends


def _tell(study, plan: Plan, data: Sequence[Any], trial, trial_run: str, result: Any, pruned: bool) -> None:
    """First MLflow, then Optuna: a trial that Optuna knows as done has a whole run, whenever the process is killed."""
    params = plan.at(trial.params).as_text()
    if isinstance(result, TrainingDiverged):
        trial_runs.close_trial(trial_run, "FAILED", params, _curves(plan, result.curves), tags={"error": str(result)})
        trial.set_user_attr("error", str(result))
        study.tell(trial, state=TrialState.FAIL, skip_if_finished=True)
        return
    model, history = result
    x, rings, rows = data
    final = scores(plan.task, rings[rows.val], predict(model, x[rows.val]))
    named = {f"{name}/val": value for name, value in final.items()} | {"best_epoch": history.best_epoch}
    epoch = len(history.metrics["loss/val"])
    status, tags = ("KILLED", {"pruned": f"after epoch {epoch}"}) if pruned else ("FINISHED", {})
    trial_runs.close_trial(trial_run, status, params, _curves(plan, history.metrics), named, tags)
    if pruned:
        study.tell(trial, state=TrialState.PRUNED, skip_if_finished=True)
    else:
        study.tell(trial, final[SELECTION[plan.task]], skip_if_finished=True)


def _curves(plan: Plan, metrics: Mapping[str, Sequence[float]]) -> dict[str, Sequence[float]]:
    return {name: metrics[name] for name in ("loss/train", "loss/val", CURVES[plan.task]) if name in metrics}


def _abandon(study: optuna.Study, number: int, point: Mapping[str, Any], trial_run: str, reason: str) -> None:
    """A trial that was not to blame: it has failed, and its settings will be tried again."""
    if trial_run:
        with suppress(MlflowException):  # somebody has deleted the run
            trial_runs.close_trial(trial_run, "FAILED", tags={"error": reason})
    study.tell(number, state=TrialState.FAIL, skip_if_finished=True)
    if point:
        study.enqueue_trial(dict(point))


@signals_held()
def _abandon_dead(study: optuna.Study) -> None:
    """Fail the trials, and their runs, of processes that are no more."""
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        process = trial.user_attrs.get("process")
        young = datetime.now() - trial.datetime_start < SAYING_WHO
        if not (may_live(process) if process else young):
            trial_run = trial.user_attrs.get("run_id", "")
            # What it was to try stands elsewhere until all of it has been asked for.
            point = trial.params or trial.system_attrs.get("fixed_params", {})
            _abandon(study, trial.number, point, trial_run, "the process was killed; marked by a later one")


def best(study: optuna.Study) -> FrozenTrial | None:
    """The best of the complete trials, if there is one."""
    done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return study.best_trial if done else None


def states(study: optuna.Study) -> dict[str, int]:
    """How many trials are ``complete``, ``pruned``, ``failed`` (diverged) and ``killed`` (and tried again)."""
    trials = study.get_trials(deepcopy=False)
    lost = [t for t in trials if t.state == TrialState.FAIL and "surplus" not in t.user_attrs]
    failed = Counter("error" in t.user_attrs for t in lost)
    count = Counter(t.state for t in trials)
    return {
        "complete": count[TrialState.COMPLETE],
        "pruned": count[TrialState.PRUNED],
        "failed": failed[True],
        "killed": failed[False],
    }


def table(study: optuna.Study, plan: Plan) -> pd.DataFrame:
    """One row per trial: number, state, epochs, value, the point of the space as a stage's settings, run, reason."""
    rows = []
    for t in study.get_trials(deepcopy=False):
        if t.state == TrialState.WAITING or "surplus" in t.user_attrs:
            continue
        last = {TrialState.COMPLETE: plan.experiment.epochs, TrialState.PRUNED: t.last_step}.get(t.state)
        about = {"trial": t.number, "state": t.state.name, "epochs": last, "value": t.value}
        about["is_base"] = t.params == plan.start()
        point = {name: plan.value(name, value) for name, value in t.params.items()}
        rows.append(
            {**about, **point, "run_id": t.user_attrs.get("run_id", ""), "reason": t.user_attrs.get("error", "")}
        )
    return pd.DataFrame(rows)


def importances(study: optuna.Study) -> dict[str, float]:
    """Share of each searched key in how the values of the complete trials differ; empty if these are too few or alike.

    Source: Watanabe et al. (2023), PED-ANOVA.
    """
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    try:
        with quiet(), warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # Optuna's, that it knows nothing and calls all equal
            return get_param_importances(study, evaluator=PedAnovaImportanceEvaluator())
    except (RuntimeError, ValueError, UserWarning):
        return {}

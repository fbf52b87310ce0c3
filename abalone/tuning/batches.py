"""Batches of trials: ask Optuna for settings, train them as one population, report the results.

A study lives in two places: Optuna's storage has the trials, MLflow has a run for each. Results go to MLflow first and
to Optuna second, so a trial that is finished in Optuna has a complete run, whenever the process is killed. Signals are
deferred while either is written; during training they interrupt at once.

Optuna's ``optimize`` runs one trial at a time, so its ask-and-tell interface is used instead.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing import parent_process
from typing import Any

import numpy as np
import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import TrialState

from abalone.data.loading import LoadedData, load_data
from abalone.evaluation.scores import predict, scores
from abalone.settings import SELECTION, StageSettings
from abalone.tracking.signals import defer_signals
from abalone.training.history import TrainingDiverged
from abalone.training.population import fit_many
from abalone.tuning.asking import ask
from abalone.tuning.dead_trials import give_back, running_trials
from abalone.tuning.heartbeat import heartbeats, record_heartbeat
from abalone.tuning.plan import Plan
from abalone.tuning.pruning import Pruning
from abalone.tuning.results import count_trials, numbers_of_trials
from abalone.tuning.retry import no_retries
from abalone.tuning.study_run import log_best_so_far
from abalone.tuning.trial_runs import close_trial, open_trials

BATCH = 16
LOGGED_CURVES = {
    "classification": ("loss/train", "loss/val", "accuracy/val"),
    "regression": ("loss/train", "loss/val", "rmse/val"),
}


@dataclass(frozen=True)
class Job:
    """What a process needs to know to work on a study.

    Parameters
    ----------
    plan : Plan
        What is studied.
    run_id : str
        Id of the study's MLflow run, parent of its trials' runs.
    trials : int
        Number of trials that the study is to have in all.
    train : callable, default fit_many
        Trains a batch; called as ``train(settings, x, rings, split, stop=pruning)``.
    """

    plan: Plan
    run_id: str
    trials: int
    train: Callable[..., list[Any]] = fit_many


def load_without_test(settings: StageSettings) -> LoadedData:
    """Load the rows that a study may see: its split has no test part, so that part cannot influence the search."""
    data = load_data(settings.data, settings.seed, settings.units, settings.target)
    no_test = replace(data.split, test=data.split.test[:0])
    return replace(data, split=no_test)


def run_batches(
    study: optuna.Study, job: Job, share: int, deadline: float, progress: Callable[[optuna.Study], None]
) -> None:
    """Work on a study batch by batch.

    Before each batch the trials are counted again, since other processes, perhaps on other machines, work on the
    study too.

    Parameters
    ----------
    study : optuna.Study
    job : Job
    share : int
        Largest number of trials to run here.
    deadline : float
        Value of ``time.monotonic()`` after which no further batch starts. The first one always runs, so that a study
        with little time has a result.
    progress : callable
        Called with the study after every batch.
    """
    data = load_without_test(job.plan.settings)
    while True:
        size = min(BATCH, share, job.trials - count_trials(study))
        if size <= 0:
            return
        run_batch(study, job, data, size)
        share -= size
        progress(study)
        if time.monotonic() > deadline:
            return


def run_batch(study: optuna.Study, job: Job, data: LoadedData, size: int) -> None:
    """Ask for trials, train them together and report the results.

    If anything interrupts this, trials without a result are failed and their settings requeued.

    Parameters
    ----------
    study : optuna.Study
    job : Job
    data : LoadedData
        As ``load_without_test`` returns it.
    size : int
        Number of trials.
    """
    pending: dict[optuna.Trial, str] = {}  # trials without a result, and the ids of their runs ("" before they open)
    try:
        with heartbeats(study, pending):
            _train_batch(study, job, data, size, pending)
    except BaseException as error:
        reason = f"interrupted by {type(error).__name__}"
        with defer_signals(), no_retries():
            give_back(study, pending, reason)
        raise


def _train_batch(study: optuna.Study, job: Job, data: LoadedData, size: int, pending: dict[optuna.Trial, str]) -> None:
    with defer_signals():
        _ask(study, job, size, pending)
    trials = list(pending)
    settings = [job.plan.at(trial.params) for trial in trials]
    pruning = Pruning(study, job.plan, trials)

    def stop(epoch: int, losses: np.ndarray) -> set[int]:
        _exit_if_orphaned()
        return pruning(epoch, losses)

    results = job.train(settings, data.x, data.rings, data.split, stop=stop)
    with defer_signals():
        lost = _drop_lost(study, pending)
        for place, (trial, result) in enumerate(zip(trials, results)):
            if trial not in lost:
                pruned_at = pruning.best[place] if place in pruning.pruned else None
                _report(study, job.plan, data, trial, pending[trial], result, pruned_at)
                del pending[trial]
        log_best_so_far(job.run_id, study, [trial.number for trial in trials if trial not in lost])


def _drop_lost(study: optuna.Study, pending: dict[optuna.Trial, str]) -> set[optuna.Trial]:
    """Drop from ``pending`` the trials that another process has given up because this one could not be heard.

    Their settings are tried again, so a second result must not be counted.
    """
    running = {trial.number for trial in running_trials(study)}
    lost = {trial for trial in pending if trial.number not in running}
    for trial in lost:
        del pending[trial]
    return lost


def _ask(study: optuna.Study, job: Job, size: int, pending: dict[optuna.Trial, str]) -> None:
    """Ask for up to ``size`` trials, open their runs, and add both to ``pending`` as they are created."""
    for trial in ask(study, job.plan.distributions(), size):
        pending[trial] = ""
        record_heartbeat(study, trial)
    # Processes that share a study may ask for its last trials at the same time. Trial numbers decide who keeps them, so
    # that the study ends with exactly as many as it should have.
    kept = set(numbers_of_trials(study)[: job.trials])
    for trial in list(pending):
        if trial.number not in kept:
            trial.set_user_attr("surplus", True)
            _tell(study, trial, TrialState.FAIL)
            del pending[trial]
    run_ids = open_trials(job.run_id, study.study_name, [trial.number for trial in pending])
    for trial, run_id in zip(list(pending), run_ids):
        pending[trial] = run_id
        trial.set_user_attr("run_id", run_id)


def _report(
    study: optuna.Study,
    plan: Plan,
    data: LoadedData,
    trial: optuna.Trial,
    run_id: str,
    result: Any,
    pruned_at: float | None,
) -> None:
    """Report the result of a trial, an item of what ``fit_many`` returns, to MLflow and then to Optuna.

    ``pruned_at`` is the value at which it was pruned, None for a trial that was not.
    """
    params = plan.at(trial.params).as_text()
    if isinstance(result, TrainingDiverged):
        reason = str(result)
        close_trial(run_id, "FAILED", params, _logged_curves(plan, result.curves), tags={"error": reason})
        trial.set_user_attr("error", reason)
        _tell(study, trial, TrialState.FAIL)
        return

    model, history = result
    val = data.split.val
    values = scores(plan.task, data.rings[val], predict(model, data.x[val]))
    final = {f"val/{name}": value for name, value in values.items()}
    final["best_epoch"] = history.best_epoch
    curves = _logged_curves(plan, history.metrics)
    if pruned_at is not None:
        epochs = len(history.metrics["loss/val"])
        close_trial(run_id, "KILLED", params, curves, final, tags={"pruned": f"after epoch {epochs}"})
        _tell(study, trial, TrialState.PRUNED, pruned_at)
    else:
        close_trial(run_id, "FINISHED", params, curves, final)
        _tell(study, trial, TrialState.COMPLETE, values[SELECTION[plan.task]])


def _tell(study: optuna.Study, trial: optuna.Trial, state: TrialState, value: float | None = None) -> None:
    """Tell Optuna the outcome of a trial; ``study.tell`` would read the trial first.

    A trial has already ended if another process has just given it up, or if this is the second attempt after the
    database broke off while it stored the first.
    """
    values = None if value is None else [float(value)]
    with suppress(UpdateFinishedTrialError):
        study._storage.set_trial_state_values(trial._trial_id, state, values)


def _logged_curves(plan: Plan, metrics: Mapping[str, Sequence[float]]) -> dict[str, Sequence[float]]:
    """The curves that a trial's run shows; a diverged training may lack some."""
    return {name: metrics[name] for name in LOGGED_CURVES[plan.task] if name in metrics}


def _exit_if_orphaned() -> None:
    """End a worker whose parent process was killed: nothing would wait for it or report its progress."""
    parent = parent_process()
    if parent is not None and not parent.is_alive():
        raise SystemExit("the process that started this worker has ended")

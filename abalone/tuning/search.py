"""The search: batches of trials, here or in worker processes, until the study has reached its limits."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import optuna

from abalone.training.population import fit_many
from abalone.tuning.batches import Job, run_batches
from abalone.tuning.dead_trials import fail_dead_trials
from abalone.tuning.optuna_logging import quiet_optuna
from abalone.tuning.plan import Plan
from abalone.tuning.results import count_trials
from abalone.tuning.waiting import Waiting
from abalone.tuning.workers import run_workers

POLL_SECONDS = 0.5


@dataclass(frozen=True)
class Limits:
    """When a study ends, and how many processes work on it.

    Parameters
    ----------
    trials : int
        Number of trials in all, those of earlier commands included.
    timeout : float, default 0
        Seconds after which no further batch starts; 0 for no limit. Every process runs at least one batch.
    workers : int, default 1
        Number of processes.
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
    say: Callable[[str], None] = print,
    train: Callable[..., list[Any]] = fit_many,
) -> None:
    """Run trials until the study has reached its limits and nobody else works on it.

    Parameters
    ----------
    study : optuna.Study
        As ``open_study`` returns it for ``plan`` and ``storage``.
    plan : Plan
        What is studied.
    storage : str
        Where the study is kept.
    run_id : str
        Id of the study's MLflow run, parent of its trials' runs.
    limits : Limits
        When to end.
    progress : callable
        Called with the study, at least after every batch.
    say : callable, default print
        Takes a line of progress.
    train : callable, default fit_many
        Trains a batch; see ``Job``.

    Raises
    ------
    UserError
        If a worker process fails.
    """
    job = Job(plan=plan, run_id=run_id, trials=limits.trials, train=train)
    deadline = math.inf
    if limits.timeout:
        deadline = time.monotonic() + limits.timeout
    waiting = Waiting(say)
    with quiet_optuna():
        fail_dead_trials(study)
        # Trials go missing again when another process that was running them is killed.
        while count_trials(study) < limits.trials or waiting.goes_on(study):
            if count_trials(study) >= limits.trials:
                time.sleep(POLL_SECONDS)
                fail_dead_trials(study)
            elif limits.workers > 1:
                run_workers(study, job, storage, limits.workers, deadline, progress)
            else:
                run_batches(study, job, limits.trials, deadline, progress)
            if time.monotonic() > deadline:
                break

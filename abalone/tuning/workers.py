"""Worker processes: each works on a share of a study's trials."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.process import BaseProcess

import optuna
from mlflow.exceptions import MlflowException

from abalone.settings import UserError
from abalone.tracking.locks import wait_for_locks
from abalone.tracking.plain_errors import explain
from abalone.tracking.reachable import set_client_defaults
from abalone.tracking.signals import defer_signals, ignore_ctrl_c, send_lost_signals_again
from abalone.tuning.batches import Job, run_batches
from abalone.tuning.dead_trials import fail_dead_trials
from abalone.tuning.optuna_logging import quiet_optuna
from abalone.tuning.results import count_trials
from abalone.tuning.retry import no_retries
from abalone.tuning.storage import open_study

SPAWN = get_context("spawn")
POLL_SECONDS = 0.5
STOP_SECONDS = 2.0  # for workers to end by themselves


def run_workers(
    study: optuna.Study,
    job: Job,
    storage: str,
    workers: int,
    deadline: float,
    progress: Callable[[optuna.Study], None],
) -> None:
    """Divide a study's remaining trials among worker processes, and wait for all of them.

    Parameters
    ----------
    study : optuna.Study
    job : Job
    storage : str
        Where the study is kept; each worker opens it for itself.
    workers : int
        Number of processes.
    deadline : float
        Value of ``time.monotonic()`` after which no further batch starts.
    progress : callable
        Called with the study about twice a second.

    Raises
    ------
    UserError
        If a worker fails, or all of them are killed.
    """
    shares = share_out(job.trials - count_trials(study), workers)
    seconds = deadline - time.monotonic()
    processes = []
    for index, share in enumerate(shares):
        arguments = (job, study.study_name, storage, index, share, seconds)
        processes.append(SPAWN.Process(target=_work, args=arguments))
    try:
        with ignore_ctrl_c():  # workers inherit it, so that Ctrl-C leaves no traceback while they import
            for process in processes:
                process.start()
        _wait(processes, study, progress)
        _check(processes)
    finally:
        with defer_signals():
            _stop(processes)
            with suppress(UserError), no_retries():  # the storage is away; a later command fails them
                fail_dead_trials(study)


def _check(processes: Sequence[BaseProcess]) -> None:
    """Raise if workers failed. The others make up for one that was killed, but not if all were."""
    failed = [process.exitcode for process in processes if process.exitcode]
    killed = [status for status in failed if status < 0]
    if len(failed) > len(killed) or len(killed) == len(processes):
        raise UserError(f"{len(failed)} of {len(processes)} workers failed, with exit status {failed[0]}")


def share_out(trials: int, workers: int) -> list[int]:
    """Divide trials among workers as evenly as possible; a worker without a trial gets no share."""
    each, remainder = divmod(trials, workers)
    shares = [each + 1] * remainder + [each] * (workers - remainder)
    return [share for share in shares if share > 0]


def _work(job: Job, study_name: str, storage: str, index: int, share: int, seconds: float) -> None:
    """Body of a worker process, which may work for ``seconds``."""
    set_client_defaults()
    wait_for_locks()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    send_lost_signals_again()
    with quiet_optuna(), suppress(KeyboardInterrupt):
        try:
            study = open_study(job.plan, study_name, storage, worker=index)
            run_batches(study, job, share, time.monotonic() + seconds, progress=_no_progress)
        except (UserError, MlflowException) as error:
            sys.exit(f"Worker {index}: {explain(error)}")


def _no_progress(study: optuna.Study) -> None:
    """Workers report nothing; their parent does."""


def _wait(processes: Sequence[BaseProcess], study: optuna.Study, progress: Callable[[optuna.Study], None]) -> None:
    """Report progress until all processes have ended."""
    running = [process for process in processes if process.is_alive()]
    while running:
        running[0].join(POLL_SECONDS)
        progress(study)
        running = [process for process in processes if process.is_alive()]


def _stop(processes: Sequence[BaseProcess]) -> None:
    """Wait for the processes to end by themselves, as after a terminal's Ctrl-C, and terminate those that do not."""
    deadline = time.monotonic() + STOP_SECONDS
    for process in processes:
        if process.is_alive():
            process.join(max(0.0, deadline - time.monotonic()))
    for process in processes:
        if process.is_alive():
            process.terminate()
            process.join()

"""``tune`` as a tracked run: a study, its trials as nested runs, and its winner as a run like that of any stage."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

import optuna
from mlflow import MlflowClient

from abalone.data.loading import load_data
from abalone.registry.splits import left_out_note
from abalone.settings import UserError
from abalone.stages.recorder import Result
from abalone.tracking.database import reach
from abalone.tracking.run_logging import log_params, log_tags
from abalone.tracking.runs import RunOptions, check_filing, experiment_id_of
from abalone.tracking.signals import defer_signals
from abalone.training.population import fit_many, require_trainable
from abalone.tuning.dead_trials import holders, trials_of_others
from abalone.tuning.pages import outcome
from abalone.tuning.plan import Plan
from abalone.tuning.progress import Progress
from abalone.tuning.results import best_trial, count_trials
from abalone.tuning.retry import no_retries, retry
from abalone.tuning.search import Limits, search
from abalone.tuning.shared_run import (
    CLOSED_TAG,
    closing,
    is_closed,
    may_close,
    refuse_study_of_another_storage,
    shared_run,
)
from abalone.tuning.storage import check_study, hide_password, open_study, storage_of
from abalone.tuning.study_run import log_study, public_storage
from abalone.tuning.trial_runs import fail_left_runs
from abalone.tuning.waiting import patience, what_is_lacking
from abalone.tuning.winner import find_winner, link_winner, train_winner

BASES = {"classification": "encode", "regression": "regress"}  # stage that a task's study starts from by default


@dataclass(frozen=True)
class Where:
    """Name of a study, and where Optuna keeps it.

    Parameters
    ----------
    study : str, default ""
        Name; "" for a new one.
    storage : str, default ""
        Path of a journal file, or URL of a database; "" for that of the variable ``ABALONE_STORAGE``, or else for
        ``studies.journal`` beside the tracking database.
    """

    study: str = ""
    storage: str = ""


def run_tune(
    plan: Plan, where: Where, limits: Limits, say: Callable[[str], None], options: RunOptions = RunOptions()
) -> Result | None:
    """Run or resume a study, and train its winner as a run that can be promoted.

    Parameters
    ----------
    plan : Plan
        What is studied.
    where : Where
        Name and storage of the study.
    limits : Limits
        When the study ends.
    say : callable
        Takes a line of progress.
    options : RunOptions
        Where the run is filed.

    Returns
    -------
    Result or None
        As for ``close_study``.

    Raises
    ------
    UserError
        If the data, the network, the storage, the study's name or the experiment cannot be used, before anything is
        written; or at the end, if no trial is complete.
    """
    data = load_data(plan.settings.data, plan.settings.seed, plan.settings.units, plan.settings.target)
    if data.dataset.understood:
        say(data.dataset.understood)
    require_trainable(plan.settings)
    reach()
    name = where.study or f"{plan.task}-{secrets.token_hex(3)}"
    storage = storage_of(where.storage)
    check_study(plan, name, storage)
    check_filing(options)
    if where.study:
        refuse_study_of_another_storage(name, storage, options.experiment_name)
    study = open_study(plan, name, storage)  # only now, because a study without a run would be left behind
    say(f"study {name} in {hide_password(storage)}")
    tags = {
        "stage": "tune",
        "study": name,
        "study.task": plan.task,
        "study.base": plan.base,
        "study.trials": str(limits.trials),
        "split": data.split.fingerprint,
        "storage": public_storage(storage),
    }
    with shared_run(study, f"tune {plan.task}", tags, options) as run_id:
        retry(log_params)(run_id, _params(plan, limits))
        run_study(run_id, study, plan, storage, limits, say)
        winner = close_study(run_id, study, plan, storage, limits, say, len(data.split.test))
        note = left_out_note(plan.task, experiment_id_of(run_id), data.split.fingerprint)
        if winner and note:
            say(note)
        return winner


def run_study(
    run_id: str,
    study: optuna.Study,
    plan: Plan,
    storage: str,
    limits: Limits,
    say: Callable[[str], None],
    train: Callable[..., list[Any]] = fit_many,
) -> None:
    """Run the trials of a study; if that is interrupted, log what it has found so far.

    Parameters
    ----------
    run_id : str
        Id of the study's run.
    study, plan, storage, limits, train
        As for ``search``.
    say : callable
        Takes a line of progress.
    """
    progress = Progress(plan, limits.trials, say, count_trials(study))
    try:
        search(study, plan, storage, run_id, limits, progress, say, train)
    except BaseException:
        with defer_signals(), no_retries(), suppress(Exception):  # a store that is away has its own error
            log_study(run_id, study, plan, storage)
            say(outcome(study, plan))
        raise
    finally:
        progress.close()


def close_study(
    run_id: str,
    study: optuna.Study,
    plan: Plan,
    storage: str,
    limits: Limits,
    say: Callable[[str], None],
    test_rows: int,
) -> Result | None:
    """Log what a finished study has found and train its winner, or wait for the process that does.

    Parameters
    ----------
    run_id : str
        Id of the study's run.
    study, plan, storage, limits
        As for ``search``.
    say : callable
        Takes a line of progress.
    test_rows : int
        Number of test rows of the study's split.

    Returns
    -------
    Result or None
        The winner. None if the time was up while other processes are at work: the last of them closes the study.

    Raises
    ------
    UserError
        If the study lacks trials, or none is complete.
    """
    others = trials_of_others(study)
    if limits.timeout and others:
        say(f"the time is up for this process; still at work: {holders(others)}. The last of them trains the winner.")
        return None
    problem = "" if limits.timeout else what_is_lacking(study, storage, limits.trials)
    if problem:
        log_study(run_id, study, plan, storage)
        raise UserError(problem)
    winner = None
    if best_trial(study):
        winner = wait_until_closed(run_id, study, test_rows)
    if winner is None:
        with closing(run_id):
            fail_left_runs(run_id)
            log_study(run_id, study, plan, storage)
            say(outcome(study, plan))
            winner = find_winner(run_id, study, test_rows) or train_winner(study, plan)
            link_winner(run_id, winner)
            log_tags(run_id, {CLOSED_TAG: str(count_trials(study))})
    return winner


def wait_until_closed(run_id: str, study: optuna.Study, test_rows: int) -> Result | None:
    """Wait while another process closes the study; return the winner, or None if this process is to close it."""
    trials = count_trials(study)
    for is_closer in may_close(run_id, trials, patience(study)):
        if is_closed(run_id, trials):
            winner = find_winner(run_id, study, test_rows)
            if winner:
                MlflowClient().set_terminated(run_id)
                return winner
        if is_closer:
            return None
    return None


def _params(plan: Plan, limits: Limits) -> dict[str, Any]:
    params = {**asdict(limits), "base": plan.base, "search": ",".join(plan.space)}
    settings = plan.settings.as_text()
    for name in ("seed", "epochs", "device", "data", "units", "target"):
        params[name] = settings[name]
    return params

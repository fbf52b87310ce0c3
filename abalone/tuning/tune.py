"""``tune`` as a tracked run: a study, its trials as nested runs, and its winner as a run like that of any stage."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import optuna

from abalone.data.loading import load_data
from abalone.registry.splits import left_out_note
from abalone.stages.recorder import Result
from abalone.tracking.database import beside_database, reach
from abalone.tracking.run_logging import log_params
from abalone.tracking.runs import RunOptions, experiment_id_of, tracked_run
from abalone.tracking.signals import defer_signals
from abalone.training.population import fit_many
from abalone.tuning.pages import outcome
from abalone.tuning.plan import Plan
from abalone.tuning.progress import Progress
from abalone.tuning.results import count_trials
from abalone.tuning.search import Limits, search
from abalone.tuning.storage import check_study, hide_password, open_study
from abalone.tuning.study_run import log_study
from abalone.tuning.trial_runs import adopt_trials
from abalone.tuning.winner import train_winner

BASES = {"classification": "encode", "regression": "regress"}  # stage that a task's study starts from by default
JOURNAL = "studies.journal"  # the default storage: 4 ms per trial, where SQLite takes some 90


@dataclass(frozen=True)
class Where:
    """Name of a study, and where Optuna keeps it.

    Parameters
    ----------
    study : str, default ""
        Name; "" for a new one.
    storage : str, default ""
        Path of a journal file, or URL of a database; "" for ``studies.journal`` beside the tracking database.
    """

    study: str = ""
    storage: str = ""


def run_tune(
    plan: Plan, where: Where, limits: Limits, say: Callable[[str], None], options: RunOptions = RunOptions()
) -> Result:
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
    Result
        Of the winner.

    Raises
    ------
    UserError
        If the data, the storage, the study's name or the experiment cannot be used, before anything is written; or at
        the end, if no trial is complete.
    """
    data = load_data(plan.settings.data, plan.settings.seed, plan.settings.units, plan.settings.target)
    if data.dataset.understood:
        say(data.dataset.understood)
    reach()
    name = where.study or f"{plan.task}-{secrets.token_hex(3)}"
    storage = where.storage or str(beside_database(JOURNAL))
    check_study(plan, name, storage)
    tags = {
        "stage": "tune",
        "study": name,
        "study.task": plan.task,
        "study.base": plan.base,
        "split": data.split.fingerprint,
    }
    with tracked_run(f"tune {plan.task}", tags, options) as run_id:
        study = open_study(plan, name, storage)  # only now, because a study without a run would be left behind
        say(f"study {name} in {hide_password(storage)}")
        log_params(run_id, _params(plan, limits))
        adopt_trials(run_id, name)
        run_study(run_id, study, plan, storage, limits, say)
        winner = train_winner(run_id, study, plan)
        note = left_out_note(plan.task, experiment_id_of(run_id), data.split.fingerprint)
        if note:
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
    """Run the trials of a study, and log what it has found, even if it is interrupted.

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
        search(study, plan, storage, run_id, limits, progress, train)
    finally:
        with defer_signals():
            progress.close()
            log_study(run_id, study, plan, storage)
            say(outcome(study, plan))


def _params(plan: Plan, limits: Limits) -> dict[str, Any]:
    params = {**asdict(limits), "base": plan.base, "search": ",".join(plan.space)}
    settings = plan.settings.as_text()
    for name in ("seed", "epochs", "device", "data", "units", "target"):
        params[name] = settings[name]
    return params

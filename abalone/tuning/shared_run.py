"""The one MLflow run of a study, on which any number of processes and machines work.

Whoever creates the study opens the run and records its id in the study; the others join it, and so does a command that
resumes the study. A process that leaves early ends the run only if nobody else is at work. When all trials are done,
one process closes the study: it logs what the study has found and trains the winner, and the others wait for that.

Optuna's storages and MLflow have no locks, but a parameter of an MLflow run can be written only once. The process whose
name is in it closes the study; if that process dies, the next parameter decides between those who are left.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import count

import mlflow
import optuna
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from abalone.settings import UserError
from abalone.tracking.addresses import link, run_path
from abalone.tracking.known_runs import experiment_id_of, find_run
from abalone.tracking.lookup import PARENT_TAG, find_experiment, study_runs
from abalone.tracking.plain_errors import explain
from abalone.tracking.processes import PROCESS_TAG, close_orphans, may_live, process_tags
from abalone.tracking.run_logging import DESCRIPTION_TAG, log_tags
from abalone.tracking.runs import MAX_ERROR_LENGTH, RunOptions, end_active_run, open_run
from abalone.tracking.signals import defer_signals
from abalone.tuning.dead_trials import trials_of_others, unwatched
from abalone.tuning.retry import no_retries, retry
from abalone.tuning.storage import CREATOR_ATTRIBUTE, STORAGE_VARIABLE, hide_password, study_exists

RUN_ATTRIBUTE = "run_id"  # user attribute of a study
OPENING_SECONDS = 20.0  # for the process that created a study to open its run
POLL_SECONDS = 0.5
WORKER_STAGE = "worker"
CLOSED_TAG = "study.closed"  # number of trials that the study had when it was closed


@contextmanager
def shared_run(study: optuna.Study, name: str, tags: Mapping[str, str], options: RunOptions) -> Iterator[str]:
    """Open the run of a study, or join it.

    Parameters
    ----------
    study : optuna.Study
    name : str
        Name of a new run if the user gave none.
    tags : mapping
        Tags of the run; ``stage`` and ``study`` among them.
    options : RunOptions
        Where a new run is filed.

    Yields
    ------
    str
        The run's id. The run is not MLflow's active one.
    """
    run_id = ""
    try:
        with defer_signals():  # a signal is raised at the end of this block, when the run is known
            run_id = _run_to_join(study)
            if run_id:
                _join(run_id, tags)
            else:
                run_id = open_run(name, tags, options)
                study.set_user_attr(RUN_ATTRIBUTE, run_id)
        yield run_id
    except (KeyboardInterrupt, SystemExit):
        _leave(study, run_id, "KILLED")
        raise
    except BaseException as error:
        _leave(study, run_id, "FAILED", f"{type(error).__name__}: {explain(error)}"[:MAX_ERROR_LENGTH])
        raise


def run_of(study: optuna.Study) -> Run | None:
    """The run of a study in this tracking store; None if it has none yet, or it was deleted."""
    run_id = study.user_attrs.get(RUN_ATTRIBUTE)
    if not run_id:
        return None
    run = find_run(run_id)
    return run if run and run.info.lifecycle_stage == "active" else None


def _run_to_join(study: optuna.Study) -> str:
    """Id of the run of a study; "" if this process is to open one."""
    deadline = time.monotonic() + OPENING_SECONDS
    while RUN_ATTRIBUTE not in study.user_attrs and time.monotonic() < deadline:
        creator = study.user_attrs.get(CREATOR_ATTRIBUTE)
        if not creator or creator == process_tags() or not may_live(creator):
            break
        time.sleep(POLL_SECONDS)
    run = run_of(study)
    return run.info.run_id if run else ""


def _join(run_id: str, tags: Mapping[str, str]) -> None:
    client = MlflowClient()
    client.update_run(run_id, status="RUNNING")
    log_tags(run_id, {**process_tags(), **tags})
    experiment_id = experiment_id_of(run_id)
    close_orphans(experiment_id, run_id)  # the winner's, if a process was killed while it trained it
    # ``mlflow run`` has opened a run for this command.
    own = os.environ.pop("MLFLOW_RUN_ID", "")
    if own and own != run_id:
        place = run_path(experiment_id, run_id)
        about_worker = {
            "stage": WORKER_STAGE,
            "study": tags["study"],
            "mlflow.runName": f"worker of study {tags['study']}",
            PARENT_TAG: run_id,
            DESCRIPTION_TAG: f"Worked on {link('the run of the study', place)}.",
        }
        log_tags(own, process_tags() | about_worker)


def _leave(study: optuna.Study, run_id: str, status: str, error: str = "") -> None:
    """End the run with a status, unless there is none yet, or other processes go on with the study."""
    if not run_id:
        return
    with defer_signals(), no_retries(), suppress(Exception):  # a store that is away; the next command ends the run
        if any(not unwatched(study, trial) for trial in trials_of_others(study)):
            return
        if error:
            log_tags(run_id, {"error": error})
        MlflowClient().set_terminated(run_id, status)


def refuse_study_of_another_storage(name: str, storage: str, experiment_name: str | None) -> None:
    """Raise if a new study would get the name of one that is kept in another storage.

    The two would look like one in MLflow. A default storage that all machines can reach is not an option: the address
    and the password of the server's database are not for its clients.

    Raises
    ------
    UserError
        Naming the storage.
    """
    experiment = find_experiment(experiment_name)
    if experiment is None or study_exists(name, storage):
        return
    for run in study_runs(experiment.experiment_id, limit=1000):
        if run.data.tags["study"] == name:
            tags = run.data.tags
            host = tags.get(PROCESS_TAG, "another machine").partition(" ")[0]
            place = tags.get("storage", "another storage")
            if "://" not in place:
                place = f"the file {place} on {host}"
            raise UserError(
                f"study {name!r} is kept in {place}, not in {hide_password(storage)}: continue it there, with "
                f"-P storage=... or the variable {STORAGE_VARIABLE}, or choose another name"
            )


def may_close(run_id: str, finished: int, patience: float) -> Iterator[bool]:
    """Ask again and again whether this process is the one that closes the study.

    Parameters
    ----------
    run_id : str
        Id of the study's run.
    finished : int
        Number of trials that are done; a study that is continued is closed again.
    patience : float
        Seconds to wait for a process of another machine.

    Yields
    ------
    bool
        True if this process is to close the study, now; False about twice a second while another one does.
    """
    for attempt in count(1):
        closer = _claim(run_id, f"closed_by.{finished}.{attempt}")
        deadline = time.monotonic() + patience
        yield closer == process_tags()[PROCESS_TAG]
        while time.monotonic() < deadline and may_live({PROCESS_TAG: closer}) and not _gave_up(run_id):
            time.sleep(POLL_SECONDS)
            yield False


def is_closed(run_id: str, finished: int) -> bool:
    """Whether a study with this number of trials has been closed."""
    return MlflowClient().get_run(run_id).data.tags.get(CLOSED_TAG) == str(finished)


def _claim(run_id: str, key: str) -> str:
    """Write this process into a parameter, unless another one is in it already; return the one that is in it."""
    client = MlflowClient()
    with suppress(MlflowException):
        retry(client.log_param)(run_id, key, process_tags()[PROCESS_TAG])
    return retry(client.get_run)(run_id).data.params[key]


def _gave_up(run_id: str) -> bool:
    return MlflowClient().get_run(run_id).info.status in ("FAILED", "KILLED")


@contextmanager
def closing(run_id: str) -> Iterator[None]:
    """Make a study's run MLflow's active one for a block, and end it as FINISHED after it."""
    run = MlflowClient().get_run(run_id)
    if "error" in run.data.tags:  # of a process that left while others went on
        MlflowClient().delete_tag(run_id, "error")
    mlflow.set_experiment(experiment_id=run.info.experiment_id)
    with mlflow.start_run(run_id=run_id, nested=True):
        try:
            yield
        except BaseException:
            end_active_run(run_id, "FAILED")
            raise

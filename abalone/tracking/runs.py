"""Open and end runs, find earlier ones, and say how to browse them."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Experiment, Run
from mlflow.exceptions import MlflowException

from abalone.settings import UserError
from abalone.tracking.addresses import full_address, run_path, runs_path
from abalone.tracking.database import create_experiment, prepare_database, settle_store
from abalone.tracking.experiments import refuse_deleted
from abalone.tracking.known_runs import experiment_id_of, find_run, known_run, remember
from abalone.tracking.markdown import escape
from abalone.tracking.plain_errors import explain
from abalone.tracking.processes import close_orphans, process_tags
from abalone.tracking.reachable import no_http_retries
from abalone.tracking.relocation import check_artifacts
from abalone.tracking.run_logging import DESCRIPTION_TAG, log_tags
from abalone.tracking.signals import defer_signals
from abalone.tracking.views import LEADERBOARDS, STAGES_VIEW, offer_views

EXPERIMENT_NAME = "abalone"
MAX_ERROR_LENGTH = 5000  # characters; MLflow's limit for a tag is 8000
MAX_ERROR_SHOWN = 1500  # on the page, where an escaped character takes up to five
# The UI folds children under their parent, except for a parent of a run of this type. Without it, the
# plain table of runs would show a newcomer the single line "main".
UNFOLDING_TAG = {"mlflow.runType": "evaluation"}


@dataclass(frozen=True)
class RunOptions:
    """Where a run is filed.

    Parameters
    ----------
    experiment_name : str, optional
        MLflow experiment; by default that of the environment, or ``abalone``.
    run_name : str, optional
        Name that the user gave the run.
    nested : bool
        Whether the run is a child of the active one.
    """

    experiment_name: str | None = None
    run_name: str | None = None
    nested: bool = False


@contextmanager
def tracked_run(name: str, tags: Mapping[str, str] | None = None, options: RunOptions = RunOptions()) -> Iterator[str]:
    """Open a run, or resume the one that ``mlflow run`` opened, and end it with its real status.

    An interruption ends it KILLED, any other exception FAILED, with the message in the tag ``error``.

    Parameters
    ----------
    name : str
        Name of the run if the user gave none.
    tags : mapping, optional
        Tags to set at once, so that a run that fails has them too.
    options : RunOptions
        Where the run is filed.

    Yields
    ------
    str
        The run's id.

    Raises
    ------
    UserError
        If ``MLFLOW_RUN_ID`` names a run that is not RUNNING, or files of the run would be written to a place that the
        user did not choose.
    """
    prepare_database()
    with _start(name, {**process_tags(), **(tags or {})}, options) as active:
        run_id = active.info.run_id
        try:
            if not options.nested:
                _tend_experiment(run_id)
            yield run_id
        except (KeyboardInterrupt, SystemExit):
            end_active_run(run_id, "KILLED")
            raise
        except BaseException as error:
            end_active_run(run_id, "FAILED", f"{type(error).__name__}: {explain(error)}"[:MAX_ERROR_LENGTH])
            raise


def end_active_run(run_id: str, status: str, error: str = "") -> None:
    """End a run for which an exception is on its way, which this never replaces.

    A store that is away is asked only once: the next command on this machine ends what is left.

    Parameters
    ----------
    run_id : str
        The run; it is left alone if it is not the active one any more.
    status : str
    error : str, default ""
        Tag ``error``, which the page of the run also says.
    """
    active = mlflow.active_run()
    if active is None or active.info.run_id != run_id:
        return
    with defer_signals(), no_http_retries(), suppress(MlflowException):
        try:
            if error:
                log_tags(run_id, {"error": error, DESCRIPTION_TAG: f"**Failed:** {escape(error[:MAX_ERROR_SHOWN])}"})
        finally:
            mlflow.end_run(status)


def open_run(name: str, tags: Mapping[str, str], options: RunOptions = RunOptions()) -> str:
    """Open a run as ``tracked_run`` does, for several processes to work on: it is not MLflow's active run.

    Returns
    -------
    str
        The run's id. The caller ends the run.
    """
    prepare_database()
    run = _start(name, {**process_tags(), **tags}, options)
    if not options.nested:
        _tend_experiment(run.info.run_id)
    mlflow.end_run("RUNNING")  # takes it off MLflow's stack of active runs
    return run.info.run_id


def check_filing(options: RunOptions) -> None:
    """Raise what ``tracked_run`` would raise before it opens a run."""
    if options.nested:
        return
    prepare_database()
    _checked_experiment(_run_to_resume(), options)


def _start(name: str, tags: dict[str, str], options: RunOptions) -> mlflow.ActiveRun:
    run_name = options.run_name or name
    # MLflow would write the path of this program on this machine.
    tags["mlflow.source.name"] = f"python -m abalone {tags.get('stage', name)}"
    if options.nested:
        # A nested run belongs where its parent is; MLflow would file it in the experiment of the environment.
        parent = mlflow.active_run()
        assert parent is not None, "a nested run needs an active one"
        if parent.data.tags.get("stage") == "main":
            tags |= UNFOLDING_TAG
        experiment_id = parent.info.experiment_id
        run = mlflow.start_run(run_name=run_name, experiment_id=experiment_id, nested=True, tags=tags)
        remember(run, known_run(parent.info.run_id).experiment)
        return run
    resumed = _run_to_resume()
    experiment = _checked_experiment(resumed, options)
    if resumed is None:
        run = mlflow.start_run(run_name=run_name, experiment_id=experiment.experiment_id, tags=tags)
    else:
        if options.run_name or _is_generated(resumed.info.run_name):
            tags["mlflow.runName"] = run_name
        run = mlflow.start_run(tags=tags)  # resumes the run of MLFLOW_RUN_ID
    remember(run, experiment)
    return run


def _tend_experiment(run_id: str) -> None:
    """Mark the runs of killed processes in the experiment of a run that was just opened, and add its views."""
    experiment = known_run(run_id).experiment
    assert experiment is not None, "this process has opened the run"
    close_orphans(experiment.experiment_id, run_id)
    offer_views(experiment.experiment_id, experiment.tags)


def _checked_experiment(resumed: Run | None, options: RunOptions) -> Experiment:
    """The experiment of a run, in which its files can be written."""
    if resumed:
        experiment = MlflowClient().get_experiment(resumed.info.experiment_id)
    else:
        experiment = _experiment(options.experiment_name)
    check_artifacts(experiment)
    return experiment


def _run_to_resume() -> Run | None:
    """The run that ``mlflow run`` has made for this process, if it has; MLflow would resume a finished run too."""
    run_id = os.environ.get("MLFLOW_RUN_ID")
    if run_id is None:
        return None
    run = find_run(run_id)
    if run is None:
        raise UserError(
            f"MLFLOW_RUN_ID is {run_id!r}, and there is no such run; `unset MLFLOW_RUN_ID` to make a new run"
        )
    if run.info.lifecycle_stage != "active" or run.info.status != "RUNNING":
        state = run.info.status if run.info.lifecycle_stage == "active" else "deleted"
        raise UserError(
            f"MLFLOW_RUN_ID is that of a run that is {state}: {run_id}; expected one that is RUNNING, such as "
            "`mlflow run` makes; `unset MLFLOW_RUN_ID` to make a new run"
        )
    return run


def _experiment(name: str | None) -> Experiment:
    """The experiment that the user or the environment names, created if it does not exist."""
    if not name and "MLFLOW_EXPERIMENT_ID" in os.environ:
        experiment = MlflowClient().get_experiment(os.environ["MLFLOW_EXPERIMENT_ID"])
    else:
        name = name or os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT_NAME
        experiment = MlflowClient().get_experiment_by_name(name) or create_experiment(name)
    refuse_deleted(experiment)
    return experiment


def _is_generated(run_name: str) -> bool:
    """Whether MLflow generated a run's name, such as ``gaudy-dolphin-797``.

    ``mlflow run`` does so unless its user gives a name. MLflow records no difference, so the name is recognised by
    MLflow's own lists of words: a private import, which a test guards.
    """
    from mlflow.utils.name_utils import _GENERATOR_NOUNS, _GENERATOR_PREDICATES

    words = run_name.split("-")
    return len(words) == 3 and words[0] in _GENERATOR_PREDICATES and words[1] in _GENERATOR_NOUNS


def find_stage(run_id: str, stage: str, split: str) -> list[Run]:
    """Find earlier runs of a stage on the same split.

    Parameters
    ----------
    run_id : str
        Run in whose experiment to search.
    stage : str
        Name of the stage.
    split : str
        Fingerprint of the split.

    Returns
    -------
    list of Run
        The newest 20 finished runs, the newest first.
    """
    experiment_id = experiment_id_of(run_id)
    query = f"tags.stage = '{stage}' and tags.split = '{split}' and attributes.status = 'FINISHED'"
    return MlflowClient().search_runs([experiment_id], query, max_results=20, order_by=["attributes.start_time DESC"])


def how_to_browse(run_id: str) -> str:
    """Say how to look at a run and at the other runs of its experiment.

    Parameters
    ----------
    run_id : str
        The run.

    Returns
    -------
    str
        The command that opens the UI on the current store, unless that is a server, and the addresses there.
    """
    experiment_id = experiment_id_of(run_id)
    lines = ["Browse:"]
    command = ui_command()
    if command:
        lines.append(f"  {command}")
    lines += ["This run:", f"  {full_address(run_path(experiment_id, run_id))}"]
    lines += ["The stages, in the guide's order:", f"  {full_address(runs_path(experiment_id, STAGES_VIEW))}"]
    lines.append("All runs, the best first:")
    for view in LEADERBOARDS.values():
        lines.append(f"  {full_address(runs_path(experiment_id, view))}")
    return "\n".join(lines)


def ui_command() -> str:
    """The command that opens the UI on the current store, or "" if the store is a server, which has the UI."""
    settle_store()
    uri = mlflow.get_tracking_uri()
    if uri.startswith(("http://", "https://")):
        return ""
    program = Path(sys.executable).with_name("mlflow")
    return shlex.join([str(program), "ui", "--backend-store-uri", uri])

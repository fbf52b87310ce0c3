"""TODO tracking.runs"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
from mlflow import MlflowClient

from abalone.tracking.database import prepare_database
from abalone.tracking.processes import close_orphans, process_tags
from abalone.tracking.signals import defer_signals
from abalone.tracking.views import LEADERBOARDS, offer_leaderboards

EXPERIMENT_NAME = "abalone"


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

    An interruption ends it KILLED, any other exception FAILED, with the message as the tag ``error``.

    Parameters
    ----------
    name : str
        Name of a run that the user gave none.
    tags : mapping, optional
        Tags to set at once, so that a run is known even if it ends badly.
    options : RunOptions
        Where the run is filed.

    Yields
    ------
    str
        The run's id.
    """
    prepare_database()
    with _start(name, {**process_tags(), **(tags or {})}, options) as active:
        run_id = active.info.run_id
        try:
            if not options.nested:
                close_orphans(active.info.experiment_id, run_id)
                offer_leaderboards(active.info.experiment_id)
            yield run_id
        except (KeyboardInterrupt, SystemExit):
            with defer_signals():
                mlflow.end_run("KILLED")
            raise
        except BaseException as error:
            with defer_signals():
                mlflow.set_tag("error", f"{type(error).__name__}: {error}"[:5000])
            raise


def _start(name: str, tags: dict[str, str], options: RunOptions) -> mlflow.ActiveRun:
    run_name = options.run_name or name
    if options.nested:
        # Left to itself, MLflow files a nested run where the environment says, not where its parent is.
        experiment_id = mlflow.active_run().info.experiment_id
        return mlflow.start_run(run_name=run_name, experiment_id=experiment_id, nested=True, tags=tags)
    if "MLFLOW_RUN_ID" in os.environ:
        if options.run_name or _is_unnamed(os.environ["MLFLOW_RUN_ID"]):
            tags["mlflow.runName"] = run_name
        return mlflow.start_run(tags=tags)
    return mlflow.start_run(run_name=run_name, experiment_id=_experiment_id(options.experiment_name), tags=tags)


def find_stage(run_id: str, stage: str, split: str) -> list[Any]:
    """The newest 20 finished runs of ``stage`` on the same split, in the experiment of ``run_id``; last one first."""
    client = MlflowClient()
    experiment = client.get_run(run_id).info.experiment_id
    query = f"tags.stage = '{stage}' and tags.split = '{split}' and attributes.status = 'FINISHED'"
    return client.search_runs([experiment], query, max_results=20, order_by=["attributes.start_time DESC"])


def how_to_browse(run_id: str) -> str:
    """The command that opens the UI on the store in use, and the addresses of a run and of the leaderboards there."""
    uri, mlflow_command = mlflow.get_tracking_uri(), Path(sys.executable).with_name("mlflow")
    served = uri.startswith(("http://", "https://"))
    if uri.startswith("sqlite:///") and not uri.startswith("sqlite:////"):
        uri = f"sqlite:///{Path(uri.removeprefix('sqlite:///')).resolve()}"
    command = "" if served else f"  {mlflow_command} ui --backend-store-uri {uri}\n"
    runs = f"{uri if served else 'http://127.0.0.1:5000'}/#/experiments/"
    runs += f"{MlflowClient().get_run(run_id).info.experiment_id}/runs"
    mode = "?workflowType=machine_learning"
    boards = "\n".join(f"  {runs}{mode}&viewStateShareKey={name}" for name in LEADERBOARDS.values())
    return f"Browse:\n{command}This run:\n  {runs}/{run_id}{mode}\nAll runs, the best first:\n{boards}"


def _experiment_id(name: str | None) -> str:
    if not name and "MLFLOW_EXPERIMENT_ID" in os.environ:
        return os.environ["MLFLOW_EXPERIMENT_ID"]
    # The returned id is used, never the active experiment: several first starts at once race over the latter.
    return mlflow.set_experiment(name or os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT_NAME).experiment_id


def _is_unnamed(run_id: str) -> bool:
    """Whether MLflow made up the run's name (like ``gaudy-dolphin-797``), so that it is nobody's wish."""
    from mlflow.utils.name_utils import _GENERATOR_NOUNS, _GENERATOR_PREDICATES

    words = MlflowClient().get_run(run_id).info.run_name.split("-")
    return len(words) == 3 and words[0] in _GENERATOR_PREDICATES and words[1] in _GENERATOR_NOUNS

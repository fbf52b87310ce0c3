"""Read what the tracking store holds; nothing here writes, or creates a store or an experiment."""

from __future__ import annotations

import json
import os
from pathlib import Path
from urllib.parse import urlsplit

import mlflow
from mlflow import MlflowClient
from mlflow.entities import DatasetInput, Experiment, Run

from abalone.tracking.experiments import refuse_deleted
from abalone.tracking.runs import EXPERIMENT_NAME

PARENT_TAG = "mlflow.parentRunId"


def find_experiment(name: str | None = None) -> Experiment | None:
    """The experiment in which a command would file its run, or None if it does not exist.

    Parameters
    ----------
    name : str, optional
        Name that the user gave; by default that of the environment, or ``abalone``.

    Raises
    ------
    UserError
        If it was deleted.
    """
    client = MlflowClient()
    found: Experiment | None
    if not name and "MLFLOW_EXPERIMENT_ID" in os.environ:
        found = client.get_experiment(os.environ["MLFLOW_EXPERIMENT_ID"])
    else:
        found = client.get_experiment_by_name(name or os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT_NAME)
    refuse_deleted(found)
    return found


def newest_run(experiment_id: str, query: str) -> Run | None:
    """The run that began last of those that a query of MLflow's finds."""
    order = ["attributes.start_time DESC"]
    return next(iter(MlflowClient().search_runs([experiment_id], query, max_results=1, order_by=order)), None)


def study_runs(experiment_id: str, limit: int = 100) -> list[Run]:
    """The runs of studies, the newest first."""
    query = "tags.stage = 'tune' and tags.study LIKE '%'"
    return MlflowClient().search_runs(
        [experiment_id], query, max_results=limit, order_by=["attributes.start_time DESC"]
    )


def read_run(run_id: str) -> Run:
    """A run by its id."""
    return MlflowClient().get_run(run_id)


def dataset_inputs(run: Run) -> list[DatasetInput]:
    """The data sets that a run has logged."""
    return run.inputs.dataset_inputs if run.inputs else []


def data_source(run: Run) -> str:
    """Where the rows of a training can be read: ``uci``, or an absolute path.

    The data set of a run is where the rows came from. Its parameter ``data`` is what was typed, possibly relative to
    another folder and, under ``mlflow run``, with quotes; it decides only if the data set does not lead to a file.

    Raises
    ------
    KeyError
        If the run has neither.
    """
    for entry in dataset_inputs(run):
        address = json.loads(entry.dataset.source)
        if entry.dataset.source_type == "http":
            return "uci"
        if Path(address["uri"]).is_file():
            return address["uri"]
    return run.data.params["data"]


def _first(experiment_id: str, query: str, order: str) -> Run | None:
    return next(iter(MlflowClient().search_runs([experiment_id], query, max_results=1, order_by=[order])), None)


def store_name() -> str:
    """The tracking URI without its password."""
    uri = mlflow.get_tracking_uri()
    password = urlsplit(uri).password
    if password:
        return uri.replace(f":{password}@", ":***@", 1)
    return uri

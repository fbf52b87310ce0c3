"""A trial as an MLflow run: opening, closing, and moving it below the run that resumes its study."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from abalone.tracking.lookup import PARENT_TAG
from abalone.tracking.processes import process_tags
from abalone.tracking.run_logging import Scores, log_batch
from abalone.tracking.runs import experiment_id_of


def open_trials(parent: str, study: str, numbers: Sequence[int]) -> list[str]:
    """Create the runs of trials as children of their study's run.

    Parameters
    ----------
    parent : str
        Id of the study's run.
    study : str
        Name of the study.
    numbers : sequence of int
        Numbers of the trials.

    Returns
    -------
    list of str
        Ids of the runs.
    """
    client = MlflowClient()
    run = client.get_run(parent)
    tags = {
        **process_tags(),
        PARENT_TAG: parent,
        "mlflow.user": run.data.tags.get("mlflow.user", "unknown"),
        "study": study,
        "stage": "trial",
    }
    run_ids = []
    for number in numbers:
        created = client.create_run(run.info.experiment_id, tags=tags, run_name=f"trial {number}")
        run_ids.append(created.info.run_id)
    return run_ids


def close_trial(
    run_id: str,
    status: str,
    params: Mapping[str, str] | None = None,
    curves: Mapping[str, Sequence[float]] | None = None,
    final: Mapping[str, float] | None = None,
    tags: Mapping[str, str] | None = None,
) -> None:
    """Log everything about a trial in one call, and end its run.

    Parameters
    ----------
    run_id : str
        Id of the trial's run.
    status : str
        ``FINISHED``, ``KILLED`` or ``FAILED``.
    params, curves, final, tags : mapping, optional
        As for ``log_batch``; ``final`` holds plain values by name.
    """
    log_batch(run_id, params, curves, [Scores(final or {})], tags)
    MlflowClient().set_terminated(run_id, status)


def adopt_trials(parent: str, study: str, page_size: int = 1000) -> None:
    """Move the trials of a resumed study below its new run, so that they are found in one place.

    Runs that are still at work on the study keep theirs. An ended run gets the tag ``continued_by``.

    Parameters
    ----------
    parent : str
        Id of the study's new run.
    study : str
        Name of the study.
    page_size : int, default 1000
        Number of trials to ask MLflow for at a time.
    """
    client = MlflowClient()
    experiment_id = experiment_id_of(parent)
    ended = client.search_runs([experiment_id], "tags.stage = 'tune' and attributes.status != 'RUNNING'")
    for run in ended:
        if run.data.tags.get("study") == study:  # not in the query, because the name may contain quotes
            _move_trials(client, experiment_id, run.info.run_id, parent, page_size)
            client.set_tag(run.info.run_id, "continued_by", parent)


def first_value(run_id: str, metric: str) -> float:
    """Value of a metric at its first step; NaN if the run or the metric does not exist."""
    with suppress(MlflowException, IndexError):
        return MlflowClient().get_metric_history(run_id, metric)[0].value
    return math.nan


def _move_trials(client: MlflowClient, experiment_id: str, old: str, new: str, page_size: int) -> None:
    query = f"tags.`{PARENT_TAG}` = '{old}' and tags.stage = 'trial'"
    while True:
        # Always the first page: a trial that was moved no longer matches the query.
        trials = client.search_runs([experiment_id], query, max_results=page_size)
        if not trials:
            return
        for trial in trials:
            client.set_tag(trial.info.run_id, PARENT_TAG, new)

"""A trial as an MLflow run: opening and closing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from abalone.tracking.known_runs import experiment_id_of, known_run
from abalone.tracking.lookup import PARENT_TAG
from abalone.tracking.processes import process_tags
from abalone.tracking.run_logging import Scores, log_batch
from abalone.tuning.retry import retry


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
    of_study = retry(known_run)(parent)
    tags = {**process_tags(), PARENT_TAG: parent, "mlflow.user": of_study.user, "study": study, "stage": "trial"}
    run_ids = []
    for number in numbers:
        created = retry(client.create_run)(of_study.experiment_id, tags=tags, run_name=f"trial {number}")
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
    retry(log_batch)(run_id, params, curves, [Scores(final or {})], tags)
    retry(MlflowClient().set_terminated)(run_id, status)


def fail_left_runs(parent: str, page_size: int = 1000) -> None:
    """Mark as FAILED the runs of trials that killed processes left RUNNING, when nobody works on the study any more.

    A process may be killed after it has opened the run of a trial and before it has recorded the run's id in the study.

    Parameters
    ----------
    parent : str
        Id of the study's run.
    page_size : int, default 1000
        Number of runs to ask MLflow for at a time.
    """
    client = MlflowClient()
    query = f"tags.`{PARENT_TAG}` = '{parent}' and tags.stage = 'trial' and attributes.status = 'RUNNING'"
    while True:
        # Always the first page: a run that was ended no longer matches the query.
        left = client.search_runs([experiment_id_of(parent)], query, max_results=page_size)
        if not left:
            return
        for run in left:
            close_trial(run.info.run_id, "FAILED", tags={"error": "its process was killed while it opened this run"})


def first_value(run_id: str, metric: str) -> float:
    """Value of a metric at its first step; NaN if the run or the metric does not exist."""
    with suppress(MlflowException, IndexError):
        return MlflowClient().get_metric_history(run_id, metric)[0].value
    return math.nan

"""What MLflow is told of a study and its trials."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from abalone.tracking.processes import process_tags
from abalone.tracking.run_logging import Scores, log_batch


def open_trials(parent: str, study: str, numbers: Sequence[int]) -> list[str]:
    """Begin the runs of trials under the run of their study; return the ids."""
    client = MlflowClient()
    run = client.get_run(parent)
    tags = {**process_tags(), "mlflow.parentRunId": parent, "study": study, "stage": "trial"}
    tags["mlflow.user"] = run.data.tags.get("mlflow.user", "unknown")
    return [client.create_run(run.info.experiment_id, tags=tags, run_name=f"trial {n}").info.run_id for n in numbers]


def adopt_trials(parent: str, study: str) -> None:
    """Put the trials of a study that goes on below its new run, where the runs that they were below have ended."""
    client = MlflowClient()
    experiment = client.get_run(parent).info.experiment_id
    ended = "tags.stage = 'tune' and attributes.status != 'RUNNING'"
    earlier = client.search_runs([experiment], ended)
    for old in (run.info.run_id for run in earlier if run.data.tags.get("study") == study):
        query = f"tags.`mlflow.parentRunId` = '{old}' and tags.stage = 'trial'"
        while children := client.search_runs([experiment], query):  # a page; those adopted are not in the next
            for child in children:
                client.set_tag(child.info.run_id, "mlflow.parentRunId", parent)
        client.set_tag(old, "continued_by", parent)


def close_trial(
    run_id: str,
    status: str,
    params: Mapping[str, str] | None = None,
    curves: Mapping[str, Sequence[float]] | None = None,
    final: Mapping[str, float] | None = None,
    tags: Mapping[str, str] | None = None,
) -> None:
    """Write all that there is to say of a trial in one call, and end its run.

    Parameters
    ----------
    run_id, status : str
        The run, and FINISHED, KILLED or FAILED.
    params, curves, final, tags : mapping, optional
        As for ``log_stage``.
    """
    log_batch(run_id, params, curves, [Scores(final or {})], tags)
    MlflowClient().set_terminated(run_id, status)


def first_value(run_id: str, metric: str) -> float:
    """A curve's value at its first epoch; NaN if the run is no more."""
    with suppress(MlflowException, IndexError):
        return MlflowClient().get_metric_history(run_id, metric)[0].value
    return math.nan

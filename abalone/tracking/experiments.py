"""Experiments that were deleted, and tags that several processes write at once."""

from __future__ import annotations

from mlflow import MlflowClient, MlflowException
from mlflow.entities import Experiment, LifecycleStage

from abalone.settings import UserError


def refuse_deleted(experiment: Experiment | None) -> None:
    """Raise if an experiment was deleted, with the command that restores it.

    MLflow keeps a deleted experiment, and its name, until it is collected.

    Parameters
    ----------
    experiment : Experiment or None
        None, one that does not exist yet, is accepted.
    """
    if experiment is None or experiment.lifecycle_stage == LifecycleStage.ACTIVE:
        return
    raise UserError(
        f"the experiment {experiment.name!r} was deleted; restore it with: mlflow experiments restore --experiment-id "
        f"{experiment.experiment_id}; or choose another with --experiment-name"
    )


def tag_experiment(experiment_id: str, key: str, value: str) -> None:
    """Set a tag of an experiment that other processes may set at the same moment.

    MLflow looks whether there is such a tag and then adds or changes it. If two processes find none, both add it and
    the database refuses the second, which finds it when it tries again.
    """
    client = MlflowClient()
    try:
        client.set_experiment_tag(experiment_id, key, value)
    except MlflowException as error:
        if error.error_code != "BAD_REQUEST":
            raise
        client.set_experiment_tag(experiment_id, key, value)

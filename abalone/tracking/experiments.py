"""Experiments that were deleted: MLflow keeps them, and their names, until they are collected."""

from __future__ import annotations

from mlflow.entities import Experiment, LifecycleStage

from abalone.settings import UserError


def refuse_deleted(experiment: Experiment | None) -> None:
    """Raise if an experiment was deleted, with the command that restores it.

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

"""What does not change about a run: asked for once in a process, because every question is a request to a server.

A process knows all of it about the runs that it has opened itself, and asks for those of others.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from mlflow import MlflowClient
from mlflow.entities import Experiment, Run
from mlflow.exceptions import MlflowException


@dataclass
class KnownRun:
    """A run.

    Parameters
    ----------
    experiment_id : str
    address : str
        Where its artifacts are.
    user : str
        Name of the user who opened it.
    params : set of str or None
        Names of its parameters; None for a run of another process, which may log more.
    experiment : Experiment or None
        Its experiment as it was when the run was opened; None for a run of another process.
    """

    experiment_id: str
    address: str
    user: str
    params: set[str] | None = None
    experiment: Experiment | None = None


_known: dict[str, KnownRun] = {}


def remember(run: Run, experiment: Experiment | None) -> None:
    """Remember a run that this process has just opened or resumed."""
    _known[run.info.run_id] = replace(_known_of(run), params=set(run.data.params), experiment=experiment)


def remember_place(run: Run) -> None:
    """Remember where a run is filed that a search has found."""
    _known.setdefault(run.info.run_id, _known_of(run))


def _known_of(run: Run) -> KnownRun:
    return KnownRun(
        experiment_id=run.info.experiment_id,
        address=run.info.artifact_uri,
        user=run.data.tags.get("mlflow.user", "unknown"),
    )


def known_run(run_id: str) -> KnownRun:
    """What is known about a run, which is asked for if this process has not opened it."""
    if run_id not in _known:
        remember_place(MlflowClient().get_run(run_id))
    return _known[run_id]


def find_run(run_id: str) -> Run | None:
    """Ask the store for a run, also one that was deleted; None if there is none, or `mlflow gc` has removed it."""
    try:
        return MlflowClient().get_run(run_id)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None


def experiment_id_of(run_id: str) -> str:
    """Get the id of the experiment that a run belongs to."""
    return known_run(run_id).experiment_id


def logged_params(run_id: str) -> set[str]:
    """Names of the parameters that a run has."""
    known = known_run(run_id).params
    if known is None:
        return set(MlflowClient().get_run(run_id).data.params)
    return known


def remember_params(run_id: str, names: Iterable[str]) -> None:
    """Remember that this process has just logged parameters to a run."""
    if run_id in _known:
        params = _known[run_id].params
        if params is not None:
            params.update(names)

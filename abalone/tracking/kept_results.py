"""Results that a tracking server did not take are kept in a folder, as a small MLflow store, until it is back.

What a training writes at its end is one function of a run. If it fails, the same function writes into a run of an
SQLite store in the folder ``kept-results``; ``filing`` copies that run to the server later.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import mlflow
from mlflow import MlflowClient

from abalone.tracking.database import create_experiment, database_path, prepare_database, sqlite_uri
from abalone.tracking.reachable import KEPT_RESULTS, ServerAway, explain, without_login
from abalone.tracking.signals import defer_signals

DATABASE = "mlflow.db"
RUN_TAG = "kept.run_id"  # of a run in the folder: the run of the server that it belongs to
SERVER_TAG = "kept.server"


def end_with_results(write: Callable[[str], None]) -> None:
    """Write results into the active run and end it; if the server fails, keep them in a folder.

    Where the store is an SQLite file there is no server, and an error is raised as it is.

    Parameters
    ----------
    write : callable
        Writes everything into the run whose id it gets. It is called again with the id of another run if it fails.

    Raises
    ------
    ServerAway
        If the results are kept: it names the folder and the command that files them.
    """
    run = mlflow.active_run()
    assert run is not None, "results belong to an active run"
    try:
        write(run.info.run_id)
        mlflow.end_run()
    except Exception as error:
        if database_path() is not None:
            raise
        folder = _keep(run, write, error)
        raise ServerAway(
            f"{explain(error)}\nNothing needs to be trained again: the results of {run.info.run_name} are kept in "
            f"{folder}. When the server is back, file them with: python -m abalone file --folder {folder}"
        ) from error


def _keep(run: mlflow.ActiveRun, write: Callable[[str], None], cause: Exception) -> Path:
    """Write results into a store in a folder of their own; raise ``cause`` if that fails too."""
    folder = Path(KEPT_RESULTS, run.info.run_id).absolute()
    try:
        with defer_signals(), _run_in(folder, run) as kept_run_id:
            write(kept_run_id)
    except Exception:
        shutil.rmtree(folder, ignore_errors=True)
        raise cause from None
    return folder


@contextmanager
def _run_in(folder: Path, run: mlflow.ActiveRun) -> Iterator[str]:
    """Make a new store in a folder, and a run in it the active one, which is like that of the server; yields its id."""
    server = mlflow.get_tracking_uri()
    tags = {**run.data.tags, RUN_TAG: run.info.run_id, SERVER_TAG: without_login(server)}
    folder.mkdir(parents=True)
    mlflow.set_tracking_uri(sqlite_uri(folder / DATABASE))
    try:
        prepare_database()
        create_experiment(KEPT_RESULTS)
        experiment = MlflowClient().get_experiment_by_name(KEPT_RESULTS)
        assert experiment is not None, "it was just created"
        with mlflow.start_run(None, experiment.experiment_id, run.info.run_name, nested=True, tags=tags) as kept:
            yield kept.info.run_id
    finally:
        mlflow.set_tracking_uri(server)

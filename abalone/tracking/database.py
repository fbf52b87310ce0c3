"""The tracking store: where an SQLite database lies, how it is created safely, and what is kept beside it.

The tracking URI is taken apart here and nowhere else. SQLAlchemy decides which file a URI means; it decodes the
percent-encoding in which MLflow writes its default, such as ``sqlite:////home/me/my%20project/mlflow.db``.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Experiment
from mlflow.exceptions import MlflowException
from sqlalchemy.engine import make_url

from abalone.settings import UserError
from abalone.tracking.drafts import draft_of, remove_dead_drafts
from abalone.tracking.locks import wait_for_locks

ARTIFACTS = "mlruns"  # folder beside an SQLite database, with the name that MLflow uses


def database_path() -> Path | None:
    """Absolute path of the SQLite tracking database; None for any other store, and for a database in memory."""
    name = _database_name()
    if name is None:
        return None
    return Path(os.path.abspath(name))


def _database_name() -> str | None:
    """The path in the tracking URI, relative or absolute, decoded."""
    uri = mlflow.get_tracking_uri()
    if not urlsplit(uri).scheme.startswith("sqlite"):
        return None
    name = make_url(uri).database
    if not name or name == ":memory:" or name.startswith("file:"):
        return None
    return name


def sqlite_uri(path: Path) -> str:
    """URI of an SQLite database, with no character encoded that can stand for itself.

    For a URI of ``my%20project``, MLflow would make an empty folder of this name before it opens the database.
    """
    return "sqlite:///" + str(path).replace("%", "%25").replace("?", "%3F")


def settle_store() -> None:
    """Name an SQLite tracking database by its absolute path, for this process and those that it starts.

    From here on, this process waits for locked databases.

    Raises
    ------
    UserError
        If ``mlflow run`` has made its run in the database of another folder.
    """
    wait_for_locks()
    path = database_path()
    if path is None:
        return
    _check_folder(path)
    _, mark, options = mlflow.get_tracking_uri().partition("?")
    mlflow.set_tracking_uri(sqlite_uri(path) + mark + options)


def _check_folder(path: Path) -> None:
    """Raise if a relative URI means another database here than where ``mlflow run`` was typed."""
    run_id = os.environ.get("MLFLOW_RUN_ID")
    name = _database_name()
    if run_id is None or name is None or os.path.isabs(name):
        return
    if path.exists():
        with suppress(MlflowException):
            MlflowClient().get_run(run_id)
            return
    raise UserError(
        f"the run of `mlflow run` is not in {path}: {mlflow.get_tracking_uri()} is relative, and `mlflow run` changes "
        f'to the folder of the project; write the absolute path, as in MLFLOW_TRACKING_URI="sqlite:///$PWD/{name}"'
    )


def prepare_database() -> None:
    """Create the SQLite tracking database if it does not exist yet; safe in several processes at once.

    MLflow creates the tables one by one, and of two processes that do so at the same time one fails. The database is
    therefore created under another name and linked into place when it is complete. Other stores, and SQLite URIs with
    options or in memory, are left to MLflow.
    """
    settle_store()
    path = database_path()
    if path is None or "?" in mlflow.get_tracking_uri():
        return
    if path.parent.is_dir():
        remove_dead_drafts(path)
    if path.exists():
        return
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    draft = draft_of(path)
    try:
        SqlAlchemyStore(sqlite_uri(draft), artifact_folder(path).as_uri())
        with suppress(FileExistsError):  # another process was faster
            os.link(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def create_experiment(name: str) -> Experiment:
    """Create an experiment unless it exists; in an SQLite store, its artifacts are kept beside the database.

    By itself MLflow keeps them in the current folder, wherever the database is.

    Returns
    -------
    Experiment
        The experiment, which another process may have created.
    """
    client = MlflowClient()
    path = database_path()
    store: Any = client
    if path is not None:
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

        store = SqlAlchemyStore(mlflow.get_tracking_uri(), artifact_folder(path).as_uri())
    try:
        store.create_experiment(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":  # another process was faster
            raise
    experiment = client.get_experiment_by_name(name)
    assert experiment is not None, f"there is no experiment {name!r} although it was created"
    return experiment


def artifact_folder(database: Path) -> Path:
    """The folder beside an SQLite database in which new experiments keep their artifacts."""
    return database.parent / ARTIFACTS


def store_exists() -> bool:
    """Whether there is a store to read: MLflow would create a missing SQLite database or folder of files."""
    settle_store()
    path = database_path()
    if path is None:
        uri = mlflow.get_tracking_uri()
        if urlsplit(uri).scheme not in ("", "file"):
            return True
        path = Path(url2pathname(urlsplit(uri).path))
    return path.exists()


def reach() -> None:
    """Raise MLflow's own error now if the tracking store cannot be reached."""
    prepare_database()
    MlflowClient().search_experiments(max_results=1)


def beside_database(name: str) -> Path:
    """Path of a file in the folder of the SQLite tracking database, or in the current folder for any other store.

    Parameters
    ----------
    name : str
        Name of the file.

    Returns
    -------
    Path
    """
    path = database_path()
    if path is None:
        return Path(name)
    return path.with_name(name)

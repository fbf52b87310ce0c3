"""The tracking store: create a new SQLite database safely, reach any store, place files beside a database."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import mlflow
from mlflow import MlflowClient

SQLITE = "sqlite:///"


def prepare_database() -> None:
    """Create the SQLite tracking database if it does not exist yet; safe in several processes at once.

    MLflow creates the tables one by one, and of two processes that do so at the same time one fails. The database is
    therefore created under another name and linked into place when it is complete. Other stores, and SQLite URIs with
    options or in memory, are left to MLflow.
    """
    path = _sqlite_path()
    if path is None or path.exists():
        return
    draft = Path(f"{path}.{os.getpid()}")
    try:
        MlflowClient(f"{SQLITE}{draft}").search_experiments()
        with suppress(FileExistsError):  # another process was faster
            os.link(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def _sqlite_path() -> Path | None:
    """Path of the SQLite tracking database; None for other stores, and for SQLite URIs with options or in memory."""
    uri = mlflow.get_tracking_uri()
    if not uri.startswith(SQLITE):
        return None
    path = uri.removeprefix(SQLITE)
    if not path or "?" in path or ":" in path:
        return None
    return Path(path)


def store_exists() -> bool:
    """Whether there is a store to read: MLflow would create a missing SQLite database or folder of files."""
    path = _sqlite_path()
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
    uri = mlflow.get_tracking_uri()
    if uri.startswith(SQLITE):
        return Path(uri.removeprefix(SQLITE)).parent / name
    return Path(name)

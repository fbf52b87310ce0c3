"""TODO tracking.database"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import mlflow
from mlflow import MlflowClient


def prepare_database() -> None:
    """Make the SQLite tracking database whole or not at all, so that several first starts at once do no harm.

    MLflow makes it table by table, and of two processes that do so at once one fails.
    """
    scheme, _, path = mlflow.get_tracking_uri().partition("sqlite:///")
    if scheme or not path or set("?:") & set(path) or Path(path).exists():  # options, or in memory: left to MLflow
        return
    draft = Path(f"{path}.{os.getpid()}")
    try:
        MlflowClient(f"sqlite:///{draft}").search_experiments()
        with suppress(FileExistsError):
            os.link(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def reach() -> None:
    """Raise at once what MLflow raises where the tracking store cannot be reached."""
    prepare_database()
    MlflowClient().search_experiments(max_results=1)


def beside_database(name: str) -> Path:
    """Where a file of ours belongs: in the folder of the SQLite tracking database, or else in the current one."""
    uri = mlflow.get_tracking_uri()
    folder = Path(uri.removeprefix("sqlite:///")).parent if uri.startswith("sqlite:///") else Path()
    return folder / name

"""Tracking stores in folders of tests: one that is filled once for all tests of a file is copied for each of them."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from warm.shared_statements import share_statements


@contextmanager
def use_store(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Make the database ``mlflow.db`` of a folder the tracking store of this process and its children."""
    import mlflow

    share_statements()
    _move_files(folder / "mlflow.db", folder)
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    mlflow.set_tracking_uri(uri)
    yield uri
    while mlflow.active_run():
        mlflow.end_run()
    mlflow.set_tracking_uri(None)


@contextmanager
def filling(folder: Path, empty_database: Path) -> Iterator[None]:
    """Work in a new store in a folder, outside of any test."""
    shutil.copy(empty_database, folder / "mlflow.db")
    with pytest.MonkeyPatch.context() as monkeypatch, use_store(folder, monkeypatch):
        monkeypatch.chdir(folder)
        yield


def copy_store(filled: Path, folder: Path) -> None:
    """Copy a store with its files into the folder of a test, before the test uses it."""
    from abalone.tracking import known_runs

    known_runs._known.clear()  # the same runs have other addresses now
    shutil.copytree(filled, folder, symlinks=True, dirs_exist_ok=True)
    _move_files(folder / "mlflow.db", folder)


def _move_files(path: Path, folder: Path) -> None:
    """Write into a database that its files are in another folder."""
    from abalone.tracking.relocation import COLUMNS

    with closing(sqlite3.connect(path)) as database, database:
        [[location]] = database.execute("SELECT artifact_location FROM experiments WHERE experiment_id = 0")
        old = location.removeprefix("file://").removesuffix("/mlruns/0")
        for table, column, _ in COLUMNS:
            database.execute(f"UPDATE {table} SET {column} = replace({column}, ?, ?)", [old, str(folder)])

"""Drafts of files: removed if their process is gone, left alone otherwise."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

import mlflow
import pytest

from abalone.tracking.database import prepare_database
from abalone.tracking.drafts import draft_of, remove_dead_drafts

HOST = socket.gethostname()


@pytest.fixture
def dead_pid() -> int:
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


@pytest.mark.parametrize("name", [".mlflow.db.{host}.{pid}.part", "mlflow.db.{pid}", "mlflow.db.{pid}-journal"])
def test_drafts_of_dead_processes_are_removed_those_of_earlier_versions_too(own_folder, dead_pid, name):
    draft = own_folder / name.format(host=HOST, pid=dead_pid)
    draft.touch()
    remove_dead_drafts(own_folder / "mlflow.db")
    assert not draft.exists()


def test_everything_else_is_left_alone(own_folder, dead_pid):
    kept = [
        draft_of(own_folder / "mlflow.db"),
        own_folder / f"mlflow.db.{os.getpid()}",
        own_folder / f".mlflow.db.another-machine.{dead_pid}.part",
        own_folder / f".other.db.{HOST}.{dead_pid}.part",
        own_folder / "mlflow.db",
        own_folder / "mlflow.db-journal",
        own_folder / f"mlflow.db.{dead_pid}.backup",
        own_folder / "mlflow.db.99999999999999999999",
    ]
    for path in kept:
        path.touch()
    remove_dead_drafts(own_folder / "mlflow.db")
    assert sorted(own_folder.iterdir()) == sorted(kept)


def test_the_next_command_removes_the_draft_of_a_database_that_exists(store, dead_pid):
    draft = Path(f".mlflow.db.{HOST}.{dead_pid}.part")
    draft.touch()
    prepare_database()
    assert mlflow.MlflowClient().search_experiments() and not draft.exists()

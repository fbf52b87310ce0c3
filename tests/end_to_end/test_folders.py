"""The project in a folder whose name has a space, an umlaut and a ``#``, with MLflow's default store; and its move."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from helpers import ROOT
from mlflow import MlflowClient
from project_copies import copy_project
from registry_store import replace_in
from warm_processes import warm_environment

from abalone.tracking.database import sqlite_uri

pytestmark = pytest.mark.slow
TINY = "-P epochs=1 -P trials=0 -P seeds=0 -P workers=1"
RUN = "mlflow run . --env-manager local --experiment-name abalone"


@pytest.fixture
def project(own_folder: Path) -> Path:
    """A copy of the project that can run under ``mlflow run``, whose ``rings`` are few and short."""
    folder = copy_project(own_folder / "home" / "My Projekt ä #1")
    for name in ("MLproject", "Makefile", "conda.yaml", "pyproject.toml", "requirements.lock"):
        shutil.copy(ROOT / name, folder)
    rings = folder / "experiments" / "rings.toml"
    replace_in(rings, "members = 16", "members = 2")
    replace_in(rings, 'epochs = "auto"', "epochs = 2")
    return folder


def shell(command: str, folder: Path) -> subprocess.CompletedProcess:
    """Run a command as a user would type it in a folder."""
    settings = {**warm_environment(), "PYTHONPATH": str(folder)}
    return subprocess.run(
        ["bash", "-c", command], cwd=folder, env=settings, capture_output=True, text=True, timeout=600
    )


def succeed(command: str, folder: Path) -> str:
    """Run a command, which must succeed, and return what it prints."""
    done = shell(command, folder)
    assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def commands_of_make_run(folder: Path) -> list[str]:
    """What ``make run`` does in a folder once the environment is installed."""
    printed = succeed("make --dry-run run", folder).splitlines()
    return [line for line in printed if "mlflow" in line.lower()]


def test_every_command_works_in_such_a_folder_and_after_a_move(project):
    database, run_everything = commands_of_make_run(project)
    succeed(database, project)
    closing = succeed(f"{run_everything} {TINY}", project)
    assert f" ui --backend-store-uri '{sqlite_uri(project / 'mlflow.db')}'" in closing
    succeed(
        f"{RUN} -e tune -P trials=2 -P epochs=1 -P study=small -P data='{project}/abalone/data/abalone.data'", project
    )
    assert (project / "studies.journal").is_file()
    succeed("head -5 abalone/data/abalone.data > 'my rows.csv'", project)
    succeed(f"{RUN} -e predict -P input='my rows.csv' -P output='my scores.csv'", project)
    assert len((project / "my scores.csv").read_text().splitlines()) == 6
    client = MlflowClient(sqlite_uri(project / "mlflow.db"))
    runs = client.search_runs([client.get_experiment_by_name("abalone").experiment_id])
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert {"main", "promote classification", "tuned encode"} <= {run.info.run_name for run in runs}
    assert files_outside(project) == []

    moved = project.rename(project.with_name("anderswo"))
    for command in ("promote", "predict --input 'my rows.csv' --output again.csv"):
        refused = shell(f"python -m abalone {command}", moved)
        assert refused.returncode == 1
        assert f"{project}/mlruns" in refused.stderr and "`python -m abalone relocate`" in refused.stderr
    assert "python -m abalone relocate" in succeed("python -m abalone status", moved)
    succeed("python -m abalone relocate", moved)
    succeed("python -m abalone predict --input 'my rows.csv' --output again.csv", moved)
    assert (moved / "again.csv").read_text() == (moved / "my scores.csv").read_text()
    succeed("python -m abalone encode --epochs 1", moved)
    succeed("python -m abalone promote --task classification", moved)
    assert files_outside(moved) == [] and not project.exists()


def files_outside(project: Path) -> list[Path]:
    """Files that were written beside the project. (MLflow makes an empty folder there, whose name it encodes.)"""
    return [path for path in project.parent.rglob("*") if path.is_file() and project not in path.parents]


def test_a_relative_uri_with_mlflow_run_from_another_folder_says_what_to_write(own_folder):
    done = shell(f"MLFLOW_TRACKING_URI=sqlite:///new.db mlflow run '{ROOT}' -e status --env-manager local", own_folder)
    assert done.returncode != 0
    assert 'MLFLOW_TRACKING_URI="sqlite:///$PWD/new.db"' in done.stderr
    assert not (ROOT / "new.db").exists()

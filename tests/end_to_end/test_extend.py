"""The recipes of docs/extend.md: each change is applied to a copy of the project, and its commands are run there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from helpers import ROOT
from mlflow import MlflowClient
from warm_processes import PROGRAMS, PYTHON, warm_environment

INSTALLED = ("pyproject.toml", "requirements.lock")  # what the environment is made from
COPIED = ("abalone", "benchmarks", "deploy", "experiments", "tests", "MLproject", "Makefile", "conda.yaml", *INSTALLED)
DOCUMENT = (ROOT / "docs" / "extend.md").read_text()
RECIPES = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", DOCUMENT, re.M | re.S))


def latest_run(folder: Path):
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    [run] = client.search_runs(["1"], max_results=1)
    return client, run


def check_stage(folder: Path) -> None:
    _, run = latest_run(folder)
    assert run.info.run_name == "normalize" and run.data.params["batch_norm"] == "true"
    command = [PYTHON, "-m", "abalone", "tune", "--base", "normalize", "--trials", "2"]
    study = subprocess.run(command, cwd=folder, env=variables(folder), capture_output=True, text=True, timeout=300)
    assert study.returncode == 1 and "fit_many does not implement the layer BatchNorm1d" in study.stderr


def check_metric(folder: Path) -> None:
    _, run = latest_run(folder)
    for name in ("val/within_one", "test/within_one", "baseline/test_within_one"):
        assert 0 < run.data.metrics[name] < 1
    assert "| within one ring |" in run.data.tags["mlflow.note.content"]


def check_figure(folder: Path) -> None:
    client, run = latest_run(folder)
    assert "probabilities.png" in [file.path for file in client.list_artifacts(run.info.run_id)]
    assert "artifacts/probabilities.png" in run.data.tags["mlflow.note.content"]


def check_data(folder: Path) -> None:
    scored = pd.read_csv(folder / "scored.csv")
    assert len(scored) == 4177
    assert {"Whole weight", "probability_old", "rings_low"} <= set(scored) and "Shell weight" not in scored


CHECKS: dict[str, Callable[[Path], None]] = {
    "A stage": check_stage,
    "A metric": check_metric,
    "A figure": check_figure,
    "Another data set": check_data,
}


def test_every_recipe_is_tried():
    assert list(RECIPES) == list(CHECKS)


@pytest.mark.slow
@pytest.mark.parametrize("recipe", CHECKS)
def test_a_recipe_can_be_followed(recipe: str, own_folder: Path, empty_database: Path):
    for name in COPIED:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy2
        copy(ROOT / name, own_folder / name)
    for name in INSTALLED:
        os.utime(own_folder / name, (0, 0))  # older than the environment, so that make does not install again
    (own_folder / ".venv").symlink_to(sys.prefix)
    shutil.copy(empty_database, own_folder / "mlflow.db")
    for language, code in re.findall(r"^```(\w+)\n(.*?)^```", RECIPES[recipe], re.M | re.S):
        if language == "diff":
            subprocess.run(["git", "apply"], input=code, text=True, check=True, cwd=own_folder)
        else:
            assert language == "bash"
            line = f'PATH="{PROGRAMS}:$PATH"\n{code}'
            options = {"cwd": own_folder, "env": variables(own_folder), "capture_output": True, "text": True}
            done = subprocess.run(["bash", "-ec", line], timeout=600, **options)
            assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    CHECKS[recipe](own_folder)


def variables(folder: Path) -> dict[str, str]:
    """Of a process that imports the copy."""
    uri = f"sqlite:///{folder}/mlflow.db"
    return {**warm_environment(), "PYTHONPATH": str(folder), "MLFLOW_TRACKING_URI": uri}

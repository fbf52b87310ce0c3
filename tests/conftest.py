"""Every test has its own folder and its own tracking store; the developer's runs are never touched."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder, without any setting of MLflow or of studies in the developer's environment."""
    monkeypatch.delenv("ABALONE_STORAGE", raising=False)
    for name in list(os.environ):
        if name.startswith("MLFLOW_") and name != "MLFLOW_DISABLE_TELEMETRY":
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tracking database with its schema, created once per session because that takes seconds."""
    path = tmp_path_factory.mktemp("schema") / "mlflow.db"
    code = "import sys; from mlflow import MlflowClient; MlflowClient(sys.argv[1]).search_experiments()"
    subprocess.run([sys.executable, "-c", code, f"sqlite:///{path}"], check=True, capture_output=True, cwd=path.parent)
    return path


@pytest.fixture
def store(empty_database: Path, own_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """URI of a fresh tracking store in the test's folder, which this process and its children use."""
    import mlflow

    shutil.copy(empty_database, own_folder / "mlflow.db")
    uri = f"sqlite:///{own_folder / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    mlflow.set_tracking_uri(uri)
    yield uri
    while mlflow.active_run():
        mlflow.end_run()
    mlflow.set_tracking_uri(None)

"""Every test works in a folder and a tracking store of its own; the developer's runs are never touched."""

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
    """An empty working folder, and no MLflow setting from outside."""
    for name in [name for name in os.environ if name.startswith("MLFLOW_") and name != "MLFLOW_DISABLE_TELEMETRY"]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tracking database with its schema, made once: that takes seconds."""
    path = tmp_path_factory.mktemp("schema") / "mlflow.db"
    make = "import sys; from mlflow.tracking import MlflowClient as C; C(sys.argv[1]).search_experiments()"
    subprocess.run([sys.executable, "-c", make, f"sqlite:///{path}"], check=True, capture_output=True, cwd=path.parent)
    return path


@pytest.fixture
def store(empty_database: Path, own_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """URI of a fresh tracking store in the test's folder, in use by this process and its children."""
    import mlflow

    shutil.copy(empty_database, own_folder / "mlflow.db")
    uri = f"sqlite:///{own_folder / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    mlflow.set_tracking_uri(uri)
    yield uri
    while mlflow.active_run():
        mlflow.end_run()
    mlflow.set_tracking_uri(None)

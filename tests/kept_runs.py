"""A server that goes away and comes back, and what a run on it consists of, for the tests of kept results."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

from abalone.tracking import kept_results
from abalone.tracking.file_sums import FILES_TAG, file_sums

OWN_TAGS = ("process", "dirty", "mlflow.source.git.commit")


class Server:
    """The store of a test in the place of a server: from a given call on, none is answered.

    Parameters
    ----------
    uri : str
        Of the store.
    """

    def __init__(self, uri: str):
        self.uri = uri
        self.calls_left: int | None = None  # None while the server stays
        self.is_busy = False

    def leave_after(self, calls: int) -> None:
        """Answer this many calls more."""
        self.calls_left = calls

    def come_back(self) -> bool:
        """Answer again; returns whether the server was away."""
        was_away = self.calls_left is not None and self.calls_left < 0
        self.calls_left = None
        return was_away

    def answer(self, call: Callable[[], Any]) -> Any:
        """Answer a call, or raise what MLflow's client raises; calls that another call makes do not count."""
        if self.is_busy or self.calls_left is None:
            return call()
        self.calls_left -= 1
        if self.calls_left < 0:
            raise MlflowException("Max retries exceeded with url: /api (Caused by ...: Connection refused)")
        self.is_busy = True
        try:
            return call()
        finally:
            self.is_busy = False


def server_in_place_of(uri: str, empty_database: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    """Make a store one that can go away, as a server can."""
    server = Server(uri)

    def guard(owner: type, name: str, is_on_server: Callable[[Any], bool]) -> None:
        call = getattr(owner, name)

        def guarded(self: Any, *arguments: Any, **options: Any) -> Any:
            bound = partial(call, self, *arguments, **options)
            return server.answer(bound) if is_on_server(self) else bound()

        monkeypatch.setattr(owner, name, guarded)

    for name in vars(SqlAlchemyStore):
        if not name.startswith("_") and callable(getattr(SqlAlchemyStore, name)):
            guard(SqlAlchemyStore, name, lambda store: store.db_uri == uri)
    guard(LocalArtifactRepository, "log_artifacts", lambda files: kept_results.KEPT_RESULTS not in files.artifact_dir)

    def copy_empty_database() -> None:  # because to make one takes seconds
        path = Path(mlflow.get_tracking_uri().removeprefix("sqlite:///"))
        shutil.copy(empty_database, path)

    monkeypatch.setattr(kept_results, "prepare_database", copy_empty_database)
    monkeypatch.setattr(kept_results, "database_path", lambda: None)  # as for any server
    return server


def leave_during(module: Any, train: str, server: Server, monkeypatch: pytest.MonkeyPatch, calls: int = 0) -> None:
    """Let a server go away while a function of a module trains, after it has answered this many calls more."""
    function = getattr(module, train)

    def train_while_it_leaves(*arguments: Any, **options: Any) -> Any:
        trained = function(*arguments, **options)
        server.leave_after(calls)
        return trained

    monkeypatch.setattr(module, train, train_while_it_leaves)


def contents(run_id: str) -> dict[str, Any]:
    """Everything that a run consists of, with ``RUN`` and ``MODEL`` for the ids, and without what each run has its own.

    Those are times, the process, and the state of the work tree, which may change while a test runs.
    """
    client = MlflowClient()
    run = client.get_run(run_id)
    models = [client.get_logged_model(output.model_id) for output in run.outputs.model_outputs]
    names = {run_id: "RUN", **{model.model_id: f"MODEL {model.name}" for model in models}}
    found = {
        "status": run.info.status,
        "name": run.info.run_name,
        "params": run.data.params,
        "tags": {key: rename(value, names) for key, value in run.data.tags.items() if key not in OWN_TAGS},
        "curves": {name: points(client.get_metric_history(run_id, name)) for name in run.data.metrics},
        "inputs": [
            (item.dataset.to_dictionary(), [tag.value for tag in item.tags]) for item in run.inputs.dataset_inputs
        ],
        "files": files(run.info.artifact_uri, names),
    }
    for model in models:
        assert model.source_run_id == run_id
        sums = model.tags.pop(FILES_TAG)
        assert sums == file_sums(Path(mlflow.artifacts.download_artifacts(model.artifact_location)))
        found[model.name] = {
            "status": model.status,
            "params": model.params,
            "tags": {key: value for key, value in model.tags.items() if key not in OWN_TAGS},
            "metrics": points(model.metrics),
            "files": files(model.artifact_location, names),
        }
    found["models"] = len(client.search_logged_models([run.info.experiment_id], f"source_run_id = '{run_id}'"))
    return found


def points(metrics: list[Any]) -> list[tuple[str, int, float]]:
    return sorted((metric.key, metric.step, metric.value) for metric in metrics)


def files(place: str, names: dict[str, str]) -> dict[str, str]:
    """Text, or digest, of each file in a folder of artifacts; figures that are drawn twice differ by some pixels."""
    folder = Path(mlflow.artifacts.download_artifacts(place))
    found = {}
    for path in folder.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            text = "a figure" if path.suffix == ".png" else hashlib.sha256(content).hexdigest()
            with suppress(UnicodeDecodeError):
                text = rename(content.decode(), names)
            found[str(path.relative_to(folder))] = text
    return found


def rename(text: str, names: dict[str, str]) -> str:
    for known, name in names.items():
        text = text.replace(known, name)
    return re.sub(r"utc_time_created: .*", "", text)

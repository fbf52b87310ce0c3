"""The tracking database: created completely or left to MLflow, and what lies beside it."""

from __future__ import annotations

from pathlib import Path

import mlflow
import pytest
from mlflow.exceptions import MlflowException

from abalone.tracking.database import beside_database, prepare_database, reach


@pytest.fixture(autouse=True)
def default_uri_afterwards():
    yield
    mlflow.set_tracking_uri(None)


def test_a_new_database_is_complete_and_leaves_no_draft(own_folder):
    mlflow.set_tracking_uri(f"sqlite:///{own_folder / 'new.db'}")
    prepare_database()
    assert [path.name for path in own_folder.glob("new.db*")] == ["new.db"]
    assert mlflow.MlflowClient().search_experiments()


def test_a_database_that_exists_is_left_as_it_is(own_folder):
    path = own_folder / "known.db"
    path.write_bytes(b"anything")
    mlflow.set_tracking_uri(f"sqlite:///{path}")
    prepare_database()
    assert path.read_bytes() == b"anything"


@pytest.mark.parametrize("uri", ["sqlite:///:memory:", "sqlite:///new.db?timeout=9", "http://127.0.0.1:9", "runs"])
def test_other_stores_are_left_to_mlflow(own_folder, uri):
    mlflow.set_tracking_uri(uri)
    prepare_database()
    assert not list(own_folder.iterdir())


def test_a_store_that_cannot_be_reached_raises_what_mlflow_raises(monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    mlflow.set_tracking_uri("http://127.0.0.1:9")
    with pytest.raises(MlflowException, match=r"127\.0\.0\.1"):
        reach()


@pytest.mark.parametrize(
    "uri, path",
    [
        ("sqlite:////elsewhere/mlflow.db", "/elsewhere/studies.journal"),
        ("sqlite:///mlflow.db", "studies.journal"),
        ("http://127.0.0.1:9", "studies.journal"),
    ],
)
def test_a_file_lies_beside_an_sqlite_database_or_in_the_current_folder(uri, path):
    mlflow.set_tracking_uri(uri)
    assert beside_database("studies.journal") == Path(path)

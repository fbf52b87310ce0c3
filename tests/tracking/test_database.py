"""The tracking database: created completely or left to MLflow, and what lies beside it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import mlflow
import pytest
from mlflow.exceptions import MlflowException

from abalone.settings import UserError
from abalone.tracking.database import (
    beside_database,
    create_experiment,
    database_path,
    prepare_database,
    reach,
    settle_store,
    sqlite_uri,
)

AWKWARD = "My Projekt ä #1 50% a?b"


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
        ("sqlite:////else%20where/mlflow.db?timeout=9", "/else where/studies.journal"),
        ("sqlite:///mlflow.db", "{here}/studies.journal"),
        ("http://127.0.0.1:9", "studies.journal"),
    ],
)
def test_a_file_lies_beside_an_sqlite_database_or_in_the_current_folder(own_folder, uri, path):
    mlflow.set_tracking_uri(uri)
    assert beside_database("studies.journal") == Path(path.format(here=own_folder))


@pytest.fixture
def awkward_folder(own_folder, monkeypatch) -> Path:
    """The working folder, whose name has the characters that a URI encodes."""
    folder = own_folder / AWKWARD
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def test_the_default_uri_of_mlflow_leads_to_the_file_that_mlflow_opens(awkward_folder):
    assert "%20" in mlflow.get_tracking_uri(), "MLflow encodes it"
    prepare_database()
    assert [path.name for path in awkward_folder.iterdir()] == ["mlflow.db"]
    assert database_path() == awkward_folder / "mlflow.db"
    assert mlflow.MlflowClient().get_experiment("0").artifact_location == (awkward_folder / "mlruns/0").as_uri()


def test_no_folder_with_an_encoded_name_is_made_for_characters_that_can_stand_for_themselves(
    empty_database, own_folder, monkeypatch
):
    folder = own_folder / "My Projekt ä #1"
    folder.mkdir()
    shutil.copy(empty_database, folder / "mlflow.db")
    monkeypatch.chdir(folder)
    reach()
    assert [path.name for path in own_folder.iterdir()] == [folder.name]


def test_a_settled_store_is_the_same_one_in_any_folder_and_in_a_child_process(awkward_folder, own_folder, monkeypatch):
    mlflow.set_tracking_uri("sqlite:///new.db?timeout=9")
    settle_store()
    monkeypatch.chdir(own_folder)
    assert database_path() == awkward_folder / "new.db"
    assert os.environ["MLFLOW_TRACKING_URI"] == sqlite_uri(awkward_folder / "new.db") + "?timeout=9"


def test_the_artifacts_of_a_new_experiment_lie_beside_the_database_and_not_in_the_current_folder(store, own_folder):
    create_experiment("mine")
    create_experiment("mine")  # it exists, which is no error
    experiment = mlflow.MlflowClient().get_experiment_by_name("mine")
    assert experiment.artifact_location == (own_folder / "mlruns" / experiment.experiment_id).as_uri()


def test_a_relative_uri_with_mlflow_run_from_another_folder_is_refused_with_the_absolute_form(own_folder, monkeypatch):
    monkeypatch.setenv("MLFLOW_RUN_ID", "0" * 32)
    mlflow.set_tracking_uri("sqlite:///new.db")
    with pytest.raises(UserError, match=r'MLFLOW_TRACKING_URI="sqlite:///\$PWD/new\.db"'):
        prepare_database()
    assert not list(own_folder.iterdir()), "no database is made in the wrong folder"


def test_a_relative_uri_that_leads_to_another_database_than_that_of_the_run_is_refused_too(
    empty_database, own_folder, monkeypatch
):
    shutil.copy(empty_database, own_folder / "other.db")  # a name of its own: MLflow keeps an engine for each URI
    mlflow.set_tracking_uri("sqlite:///other.db")
    monkeypatch.setenv("MLFLOW_RUN_ID", "0" * 32)
    with pytest.raises(UserError, match="is relative"):
        prepare_database()
    monkeypatch.setenv("MLFLOW_RUN_ID", mlflow.MlflowClient().create_run("0").info.run_id)
    prepare_database()
    assert mlflow.get_tracking_uri() == sqlite_uri(own_folder / "other.db")

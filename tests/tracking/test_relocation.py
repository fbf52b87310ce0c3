"""Files of experiments: where new runs may put them, and a database that was moved or copied with its files."""

from __future__ import annotations

import shutil
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient

from abalone.settings import UserError
from abalone.tracking.database import sqlite_uri
from abalone.tracking.relocation import relocate
from abalone.tracking.run_logging import log_files, log_tags
from abalone.tracking.runs import tracked_run


def logged_run() -> str:
    """A finished run with a file."""
    with tracked_run("classify") as run_id:
        log_tags(run_id, log_files(run_id, texts={"note.txt": "kept"}, figures={}, tables={}))
    return run_id


def read_note(run_id: str) -> str:
    return mlflow.artifacts.load_text(f"runs:/{run_id}/note.txt")


def use(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Continue with the database of a folder."""
    mlflow.set_tracking_uri(sqlite_uri(folder / "mlflow.db"))
    monkeypatch.chdir(folder)


@pytest.fixture
def old(store, own_folder, monkeypatch) -> Path:
    """A folder with a database."""
    folder = own_folder / "old ä"
    folder.mkdir()
    (own_folder / "mlflow.db").rename(folder / "mlflow.db")
    use(folder, monkeypatch)
    return folder


def test_a_current_folder_that_is_not_that_of_the_database_stays_empty(old, own_folder, monkeypatch):
    elsewhere = own_folder / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert read_note(logged_run()) == "kept"
    assert not list(elsewhere.iterdir())
    assert (old / "mlruns").is_dir()


def test_an_experiment_that_mlflow_run_has_just_made_keeps_its_files_beside_the_database(old, own_folder, monkeypatch):
    elsewhere = own_folder / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    run = MlflowClient().create_run(MlflowClient().create_experiment("abalone"))  # as `mlflow run` does
    assert str(elsewhere) in run.info.artifact_uri
    monkeypatch.setenv("MLFLOW_RUN_ID", run.info.run_id)
    assert read_note(logged_run()) == "kept"
    assert not list(elsewhere.iterdir())
    assert (old / "mlruns" / run.info.experiment_id / run.info.run_id).is_dir()


def test_a_folder_that_the_user_chose_for_an_experiment_is_used(old, own_folder):
    MlflowClient().create_experiment("abalone", artifact_location=(own_folder / "chosen").as_uri())
    run_id = logged_run()
    assert (own_folder / "chosen" / run_id).is_dir()


def test_after_a_move_a_run_is_refused_until_the_database_is_mended(old, own_folder, monkeypatch):
    run_id = logged_run()
    new = own_folder / "new #1"
    old.rename(new)
    use(new, monkeypatch)
    with pytest.raises(UserError, match=rf"{old}/mlruns/1, but .*{new}/mlruns/1: `python -m abalone relocate`"):
        logged_run()
    assert not old.exists(), "the old folder is not made again"
    assert len(MlflowClient().search_runs(["1"])) == 1, "nothing was filed"
    assert relocate() == f"{old}/mlruns -> {new}/mlruns: experiments 1, runs 1, logged models 0"
    assert read_note(run_id) == read_note(logged_run()) == "kept"
    assert not old.exists()
    assert "nothing to do" in relocate()


def test_a_copy_does_not_write_into_the_folder_that_it_was_copied_from(old, own_folder, monkeypatch):
    run_id = logged_run()
    new = own_folder / "copy"
    shutil.copytree(old, new)
    use(new, monkeypatch)
    with pytest.raises(UserError, match="moved or copied"):
        logged_run()
    relocate()
    shutil.rmtree(old)
    assert read_note(run_id) == "kept"
    logged_run()
    assert not old.exists()


def test_lost_files_are_named_and_nothing_is_changed(old, own_folder, monkeypatch):
    run_id = logged_run()
    before = MlflowClient().get_run(run_id).info.artifact_uri
    (old / "mlruns").rename(own_folder / "put away")
    new = own_folder / "new"
    old.rename(new)
    use(new, monkeypatch)
    with pytest.raises(UserError, match=rf"{old}/mlruns/1, which does not exist: put that folder back, or move it to"):
        logged_run()
    with pytest.raises(UserError, match=rf"{old}/mlruns does not exist, and its files are not in {new}/mlruns either"):
        relocate()
    assert MlflowClient().get_run(run_id).info.artifact_uri == before
    (own_folder / "put away").rename(new / "mlruns")
    relocate()
    assert read_note(run_id) == "kept"


def test_files_of_another_store_in_the_same_folder_are_not_taken_for_those_of_a_moved_one(old, own_folder, monkeypatch):
    run_id = logged_run()
    new = own_folder / "new"
    (new / "mlruns" / "1" / "of another store").mkdir(parents=True)
    shutil.copy(old / "mlflow.db", new)
    use(new, monkeypatch)
    assert "nothing to do" in relocate()
    assert read_note(logged_run()) == read_note(run_id) == "kept", "in the old folder, which is still there"


def test_only_an_sqlite_database_can_be_mended():
    mlflow.set_tracking_uri("http://127.0.0.1:9")
    with pytest.raises(UserError, match=r"http.* is not an SQLite database"):
        relocate()

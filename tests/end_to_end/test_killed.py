"""Commands that are killed at a chosen call or find no room, and what the next command makes of what they leave."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest
from helpers import ROOT
from mlflow import MlflowClient
from registry_store import CLASSIFIER, candidate, model_id_of, promote_one, replace_champion, runs_of
from stores import copy_store, filling
from warm_processes import PYTHON, warm_environment

from abalone.data.reading import SHIPPED_FILE
from abalone.registry.loading import load_champion

STAGE = ("classify", "--epochs", "1")
MAIN = ("main", "--epochs", "1", "--trials", "0", "--seeds", "0", "--workers", "1")
PROMOTE = ("promote", "--task", "classification")
KILL = """
import os, signal, sys
from pkgutil import resolve_name
place, name = sys.argv[1].rsplit(".", 1)
setattr(resolve_name(place), name, lambda *arguments, **options: os.kill(os.getpid(), signal.SIGKILL))
sys.argv = ["abalone", *sys.argv[2:]]
from abalone.cli.program import main
main()
"""
FULL = """
from sqlalchemy import event
from sqlalchemy.engine import Engine
from abalone.cli.program import main

@event.listens_for(Engine, "connect")
def keep_size(connection, record):
    connection.execute("PRAGMA max_page_count = 1")  # SQLite takes it for the size that the file has

main()
"""

pytestmark = pytest.mark.slow


def killed(call: str, *arguments: str) -> None:
    """Run a command in a process that is killed when it first makes a call, such as ``os:link``."""
    assert python("-c", KILL, call, *arguments).returncode == -signal.SIGKILL


def abalone(*arguments: str) -> None:
    """Run a command, which must succeed."""
    done = python("-m", "abalone", *arguments)
    assert done.returncode == 0, done.stderr


def python(*arguments: str) -> subprocess.CompletedProcess:
    env = {**warm_environment(), "PYTHONPATH": str(ROOT)}
    return subprocess.run([PYTHON, *arguments], env=env, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("stage", [STAGE, ("rings", "--epochs", "1", "--members", "2")], ids=["classify", "rings"])
def test_a_stage_that_is_killed_while_it_logs_its_model_leaves_a_failed_run_and_a_failed_model(store, stage):
    killed("mlflow.tracking.MlflowClient.finalize_logged_model", *stage)
    [run] = runs_of(stage[0])
    client = MlflowClient()
    model = client.get_logged_model(model_id_of(run.info.run_id))
    assert (run.info.status, str(model.status)) == ("RUNNING", "PENDING")
    abalone(*STAGE)
    assert client.get_run(run.info.run_id).info.status == "FAILED"
    assert str(client.get_logged_model(model.model_id).status) == "FAILED"


def test_a_first_start_that_is_killed_leaves_no_half_database(own_folder, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{own_folder / 'new.db'}")
    killed("os.link", *STAGE)
    [draft] = own_folder.iterdir()
    assert draft.name.startswith(".new.db.")
    abalone(*STAGE)
    assert sorted(path.name for path in own_folder.iterdir()) == ["mlruns", "new.db"]


@pytest.fixture(scope="module")
def filled(tmp_path_factory, empty_database) -> Path:
    """Folder of a store with a champion and a previous one, and a better candidate."""
    folder = tmp_path_factory.mktemp("champions")
    with filling(folder, empty_database):
        replace_champion()
        candidate("third", 0.8)
    return folder


@pytest.mark.parametrize("call", ["create_model_version", "set_registered_model_alias", "update_registered_model"])
def test_there_is_a_champion_whenever_a_promotion_is_killed_and_the_next_one_completes_it(
    filled, store, own_folder, call
):
    copy_store(filled, own_folder)
    killed(f"mlflow.tracking.MlflowClient.{call}", *PROMOTE)
    load_champion("classification")
    abalone(*PROMOTE)
    assert MlflowClient().get_registered_model(CLASSIFIER).aliases == {"champion": 3, "previous": 2}
    assert [run.info.status for run in runs_of("promote")].count("RUNNING") == 0


def test_a_table_that_is_half_written_when_predict_is_killed_is_removed_by_the_next_one(store):
    for task in ("classification", "regression"):
        candidate(f"a {task}", 0.6, task=task)
        promote_one(task)
    predict = ("predict", "--input", str(SHIPPED_FILE), "--output", "scored.csv")
    killed("pathlib.Path.replace", *predict)
    assert not Path("scored.csv").exists() and list(Path().glob(".scored.csv.*.part"))
    abalone(*predict)
    assert Path("scored.csv").exists() and not list(Path().glob(".scored.csv.*"))


def test_trials_that_a_killed_study_left_are_tried_again(store):
    tune = ("tune", "--epochs", "1", "--trials", "2", "--study", "one")
    killed("abalone.tuning.batches.close_trial", *tune)
    assert {run.info.status for run in runs_of("trial")} == {"RUNNING"}
    abalone(*tune)
    assert sorted(run.info.status for run in runs_of("trial")) == ["FAILED", "FAILED", "FINISHED", "FINISHED"]


@pytest.mark.parametrize("command", [STAGE, MAIN])
def test_a_command_whose_database_finds_no_room_ends_with_one_sentence(store, own_folder, command):
    done = python("-c", FULL, *command)
    sentence = f"the disk is full: {own_folder / 'mlflow.db'} could not be written; free some space"
    assert (done.returncode, done.stderr.splitlines()[-1]) == (1, f"Error: {sentence}")
    assert "Traceback" not in done.stderr and "sqlalche.me" not in done.stderr + done.stdout
    abalone(*STAGE)
    assert "RUNNING" not in {run.info.status for stage in ("classify", "main") for run in runs_of(stage)}

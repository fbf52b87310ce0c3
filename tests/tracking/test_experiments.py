"""Experiments that were deleted are named with the command that restores them; tags that are set twice at once stay."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest
import sqlalchemy
from mlflow import MlflowClient

from abalone.registry.promotion import promote
from abalone.settings import UserError
from abalone.tracking.experiments import tag_experiment
from abalone.tracking.lookup import find_experiment
from abalone.tracking.runs import RunOptions, tracked_run

SENTENCE = (
    r"the experiment 'mine' was deleted; restore it with: mlflow experiments restore --experiment-id 1; or choose"
)


@pytest.fixture
def client(store) -> MlflowClient:
    client = MlflowClient()
    client.delete_experiment(client.create_experiment("mine"))
    return client


def test_a_run_by_name_or_by_the_id_that_mlflow_run_passes_on_is_refused(client, monkeypatch):
    with pytest.raises(UserError, match=SENTENCE), tracked_run("encode", options=RunOptions("mine")):
        pass
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", "1")
    with pytest.raises(UserError, match=SENTENCE), tracked_run("encode"):
        pass


def test_its_runs_are_no_candidates(client):
    with pytest.raises(UserError, match=SENTENCE):
        promote(("classification",), print, experiment="mine")


def test_it_is_found_again_once_it_is_restored(client):
    with pytest.raises(UserError, match=SENTENCE):
        find_experiment("mine")
    client.restore_experiment("1")
    assert find_experiment("mine").experiment_id == "1"


def test_a_tag_that_another_process_adds_between_the_look_and_the_insert_is_changed(store):
    client = MlflowClient()
    experiment_id = client.create_experiment("shared")
    first_inserts = []

    def add_it_before(connection, cursor, statement, *_):
        if statement.startswith("INSERT INTO experiment_tags") and not first_inserts:
            first_inserts.append(statement)
            with closing(sqlite3.connect(store.removeprefix("sqlite:///"))) as other, other:
                other.execute("INSERT INTO experiment_tags VALUES ('view', 'theirs', ?)", [experiment_id])

    sqlalchemy.event.listen(sqlalchemy.Engine, "before_cursor_execute", add_it_before)
    try:
        tag_experiment(experiment_id, "view", "ours")
    finally:
        sqlalchemy.event.remove(sqlalchemy.Engine, "before_cursor_execute", add_it_before)
    assert first_inserts
    assert client.get_experiment(experiment_id).tags == {"view": "ours"}

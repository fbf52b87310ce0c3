"""An experiment that was deleted is said in one sentence, with the command that restores it."""

from __future__ import annotations

import pytest
from mlflow import MlflowClient

from abalone.registry.promotion import promote
from abalone.settings import UserError
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

"""Leaderboards: what they ask for exists, and they select and sort as promotion does."""

from __future__ import annotations

import base64
import json
import zlib

import mlflow
import pytest
from mlflow import MlflowClient

from abalone.settings import load_settings
from abalone.stages.stage import run_stage
from abalone.tracking.views import LEADERBOARDS, VIEW_TAG_PREFIX, offer_views


def leaderboard(experiment_id: str, task: str) -> dict:
    """The state of a task's view, decoded from the tag in which MLflow keeps it."""
    tag = MlflowClient().get_experiment(experiment_id).tags[VIEW_TAG_PREFIX + LEADERBOARDS[task]]
    kind, packed = json.loads(tag)["state"].split(";")
    assert kind == "deflate"
    return json.loads(zlib.decompress(base64.b64decode(packed)))


@pytest.mark.parametrize("stage, metric", [("classify", "log_loss"), ("regress", "rmse")])
def test_a_leaderboard_finds_the_runs_of_its_task_and_shows_columns_that_they_have(store, stage, metric):
    run_ids = {}
    for name in ("classify", "regress"):
        run_ids[name] = run_stage(name, load_settings(name, {"epochs": 1})).run_id
    client = MlflowClient()
    experiment_id = client.get_experiment_by_name("abalone").experiment_id
    board = leaderboard(experiment_id, load_settings(stage).task)
    assert board["orderByKey"] == f"metrics.`val/{metric}`"
    assert board["orderByAsc"] is True
    order = [f"{board['orderByKey']} ASC"]
    [found] = client.search_runs([experiment_id], board["searchFilter"], order_by=order)
    assert found.info.run_id == run_ids[stage]
    logged = {f"metrics.`{key}`" for key in found.data.metrics} | {f"params.`{key}`" for key in found.data.params}
    assert set(board["selectedColumns"]) - {"attributes.`Models`"} <= logged


def test_trials_and_runs_that_failed_are_not_on_a_leaderboard(store):
    client = MlflowClient()
    experiment_id = mlflow.set_experiment("abalone").experiment_id
    run_ids = []
    for stage, status in (("trial", "FINISHED"), ("encode", "FAILED"), ("encode", "FINISHED")):
        run = client.create_run(experiment_id, tags={"stage": stage})
        client.log_metric(run.info.run_id, "val/log_loss", 0.5)
        client.set_terminated(run.info.run_id, status)
        run_ids.append(run.info.run_id)
    offer_views(experiment_id)
    board = leaderboard(experiment_id, "classification")
    assert LEADERBOARDS["classification"] == "classifiers"
    found = client.search_runs([experiment_id], board["searchFilter"])
    assert [run.info.run_id for run in found] == run_ids[-1:]

"""The leaderboards that the UI offers: what they ask for exists, and selects and sorts as promotion does."""

from __future__ import annotations

import base64
import json
import zlib

import pytest
from mlflow import MlflowClient

from abalone import config, stages
from abalone.views import NAMES, TAG, leaderboards


def state(text: str) -> dict:
    kind, packed = json.loads(text)["state"].split(";")
    assert kind == "deflate"
    return json.loads(zlib.decompress(base64.b64decode(packed)))


@pytest.mark.parametrize("stage, metric", [("classify", "log_loss"), ("regress", "rmse")])
def test_a_leaderboard_finds_the_runs_of_its_task_and_shows_what_they_hold(store, stage, metric):
    for name in ("classify", "regress"):
        run_id = stages.run_stage(name, config.load(name, {"epochs": 1})).run_id
        if name == stage:
            wanted = run_id
    client = MlflowClient()
    [experiment] = client.search_experiments(filter_string="name = 'abalone'")
    board = state(experiment.tags[TAG + NAMES[config.load(stage).task]])
    assert board["orderByKey"] == f"metrics.`{metric}/val`" and board["orderByAsc"] is True
    order = [f"{board['orderByKey']} {'ASC' if board['orderByAsc'] else 'DESC'}"]
    [found] = client.search_runs([experiment.experiment_id], board["searchFilter"], order_by=order)
    assert found.info.run_id == wanted
    held = {f"metrics.`{key}`" for key in found.data.metrics} | {f"params.`{key}`" for key in found.data.params}
    assert set(board["selectedColumns"]) - {"attributes.`Models`"} <= held


def test_trials_of_studies_are_not_on_a_leaderboard():
    assert all("tags.stage != 'trial'" in state(text)["searchFilter"] for text in leaderboards(0).values())

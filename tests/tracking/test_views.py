"""The leaderboards that the UI offers: what they ask for exists, and selects and sorts as promotion does."""

from __future__ import annotations

import base64
import json
import zlib

import pytest
from mlflow import MlflowClient

from abalone.settings import load_settings
from abalone.stages.stage import run_stage
from abalone.tracking.views import LEADERBOARDS, TAG, leaderboards


def state(text: str) -> dict:
    kind, packed = json.loads(text)["state"].split(";")
    assert kind == "deflate"
    return json.loads(zlib.decompress(base64.b64decode(packed)))


@pytest.mark.parametrize("stage, metric", [("classify", "log_loss"), ("regress", "rmse")])
def test_a_leaderboard_finds_the_runs_of_its_task_and_shows_what_they_hold(store, stage, metric):
    for name in ("classify", "regress"):
        run_id = run_stage(name, load_settings(name, {"epochs": 1})).run_id
        if name == stage:
            wanted = run_id
    client = MlflowClient()
    [experiment] = client.search_experiments(filter_string="name = 'abalone'")
    board = state(experiment.tags[TAG + LEADERBOARDS[load_settings(stage).task]])
    assert board["orderByKey"] == f"metrics.`{metric}/val`" and board["orderByAsc"] is True
    order = [f"{board['orderByKey']} {'ASC' if board['orderByAsc'] else 'DESC'}"]
    [found] = client.search_runs([experiment.experiment_id], board["searchFilter"], order_by=order)
    assert found.info.run_id == wanted
    held = {f"metrics.`{key}`" for key in found.data.metrics} | {f"params.`{key}`" for key in found.data.params}
    assert set(board["selectedColumns"]) - {"attributes.`Models`"} <= held


def test_trials_and_what_has_not_ended_well_are_not_on_a_leaderboard(store):
    client = MlflowClient()
    for stage, status in (("trial", "FINISHED"), ("encode", "FAILED"), ("encode", "FINISHED")):
        run = client.create_run("0", tags={"stage": stage})
        client.log_metric(run.info.run_id, "log_loss/val", 0.5)
        client.set_terminated(run.info.run_id, status)
    board = state(leaderboards(0)[TAG + "classifiers"])
    assert [found.info.run_id for found in client.search_runs(["0"], board["searchFilter"])] == [run.info.run_id]

"""Shared views: what they ask for exists, and leaderboards select and sort as promotion does."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Sequence
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from stores import copy_store, filling

from abalone.settings import load_settings
from abalone.stages.stage import run_stage
from abalone.tracking.views import (
    CURVES_VIEW,
    LEADERBOARDS,
    STAGES_VIEW,
    TRIALS_VIEW,
    VIEW_TAG_PREFIX,
    offer_views,
)


def view(experiment_id: str, name: str) -> dict:
    """The state of a view, decoded from the tag in which MLflow keeps it."""
    tag = MlflowClient().get_experiment(experiment_id).tags[VIEW_TAG_PREFIX + name]
    kind, packed = json.loads(tag)["state"].split(";")
    assert kind == "deflate"
    return json.loads(zlib.decompress(base64.b64decode(packed)))


def found_by(experiment_id: str, state: dict) -> list[Run]:
    """The runs that a view shows, in its order."""
    direction = "ASC" if state["orderByAsc"] else "DESC"
    order = [f"{state['orderByKey']} {direction}"]
    return MlflowClient().search_runs([experiment_id], state["searchFilter"], order_by=order)


def columns_of(runs: Sequence[Run]) -> set[str]:
    """The columns that runs can fill, in MLflow's spelling."""
    columns = {"attributes.`Models`"}
    for run in runs:
        for kind, names in (("metrics", run.data.metrics), ("params", run.data.params), ("tags", run.data.tags)):
            columns |= {f"{kind}.`{name}`" for name in names}
    return columns


@pytest.fixture
def abalone(store: str) -> str:
    """Id of an experiment with its views."""
    experiment_id = mlflow.set_experiment("abalone").experiment_id
    offer_views(experiment_id)
    return experiment_id


def add_run(experiment_id: str, status: str = "FINISHED", **tags: str) -> str:
    """A run that has ended, with the columns of a stage or a trial; returns its name."""
    client = MlflowClient()
    name = tags.get("name", tags["stage"])
    run_id = client.create_run(experiment_id, tags=tags, run_name=name).info.run_id
    client.set_terminated(run_id, status)
    return name


def names_of(runs: Sequence[Run]) -> list[str]:
    return [run.info.run_name for run in runs]


@pytest.fixture(scope="module")
def filled(tmp_path_factory, empty_database) -> tuple[Path, dict[str, str]]:
    """Folder of a store with a run of each task, and the ids of the runs by stage."""
    folder = tmp_path_factory.mktemp("stages")
    run_ids = {}
    with filling(folder, empty_database):
        for stage in ("classify", "regress"):
            settings = load_settings(stage, {"epochs": 6, "batch_size": 500})  # enough for a rise
            run_ids[stage] = run_stage(stage, settings).run_id
    return folder, run_ids


@pytest.mark.parametrize("stage, metric", [("classify", "log_loss"), ("regress", "rmse")])
def test_a_leaderboard_finds_the_runs_of_its_task_and_shows_columns_that_they_have(
    filled, store, own_folder, stage, metric
):
    folder, run_ids = filled
    copy_store(folder, own_folder)
    client = MlflowClient()
    experiment_id = client.get_experiment_by_name("abalone").experiment_id
    board = view(experiment_id, LEADERBOARDS[load_settings(stage).task])
    assert board["orderByKey"] == f"metrics.`val/{metric}`"
    assert board["orderByAsc"] is True
    [found] = found_by(experiment_id, board)
    assert found.info.run_id == run_ids[stage]
    assert set(board["selectedColumns"]) <= columns_of([found])
    assert board["columnOrder"] == board["selectedColumns"] == list(board["columnWidths"])

    stages = view(experiment_id, STAGES_VIEW)
    runs = found_by(experiment_id, stages)
    assert names_of(runs) == ["classify", "regress"], "in the guide's order"
    assert set(stages["selectedColumns"]) <= columns_of(runs)


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
    assert LEADERBOARDS["classification"] == "classifiers"
    board = view(experiment_id, "classifiers")
    found = client.search_runs([experiment_id], board["searchFilter"])
    assert [run.info.run_id for run in found] == run_ids[-1:]


def test_the_stages_stand_in_the_guides_order_those_of_several_runs_of_main_side_by_side(abalone):
    for order, stage in (("2", "deepen"), ("1", "classify"), ("7", "rings")) * 2:
        add_run(abalone, stage=stage, guide_order=order)
    add_run(abalone, "FAILED", stage="encode", guide_order="3")
    add_run(abalone, stage="promote")
    found = found_by(abalone, view(abalone, STAGES_VIEW))
    assert names_of(found) == ["classify", "classify", "deepen", "deepen", "rings", "rings"]


def test_the_curves_are_those_of_the_stages_about_overfitting_and_every_stage_logs_them(store):
    for stage in ("classify", "dropout", "encode"):
        run_stage(stage, load_settings(stage, {"epochs": 2, "batch_size": 500}))
    experiment_id = MlflowClient().get_experiment_by_name("abalone").experiment_id
    state = view(experiment_id, CURVES_VIEW)
    runs = found_by(experiment_id, state)
    assert names_of(runs) == ["encode", "dropout"]
    assert len({run.data.tags["mlflow.runColor"] for run in runs}) == 2, "or nobody can tell their curves apart"
    for chart in state["compareRunCharts"]:
        assert set(chart["selectedMetricKeys"]) <= set(runs[0].data.metrics)
        assert chart["metricSectionId"] == state["compareRunSections"][0]["uuid"], "or it is not drawn"
    drawn = [chart["selectedMetricKeys"] for chart in state["compareRunCharts"]]
    assert ["loss/train", "loss/val", "loss/test"] in drawn


def test_trials_are_listed_by_study_whatever_became_of_them_and_never_folded_under_their_studies(abalone):
    add_run(abalone, stage="tune", study="b")
    for study, status in (("b", "KILLED"), ("a", "FINISHED"), ("a", "FAILED")):
        add_run(abalone, status, stage="trial", study=study, name=f"trial of {study}")
    state = view(abalone, TRIALS_VIEW)
    assert names_of(found_by(abalone, state)) == ["trial of a", "trial of a", "trial of b"]
    assert state["orderByKey"] != "attributes.start_time", "which makes the UI fold children"

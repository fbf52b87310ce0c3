"""The description of an experiment: links first, then the stages in the guide's order."""

from __future__ import annotations

from mlflow import MlflowClient
from page_examples import final, table

from abalone.settings import STAGES, load_settings
from abalone.stages.experiment_map import stage_map, start_line
from abalone.stages.stage import run_stage
from abalone.tracking.run_logging import DESCRIPTION_TAG


def test_the_first_line_links_to_the_views_and_the_champions():
    line = start_line("7", {"classification": 3, "regression": 4})
    assert "\n" not in line
    for view in ("stages", "curves", "classifiers", "regressors", "trials"):
        assert f"viewStateShareKey={view})" in line
    assert "compareRunsMode=CHART&viewStateShareKey=curves" in line
    assert "champions: [classifier](#/models/abalone-classifier/versions/3?" in line
    assert "[regressor](#/models/abalone-regressor/versions/4?" in line
    assert "champions" not in start_line("7")


def test_the_map_has_the_stages_in_order_with_links_scores_and_failures():
    run_ids = {"regress": "r5", "encode": "r3", "dropout": "", "rings": "r7", "tuned encode": "r8"}
    metrics = {
        "encode": final("classification", 0.75, 0.5, rise=0.0163),
        "regress": final("regression", 2.5, 3.2, rise=0.1),
        "rings": {**final("classification", 0.8, 0.5), **final("regression", 2.05, 3.2)},
    }
    _, _, *rows = table(stage_map("7", run_ids, metrics, failed={"dropout"}))
    by_stage = {row[0].strip("[").split("]")[0]: row for row in rows}
    assert list(by_stage) == [*STAGES, "rings", "tuned encode"]
    assert by_stage["encode"][0] == "[encode](#/experiments/7/runs/r3?workflowType=machine_learning)"
    assert by_stage["encode"][1:] == ["2 to 2.c", STAGES["encode"].teaches, "accuracy 0.7500", "+0.016"]
    assert by_stage["regress"][3:] == ["RMSE 2.5000 rings", "–"]
    assert by_stage["rings"][3] == "accuracy 0.8000, RMSE 2.0500 rings"
    assert by_stage["dropout"][0] == "dropout"
    assert by_stage["dropout"][3] == "failed"
    assert by_stage["classify"][3] == "–"


def test_the_first_single_stage_describes_its_experiment_and_later_ones_leave_it(store):
    first = run_stage("classify", load_settings("classify", {"epochs": 1}))
    client = MlflowClient()
    experiment_id = client.get_run(first.run_id).info.experiment_id
    described = client.get_experiment(experiment_id).tags[DESCRIPTION_TAG]
    assert described.startswith("**Start here**: [stages in the guide's order](#/experiments/")
    assert [row[0] for row in table(described)[2:]] == [*STAGES, "rings"]
    client.set_experiment_tag(experiment_id, DESCRIPTION_TAG, "my own words")
    run_stage("classify", load_settings("classify", {"epochs": 1}))
    assert client.get_experiment(experiment_id).tags[DESCRIPTION_TAG] == "my own words"

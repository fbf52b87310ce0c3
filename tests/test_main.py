"""``main``: what fails does not stop the rest, and the parent run ends with everything in one table."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient
from ring_fits import SHORT

from abalone.data.reading import SHIPPED_FILE
from abalone.main import run_main
from abalone.settings import REGISTERED_MODELS, UserError, load_settings


def runs_by_name() -> dict:
    client = MlflowClient()
    experiment = client.get_experiment_by_name("abalone")
    return {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}


def test_main_goes_on_past_a_failed_stage_and_then_fails(store):
    stages = {stage: load_settings(stage, {"epochs": 2}) for stage in ("classify", "dropout", "regress")}
    stages["dropout"] = load_settings("dropout", {"epochs": 2, "data": "missing.data"})
    said = []
    with pytest.raises(UserError, match="1 of 3 stages failed: dropout"):
        run_main(stages, said.append)

    runs = runs_by_name()
    assert {name: run.info.status for name, run in runs.items()} == {
        "main": "FAILED",
        "classify": "FINISHED",
        "dropout": "FAILED",
        "regress": "FINISHED",
        "promote classification": "FINISHED",
        "promote regression": "FINISHED",
    }
    parent = runs.pop("main")
    assert parent.data.tags["stage"] == "main"
    assert all(run.data.tags.get("mlflow.parentRunId") == parent.info.run_id for run in runs.values())
    files = {item.path for item in MlflowClient().list_artifacts(parent.info.run_id)}
    assert files >= {"comparison.png", "stages.md"}
    assert not parent.data.metrics, "the best of many test scores is no score"
    assert "mlflow ui" in said[-1]
    assert parent.info.run_id in said[-1]
    assert sum(line.startswith(tuple(stages)) for line in said) == 3, "a progress line per stage"


def test_main_closes_with_its_table_even_if_the_report_fails(store):
    shutil.copy(SHIPPED_FILE, "mine.data")
    said = []

    def say(line: str) -> None:
        said.append(line)
        if line.startswith("classify "):  # the stage is done; the report comes later, and reads the file again
            Path("mine.data").unlink()

    stages = {"classify": load_settings("classify", {"epochs": 1, "data": "mine.data"})}
    with pytest.raises(UserError, match=r"the report failed: data file .*mine\.data: cannot be read"):
        run_main(stages, say, seeds=3)
    assert "| classify" in said[-1]
    assert "| the guide" in said[-1]
    assert "mlflow ui" in said[-1]
    assert any(line.startswith("report FAILED: data file") for line in said)


def test_main_runs_rings_after_the_stages_and_shows_it_with_them(store):
    said = []
    stages = {"classify": load_settings("classify", {"epochs": 1})}
    [classify, rings] = run_main(stages, said.append, rings=load_settings("rings", SHORT))
    assert not rings.error
    row = next(line for line in said[-1].splitlines() if line.startswith("| rings"))
    for name in ("accuracy", "rmse", "roc_auc"):
        assert f"{rings.metrics[f'test/{name}']:.4f}" in row
    client = MlflowClient()
    champions = [client.get_model_version_by_alias(name, "champion") for name in REGISTERED_MODELS.values()]
    assert {version.run_id for version in champions} == {rings.run_id}
    assert rings.run_id != classify.run_id

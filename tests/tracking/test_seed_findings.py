"""What many seeds say is read from the newest report that fits."""

from __future__ import annotations

import mlflow
import pytest
from mlflow import MlflowClient

from abalone.settings import load_settings
from abalone.stages.stage import run_stage
from abalone.tracking.seed_findings import find_seed_findings

SENTENCE = "Over 20 seeds the test loss rises by 0.020 less than in encode (19 of 20)."
SHIPPED = "de37cdcdcaaa"  # the tag ``dataset`` of runs on the shipped file


def plant_report(sentence: str, status: str = "FINISHED", dataset: str = SHIPPED, epochs: int = 50) -> str:
    """Leave a report as ``run_report`` does, with one sentence about regularize; return its id."""
    client = MlflowClient()
    experiment_id = mlflow.set_experiment("abalone").experiment_id
    tags = {"stage": "report", "dataset": dataset, "seeds.regularize": sentence}
    run = client.create_run(experiment_id, tags=tags)
    client.log_param(run.info.run_id, "epochs", epochs)
    client.set_terminated(run.info.run_id, status)
    return run.info.run_id


def test_the_sentence_of_a_stage_comes_with_a_link_to_the_report(store):
    report = plant_report(SENTENCE)
    found = find_seed_findings(report, SHIPPED, 50)
    experiment_id = MlflowClient().get_run(report).info.experiment_id
    link = f"[report](#/experiments/{experiment_id}/runs/{report}?workflowType=machine_learning)"
    assert found.about("regularize") == f"{SENTENCE} ({link})"
    assert found.about("deepen") == ""


def test_the_newest_report_counts(store):
    plant_report("Old.")
    newest = plant_report("New.")
    assert find_seed_findings(newest, SHIPPED, 50).sentences == {"regularize": "New."}


@pytest.mark.parametrize("other", [{"status": "FAILED"}, {"dataset": "another"}, {"epochs": 3}])
def test_a_report_that_failed_or_is_of_other_data_or_epochs_does_not_count(store, other):
    run_id = plant_report(SENTENCE, **other)
    assert find_seed_findings(run_id, SHIPPED, 50) is None


@pytest.mark.parametrize("changed, is_cited", [({}, True), ({"seed": 1}, True), ({"weight_decay": 0.02}, False)])
def test_a_stage_cites_the_report_if_its_settings_are_those_that_were_reported(store, changed, is_cited):
    plant_report(SENTENCE, epochs=1)
    result = run_stage("regularize", load_settings("regularize", {"epochs": 1, **changed}))
    page = MlflowClient().get_run(result.run_id).data.tags["mlflow.note.content"]
    assert (SENTENCE in page) == is_cited

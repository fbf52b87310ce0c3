"""``main``: what fails does not stop the rest, and the parent run ends with everything in one table."""

from __future__ import annotations

import pytest
from mlflow.tracking import MlflowClient
from ring_fits import SHORT
from warm_processes import start_workers_warm

from abalone.main import run_main
from abalone.settings import REGISTERED_MODELS, UserError, load_settings
from abalone.side_by_side import worker_processes
from abalone.tracking.reachable import ServerAway
from abalone.tracking.run_logging import log_params, log_tags
from abalone.tracking.runs import tracked_run


def runs_by_name() -> dict:
    client = MlflowClient()
    experiment = client.get_experiment_by_name("abalone")
    return {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}


def test_main_goes_on_past_a_failed_stage_and_then_fails(store):
    stages = {stage: load_settings(stage, {"epochs": 2}) for stage in ("classify", "encode", "dropout", "regress")}
    stages["dropout"] = load_settings("dropout", {"epochs": 2, "data": "missing.data"})
    said = []
    with pytest.raises(UserError, match="1 of 4 stages failed: dropout"):
        run_main(stages, said.append)

    runs = runs_by_name()
    assert {name: run.info.status for name, run in runs.items()} == {
        "main": "FAILED",
        "classify": "FINISHED",
        "encode": "FINISHED",
        "dropout": "FAILED",
        "regress": "FINISHED",
        "promote classification": "FINISHED",
        "promote regression": "FINISHED",
    }
    parent = runs.pop("main")
    assert parent.data.tags["stage"] == "main"
    assert all(run.data.tags.get("mlflow.parentRunId") == parent.info.run_id for run in runs.values())
    files = {item.path for item in MlflowClient().list_artifacts(parent.info.run_id)}
    assert files >= {"stages.json", "stages.md"}
    assert "lesson.png" in files, "dropout failed, but encode is there"
    assert not parent.data.metrics, "the best of many test scores is no score"
    assert " ui --backend-store-uri " in said[-1]
    assert parent.info.run_id in said[-1]
    assert sum(line.startswith(tuple(stages)) for line in said) == 4, "a progress line per stage"


def test_main_ends_with_the_stage_during_which_its_server_goes_away(store, monkeypatch):
    def away():
        raise ServerAway("the tracking server does not answer")

    monkeypatch.setattr("abalone.main.check_store", away)
    settings = load_settings("classify", {"epochs": 1, "data": "uci"})
    monkeypatch.setattr("abalone.main.run_stage", lambda *arguments, options: away())
    said = []
    with pytest.raises(ServerAway):
        run_main({"classify": settings, "deepen": settings}, said.append)
    assert [line.split()[:2] for line in said] == [["classify", "FAILED:"]]


def test_main_closes_with_its_table_even_if_the_report_fails(store, monkeypatch):
    def fail(*arguments):
        raise UserError("no report today")

    monkeypatch.setattr("abalone.main.run_report", fail)
    said = []
    stages = {"classify": load_settings("classify", {"epochs": 1})}
    with pytest.raises(UserError, match="the report failed: no report today"):
        run_main(stages, said.append, seeds=3)
    assert "| classify" in said[-1]
    assert "| the guide" in said[-1]
    assert " ui --backend-store-uri " in said[-1]
    assert "report FAILED: no report today" in said


def test_main_judges_the_claims_first_so_that_pages_can_cite_them(store, monkeypatch):
    def report(stages, seeds, say, options):
        with tracked_run("report", {"stage": "report", "dataset": "de37cdcdcaaa"}, options) as run_id:
            log_params(run_id, {"epochs": 1})
            log_tags(run_id, {"seeds.classify": "Over 3 seeds all is well."})

    monkeypatch.setattr("abalone.main.run_report", report)
    said = []
    run_main({"classify": load_settings("classify", {"epochs": 1})}, said.append, seeds=3)
    assert said[0].startswith("Judging the guide's claims over 3 seeds first")
    page = runs_by_name()["classify"].data.tags["mlflow.note.content"]
    assert "Over 3 seeds all is well. ([report](#/" in page


def test_the_experiment_opens_with_links_then_what_won_then_the_stages(store):
    stages = {name: load_settings(name, {"epochs": 1}) for name in ("classify", "encode")}
    run_main(stages, lambda line: None)
    runs = runs_by_name()
    client = MlflowClient()
    description = client.get_experiment(runs["main"].info.experiment_id).tags["mlflow.note.content"]
    start, won, stage_table, lesson, picture, *_ = description.split("\n\n")
    assert start.startswith("**Start here**")
    assert "/versions/1?" in start, "the champion"
    assert won.startswith("Best classifier")
    for name in stages:
        assert f"[{name}](#/experiments/{runs[name].info.experiment_id}/runs/{runs[name].info.run_id}?" in stage_table
    assert f"runs/{runs['main'].info.run_id}/artifacts/lesson.png?" in lesson
    assert picture.startswith("![")
    page = runs["main"].data.tags["mlflow.note.content"]
    assert page.startswith(start)
    assert lesson in page and stage_table in page


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


def test_main_finds_the_same_whatever_the_number_of_workers(store, monkeypatch):
    start_workers_warm(monkeypatch)
    monkeypatch.setenv("WARM_FIGURES", "blank")
    stages = {name: load_settings(name, {"epochs": 2, "device": "cpu"}) for name in ("encode", "regress")}
    rings = load_settings("rings", {**SHORT, "device": "cpu"})
    found = []
    for workers in (1, 2):
        with worker_processes(workers):
            results = run_main(stages, lambda line: None, rings=rings, trials=2)
        found.append({result.stage: (result.metrics, result.curves) for result in results})
    assert found[0] == found[1] and len(found[0]) == 5

    trials = {}
    for run in trial_runs():
        values = (run.info.run_name, run.data.params, run.data.metrics)
        trials.setdefault(run.data.tags["study"], []).append(values)
    by_task = sorted(trials.items())
    assert [name.split("-")[0] for name, _ in by_task] == ["classification"] * 2 + ["regression"] * 2
    assert by_task[0][1] == by_task[1][1] and by_task[2][1] == by_task[3][1]


def trial_runs() -> list:
    client = MlflowClient()
    experiment = client.get_experiment_by_name("abalone")
    order = ["tags.mlflow.runName"]
    return client.search_runs([experiment.experiment_id], "tags.stage = 'trial'", order_by=order)

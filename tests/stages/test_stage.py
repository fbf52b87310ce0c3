"""A stage's run: what it holds, what it costs, and how it ends when something goes wrong."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import threading
import tomllib
from pathlib import Path

import mlflow
import pytest
from data_files import write_diverging_rows
from helpers import process_tags_with
from mlflow.entities import Run
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from mlflow.tracking import MlflowClient
from stores import copy_store, filling

from abalone.data.reading import read
from abalone.settings import load_settings, read_toml
from abalone.stages.lessons import LESSONS
from abalone.stages.stage import run_stage
from abalone.tracking.processes import process_tags
from abalone.training.history import SPLITS, TrainingDiverged

CLASSIFIER_SCORES = ("accuracy", "balanced_accuracy", "roc_auc", "log_loss", "brier")
REGRESSOR_SCORES = ("rmse", "mae", "r2")


def run(stage: str = "classify", **overrides):
    """Run one stage, with one epoch by default; return its run as MLflow keeps it."""
    result = run_stage(stage, load_settings(stage, {"epochs": 1, **overrides}))
    return MlflowClient().get_run(result.run_id)


@pytest.fixture(scope="module")
def filled(tmp_path_factory, empty_database) -> tuple[Path, dict[str, Run]]:
    """Folder of a store with runs of three stages, of three epochs each, and the runs by stage."""
    folder = tmp_path_factory.mktemp("stages")
    with filling(folder, empty_database):
        runs = {stage: run(stage, epochs=3) for stage in ("encode", "classify", "regress")}
    return folder, runs


@pytest.fixture
def runs(filled, store, own_folder) -> dict[str, Run]:
    """The runs of three stages, by stage."""
    folder, runs = filled
    copy_store(folder, own_folder)
    return runs


def curve(run_id: str, name: str) -> list[tuple[int, float]]:
    return [(point.step, point.value) for point in MlflowClient().get_metric_history(run_id, name)]


def artifacts(run_id: str, path: str | None = None) -> set[str]:
    return {item.path for item in MlflowClient().list_artifacts(run_id, path)}


def text(run_id: str, path: str) -> str:
    with open(mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path=path), encoding="utf-8") as file:
        return file.read()


def page(kept) -> str:
    return kept.data.tags["mlflow.note.content"]


def model_uri(kept) -> str:
    """The address that the run's page names."""
    return page(kept).split('load_model("')[1].split('"')[0]


def test_a_run_holds_parameters_tags_and_the_data_set(runs):
    kept = runs["encode"]
    settings = load_settings("encode", {"epochs": 3})
    assert kept.info.status == "FINISHED"
    assert kept.info.run_name == "encode"
    assert MlflowClient().get_experiment(kept.info.experiment_id).name == "abalone"
    assert kept.data.params == settings.as_text()
    tags = kept.data.tags
    assert (tags["stage"], tags["task"], tags["guide_section"]) == ("encode", "classification", "2 to 2.c")
    assert tags["dataset"] == "de37cdcdcaaa"
    assert len(tags["split"]) == 12
    assert "torch 2." in tags["packages"]
    assert tags["dirty"] in ("true", "false", "unknown")
    contexts = {item.tags[0].value: json.loads(item.dataset.profile)["num_rows"] for item in kept.inputs.dataset_inputs}
    assert contexts == {"train": 1670, "validation": 418, "test": 2089}


@pytest.mark.parametrize(
    "stage, curve_name, scores", [("classify", "accuracy", CLASSIFIER_SCORES), ("regress", "rmse", REGRESSOR_SCORES)]
)
def test_a_run_holds_curves_and_final_scores(runs, stage, curve_name, scores):
    kept = runs[stage]
    for part in SPLITS:
        for name in ("loss", curve_name):
            steps = [step for step, _ in curve(kept.info.run_id, f"{name}/{part}")]
            assert steps == [1, 2, 3], f"{name}/{part}"
    assert len(curve(kept.info.run_id, "learning_rate")) == 3
    metrics = kept.data.metrics
    for part in ("val", "test"):
        for name in scores:
            assert math.isfinite(metrics[f"{part}/{name}"])
            assert math.isfinite(metrics[f"baseline/{part}_{name}"])
    # Three epochs beat the baseline by far.
    if stage == "classify":
        assert metrics["test/accuracy"] > 0.6
    else:
        assert metrics["test/rmse"] < 3.0
    # The curve at the reported epoch and the final score are the same measurement, made in two ways.
    reported = dict(curve(kept.info.run_id, f"{curve_name}/val"))[int(metrics["reported_epoch"])]
    assert metrics[f"val/{curve_name}"] == pytest.approx(reported, abs=1e-5)


def test_final_scores_and_epochs_are_metrics_of_the_logged_model_too(runs):
    kept = runs["classify"]
    model_id = model_uri(kept).removeprefix("models:/")
    shown = {metric.key: metric.value for metric in MlflowClient().get_logged_model(model_id).metrics}
    for name in ("test/accuracy", "baseline/val_accuracy", "best_epoch", "reported_epoch"):
        assert shown[name] == kept.data.metrics[name]


def test_a_run_holds_figures_tables_and_the_command_that_repeats_it(runs):
    kept = runs["classify"]
    run_id = kept.info.run_id
    assert artifacts(run_id) >= {"curves.png", "roc.png", "confusion.png", "settings.toml", "command.txt"}
    assert artifacts(run_id, "predictions") == {"predictions/val.json", "predictions/test.json"}
    assert tomllib.loads(text(run_id, "settings.toml")) == {**read_toml("classify"), "epochs": 3}
    command = text(run_id, "command.txt")
    assert "-e classify" in command
    assert "-P epochs=3" in command
    table = json.loads(text(run_id, "predictions/test.json"))
    assert len(table["data"]) == 2089
    assert table["columns"][:6] == ["row", "predicted_label", "true_label", "correct", "Rings", "probability_old"]
    shown = {item["path"] for item in json.loads(kept.data.tags["mlflow.loggedArtifacts"])}
    assert "predictions/test.json" in shown, "the UI shows the tables that this tag names"
    assert artifacts(runs["regress"].info.run_id) >= {"curves.png", "predicted_actual.png", "residuals.png"}


def test_a_page_compares_the_run_with_the_baseline_and_the_stage_before(runs):
    first = runs["classify"]
    second = run("deepen", epochs=3)
    assert page(second).startswith(f"**{LESSONS['deepen'].question}**")
    assert "baseline" in page(second)
    assert first.info.run_id in page(second)
    assert f"{first.data.metrics['test/accuracy']:.4f}" in page(second)
    assert "mlflow.pytorch.load_model" in page(second)
    assert mlflow.pytorch.load_model(model_uri(second)).training is False


def test_the_stage_before_is_a_run_whose_settings_differ_only_in_what_is_taught(store):
    other = run("classify", epochs=1)
    same = run("classify", seed=0, epochs="2")
    newer = run("classify", epochs=1)
    shown = page(run("deepen", epochs=2))
    assert same.info.run_id in shown
    assert other.info.run_id not in shown
    assert newer.info.run_id not in shown
    assert "[classify]" not in page(run("deepen", epochs=3))


def test_dropout_is_compared_with_both_other_stages_about_overfitting(store):
    encode = run("encode", epochs=6, batch_size=500)
    regularize = run("regularize", epochs=6, batch_size=500)
    shown = page(run("dropout", epochs=6, batch_size=500))
    first = shown.split("\n\n")[0]
    assert first.index(regularize.info.run_id) < first.index(encode.info.run_id)


def count_calls(monkeypatch, owner: type, name: str, calls: list) -> None:
    """Let a method of MLflow or Python add its arguments to ``calls`` before it does its work."""
    original = getattr(owner, name)

    def counted(self, *arguments, **options):
        calls.append(arguments)
        return original(self, *arguments, **options)

    monkeypatch.setattr(owner, name, counted)


def test_fifty_epochs_take_few_calls_and_no_other_process(store, monkeypatch):
    writes = []
    processes = []
    count_calls(monkeypatch, SqlAlchemyStore, "log_batch", writes)
    count_calls(monkeypatch, SqlAlchemyStore, "log_metric", writes)
    count_calls(monkeypatch, subprocess.Popen, "__init__", processes)
    kept = run("classify", epochs=50, batch_size=2000)
    assert 1 <= len(writes) <= 5, writes
    assert all(command[0] == "git" for command, *_ in processes), processes
    assert len(curve(kept.info.run_id, "loss/val")) == 50


def test_parameters_that_mlflow_run_wrote_stay_as_they_were_typed(store, monkeypatch):
    client = MlflowClient()
    experiment_id = mlflow.set_experiment("elsewhere").experiment_id
    prepared = client.create_run(experiment_id)
    client.log_param(prepared.info.run_id, "learning_rate", "1e-3")
    monkeypatch.setenv("MLFLOW_RUN_ID", prepared.info.run_id)
    kept = run("classify", learning_rate="1e-3")
    assert kept.info.run_id == prepared.info.run_id
    assert kept.info.experiment_id == experiment_id
    assert kept.data.params["learning_rate"] == "1e-3"
    assert kept.data.params["gamma"] == "0.95"
    assert kept.info.run_name == "classify", "a name that MLflow made up is replaced by that of the stage"


def test_a_name_that_the_user_chose_stays(store, monkeypatch):
    prepared = MlflowClient().create_run(mlflow.set_experiment("elsewhere").experiment_id, run_name="my-own-1")
    monkeypatch.setenv("MLFLOW_RUN_ID", prepared.info.run_id)
    assert run().info.run_name == "my-own-1"


def only_run():
    client = MlflowClient()
    [found] = client.search_runs([client.get_experiment_by_name("abalone").experiment_id])
    return found


def test_a_diverging_run_fails_and_says_why(store, own_folder):
    data = write_diverging_rows("test", "huge.data")
    with pytest.raises(TrainingDiverged, match="learning_rate"):
        run("regress", epochs=3, clip=0, data=data)
    assert only_run().info.status == "FAILED"
    assert "diverged" in only_run().data.tags["error"]


def test_a_table_of_ones_own_is_trained_on_and_the_page_says_how_it_was_read(store, own_folder):
    frame = read().frame.head(500).rename(columns={"Sex": "gender", "Rings": "Age"})
    frame["Age"] += 1.5
    frame.to_csv("mine.csv", index=False, sep=";", decimal=",")
    said = []
    settings = load_settings("encode", {"epochs": 1, "data": "mine.csv"})
    result = run_stage("encode", settings, say=said.append)
    understood = (
        "mine.csv: 500 rows; separated by semicolons; decimal commas; columns by name; read 'gender' as Sex; "
        "Rings computed from Age in years"
    )
    assert said[0] == understood
    assert f"Data: `{understood}`" in page(MlflowClient().get_run(result.run_id))


def test_an_interrupted_run_is_killed(store):
    """The data file is a pipe, so that the interruption comes while the run waits for its rows."""
    os.mkfifo("data.pipe")
    is_over = threading.Event()

    def interrupt() -> None:
        with open("data.pipe", "wb"):  # returns when the run has opened the other end
            os.kill(os.getpid(), signal.SIGINT)
            is_over.wait(60)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        run(data="data.pipe")
    is_over.set()
    assert only_run().info.status == "KILLED"


def test_a_run_left_running_by_a_dead_process_is_closed_by_the_next_run(store):
    client = MlflowClient()
    experiment_id = mlflow.set_experiment("abalone").experiment_id
    dead = subprocess.Popen(["true"])
    dead.wait()
    here = process_tags()
    orphan = client.create_run(experiment_id, tags=process_tags_with(pid=str(dead.pid)))
    alive = client.create_run(experiment_id, tags=here)
    elsewhere = process_tags_with(host="another", pid=str(dead.pid))
    stranger = client.create_run(experiment_id, tags=elsewhere)
    run()
    status = {kept.info.run_id: kept.info.status for kept in client.search_runs([experiment_id])}
    assert status[orphan.info.run_id] == "FAILED"
    assert status[alive.info.run_id] == "RUNNING"
    assert status[stranger.info.run_id] == "RUNNING"

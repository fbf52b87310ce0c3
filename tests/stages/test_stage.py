"""A run from data to tracked model: what it holds, what it costs, and how it ends when something goes wrong."""

from __future__ import annotations

import json
import math
import subprocess

import mlflow
import pytest
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from mlflow.tracking import MlflowClient

from abalone.data.reading import SHIPPED_FILE, read
from abalone.data.splitting import split
from abalone.main import run_main
from abalone.settings import STAGES, UserError, load_settings, read_toml
from abalone.stages.stage import run_stage
from abalone.tracking.processes import process_tags
from abalone.training.history import SPLITS, TrainingDiverged

CLASSIFIER_SCORES = ("accuracy", "balanced_accuracy", "roc_auc", "log_loss", "brier")
REGRESSOR_SCORES = ("rmse", "mae", "r2")


def run(stage: str = "classify", **overrides):
    """One stage, three epochs unless told; returns what MLflow keeps of it."""
    result = run_stage(stage, load_settings(stage, {"epochs": 3, **overrides}))
    return MlflowClient().get_run(result.run_id)


def curve(run_id: str, name: str) -> list[tuple[int, float]]:
    return [(point.step, point.value) for point in MlflowClient().get_metric_history(run_id, name)]


def artifacts(run_id: str, path: str | None = None) -> set[str]:
    return {item.path for item in MlflowClient().list_artifacts(run_id, path)}


def text(run_id: str, path: str) -> str:
    with open(mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path=path), encoding="utf-8") as file:
        return file.read()


def test_a_run_holds_parameters_tags_and_the_data_set(store):
    kept = run("encode")
    experiment = load_settings("encode", {"epochs": 3})
    assert kept.info.status == "FINISHED" and kept.info.run_name == "encode"
    assert MlflowClient().get_experiment(kept.info.experiment_id).name == "abalone"
    assert kept.data.params == experiment.as_text()
    tags = kept.data.tags
    assert (tags["stage"], tags["task"], tags["guide_section"]) == ("encode", "classification", "2 to 2.c")
    assert tags["dataset"] == "de37cdcdcaaa" and len(tags["split"]) == 12
    assert "torch 2." in tags["packages"] and tags["dirty"] in ("true", "false", "unknown")
    contexts = {item.tags[0].value: json.loads(item.dataset.profile)["num_rows"] for item in kept.inputs.dataset_inputs}
    assert contexts == {"train": 1670, "validation": 418, "test": 2089}


@pytest.mark.parametrize(
    "stage, curve_name, scores", [("classify", "accuracy", CLASSIFIER_SCORES), ("regress", "rmse", REGRESSOR_SCORES)]
)
def test_a_run_holds_curves_and_final_scores(store, stage, curve_name, scores):
    kept = run(stage)
    for part in SPLITS:
        for name in ("loss", curve_name):
            steps = [step for step, _ in curve(kept.info.run_id, f"{name}/{part}")]
            assert steps[:3] == [1, 2, 3], f"{name}/{part}"
    assert len(curve(kept.info.run_id, "learning_rate")) == 3
    metrics = kept.data.metrics
    for part in ("val", "test"):
        for name in scores:
            assert math.isfinite(metrics[f"{name}/{part}"]) and math.isfinite(metrics[f"baseline_{name}/{part}"])
    better = metrics["accuracy/test"] > 0.6 if stage == "classify" else metrics["rmse/test"] < 3.0
    assert better, "three epochs beat the baseline by far"
    # The reported epoch's curve and the final score are the same measurement, made by two different ways.
    reported = dict(curve(kept.info.run_id, f"{curve_name}/val"))[int(metrics["reported_epoch"])]
    assert metrics[f"{curve_name}/val"] == pytest.approx(reported, abs=1e-5)


def test_a_run_holds_figures_tables_and_the_command_that_repeats_it(store):
    kept = run("classify")
    run_id = kept.info.run_id
    assert artifacts(run_id) >= {"curves.png", "roc.png", "confusion.png", "experiment.toml", "command.txt"}
    assert artifacts(run_id, "predictions") == {"predictions/val.json", "predictions/test.json"}
    assert config.tomllib.loads(text(run_id, "experiment.toml")) == {**read_toml("classify"), "epochs": 3}
    assert "-e classify" in text(run_id, "command.txt") and "-P epochs=3" in text(run_id, "command.txt")
    table = json.loads(text(run_id, "predictions/test.json"))
    assert len(table["data"]) == 2089 and table["columns"][:3] == ["row", "Rings", "probability_old"]
    shown = {item["path"] for item in json.loads(kept.data.tags["mlflow.loggedArtifacts"])}
    assert "predictions/test.json" in shown, "the UI shows the tables that this tag names"
    assert artifacts(run("regress").info.run_id) >= {"curves.png", "predicted_actual.png", "residuals.png"}


def test_a_run_describes_itself_against_the_baseline_and_the_stage_before(store):
    first, second = run("classify"), run("deepen")
    card = second.data.tags["mlflow.note.content"]
    assert STAGES["deepen"].teaches in card and "baseline" in card
    assert first.info.run_id in card and f"{first.data.metrics['accuracy/test']:.4f}" in card
    assert "mlflow.pytorch.load_model" in card
    uri = card.split('load_model("')[1].split('"')[0]
    assert mlflow.pytorch.load_model(uri).training is False


def test_the_stage_before_is_one_of_the_same_settings_but_for_what_is_taught(store):
    other, same, newer = run("classify", epochs=1), run("classify", seed=0, epochs="2"), run("classify", epochs=1)
    card = run("deepen", epochs=2).data.tags["mlflow.note.content"]
    assert same.info.run_id in card and not any(r.info.run_id in card for r in (other, newer))
    assert "stage before" not in run("deepen", epochs=3).data.tags["mlflow.note.content"]


def test_fifty_epochs_take_few_calls_and_no_other_process(store, monkeypatch):
    calls, processes = [], []
    for name in ("log_batch", "log_metric"):
        original = getattr(SqlAlchemyStore, name)
        monkeypatch.setattr(
            SqlAlchemyStore, name, lambda *a, _f=original, _n=name, **k: (calls.append(_n), _f(*a, **k))[1]
        )
    start = subprocess.Popen.__init__
    monkeypatch.setattr(
        subprocess.Popen, "__init__", lambda self, args, **k: (processes.append(args), start(self, args, **k))[1]
    )
    kept = run("classify", epochs=50)
    assert 1 <= len(calls) <= 5, calls
    assert all(args[0] == "git" for args in processes), processes
    assert len(curve(kept.info.run_id, "loss/val")) == 50


def test_parameters_that_mlflow_run_wrote_stay_as_they_were_typed(store, monkeypatch):
    client = MlflowClient()
    experiment = mlflow.set_experiment("elsewhere").experiment_id
    prepared = client.create_run(experiment)
    client.log_param(prepared.info.run_id, "learning_rate", "1e-3")
    monkeypatch.setenv("MLFLOW_RUN_ID", prepared.info.run_id)
    kept = run("classify", learning_rate="1e-3")
    assert kept.info.run_id == prepared.info.run_id and kept.info.experiment_id == experiment
    assert kept.data.params["learning_rate"] == "1e-3" and kept.data.params["gamma"] == "0.95"
    assert kept.info.run_name == "classify", "a name that MLflow made up gives way to the stage's"


def test_the_name_that_a_user_chose_stays(store, monkeypatch):
    prepared = MlflowClient().create_run(mlflow.set_experiment("elsewhere").experiment_id, run_name="my-own-1")
    monkeypatch.setenv("MLFLOW_RUN_ID", prepared.info.run_id)
    assert run().info.run_name == "my-own-1"


def only_run():
    [found] = MlflowClient().search_runs([mlflow.set_experiment("abalone").experiment_id])
    return found


def test_a_diverging_run_is_failed_and_says_why(store, own_folder):
    lines, row = SHIPPED_FILE.read_text().splitlines(), split(read(), 0).test[0]
    cells = lines[row].split(",")
    lines[row] = ",".join([*cells[:3], "1e38", *cells[4:]])  # standardised by the training rows it is infinite
    (own_folder / "huge.data").write_text("\n".join(lines))
    with pytest.raises(TrainingDiverged, match="learning_rate"):
        run("regress", clip=0, data="huge.data")
    assert only_run().info.status == "FAILED" and "diverged" in only_run().data.tags["error"]


def test_an_interrupted_run_is_killed(store, monkeypatch):
    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(stages, "fit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run()
    assert only_run().info.status == "KILLED"


def test_a_run_left_running_by_a_dead_process_is_closed_by_the_next_and_a_living_one_is_not(store):
    client = MlflowClient()
    experiment = mlflow.set_experiment("abalone").experiment_id
    gone = subprocess.Popen(["true"])
    gone.wait()
    here = process_tags()
    orphan = client.create_run(experiment, tags={**here, "process.pid": str(gone.pid)})
    alive = client.create_run(experiment, tags=here)
    stranger = client.create_run(experiment, tags={**here, "process.host": "another", "process.pid": str(gone.pid)})
    run()
    status = {r.info.run_id: r.info.status for r in client.search_runs([experiment])}
    assert status[orphan.info.run_id] == "FAILED"
    assert status[alive.info.run_id] == status[stranger.info.run_id] == "RUNNING"


def test_main_goes_on_past_a_failed_stage_and_then_fails(store, monkeypatch):
    fit = stages.fit

    def broken(experiment, *args):
        if experiment.dropout:
            raise RuntimeError("planted")
        return fit(experiment, *args)

    monkeypatch.setattr(stages, "fit", broken)
    said = []
    experiments = {stage: load_settings(stage, {"epochs": 2}) for stage in ("classify", "dropout", "regress")}
    with pytest.raises(UserError, match="1 of 3 stages failed: dropout"):
        run_main(experiments, said.append)
    runs = MlflowClient().search_runs([mlflow.set_experiment("abalone").experiment_id])
    status = {r.info.run_name: r.info.status for r in runs}
    promotions = {f"promote {task}": "FINISHED" for task in ("classification", "regression")}
    trained = {"classify": "FINISHED", "dropout": "FAILED", "regress": "FINISHED"}
    assert status == {"guide": "FAILED"} | trained | promotions
    [parent] = [r for r in runs if r.info.run_name == "guide"]
    assert all(r.data.tags.get("mlflow.parentRunId") == parent.info.run_id for r in runs if r is not parent)
    assert artifacts(parent.info.run_id) >= {"comparison.png", "stages.md"}
    assert "mlflow ui" in said[-1] and parent.info.run_id in said[-1]
    assert sum(line.startswith(tuple(experiments)) for line in said) == 3, "a progress line per stage"


def test_main_closes_with_its_table_even_if_the_report_fails(store, monkeypatch):
    def broken(*args, **options):
        raise RuntimeError("planted")

    monkeypatch.setattr(guide.report, "run_report", broken)
    said = []
    with pytest.raises(UserError, match="the report failed: planted"):
        run_main({"classify": load_settings("classify", {"epochs": 1})}, said.append, seeds=2)
    assert "| classify" in said[-1] and "| the guide" in said[-1] and "mlflow ui" in said[-1]

"""The stage ``rings``: one run with both tasks, two models, and champions that answer with intervals."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from mlflow.entities import Run
from mlflow.tracking import MlflowClient
from ring_fits import FRAME, ROWS, SHORT, X, short_fit
from stores import copy_store, filling
from warm_processes import PYTHON, warm_environment

from abalone.evaluation.scores import predict, scores
from abalone.model.networks import RingRegressor
from abalone.registry.promotion import promote
from abalone.registry.scoring import score_table
from abalone.settings import PREDICTION_COLUMNS, REGISTERED_MODELS, TASKS, load_settings
from abalone.stages.rings import run_rings
from abalone.stages.stage import run_stage


@pytest.fixture(scope="module")
def filled(tmp_path_factory, empty_database) -> tuple[Path, str]:
    """Folder of a store with the run of a small ensemble, and the run's id."""
    folder = tmp_path_factory.mktemp("rings")
    with filling(folder, empty_database):
        result = run_rings(load_settings("rings", SHORT))
    return folder, result.run_id


@pytest.fixture
def run(filled, store, own_folder) -> Run:
    """The run of a small ensemble, as MLflow keeps it."""
    folder, run_id = filled
    copy_store(folder, own_folder)
    return MlflowClient().get_run(run_id)


def table(run_id: str, part: str) -> pd.DataFrame:
    return pd.DataFrame(**mlflow.artifacts.load_dict(f"runs:/{run_id}/predictions/{part}.json"))


def small_file(rows: int) -> str:
    """Write some rows of the shipped file to a file of the same format."""
    FRAME.sample(rows, random_state=0).to_csv("small.data", header=False, index=False)
    return "small.data"


def model_uris(run_id: str) -> dict[str, str]:
    """Addresses of the models in the experiment of a run, by task."""
    client = MlflowClient()
    found = client.search_logged_models([client.get_run(run_id).info.experiment_id])
    return {model.params["task"]: f"models:/{model.model_id}" for model in found}


def test_one_run_holds_the_scores_of_both_tasks(run):
    assert run.data.tags["stage"] == "rings"
    assert run.data.tags["task"] == "classification, regression"
    assert run.data.tags["guide_section"] == "beyond the guide"
    assert run.data.params == load_settings("rings", SHORT).as_text()
    metrics = run.data.metrics
    for part in ("val", "test"):
        data = table(run.info.run_id, part)
        for task, column in PREDICTION_COLUMNS.items():
            given = (data["Rings"].to_numpy(), data[column].to_numpy(), data["rings_median"].to_numpy())
            for name, value in scores(task, *given).items():
                assert metrics[f"{part}/{name}"] == pytest.approx(value, abs=1e-6)
                assert f"baseline/{part}_{name}" in metrics
        held = data["Rings"].between(data["rings_low"], data["rings_high"])
        assert metrics[f"{part}/coverage80"] == pytest.approx(held.mean())
        assert 0 <= metrics[f"{part}/ece"] <= 1
        assert 0 < metrics[f"{part}/crps"] < metrics[f"baseline/{part}_crps"] < metrics[f"baseline/{part}_mae"]
        assert metrics[f"{part}/ring_log_score"] < metrics[f"baseline/{part}_ring_log_score"]
    history = MlflowClient().get_metric_history(run.info.run_id, "loss/val")
    assert [point.step for point in history] == [1, 2, 3, 4]


def test_one_run_holds_a_page_with_calibration_and_models_and_all_figures(run):
    metrics = run.data.metrics
    page = run.data.tags["mlflow.note.content"]
    assert f"calibration error {metrics['val/ece']:.3f}" in page
    assert f"{metrics['test/coverage80']:.1%} on test" in page
    assert all(uri in page for uri in model_uris(run.info.run_id).values())
    files = {item.path for item in MlflowClient().list_artifacts(run.info.run_id)}
    assert {path for path in files if path.endswith(".png")} == {
        "curves.png",
        "importance.png",
        "partial_dependence.png",
        "reliability.png",
        "roc.png",
        "confusion.png",
        "predicted_actual.png",
        "residuals.png",
    }


@pytest.mark.parametrize("rows, warned", [(390, True), (404, False)])
def test_the_schedule_follows_the_rows_and_few_rows_are_said_to_be_few(store, rows, warned):
    """Half of the file is fitted: fewer than 200 rows, or more."""
    said = []
    settings = load_settings("rings", {"members": 1, "hidden_sizes": "8", "data": small_file(rows)})
    result = run_rings(settings, say=said.append)
    run = MlflowClient().get_run(result.run_id)
    assert run.data.params["epochs"] == run.data.params["batch_size"] == "auto"
    assert run.data.metrics["reported_epoch"] == 20
    history = MlflowClient().get_metric_history(result.run_id, "loss/train")
    assert len(history) == 20
    page = run.data.tags["mlflow.note.content"]
    assert "of 20; the last epoch is reported" in page
    text = f"Fitted on {rows // 2} rows. With fewer than 200, rings was not compared with simpler models"
    assert (text in page) == warned
    assert any(text in line for line in said) == warned


def test_validation_scores_are_of_the_training_rows_and_the_logged_model_of_both(run):
    assert_fitted_on(run, np.concatenate([ROWS.train, ROWS.val]))
    assert "second fit" in page_of(run) and "One fit" not in page_of(run)


def test_without_a_refit_the_logged_model_is_of_the_training_rows(store):
    result = run_rings(load_settings("rings", {**SHORT, "refit": "false"}))
    run = MlflowClient().get_run(result.run_id)
    assert_fitted_on(run, ROWS.train)
    assert "One fit" in page_of(run) and "second fit" not in page_of(run)


def page_of(run: Run) -> str:
    return run.data.tags["mlflow.note.content"]


def assert_fitted_on(run: Run, rows: np.ndarray) -> None:
    """Model and test predictions are of a fit on these rows, validation predictions of one on the training rows."""
    expected_val = predict(RingRegressor(short_fit()), X[ROWS.val])
    expected_test = predict(RingRegressor(short_fit(rows)), X[ROWS.test])
    val = table(run.info.run_id, "val")["predicted_rings"].to_numpy()
    test = table(run.info.run_id, "test")["predicted_rings"].to_numpy()
    assert val == pytest.approx(expected_val, abs=1e-5)
    assert test == pytest.approx(expected_test, abs=1e-5)
    loaded = mlflow.pytorch.load_model(model_uris(run.info.run_id)["regression"])
    assert predict(loaded, X[ROWS.test]) == pytest.approx(expected_test, abs=1e-5)


def test_a_file_scored_by_both_champions_has_medians_intervals_and_the_runs_own_predictions(run):
    promote(TASKS, lambda text: None)
    FRAME.head(9).to_csv("rows.csv", index=False)
    score_table("rows.csv", "scored.csv")
    scored = pd.read_csv("scored.csv")
    expected = table(run.info.run_id, "test").set_index("row")
    counts = ["rings_median", "rings_low", "rings_high"]
    answered = ["rings", "age_years", *counts, "outside_training_range"]
    others = {"label", "probability_old", "age_low", "age_high", "classifier_version", "regressor_version"}
    assert set(scored.columns) == {*FRAME.columns, *answered, *others}
    for row in scored.index.intersection(expected.index):
        ours = scored.loc[row]
        theirs = expected.loc[row]
        assert ours["probability_old"] == pytest.approx(theirs["probability_old"], abs=1e-6)
        assert ours["rings"] == pytest.approx(theirs["predicted_rings"], abs=1e-6)
        assert (ours[counts] == theirs[counts]).all()
    info = mlflow.models.get_model_info(model_uris(run.info.run_id)["regression"])
    assert info.signature.outputs.input_names() == answered


def test_promotion_finds_both_models_of_the_one_run(run):
    run_stage("classify", load_settings("classify", {"epochs": 1, "learning_rate": 1e-4}))
    decisions = promote(TASKS, lambda text: None)
    assert [decision.challenger.name for decision in decisions] == ["rings", "rings"]
    for task, name in REGISTERED_MODELS.items():
        version = MlflowClient().get_model_version_by_alias(name, "champion")
        assert version.source == model_uris(run.info.run_id)[task]
        assert "calibration error" in version.description
        assert "80 % of the animals" in version.description
        assert version.tags["signature"].endswith("rings_high double, outside_training_range string") == (
            task == "regression"
        )


ANSWERS_IN_A_FRESH_PROCESS = """
import importlib, json, sys
import mlflow, mlflow.pytorch, pandas as pd
uri, source = sys.argv[1:]
rows = pd.read_json(source, orient="split")
answer = mlflow.pyfunc.load_model(uri).predict(rows)
network = mlflow.pytorch.load_model(uri)
package = importlib.import_module(type(network).__module__.split(".")[0])
assert "artifacts" in package.__file__, package.__file__
assert "abalone" not in sys.modules
encode = importlib.import_module(package.__name__ + ".features").encode
output = network(encode(rows)).detach().double()
print(json.dumps({"pytorch": output.tolist(), "pyfunc": {name: answer[name].tolist() for name in answer}}))
"""


@pytest.mark.slow
def test_both_models_load_in_a_fresh_process_elsewhere_and_both_flavors_agree(run, tmp_path):
    source = tmp_path / "rows.json"
    FRAME.head(200).to_json(source, orient="split")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    env = {name: value for name, value in warm_environment().items() if name != "PYTHONPATH"}
    for task, uri in model_uris(run.info.run_id).items():
        command = [PYTHON, "-I", "-c", ANSWERS_IN_A_FRESH_PROCESS, uri, str(source)]
        done = subprocess.run(command, capture_output=True, text=True, env=env, cwd=elsewhere, timeout=120)
        assert done.returncode == 0, done.stderr
        printed = json.loads(done.stdout)
        output = torch.tensor(printed["pytorch"])
        answers = {name: np.array(values) for name, values in printed["pyfunc"].items()}
        if task == "classification":
            assert answers["probability_old"] == pytest.approx(output.softmax(1)[:, 1].numpy(), abs=1e-6)
        else:
            assert answers["rings"] == pytest.approx(output[:, 0].numpy(), abs=1e-6)
            assert (answers["rings_low"] <= answers["rings"]).mean() > 0.95
            assert (answers["rings"] <= answers["rings_high"]).mean() > 0.95

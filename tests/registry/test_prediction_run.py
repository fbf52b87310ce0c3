"""``predict`` as a tracked run: what it holds, and what a champion of rings adds."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from mlflow import MlflowClient
from sample_models import ensemble_config, mlp_config, untrained_model
from stores import copy_store, filling
from table_forms import TABLE, csv

from abalone.data.reading import read
from abalone.registry import table_files
from abalone.registry.prediction_run import predict
from abalone.registry.scoring import Request
from abalone.settings import REGISTERED_MODELS, UserError
from abalone.tracking.flavor import log_model
from abalone.tracking.runs import tracked_run


def register(configs) -> None:
    """Log an untrained model of each task's configuration and make it champion."""
    client = MlflowClient()
    with tracked_run("models"):
        for config in configs:
            name = REGISTERED_MODELS[config["task"]]
            model_id = log_model(untrained_model(config), config, read().frame, {"task": config["task"]}, "model")
            client.create_registered_model(name)
            version = client.create_model_version(name, f"models:/{model_id}", model_id=model_id)
            client.set_registered_model_alias(name, "champion", version.version)


@pytest.fixture(scope="module")
def filled(tmp_path_factory, empty_database) -> Path:
    """Folder of a store whose champions are untrained ensembles."""
    folder = tmp_path_factory.mktemp("champions")
    with filling(folder, empty_database):
        register([ensemble_config("classification"), ensemble_config("regression")])
    return folder


@pytest.fixture
def champions_of_rings(filled, store, own_folder) -> None:
    copy_store(filled, own_folder)


def only_run():
    client = MlflowClient()
    [run] = client.search_runs(["1"], "tags.stage = 'predict'")
    return run


def test_it_is_a_run_with_versions_input_counts_files_and_page(champions_of_rings, own_folder):
    Path("rows.csv").write_text(csv(TABLE.assign(Length=[0.9] + [0.5] * 23)) + "M,1\n")
    said = []
    summary = predict("rows.csv", "scored.csv", Request(skip_bad=True), said.append)
    run = only_run()
    assert run.info.run_id == summary["run_id"] and run.info.run_name == "predict" and run.info.status == "FINISHED"
    assert run.data.params == {
        "input": "rows.csv",
        "output": "scored.csv",
        "units": "file",
        "interval": "0.8",
        "distribution": "false",
        "skip_bad": "true",
    }
    tags = run.data.tags
    assert tags["champion_classification"] == tags["champion_regression"] == "1"
    assert "task" not in tags, "it is no candidate of a promotion"
    assert tags["output.path"] == str(own_folder / "scored.csv")
    metrics = run.data.metrics
    assert (metrics["rows"], metrics["skipped_rows"], metrics["outside_rows"]) == (24, 1, 1)
    assert metrics["outside_share"] == pytest.approx(1 / 24)
    [given] = run.inputs.dataset_inputs
    assert given.dataset.name == "rows.csv" and str(own_folder / "rows.csv") in given.dataset.source
    assert tags["input.sha256"].startswith(given.dataset.digest)
    files = {item.path for item in MlflowClient().list_artifacts(run.info.run_id)}
    assert files == {"ages.png", "scored.csv", "skipped.csv"}
    kept = mlflow.artifacts.load_text(f"runs:/{run.info.run_id}/scored.csv")
    assert kept == Path("scored.csv").read_text()
    [text] = said
    assert (
        text.splitlines()[0] == "24 rows scored: scored.csv (by the classifier version 1 and the regressor version 1)"
    )
    assert "1 of 24 rows lies outside the range of the training rows (Length 1); its prediction is a guess." in text
    page = tags["mlflow.note.content"]
    assert "[version 1](#/models/abalone-regressor/versions/1?" in page and "1 of 24 rows lies outside" in page
    assert f"1 bad row left out, see {own_folder / 'scored.skipped.csv'}." in page and "artifacts/ages.png" in page
    rows_of_table = [[cell.strip() for cell in line.split("|")[1:-1]] for line in page.splitlines() if "|" in line]
    assert ["share outside the range of the training rows", "0.04167"] in rows_of_table


def test_a_champion_of_rings_gives_intervals_of_any_level_in_rings_and_years(champions_of_rings):
    Path("rows.csv").write_text(csv())
    tables = {}
    for interval in (0.8, 0.2):
        params = {"interval": interval, "distribution": interval == 0.2}
        stdout = StringIO()
        predict("rows.csv", "-", Request(params=params), print, stdout=stdout)
        tables[interval] = pd.read_csv(StringIO(stdout.getvalue()))
    usual, narrow = tables.values()
    end = ["age_low", "age_high", "outside_training_range", "classifier_version", "regressor_version"]
    assert list(usual.columns)[-7:] == ["rings_low", "rings_high", *end]
    for ring, age in (("rings_low", "age_low"), ("rings_high", "age_high")):
        assert (usual[age] - usual[ring]).to_numpy() == pytest.approx(1.5)
    widths = [(table["rings_high"] - table["rings_low"]).mean() for table in (usual, narrow)]
    assert widths[0] > widths[1]
    shares = [name for name in narrow.columns if name.startswith("p_rings_")]
    assert len(shares) >= 29 and narrow[shares].sum(axis=1).to_numpy() == pytest.approx(1, abs=1e-6)


def test_another_level_is_refused_where_the_champion_knows_no_distribution(store):
    register([mlp_config("classification"), mlp_config("regression")])
    Path("rows.csv").write_text(csv())
    with pytest.raises(UserError, match=r"^interval=0\.9 needs a regressor that knows the distribution .*-e rings"):
        predict("rows.csv", "scored.csv", Request(params={"interval": 0.9, "distribution": False}), print)
    assert only_run().info.status == "FAILED" and not Path("scored.csv").exists()
    predict("rows.csv", "scored.csv", Request(), print)
    assert "age_low" not in pd.read_csv("scored.csv")


def test_of_a_large_output_the_run_has_digest_and_path(champions_of_rings, monkeypatch):
    monkeypatch.setattr(table_files, "LARGEST_COPY", 100)
    Path("rows.csv").write_text(csv())
    predict("rows.csv", "scored.csv", Request(), print)
    run = only_run()
    assert {item.path for item in MlflowClient().list_artifacts(run.info.run_id)} == {"ages.png"}
    assert len(run.data.tags["output.sha256"]) == 64
    assert "The output is larger than" in run.data.tags["mlflow.note.content"]

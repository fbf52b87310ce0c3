"""What is written to a run: steps of metrics, parameters that exist already, data sets, files and notes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from mlflow import MlflowClient

from abalone.data.reading import read
from abalone.tracking.run_logging import (
    METRICS_PER_CALL,
    Scores,
    add_note,
    describe_experiment,
    environment_tags,
    log_batch,
    log_dataset,
    log_files,
    log_params,
    log_stage,
    log_tags,
)


@pytest.fixture
def run_id(store: str) -> Iterator[str]:
    experiment_id = mlflow.set_experiment("abalone").experiment_id
    with mlflow.start_run(experiment_id=experiment_id) as run:
        yield run.info.run_id


def history(run_id: str, name: str) -> list[tuple[int, float]]:
    return [(metric.step, metric.value) for metric in MlflowClient().get_metric_history(run_id, name)]


def test_final_scores_stand_at_step_0_and_curves_end_with_the_last_epoch(run_id):
    log_stage(
        run_id,
        params={"epochs": "2"},
        curves={"accuracy/test": [0.6, 0.7]},
        final=[Scores({"test/accuracy": 0.65, "best_epoch": 1})],
        tags={"split": "abc"},
    )
    assert history(run_id, "accuracy/test") == [(1, 0.6), (2, 0.7)]
    assert history(run_id, "test/accuracy") == [(0, 0.65)]
    assert history(run_id, "best_epoch") == [(0, 1)]
    data = MlflowClient().get_run(run_id).data
    assert data.metrics["test/accuracy"] == 0.65
    assert data.params == {"epochs": "2"}
    assert data.tags["split"] == "abc"


def test_more_metrics_than_mlflow_takes_in_one_call_are_all_logged(run_id):
    values = [float(i) for i in range(METRICS_PER_CALL + 1)]
    log_batch(run_id, curves={"loss/train": values})
    assert history(run_id, "loss/train") == list(enumerate(values, 1))


def test_parameters_that_mlflow_run_logged_keep_their_text(run_id):
    MlflowClient().log_param(run_id, "learning_rate", "1e-3")
    log_params(run_id, {"learning_rate": 0.001, "gamma": 0.95})
    assert MlflowClient().get_run(run_id).data.params == {"learning_rate": "1e-3", "gamma": "0.95"}


def test_each_part_of_a_data_set_is_an_input_with_its_own_digest(run_id):
    parts = {"train": np.arange(5), "test": np.arange(5, 9)}
    log_dataset(run_id, read(), parts, ("local", {"uri": "/data/abalone.data"}))
    inputs = MlflowClient().get_run(run_id).inputs.dataset_inputs
    contexts = {found.tags[0].value: found.dataset for found in inputs}
    assert set(contexts) == set(parts)
    assert len({dataset.digest for dataset in contexts.values()}) == 2
    assert json.loads(contexts["test"].profile) == {"num_rows": 4}
    types = {column["name"]: column["type"] for column in json.loads(contexts["test"].schema)["mlflow_colspec"]}
    assert (types["Sex"], types["Height"], types["Rings"]) == ("string", "double", "long")


def test_files_are_stored_and_tables_are_named_for_the_ui(run_id):
    tags = log_files(
        run_id,
        texts={"settings.toml": "seed = 0\n"},
        figures={"curves.png": Figure()},
        tables={"predictions/val.json": pd.DataFrame({"row": [3]})},
    )
    assert json.loads(tags["mlflow.loggedArtifacts"]) == [{"path": "predictions/val.json", "type": "table"}]
    folder = Path(mlflow.artifacts.download_artifacts(run_id=run_id))
    assert (folder / "settings.toml").read_text() == "seed = 0\n"
    assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((folder / "predictions" / "val.json").read_text()) == {"columns": ["row"], "data": [[3]]}


def test_notes_are_appended_and_the_experiment_has_its_own_description(run_id):
    add_note(run_id, "first")
    add_note(run_id, "second")
    describe_experiment(run_id, "all runs")
    run = MlflowClient().get_run(run_id)
    assert run.data.tags["mlflow.note.content"] == "first\n\nsecond"
    experiment = MlflowClient().get_experiment(run.info.experiment_id)
    assert experiment.tags["mlflow.note.content"] == "all runs"


def test_the_environment_is_recorded(run_id):
    log_tags(run_id, environment_tags())
    tags = MlflowClient().get_run(run_id).data.tags
    assert f"mlflow {mlflow.__version__}" in tags["packages"]
    assert tags["dirty"] in ("true", "false", "unknown")

"""The code on the page of a registered model runs as it stands, with the table that a user has."""

from __future__ import annotations

import re

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient
from ring_fits import FRAME
from sample_models import ensemble_config, log_untrained_model, mlp_config

from abalone.registry.model_page import model_page
from abalone.settings import REGISTERED_MODELS

TABLE = FRAME.head(200)
MAX_DESCRIPTION = 5000  # characters, of a registered model in PostgreSQL


def make_champion(task: str, config: dict) -> mlflow.pyfunc.PyFuncModel:
    """Register an untrained model as the champion of a task."""
    uri = log_untrained_model(config)
    client = MlflowClient()
    name = REGISTERED_MODELS[task]
    client.create_registered_model(name)
    version = client.create_model_version(name, uri, model_id=uri.rpartition("/")[2])
    client.set_registered_model_alias(name, "champion", version.version)
    return mlflow.pyfunc.load_model(uri)


def run_evaluation(task: str, table: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Run the page's block on evaluation with a table; return the metrics that MLflow logged."""
    page = model_page(task, None)
    [block] = [code for code in re.findall(r"```python\n(.*?)```", page, re.S) if "evaluate" in code]
    monkeypatch.setattr(pd, "read_csv", lambda path: table.copy())
    exec(block, {"mlflow": mlflow, "pd": pd})  # the first block of the page imports both
    return mlflow.last_active_run().data.metrics


@pytest.mark.parametrize("make_config", [mlp_config, ensemble_config], ids=["mlp", "ensemble"])
@pytest.mark.parametrize("task", REGISTERED_MODELS)
def test_mlflow_evaluates_a_champion_as_its_page_shows(store, monkeypatch, task, make_config):
    model = make_champion(task, make_config(task))
    answer = model.predict(TABLE)
    for dtype in ("object", "str", "string"):
        metrics = run_evaluation(task, TABLE.astype({"Sex": dtype}), monkeypatch)
        if task == "regression":
            expected = np.sqrt(np.mean((answer["rings"] - TABLE["Rings"]) ** 2))
            assert metrics["root_mean_squared_error"] == pytest.approx(expected)
        else:
            correct = (answer["probability_old"] >= 0.5) == (TABLE["Rings"] >= 10)
            assert metrics["accuracy_score"] == pytest.approx(correct.mean())


@pytest.mark.parametrize("task", REGISTERED_MODELS)
def test_the_page_fits_into_a_description(task):
    assert len(model_page(task, None)) < MAX_DESCRIPTION - 500, "with room for the champion's limits"

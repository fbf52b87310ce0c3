"""What is read from a run: where its rows came from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from data_files import GOOD, write_rows
from mlflow import MlflowClient
from mlflow.entities import Run

from abalone.data.origin import origin
from abalone.data.reading import read
from abalone.tracking.lookup import data_source
from abalone.tracking.run_logging import log_dataset
from abalone.tracking.runs import tracked_run


def run_on(source: str, parameter: str | None) -> Run:
    """A run with the data set of ``source``, and a parameter ``data`` that may say otherwise."""
    dataset = read(source)
    with tracked_run("classify") as run_id:
        if parameter is not None:
            MlflowClient().log_param(run_id, "data", parameter)
        log_dataset(run_id, dataset, {"train": np.arange(3)}, origin(dataset))
    return MlflowClient().get_run(run_id)


def test_the_data_set_decides_and_not_the_parameter_that_mlflow_run_stored_with_quotes(store, own_folder):
    run = run_on(write_rows(GOOD, "my rows.csv"), "'my rows.csv'")
    assert data_source(run) == str(own_folder / "my rows.csv")


def test_the_shipped_file_is_uci_wherever_the_project_was(store):
    assert data_source(run_on("uci", "elsewhere.csv")) == "uci"


def test_the_parameter_decides_if_the_file_is_gone(store):
    run = run_on(write_rows(GOOD, "rows.csv"), "uci")
    Path("rows.csv").unlink()
    assert data_source(run) == "uci"
    Path("again.csv").touch()
    with pytest.raises(KeyError):
        data_source(MlflowClient().create_run("0"))

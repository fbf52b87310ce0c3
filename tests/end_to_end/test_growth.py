"""Memory and tables of a stage grow with the rows as docs/tables.md says."""

from __future__ import annotations

import subprocess
import sys

import mlflow
import numpy as np
import pandas as pd
import pytest
from registry_store import version_with
from warm_processes import PYTHON, warm_environment

from abalone.data.reading import read
from abalone.model.columns import MEASUREMENTS
from abalone.registry.candidates import predicted_rows, validation_rows
from abalone.registry.promotion import promote
from abalone.settings import load_settings
from abalone.stages.stage import run_stage
from abalone.tracking import logged_tables

pytestmark = pytest.mark.slow
COPIES = 10
MOST_BYTES_PER_ROW = 1500
# Peak memory belongs to a process, so each measurement is a fresh one. Linux counts it in KB.
MEASURED = """
import resource, sys
from abalone.cli.program import cli
cli(sys.argv[1:], standalone_mode=False)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, file=sys.stderr)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems count memory in other units")
def test_a_row_takes_at_most_one_and_a_half_kilobytes(store, tmp_path):
    rows = read().frame
    many = pd.concat([rows] * COPIES, ignore_index=True)
    noise = np.random.default_rng(0).normal(1, 0.01, (len(many), len(MEASUREMENTS)))
    many[list(MEASUREMENTS)] = (many[list(MEASUREMENTS)] * noise).round(4)
    many.to_csv(tmp_path / "many.csv", index=False)
    few_peak = peak_memory("classify", "--epochs", "1")
    many_peak = peak_memory("classify", "--epochs", "1", "--data", "many.csv")
    assert many_peak - few_peak < MOST_BYTES_PER_ROW * (len(many) - len(rows)), (few_peak, many_peak)


def peak_memory(*arguments: str) -> int:
    """The most memory, in bytes, that a command has used."""
    command = [PYTHON, "-c", MEASURED, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=warm_environment(), timeout=300)
    assert done.returncode == 0, done.stderr
    return int(done.stderr.splitlines()[-1])


def test_a_run_with_long_tables_shows_a_sample_and_is_promoted_by_all_rows(store, monkeypatch):
    monkeypatch.setattr(logged_tables, "MOST_ROWS_AS_JSON", 400)
    monkeypatch.setattr(logged_tables, "SAMPLE_ROWS", 50)
    result = run_stage("classify", load_settings("classify", {"epochs": 5}))
    sample = mlflow.artifacts.load_dict(f"runs:/{result.run_id}/predictions/test.json")
    assert len(sample["data"]) == 50
    assert len(predicted_rows(result.run_id, "test")) == result.test_rows == 2089
    assert len(validation_rows(result.run_id)) == 418
    promote(("classification",), lambda text: None)
    assert version_with("champion").run_id == result.run_id

"""Long tables are stored as Parquet, with a sample that the UI can show, and are read whole."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient
from pandas.testing import assert_frame_equal

from abalone.tracking.logged_tables import MOST_ROWS_AS_JSON, SAMPLE_ROWS, read_table, write_table


def table(rows: int) -> pd.DataFrame:
    """A table of predictions; its index is that of the rows of a file, which no table keeps."""
    numbers = np.arange(rows)
    labels = np.where(numbers % 2, "Old", "Young").astype(object)
    columns = {"row": numbers, "predicted_label": labels, "correct": numbers % 3 > 0, "Rings": numbers % 29 + 1}
    return pd.DataFrame(columns | {"probability_old": numbers / rows}, index=numbers[::-1])


def shown(path: Path) -> pd.DataFrame:
    """What the UI and ``mlflow.load_table`` read."""
    return pd.read_json(path, orient="split")


def test_a_table_of_moderate_length_is_json_alone(tmp_path):
    write_table(table(MOST_ROWS_AS_JSON), tmp_path / "test.json")
    assert [file.name for file in tmp_path.iterdir()] == ["test.json"]
    assert len(shown(tmp_path / "test.json")) == MOST_ROWS_AS_JSON


def test_a_long_table_is_parquet_and_its_json_is_a_sample_in_the_order_of_the_rows(tmp_path):
    whole = table(MOST_ROWS_AS_JSON + 1)
    write_table(whole, tmp_path / "test.json")
    assert_frame_equal(pd.read_parquet(tmp_path / "test.parquet"), whole.reset_index(drop=True), check_dtype=False)
    sample = shown(tmp_path / "test.json")
    assert len(sample) == SAMPLE_ROWS and sample["row"].is_unique
    assert_frame_equal(sample, whole.iloc[sample["row"]].reset_index(drop=True), check_dtype=False)
    assert (tmp_path / "test.json").stat().st_size < 1_000_000


@pytest.mark.parametrize("rows", [3, SAMPLE_ROWS, MOST_ROWS_AS_JSON + 1])
def test_a_table_is_read_whole_whatever_its_length(store, tmp_path, rows):
    folder = tmp_path / "tables"
    folder.mkdir()
    write_table(table(rows), folder / "test.json")
    run_id = MlflowClient().create_run("0").info.run_id
    MlflowClient().log_artifacts(run_id, folder, "predictions")
    found = read_table(run_id, "predictions/test.json")
    assert_frame_equal(found, table(rows).reset_index(drop=True), check_dtype=False)


def test_json_that_the_ui_reads_has_no_other_keys(tmp_path):
    write_table(table(2), tmp_path / "test.json")
    assert set(json.loads((tmp_path / "test.json").read_text())) == {"columns", "data"}

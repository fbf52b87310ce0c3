"""Tables of predictions as artifacts of a run: JSON that the UI shows, and beside it Parquet if there are many rows.

The UI loads a whole JSON file into the browser, and pandas needs several times its size to write and to read it.
"""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import mlflow
import pandas as pd
from mlflow import MlflowClient

from abalone.tracking.fetching import fetch_file
from abalone.tracking.known_runs import known_run

MOST_ROWS_AS_JSON = 50_000
SAMPLE_ROWS = 10_000  # of a longer table, which the UI shows


def write_table(frame: pd.DataFrame, path: Path) -> None:
    """Write a table as JSON; if it is long, a sample of its rows, and all of them as ``.parquet`` beside it.

    Parameters
    ----------
    frame : DataFrame
        Its index is not written.
    path : Path
        Path of the JSON file.
    """
    shown = frame
    if len(frame) > MOST_ROWS_AS_JSON:
        frame.to_parquet(path.with_suffix(".parquet"), index=False)
        shown = frame.sample(SAMPLE_ROWS, random_state=0).sort_index()
    shown.to_json(path, orient="split", index=False)


def read_table(run_id: str, path: str) -> pd.DataFrame:
    """Read all rows of a table that ``write_table`` has written into a run.

    Parameters
    ----------
    run_id : str
    path : str
        Path of the JSON file among the artifacts.
    """
    with TemporaryDirectory() as folder:
        table = json.loads(fetch_file(known_run(run_id).address, path, Path(folder)).read_text(encoding="utf-8"))
    frame = pd.DataFrame(table["data"], columns=table["columns"])
    if len(frame) != SAMPLE_ROWS:
        return frame
    whole = str(Path(path).with_suffix(".parquet"))
    if whole not in [file.path for file in MlflowClient().list_artifacts(run_id, str(Path(path).parent))]:
        return frame
    with TemporaryDirectory() as folder:
        return pd.read_parquet(mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path=whole, dst_path=folder))

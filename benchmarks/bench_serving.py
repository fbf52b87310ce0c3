"""Measure rows per second of a champion beside scikit-learn: in batches, through pyfunc, from CSV and over REST.

The peer is a pipeline of the same size (one-hot sex, standardised measurements, the same hidden layers in an
``MLPClassifier``), logged with MLflow's own flavor and served by the same MLflow server. It returns one number for a
row, ours two named columns. MLflow writes them as JSON in Python, which is two thirds of a large request.

Run ``python -m benchmarks.bench_serving``, or ``make bench`` for all benchmarks.
"""

from __future__ import annotations

import http.client
import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlparse

import mlflow
import pandas as pd
import torch

from abalone.data.labels import is_old
from abalone.data.reading import read
from abalone.model.columns import MEASUREMENTS, RAW_COLUMNS
from abalone.model.rows import check
from abalone.model.scorer import WEIGHTS, Scorer
from abalone.registry.promotion import promote
from abalone.registry.scoring import score_table
from abalone.settings import REGISTERED_MODELS, load_settings
from abalone.stages.stage import run_stage
from abalone.tracking.runs import RunOptions
from benchmarks.model_server import model_server
from benchmarks.speed import Figure, show, times

TARGET = 500_000  # rows per CPU-second in batches, without parsing
COPIES = 120  # of the shipped file, in the batch
CSV_COPIES = 24  # of the shipped file, in the CSV file
REQUESTS = {1: 200, 1000: 30}  # number of requests by rows per request
BATCH = "in a batch, CPU"
STAGE = "encode"
EXPERIMENT = "bench"


def measure(folder: Path) -> list[dict[str, Any]]:
    """Train, promote, load and serve in a store of its own, and time each way of scoring.

    Parameters
    ----------
    folder : Path
        Folder of the store, of tables and of server logs.

    Returns
    -------
    list of dict
        ``what``; ``ours`` and ``sklearn`` in rows per second, None where there is no peer; ``ratio``.
    """
    torch.set_num_threads(1)
    _train_champions(folder)
    frame = read().frame
    rows = pd.concat([frame] * COPIES, ignore_index=True)[list(RAW_COLUMNS)]
    ours = f"models:/{REGISTERED_MODELS['classification']}@champion"
    peer = _log_peer(frame)
    return [*_time_frames(rows, ours, peer), _time_csv(frame, folder), *_time_rest(rows, ours, peer, folder)]


def _train_champions(folder: Path) -> None:
    """Train a stage for each task and make both champions."""
    mlflow.set_tracking_uri(f"sqlite:///{folder / 'mlflow.db'}")
    mlflow.create_experiment(EXPERIMENT, artifact_location=(folder / "artifacts").as_uri())
    mlflow.set_experiment(EXPERIMENT)
    options = RunOptions(EXPERIMENT)
    for stage in (STAGE, "regress"):
        run_stage(stage, load_settings(stage, {"epochs": 5}), options=options)
    promote(tuple(REGISTERED_MODELS), lambda text: None, options=options)


def _time_frames(rows: pd.DataFrame, ours: str, peer: str) -> list[dict[str, Any]]:
    """Time the check alone, the models themselves, and both through pyfunc."""
    scorer = Scorer(Path(mlflow.artifacts.download_artifacts(ours), WEIGHTS))
    pipeline = mlflow.sklearn.load_model(peer)
    ours_loaded = mlflow.pyfunc.load_model(ours)
    peer_loaded = mlflow.pyfunc.load_model(peer)
    check_seconds = _best(lambda: check(rows))
    batch_seconds = _best(lambda: scorer.predict(rows))
    batch_peer_seconds = _best(lambda: pipeline.predict(rows))
    pyfunc_seconds = _best(lambda: ours_loaded.predict(rows))
    pyfunc_peer_seconds = _best(lambda: peer_loaded.predict(rows))
    return [
        _row("their check alone, CPU", len(rows), check_seconds, None),
        _row(BATCH, len(rows), batch_seconds, batch_peer_seconds),
        _row("through pyfunc, CPU", len(rows), pyfunc_seconds, pyfunc_peer_seconds),
    ]


def _time_csv(frame: pd.DataFrame, folder: Path) -> dict[str, Any]:
    """Time ``predict``: a CSV file through both champions."""
    table = folder / "rows.csv"
    pd.concat([frame] * CSV_COPIES).to_csv(table, index=False)
    seconds = _best(lambda: score_table(str(table), str(folder / "scored.csv")), repeats=2)
    return _row("a CSV file by both champions, CPU", len(frame) * CSV_COPIES, seconds, None)


def _time_rest(rows: pd.DataFrame, ours: str, peer: str, folder: Path) -> list[dict[str, Any]]:
    """Time requests to MLflow's server, in both forms and sizes."""
    seconds_ours = _time_server(rows, ours, folder)
    seconds_peer = _time_server(rows, peer, folder)
    results = []
    for (form, size), seconds in seconds_ours.items():
        what = f"over REST, {form}, {size:,} {'row' if size == 1 else 'rows'} per request, wall"
        results.append(_row(what, size * REQUESTS[size], seconds, seconds_peer[form, size]))
    return results


def _time_server(rows: pd.DataFrame, uri: str, folder: Path) -> dict[tuple[str, int], float]:
    """Wall seconds of all requests to a server of one model, by form and number of rows."""
    environment = {"MLFLOW_TRACKING_URI": mlflow.get_tracking_uri(), "OMP_NUM_THREADS": "1"}
    seconds = {}
    with model_server(uri, folder / "server.log", environment, folder) as address:
        for size, requests in REQUESTS.items():
            for form, (kind, body) in _bodies(rows.head(size)).items():
                seconds[form, size] = _post_many(address, body, kind, requests)
    return seconds


def _log_peer(frame: pd.DataFrame) -> str:
    """Fit and log scikit-learn's pipeline of the same size; return its URI."""
    from sklearn.compose import make_column_transformer
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    chosen = [name for name in load_settings(STAGE).features if name in MEASUREMENTS]
    columns = make_column_transformer((OneHotEncoder(), ["Sex"]), (StandardScaler(), chosen))
    network = MLPClassifier(load_settings(STAGE).hidden_sizes, batch_size=32, max_iter=5, random_state=0)
    x = frame[list(RAW_COLUMNS)]
    pipeline = make_pipeline(columns, network).fit(x, is_old(frame["Rings"].to_numpy()))
    signature = mlflow.models.infer_signature(x, pipeline.predict(x))
    with mlflow.start_run():
        logged = mlflow.sklearn.log_model(
            pipeline, name="peer", signature=signature, pip_requirements=["scikit-learn"], serialization_format="pickle"
        )
    return logged.model_uri


def _bodies(rows: pd.DataFrame) -> dict[str, tuple[str, bytes]]:
    """Content type and body of a request, by form."""
    split = {"dataframe_split": rows.to_dict(orient="split", index=False)}
    return {
        "JSON": ("application/json", json.dumps(split).encode()),
        "CSV": ("text/csv", rows.to_csv(index=False).encode()),
    }


def _post_many(address: str, body: bytes, kind: str, requests: int) -> float:
    """Wall seconds of successive requests on one connection, after a first one that is not counted."""
    target = urlparse(address)
    connection = http.client.HTTPConnection(target.hostname, target.port, timeout=60)
    _post(connection, target.path, body, kind)
    began = time.perf_counter()
    for _ in range(requests):
        _post(connection, target.path, body, kind)
    return time.perf_counter() - began


def _post(connection: http.client.HTTPConnection, path: str, body: bytes, kind: str) -> None:
    connection.request("POST", path, body, {"Content-Type": kind})
    answer = connection.getresponse()
    text = answer.read()
    if answer.status != 200:
        raise RuntimeError(f"the server answered {answer.status}: {text[:500]!r}")


def _best(work: Callable[[], object], repeats: int = 3) -> float:
    """CPU seconds, the fewest of several repeats."""
    seconds = []
    for _ in range(repeats):
        began = time.process_time()
        work()
        seconds.append(time.process_time() - began)
    return min(seconds)


def _row(what: str, rows: int, ours: float, peer: float | None) -> dict[str, Any]:
    """A line of the table from the seconds that ``rows`` took."""
    row = {"what": what, "ours": round(rows / ours), "sklearn": None, "ratio": None}
    if peer is not None:
        row["sklearn"] = round(rows / peer)
        row["ratio"] = round(peer / ours, 2)
    return row


def figures() -> list[Figure]:
    """Measure, for the table of all benchmarks."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    with TemporaryDirectory() as folder:
        results = measure(Path(folder))
    found = []
    for row in results:
        figure = Figure(what=f"rows scored: {row['what']}", ours=f"{row['ours']:,} a second")
        if row["ratio"] is not None:
            figure = replace(
                figure,
                peer="scikit-learn's pipeline of the same size",
                theirs=f"{row['sklearn']:,} a second",
                result=f"{times(row['ratio'])} times the rows",
            )
        if row["what"] == BATCH:
            figure = replace(figure, aim=f"{TARGET:,} a second")
        found.append(figure)
    return found


if __name__ == "__main__":
    show(figures())

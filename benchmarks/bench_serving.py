"""Rows per second of a champion: in batches, through pyfunc, from a CSV file and over REST, beside scikit-learn.

The peer is a pipeline of the same size (one-hot, standardised, the same hidden layers in an ``MLPClassifier``), logged
by MLflow's own flavor and behind the same MLflow server. Its answer is one number a row, ours two named columns, and
writing those as JSON, which MLflow does in Python, is two thirds of a large request.

Run ``python -m benchmarks.bench_serving``: a table, then the same as JSON.
"""

from __future__ import annotations

import http.client
import json
import os
import time
from collections.abc import Callable
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
from abalone.model.scorer import Scorer, check
from abalone.registry.promotion import promote
from abalone.registry.scoring import score_csv
from abalone.settings import REGISTERED_MODELS, load_settings
from abalone.stages.stage import run_stage
from benchmarks.model_server import model_server

TARGET = 500_000  # rows per CPU-second in batches, apart from parsing
COPIES = 120
CSV_COPIES = 24
REQUESTS = {1: 200, 1000: 30}  # rows of a request: requests of a measurement
STAGE = "encode"


def measure(folder: Path) -> list[dict[str, Any]]:
    """Train, promote, load and serve in a store of its own under ``folder``, and time each way of scoring.

    Returns
    -------
    list of dict
        ``what``, ``ours`` and ``sklearn`` (rows per second; None where there is no such thing), ``ratio``.
    """
    torch.set_num_threads(1)
    mlflow.set_tracking_uri(f"sqlite:///{folder / 'mlflow.db'}")
    experiment = mlflow.create_experiment("bench", artifact_location=(folder / "artifacts").as_uri())
    mlflow.set_experiment(experiment_id=experiment)
    for stage in (STAGE, "regress"):
        run_stage(stage, load_settings(stage, {"epochs": 5}), experiment_name="bench")
    promote(tuple(REGISTERED_MODELS), lambda text: None, experiment_name="bench")
    frame = read().frame
    rows = pd.concat([frame] * COPIES, ignore_index=True)[list(RAW_COLUMNS)]
    ours, peer = f"models:/{REGISTERED_MODELS['classification']}@champion", _log_peer(frame)
    ours_loaded, peer_loaded = (mlflow.pyfunc.load_model(uri) for uri in (ours, peer))
    scorer = Scorer(Path(mlflow.artifacts.download_artifacts(ours)) / "weights.pt")
    native = mlflow.sklearn.load_model(peer)
    results = [
        _row("check alone, CPU", len(rows), _best(lambda: check(rows)), None),
        _row("batch, CPU", len(rows), _best(lambda: scorer.predict(rows)), _best(lambda: native.predict(rows))),
        _row(
            *("pyfunc, CPU", len(rows)),
            _best(lambda: ours_loaded.predict(rows)),
            _best(lambda: peer_loaded.predict(rows)),
        ),
    ]
    table, scored = folder / "rows.csv", folder / "scored.csv"
    pd.concat([frame] * CSV_COPIES).to_csv(table, index=False)
    csv_seconds = _best(lambda: score_csv(str(table), str(scored)), repeats=2)
    results.append(_row("CSV file, both champions, CPU", len(frame) * CSV_COPIES, csv_seconds, None))
    answers = {}
    for name, uri in (("ours", ours), ("sklearn", peer)):
        environment = {"MLFLOW_TRACKING_URI": mlflow.get_tracking_uri(), "OMP_NUM_THREADS": "1"}
        with model_server(uri, folder / f"{name}.log", environment, folder) as address:
            answers[name] = {
                (form, size): _post_many(address, body, kind, requests)
                for size, requests in REQUESTS.items()
                for form, (kind, body) in _bodies(rows.head(size)).items()
            }
    for form, size in answers["ours"]:
        scored_rows = size * REQUESTS[size]
        seconds = (answers[name][form, size] for name in ("ours", "sklearn"))
        results.append(_row(f"REST, {form}, {size} rows a request, wall", scored_rows, *seconds))
    return results


def _log_peer(frame: pd.DataFrame) -> str:
    """Fit and log scikit-learn's pipeline of the same size; its address."""
    from sklearn.compose import make_column_transformer
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    chosen = [name for name in load_settings(STAGE).features if name in MEASUREMENTS]
    columns = make_column_transformer((OneHotEncoder(), ["Sex"]), (StandardScaler(), chosen))
    network = MLPClassifier(load_settings(STAGE).hidden_sizes, batch_size=32, max_iter=5, random_state=0)
    x, old = frame[list(RAW_COLUMNS)], is_old(frame["Rings"].to_numpy())
    pipeline = make_pipeline(columns, network).fit(x, old)
    signature = mlflow.models.infer_signature(x, pipeline.predict(x))
    with mlflow.start_run():
        return mlflow.sklearn.log_model(
            pipeline, name="peer", signature=signature, pip_requirements=["scikit-learn"], serialization_format="pickle"
        ).model_uri


def _bodies(rows: pd.DataFrame) -> dict[str, tuple[str, bytes]]:
    split = {"dataframe_split": rows.to_dict(orient="split", index=False)}
    return {
        "JSON": ("application/json", json.dumps(split).encode()),
        "CSV": ("text/csv", rows.to_csv(index=False).encode()),
    }


def _post_many(address: str, body: bytes, kind: str, requests: int) -> float:
    """Wall seconds of so many requests one after the other on one connection, after a first that is not counted."""
    target = urlparse(address)
    connection = http.client.HTTPConnection(target.hostname, target.port, timeout=60)
    began = 0.0
    for number in range(requests + 1):
        connection.request("POST", target.path, body, {"Content-Type": kind})
        answer = connection.getresponse()
        text = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"the server answered {answer.status}: {text[:500]!r}")
        began = began if number else time.perf_counter()
    return time.perf_counter() - began


def _best(work: Callable[[], object], repeats: int = 3) -> float:
    """CPU seconds, the least of ``repeats``."""
    seconds = []
    for _ in range(repeats):
        began = time.process_time()
        work()
        seconds.append(time.process_time() - began)
    return min(seconds)


def _row(what: str, rows: int, ours: float, peer: float | None) -> dict[str, Any]:
    return {
        "what": what,
        "ours": round(rows / ours),
        "sklearn": round(rows / peer) if peer else None,
        "ratio": round(peer / ours, 2) if peer else None,
    }


def main() -> None:
    """Print the table and the JSON."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    with TemporaryDirectory() as folder:
        results = measure(Path(folder))
    print(f"{'rows per second':<42} {'ours':>10} {'sklearn':>10} {'ratio':>6}   target {TARGET} in batches")
    for row in results:
        print(f"{row['what']:<42} {row['ours']:>10} {row['sklearn'] or '–':>10} {row['ratio'] or '–':>6}")
    print(json.dumps(results))


if __name__ == "__main__":
    main()

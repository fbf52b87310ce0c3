"""What a trial of a study costs the servers of a team: SQL statements, bytes and CPU time.

Run ``python -m benchmarks.bench_storage``: a table, then the same as JSON. A PostgreSQL is started for it (extra
``server``), with a database for Optuna and one for MLflow. The study runs twice: once on the two databases themselves,
where statements and bytes are counted, and once with ``mlflow server`` between, whose CPU time is read. The first batch
of a study is not counted.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path

import mlflow
import optuna
import torch

from abalone.cli.program import set_defaults
from abalone.settings import SEARCHED_BY_DEFAULT, load_settings
from abalone.tracking import team_server
from abalone.tracking.postgres import Postgres
from abalone.tracking.runs import tracked_run
from abalone.tuning.batches import BATCH
from abalone.tuning.plan import Plan, read_space
from abalone.tuning.search import Limits
from abalone.tuning.storage import open_study
from abalone.tuning.tune import run_study
from benchmarks.bench_requests import free_port
from benchmarks.wire import Forwarder, counted_statements, cpu_seconds

TRIALS = 64
EPOCHS = 50


def measure(trials: int = TRIALS, epochs: int = EPOCHS) -> dict[str, float]:
    """Run the studies.

    Parameters
    ----------
    trials : int
        Number of trials that are counted.
    epochs : int
        Of each trial, unless it is pruned.

    Returns
    -------
    dict of str to float
        For each trial and for ``optuna`` and ``mlflow``: ``_statements``, ``_up`` and ``_down`` (bytes of the
        database's protocol); ``server_cpu``, ``postgres_cpu`` and ``client_cpu``, seconds of ``mlflow server``, of
        PostgreSQL and of the process that trains.
    """
    set_defaults()
    torch.set_num_threads(1)
    settings = load_settings("encode", {"device": "cpu", "epochs": str(epochs)})
    plan = Plan("encode", settings, read_space(SEARCHED_BY_DEFAULT))
    with tempfile.TemporaryDirectory() as folder, _postgres(Path(folder)) as postgres:
        os.chdir(folder)
        try:
            return _traffic(plan, postgres, trials) | _cpu(plan, postgres, trials)
        finally:
            os.chdir("/")


@contextmanager
def _postgres(folder: Path) -> Iterator[Postgres]:
    server = Postgres(folder, free_port())
    server.start(databases=["optuna", "mlflow"])
    try:
        yield server
    finally:
        server.stop("immediate")


def _traffic(plan: Plan, postgres: Postgres, trials: int) -> dict[str, float]:
    """Statements and bytes of a study on the databases themselves."""
    forwarders = {name: Forwarder(postgres.port) for name in ("optuna", "mlflow")}
    urls = {name: replace(postgres, port=forwarder.port).url(name) for name, forwarder in forwarders.items()}
    mlflow.set_tracking_uri(urls["mlflow"])
    study = open_study(plan, "traffic", urls["optuna"])
    with tracked_run("tune", {"stage": "tune", "study": "traffic"}) as run_id:
        _run(study, plan, run_id, BATCH)
        before = {name: (forwarder.up, forwarder.down) for name, forwarder in forwarders.items()}
        with counted_statements() as statements:
            _run(study, plan, run_id, BATCH + trials)
    result = {}
    for name, forwarder in forwarders.items():
        up, down = before[name]
        result[f"{name}_statements"] = round(statements[name] / trials, 1)
        result[f"{name}_up"] = round((forwarder.up - up) / trials)
        result[f"{name}_down"] = round((forwarder.down - down) / trials)
    return result


def _cpu(plan: Plan, postgres: Postgres, trials: int) -> dict[str, float]:
    """CPU seconds of both servers for a study that reaches MLflow's by HTTP."""
    port = free_port()
    folder = postgres.folder
    with redirect_stdout(StringIO()):
        team_server.start("127.0.0.1", port, database=postgres.url("mlflow"), folder=folder)
    try:
        mlflow.set_tracking_uri(f"http://127.0.0.1:{port}")
        leaders = {
            "server_cpu": int((folder / "mlflow.pid").read_text()),
            "postgres_cpu": int((postgres.data / "postmaster.pid").read_text().split()[0]),
        }
        study = open_study(plan, "cpu", postgres.url("optuna"))
        with tracked_run("tune", {"stage": "tune", "study": "cpu"}) as run_id:
            _run(study, plan, run_id, BATCH)
            before = {name: cpu_seconds(leader) for name, leader in leaders.items()}
            began = time.process_time()
            _run(study, plan, run_id, BATCH + trials)
            spent = {"client_cpu": time.process_time() - began}
            for name, leader in leaders.items():
                spent[name] = cpu_seconds(leader) - before[name]
        return {name: round(seconds / trials, 4) for name, seconds in spent.items()}
    finally:
        mlflow.set_tracking_uri(None)
        with redirect_stdout(StringIO()):
            team_server.stop(folder)


def _run(study: optuna.Study, plan: Plan, run_id: str, trials: int) -> None:
    run_study(run_id, study, plan, "", Limits(trials), say=lambda text: None)


def main() -> None:
    """Print the table and the JSON."""
    result = measure()
    print(f"a trial of {EPOCHS} epochs   statements   kB up   kB down")
    for name in ("optuna", "mlflow"):
        kilobytes = [result[f"{name}_{way}"] / 1000 for way in ("up", "down")]
        print(f"{name:<21}{result[f'{name}_statements']:>12}{kilobytes[0]:>8.1f}{kilobytes[1]:>10.1f}")
    print("CPU seconds:", ", ".join(f"{who} {result[f'{who}_cpu']:.3f}" for who in ("server", "postgres", "client")))
    print(f"one worker of mlflow server: {1 / result['server_cpu']:.0f} trials a second")
    print(json.dumps(result))


if __name__ == "__main__":
    main()

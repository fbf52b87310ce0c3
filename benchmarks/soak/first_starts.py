"""Several commands at once on a database that does not exist yet.

Run ``python -m benchmarks.soak.first_starts --rounds 5``: a table. Commands of the project must all succeed. With
``--mlflow-run`` the same by bare ``mlflow run``, whose own process creates the database before any code of the project
runs: how many succeed is only shown.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.soak.commands import start, table, use

ROOT = Path(__file__).resolve().parents[2]
AT_ONCE = 8


def start_together(folder: Path) -> list[Any]:
    """Start half as many stages as ``status`` commands, all at once; a row of what came of them."""
    from mlflow import MlflowClient

    stages = [start(folder, "classify", "--epochs", "1", "--seed", str(seed)) for seed in range(AT_ONCE)]
    others = [start(folder, "status") for _ in range(AT_ONCE // 2)]
    failed = [command.text() for command in stages + others if command.finish() != 0]
    client = MlflowClient(use(folder))
    runs = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    drafts = [path.name for path in folder.iterdir() if ".part" in path.name]
    assert not failed and not drafts, (failed, drafts)
    assert {run.info.experiment_id for run in runs} == {"1"} and len(runs) == AT_ONCE
    return ["python -m abalone", AT_ONCE + len(others), 0, "1 experiment, no draft"]


def mlflow_run_together(folder: Path) -> list[Any]:
    """Start ``mlflow run`` several times at once; a row of what came of them."""
    uri = use(folder)
    command = [Path(sys.executable).with_name("mlflow"), "run", ROOT, "-e", "classify", "--env-manager", "local"]
    command += ["--experiment-name", "abalone", "-P", "epochs=1"]
    path = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "MLFLOW_TRACKING_URI": uri, "PYTHONPATH": str(ROOT)}
    started = []
    for _ in range(AT_ONCE):
        started.append(subprocess.Popen(command, cwd=folder, env=path, stderr=subprocess.PIPE, text=True))
    errors = []
    for process in started:
        error = process.communicate()[1]
        if process.returncode:
            errors.append(error.strip().splitlines()[-1][:150])
    return ["mlflow run", AT_ONCE, len(errors), "; ".join(sorted(set(errors)))]


def main() -> None:
    """Start commands together again and again, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--mlflow-run", action="store_true")
    options = parser.parse_args()
    rows = []
    for _ in range(options.rounds):
        with tempfile.TemporaryDirectory() as name:
            rows.append((mlflow_run_together if options.mlflow_run else start_together)(Path(name)))
            print(rows[-1], flush=True)
    print(table(["command", "at once", "failed", "what came of them"], rows))


if __name__ == "__main__":
    main()

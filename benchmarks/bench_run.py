"""CPU seconds of ``mlflow run . -e classify`` against its floor: the imports that its two processes cannot do without.

Run ``python -m benchmarks.bench_run``: a table, then the same as JSON. The database exists already; the runs of the
benchmark go into a temporary one.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TARGET = 1.6
PARENT = "import mlflow.cli, mlflow.projects, mlflow.store.tracking.sqlalchemy_store"
CHILD = (
    "import torch, pandas, mlflow, mlflow.pytorch, mlflow.pyfunc, mlflow.store.tracking.sqlalchemy_store, "
    "matplotlib.figure, matplotlib.backends.backend_agg, sklearn.model_selection, sklearn.metrics"
)


def measure(repeats: int = 3) -> dict[str, float]:
    """Time run and floor in turn and keep the best of each.

    Returns
    -------
    dict
        ``run_s`` and ``floor_s`` (CPU seconds, children included), ``ratio``.
    """
    run = [Path(sys.executable).with_name("mlflow"), "run", ROOT, "-e", "classify", "--env-manager", "local"]
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"}
        environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        environment["MLFLOW_DISABLE_TELEMETRY"] = "true"

        def cpu_seconds(*command: str | Path) -> float:
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run(command, check=True, capture_output=True, env=environment, cwd=folder)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime

        cpu_seconds(*run, "-P", "epochs=1")  # makes the database
        runs, floors = [], []
        for _ in range(repeats):
            runs.append(cpu_seconds(*run))
            floors.append(sum(cpu_seconds(sys.executable, "-c", imports) for imports in (PARENT, CHILD)))
    return {
        "run_s": round(min(runs), 2),
        "floor_s": round(min(floors), 2),
        "ratio": round(min(runs) / min(floors), 2),
    }


def main() -> None:
    """Print the table and the JSON."""
    result = measure()
    print(f"{'mlflow run s':>13} {'imports s':>10} {'ratio':>6}   at most {TARGET}")
    print(f"{result['run_s']:>13.2f} {result['floor_s']:>10.2f} {result['ratio']:>6.2f}")
    print(json.dumps(result))


if __name__ == "__main__":
    main()

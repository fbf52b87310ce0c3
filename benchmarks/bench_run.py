"""CPU seconds of ``mlflow run . -e classify``, compared with the imports that its two processes cannot do without.

Run ``python -m benchmarks.bench_run``: a table, then the same as JSON. The runs go into a temporary database, which is
created before anything is measured.
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
IMPORTS_OF_MLFLOW_RUN = "import mlflow.cli, mlflow.projects, mlflow.store.tracking.sqlalchemy_store"
IMPORTS_OF_THE_STAGE = (
    "import torch, pandas, mlflow, mlflow.pytorch, mlflow.pyfunc, mlflow.store.tracking.sqlalchemy_store, "
    "matplotlib.figure, matplotlib.backends.backend_agg, sklearn.model_selection, sklearn.metrics"
)


def measure(repeats: int = 3) -> dict[str, float]:
    """Measure the run and the imports in turn and keep the best of each.

    Parameters
    ----------
    repeats : int
        Measurements of each.

    Returns
    -------
    dict
        ``run_s`` and ``floor_s`` (CPU seconds, child processes included) and their ``ratio``.
    """
    run = [Path(sys.executable).with_name("mlflow"), "run", ROOT, "-e", "classify", "--env-manager", "local"]
    runs = []
    floors = []
    with tempfile.TemporaryDirectory() as folder:
        _cpu_seconds([*run, "-P", "epochs=1"], folder)  # creates the database
        for _ in range(repeats):
            runs.append(_cpu_seconds(run, folder))
            floor = 0.0
            for imports in (IMPORTS_OF_MLFLOW_RUN, IMPORTS_OF_THE_STAGE):
                floor += _cpu_seconds([sys.executable, "-c", imports], folder)
            floors.append(floor)
    return {
        "run_s": round(min(runs), 2),
        "floor_s": round(min(floors), 2),
        "ratio": round(min(runs) / min(floors), 2),
    }


def _cpu_seconds(command: list[str | Path], folder: str) -> float:
    """CPU seconds of a command that runs in ``folder`` and tracks there."""
    environment = {
        **os.environ,
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, capture_output=True, env=environment, cwd=folder)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def main() -> None:
    """Print the table and the JSON."""
    result = measure()
    print(f"{'mlflow run s':>13} {'imports s':>10} {'ratio':>6}   at most {TARGET}")
    print(f"{result['run_s']:>13.2f} {result['floor_s']:>10.2f} {result['ratio']:>6.2f}")
    print(json.dumps(result))


if __name__ == "__main__":
    main()

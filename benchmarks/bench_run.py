"""CPU seconds of ``mlflow run . -e classify``, compared with the imports that its two processes cannot do without.

Run ``python -m benchmarks.bench_run``, or ``make bench`` for all benchmarks. The runs go into a temporary database,
which is created before anything is measured.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.speed import Figure, show, times

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


def figures() -> list[Figure]:
    """Measure, for the table of all benchmarks."""
    result = measure()
    run = Figure(
        what="`mlflow run . -e classify --env-manager local`",
        ours=f"{result['run_s']:.2f} s",
        peer="importing what its two processes must import",
        theirs=f"{result['floor_s']:.2f} s",
        result=f"{times(result['ratio'])} times the CPU time",
        aim=f"at most {TARGET}",
    )
    return [run]


if __name__ == "__main__":
    show(figures())

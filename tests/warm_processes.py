"""Python commands without their imports: forked from a process that has torch and MLflow imported.

Such a command costs a fraction of a second where a fresh one costs five. It is as real in all else: a process with a
working folder, an environment, output and an exit status of its own, and it takes signals. Tests of how a process
starts, what it imports or what happens in its process group start real ones.
"""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from helpers import ROOT, environment

SERVER = Path(__file__).parent / "warm" / "server.py"
ON_LINUX = hasattr(os, "pidfd_open")  # elsewhere, all processes are fresh ones
PROGRAMS = SERVER.parent if ON_LINUX else Path(sys.executable).parent
PYTHON = str(PROGRAMS / "python")  # takes -I, and -m or -c; in a process that has ``warm_variables``
# What the command line sets before it imports torch and MLflow, both of which read it only then.
SETTINGS = {"OMP_NUM_THREADS": "1", "MLFLOW_LOGGING_LEVEL": "WARNING", "MLFLOW_DISABLE_TELEMETRY": "true"}
FORKED_FASTER = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}  # huge pages: there are fewer to copy for a command


@cache
def _server() -> str:
    """Start the server unless another worker of pytest has; it ends when the tests do. Return its address."""
    import fcntl  # Linux has it

    tests = os.getppid() if "PYTEST_XDIST_WORKER" in os.environ else os.getpid()
    address = f"abalone-tests-{tests}"
    with SERVER.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        if f"@{address}\n" not in Path("/proc/net/unix").read_text():
            _start(address, tests)
    return address


def _start(address: str, tests: int) -> None:
    process = subprocess.Popen(
        [sys.executable, SERVER, address, str(tests)],
        env=environment() | SETTINGS | FORKED_FASTER,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout.readline() == b"ready\n"


def warm_variables() -> dict[str, str]:
    """What puts a ``python`` and an ``mlflow`` first on the path that need not import the libraries."""
    address = _server() if ON_LINUX else ""
    return {"PATH": f"{PROGRAMS}{os.pathsep}{environment()['PATH']}", "WARM_SERVER": address}


def warm_environment() -> dict[str, str]:
    """As ``environment``, with ``warm_variables``, for commands whose figures no test looks at."""
    return environment() | warm_variables() | {"WARM_FIGURES": "blank"}


def start_servers_warm(patch: pytest.MonkeyPatch) -> None:
    """Have the servers that this process starts forked too; both the project and MLflow start them by its Python."""
    start_workers_warm(patch)
    patch.setattr(sys, "executable", PYTHON)


def start_workers_warm(patch: pytest.MonkeyPatch) -> None:
    """Have the fork server of multiprocessing forked too, from which this process gets its workers."""
    for name, value in warm_variables().items():
        patch.setenv(name, value)
    patch.setattr("multiprocessing.spawn._python_exe", os.fsencode(PYTHON))


def warm_mlflow_run(*arguments: str) -> subprocess.CompletedProcess:
    """Run ``mlflow run`` on this project from the test's folder; neither it nor its command imports the libraries."""
    command = ["mlflow", "run", ROOT, *arguments, "--env-manager", "local"]
    return subprocess.run(command, capture_output=True, text=True, env=warm_environment(), timeout=900)

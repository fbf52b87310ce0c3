"""Shared by the tests that start real processes: the project's folder, its environment and the real ``mlflow run``."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def mlflow_run(*arguments: str, manager: str | None = "local") -> subprocess.CompletedProcess:
    """Run the real ``mlflow run`` on this project from the test's folder.

    Parameters
    ----------
    *arguments : str
        What follows the project, such as ``-e classify``.
    manager : str, optional
        Environment manager; with None the choice is MLflow's, as if no ``--env-manager`` was given.
    """
    command = [Path(sys.executable).with_name("mlflow"), "run", ROOT, *arguments]
    if manager:
        command += ["--env-manager", manager]
    return subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=900)


def environment() -> dict[str, str]:
    """This process's environment, with the programs beside this Python first on the path."""
    return {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


def free_port() -> int:
    """A port of this machine on which nothing listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def process_tags_with(**changed: str) -> dict[str, str]:
    """The tag of this process with another ``host``, ``boot``, ``pid`` or ``start``."""
    from abalone.tracking.processes import PROCESS_TAG, process_tags

    names = ("host", "boot", "pid", "start")
    known = dict(zip(names, process_tags()[PROCESS_TAG].split()))
    return {PROCESS_TAG: " ".join({**known, **changed}.values())}

"""Shared by the tests that start real processes: the project's folder and its environment."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


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

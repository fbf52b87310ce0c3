"""Requests that each command sends to a tracking server, counted where the client sends them.

Run ``python -m benchmarks.bench_requests``, or ``make bench`` for all benchmarks. A real ``mlflow server`` runs
meanwhile, on this machine, with a database of its own. The commands run in this process with few epochs: a run sends as
many requests for one epoch as for fifty.
"""

from __future__ import annotations

import os
import re
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any
from unittest import mock

import requests

from abalone.cli.program import cli, set_defaults
from abalone.model.columns import FEATURES
from abalone.tracking.team_server import start, stop
from abalone.tuning.batches import BATCH
from benchmarks.speed import Figure, show

MODEL_ID = re.compile(r"m-[0-9a-f]{32}")
FILE = "file"  # a request that uploads or downloads a file
STUDY = ["tune", "--epochs", "1", "--search", "learning_rate", "--storage", "s.journal"]
COMMANDS = {
    "first stage": ["encode", "--epochs", "4"],  # it also makes the experiment, its views and its description
    "stage": ["regularize", "--epochs", "1"],
    "first promotion": ["promote", "--task", "classification"],
    "promotion that changes nothing": ["promote", "--task", "classification"],
    "better stage": ["encode", "--epochs", "4", "--features", ",".join(FEATURES).replace(" ", "_")],
    "promotion of a better model": ["promote", "--task", "classification"],
    "rings": ["rings", "--epochs", "1", "--members", "2"],
    "study of one batch": [*STUDY, "--trials", str(BATCH)],
    "study of two batches": [*STUDY, "--trials", str(2 * BATCH)],
}


@contextmanager
def tracking_server(folder: Path) -> Iterator[str]:
    """Run MLflow's server on the database ``mlflow.db`` in a folder, as this process's tracking store.

    Yields
    ------
    str
        Its address.
    """
    port = free_port()
    with redirect_stdout(StringIO()):
        start("127.0.0.1", port, database=f"sqlite:///{folder / 'mlflow.db'}", folder=folder)
    address = f"http://127.0.0.1:{port}"
    try:
        with mock.patch.dict(os.environ, {"MLFLOW_TRACKING_URI": address}):
            set_defaults()
            yield address
    finally:
        with redirect_stdout(StringIO()):
            stop(folder)


def free_port() -> int:
    """A port of this machine on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def measure(commands: dict[str, list[str]]) -> dict[str, list[str]]:
    """Run commands of ``python -m abalone``, one after the other.

    Returns
    -------
    dict of str to list of str
        What each request of a command was about, such as ``runs/create``, in the order in which they were sent.
    """
    measured = {}
    for name, arguments in commands.items():
        with counted() as sent, redirect_stdout(StringIO()):
            cli.main(arguments, standalone_mode=False)
        measured[name] = sent
    return measured


@contextmanager
def counted() -> Iterator[list[str]]:
    """Collect what the requests are about that this process sends within the block."""
    sent: list[str] = []
    send = requests.Session.send

    def counting(session: requests.Session, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        path = str(request.path_url).partition("?")[0].partition("/api/2.0/")[2]
        about = MODEL_ID.sub("ID", path.removeprefix("mlflow/"))
        sent.append(FILE if path.startswith("mlflow-artifacts/") else about)
        return send(session, request, **options)

    with mock.patch.object(requests.Session, "send", counting):
        yield sent


def figures() -> list[Figure]:
    """Measure, for the table of all benchmarks."""
    with tempfile.TemporaryDirectory() as folder, tracking_server(Path(folder)):
        os.chdir(folder)
        measured = measure(COMMANDS)
        os.chdir("/")
    found = []
    for name, sent in measured.items():
        counted = f"{len(sent)}, {sent.count(FILE)} of them for files"
        found.append(Figure(f"requests to a tracking server: {name}", counted))
    batch = len(measured["study of two batches"]) - len(measured["study of one batch"])
    found.append(Figure(f"requests to a tracking server: {BATCH} more trials of a study", f"{batch}"))
    return found


if __name__ == "__main__":
    show(figures())

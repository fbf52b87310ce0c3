"""Every code block of the README runs, in order, in a clean copy of the project.

The fixture ``made`` is its ``make run``. The commands after it show how each job is started alone; they start warm, and
those that would repeat a long job get fewer epochs.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
from documents import clean, code_blocks, run, warm_shell
from helpers import ROOT
from mlflow import MlflowClient
from stores import copy_store

from abalone.settings import STAGES

README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = code_blocks("README.md")
SMALL = {
    "mlflow run . -e classify": "-P epochs=2",
    "mlflow run . -e rings": "-P members=2 -P epochs=2",
    "mlflow run . -e tune --env-manager local --experiment-name abalone -P task": "-P epochs=2",
    "mlflow run . -e tune --env-manager local --experiment-name abalone -P base": "-P epochs=2 -P trials=17",
    "python -m abalone regress": "--epochs 2",
    "mlflow run . -e report": "-P seeds=3 -P epochs=2",
    "make ui": 'PATH="$PATH"',  # or it would put the environment's own Python first, which starts cold
}
SERVERS = {"make ui": 5000, "mlflow models serve": 5001}  # commands that do not end, and the ports they listen on


@pytest.fixture(scope="module")
def checkout(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkout")
    copy_store(made, folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(BLOCKS)), ids=lambda n: f"{n}-{BLOCKS[n][0]}")
def test_block(checkout: Path, number: int):
    language, code = BLOCKS[number]
    if language == "text":
        assert_same_table(code, (checkout / "printed.txt").read_text())
    elif language == "python":
        shell, variables = warm_shell(f"python -c {shlex.quote(code)}")
        run(shell, checkout, **variables)
    else:
        assert language == "bash"
        with ExitStack() as servers:
            for line in code.splitlines():
                run_line(line.split("  #")[0].strip(), checkout, servers)


@pytest.mark.slow
def test_make_run_tracks_every_stage_in_its_experiment_and_ends_with_one_table(made: Path):
    client = MlflowClient(f"sqlite:///{made / 'mlflow.db'}")
    found = client.search_runs([client.get_experiment_by_name("abalone").experiment_id])
    status = {run.info.run_name: run.info.status for run in found}
    trials = {name for name in status if name.startswith("trial ")}
    studies = ["tune classification", "tuned encode", "tune regression", "tuned regress"]
    promotions = ["promote classification", "promote regression"]
    assert status.keys() - trials == {"main", *STAGES, "rings", *studies, *promotions, "report"}
    assert {status.pop(name) for name in trials} <= {"FINISHED", "KILLED"}, "or pruned"
    assert set(status.values()) == {"FINISHED"}

    printed = (made / "printed.txt").read_text()
    names = [row[0] for row in rows(printed)]
    closing = names[names.index("stage") :]
    assert closing[2:] == [*STAGES, "rings", "tuned encode", "tuned regress", "baseline", "the guide"]
    assert "mlflow ui --backend-store-uri sqlite:///" in printed


def run_line(command: str, folder: Path, servers: ExitStack) -> None:
    """Run one line of a block; a server stays until ``servers`` closes."""
    small = [options for start, options in SMALL.items() if command.startswith(start)]
    shortened = " ".join([command, *small])
    for start, port in SERVERS.items():
        if command.startswith(start):
            servers.enter_context(server(shortened, port, folder))
            return
    if command == "make test":  # this test is a part of it
        run(["make", "--dry-run", "test"], folder)
    elif command and command != "make run":  # which the fixture ``made`` is
        shell, variables = warm_shell(shortened)
        run(shell, folder, **variables)


def assert_same_table(expected: str, printed: str) -> None:
    """The README's table is what ``make run`` prints, apart from speed and the last digits of another machine."""
    expected_rows = rows(expected)
    printed_rows = rows(printed)
    header = expected_rows[0]
    printed_rows = printed_rows[printed_rows.index(header) :]  # other tables come before it
    assert len(expected_rows) > 2
    assert [row[0] for row in expected_rows[2:]] == [row[0] for row in printed_rows[2:]]
    for ours, theirs in zip(expected_rows[2:], printed_rows[2:]):
        near = 0.06 if ours[0].startswith("tuned") else 0.02  # a study may choose other settings there
        for a, b in zip(ours[1:4], theirs[1:4]):
            assert a == b == "–" or float(a) == pytest.approx(float(b), abs=near), (ours, theirs)


def rows(text: str) -> list[list[str]]:
    """The cells of every Markdown table row in a text."""
    found = []
    for line in text.splitlines():
        if line.startswith("| "):
            found.append([cell.strip() for cell in line.strip("| ").split("|")])
    return found


@contextmanager
def server(command: str, port: int, folder: Path) -> Iterator[None]:
    """Start a server and wait until it listens; in the end, stop it and every process that it started."""
    assert not listens(port), f"port {port} is in use by another program"
    shell, variables = warm_shell(f"exec {command}")
    process = subprocess.Popen(
        shell,
        cwd=folder,
        env=clean() | variables,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 120
        while not listens(port):
            assert time.monotonic() < deadline, f"{command} does not listen on {port}"
            with suppress(subprocess.TimeoutExpired):
                pytest.fail(f"{command} ended with {process.wait(0.1)}")
        yield
    finally:
        with suppress(ProcessLookupError):  # it ended by itself, and the assertion above says so
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


def listens(port: int) -> bool:
    with socket.socket() as client:
        client.settimeout(0.2)
        return client.connect_ex(("127.0.0.1", port)) == 0


def test_links_and_pictures_of_the_readme_exist():
    targets = re.findall(r"\]\((?!http)([^)#]+)\)", README)
    assert targets and all((ROOT / target).exists() for target in targets), targets
    assert (ROOT / "docs" / "lesson.png").stat().st_size < 300_000

"""A real tracking server that is killed while a stage trains, and started again on the same database."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from helpers import free_port
from kept_runs import contents
from mlflow import MlflowClient
from warm_processes import PYTHON, start_servers_warm, warm_environment

from abalone.tracking.browse import listens
from abalone.tracking.team_server import start, stop

pytestmark = pytest.mark.slow
SECONDS = 300  # at most, for what takes some ten
TRAIN_AND_WAIT = """
from abalone.cli.program import main
from abalone.stages import stage

fit = stage.fit

def fit_and_wait(*arguments, **options):
    trained = fit(*arguments, **options)
    input()
    return trained

stage.fit = fit_and_wait
main()
"""
STAGE = ("-c", TRAIN_AND_WAIT, "classify", "--epochs", "2")
FILE = ("-m", "abalone", "file")


@pytest.fixture
def port(own_folder: Path, empty_database: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Port of a server with a database of its own."""
    shutil.copy(empty_database, own_folder / "tracking.db")
    start_servers_warm(monkeypatch)
    port = free_port()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")  # not to wait for what will not come
    start_server(port)
    yield port
    stop(Path("server"))


def start_server(port: int) -> None:
    start("127.0.0.1", port, database=f"sqlite:///{Path('tracking.db').absolute()}", folder=Path("server"))


def kill_server(port: int) -> None:
    os.killpg(int(Path("server", "mlflow.pid").read_text()), signal.SIGKILL)
    wait_until(lambda: not listens(port))


def python(*arguments: str) -> subprocess.Popen:
    return subprocess.Popen(
        [PYTHON, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=warm_environment(),
    )


def output(*arguments: str) -> str:
    """Output of a command that succeeds."""
    command = python(*arguments)
    out, err = command.communicate("go on\n", timeout=SECONDS)
    assert command.returncode == 0, out + err
    return out


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def runs(status: str) -> list[str]:
    """Ids of the stage's runs with a status."""
    client = MlflowClient()
    experiment = client.get_experiment_by_name("abalone")
    query = f"tags.stage = 'classify' and attributes.status = '{status}'"
    return [run.info.run_id for run in client.search_runs([experiment.experiment_id], query)]


def test_what_a_stage_trained_while_its_server_was_killed_is_filed_when_it_is_back(port):
    output(*STAGE)
    [whole] = runs("FINISHED")
    stage = python(*STAGE)
    assert "training 2 epochs" in stage.stdout.readline()
    [left] = runs("RUNNING")
    kill_server(port)
    out, err = stage.communicate("go on\n", timeout=SECONDS)
    folder = Path("kept-results", left).absolute()
    assert stage.returncode == 1 and f"python -m abalone file --folder {folder}" in err, out + err
    assert "Traceback" not in err

    start_server(port)
    assert runs("RUNNING") == [left]
    assert "is filed;" in output(*FILE)
    assert "is filed already" in output(*FILE, "--folder", str(folder))
    assert contents(left) == contents(whole)
    assert len(runs("FINISHED")) == 2

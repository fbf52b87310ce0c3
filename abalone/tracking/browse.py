"""``make ui``: serve the runs in MLflow's UI, print the address of the stages, and open it where there is a display.

If the tracking URI is that of a server, nothing is started and the address there is printed.
"""

from __future__ import annotations

import argparse
import http.client
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Experiment
from mlflow.exceptions import MlflowException

from abalone.settings import UserError
from abalone.tracking.addresses import full_address, runs_path
from abalone.tracking.database import reach
from abalone.tracking.runs import EXPERIMENT_NAME
from abalone.tracking.views import STAGES_QUERY, STAGES_VIEW

HOST = "127.0.0.1"
PORT = 5000
STARTING_SECONDS = 120  # at most, until the UI answers
POLL_SECONDS = 0.2
# Without jobs, which only the GenAI half of the UI needs, one worker takes a sixth of the memory.
SERVER_DEFAULTS = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "PYTHONWARNINGS": "ignore"}
SERVER_OPTIONS = ("--host", HOST, "--workers", "1", "--uvicorn-opts", "--log-level warning")


def browse(port: int = PORT) -> None:
    """Print the address of the stages, on a UI that runs until Ctrl-C.

    Parameters
    ----------
    port : int
        Port of the UI on this machine.

    Raises
    ------
    UserError
        If there are no runs yet, the port is in use, or the UI does not start.
    """
    reach()
    path = first_page(_experiment())
    if _on_a_server():
        _show(full_address(path))
        return
    with serve(port) as server:
        _show(f"http://{HOST}:{port}/{path}")
        print("Ctrl-C ends the UI.", flush=True)
        server.wait()
    if server.returncode:
        raise UserError(f"the UI ended with status {server.returncode}")


def _on_a_server() -> bool:
    return mlflow.get_tracking_uri().startswith(("http://", "https://"))


def _experiment() -> Experiment:
    """The experiment that the environment names, or ``abalone``; it must exist."""
    if "MLFLOW_EXPERIMENT_ID" in os.environ:
        return MlflowClient().get_experiment(os.environ["MLFLOW_EXPERIMENT_ID"])
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT_NAME
    experiment = MlflowClient().get_experiment_by_name(name)
    if experiment is None:
        raise UserError(f"no experiment {name!r} in {mlflow.get_tracking_uri()} yet{_what_to_do()}")
    return experiment


def _what_to_do() -> str:
    """What makes runs, and which other experiments could be browsed."""
    advice = ": `make run` fills it with runs"
    names = [experiment.name for experiment in MlflowClient().search_experiments() if _has_runs(experiment)]
    if names:
        advice += f"; there are runs in {', '.join(names)}: MLFLOW_EXPERIMENT_NAME={shlex.quote(names[0])} make ui"
    return advice


def first_page(experiment: Experiment) -> str:
    """Path of the page to begin with: the stages in the guide's order, or all runs as long as no stage has run.

    Raises
    ------
    UserError
        If the experiment has no runs.
    """
    if _has_runs(experiment, STAGES_QUERY):
        return runs_path(experiment.experiment_id, STAGES_VIEW)
    if _has_runs(experiment):
        return runs_path(experiment.experiment_id)
    raise UserError(f"no runs in the experiment {experiment.name!r} yet{_what_to_do()}")


def _has_runs(experiment: Experiment, query: str = "") -> bool:
    return bool(MlflowClient().search_runs([experiment.experiment_id], query, max_results=1))


@contextmanager
def serve(port: int) -> Iterator[subprocess.Popen]:
    """Start the UI on the store in use, wait until it answers, and stop it in the end.

    Parameters
    ----------
    port : int
        Port of the UI on this machine.

    Yields
    ------
    subprocess.Popen
        The server.

    Raises
    ------
    UserError
        If the port is in use, or the UI does not start.
    """
    if listens(port):
        raise UserError(
            f"port {port} is in use, perhaps by another UI: end that one, or take another port, as in "
            f"make ui PORT={port + 1}"
        )
    command = [sys.executable, "-m", "mlflow", "ui", "--port", str(port), *SERVER_OPTIONS]
    command += ["--backend-store-uri", mlflow.get_tracking_uri()]
    print("Starting MLflow's UI, which takes some seconds ...", flush=True)
    server = subprocess.Popen(command, env={**SERVER_DEFAULTS, **os.environ})
    try:
        _wait_for(server, port)
        yield server
    finally:
        server.terminate()
        server.wait()


def _wait_for(server: subprocess.Popen, port: int) -> None:
    deadline = time.monotonic() + STARTING_SECONDS
    while not answers(port):
        if server.poll() is not None:
            raise UserError(f"the UI did not start: status {server.returncode}")
        if time.monotonic() > deadline:
            raise UserError(f"the UI did not answer within {STARTING_SECONDS} seconds")
        time.sleep(POLL_SECONDS)


def listens(port: int) -> bool:
    """Whether something listens on a port of this machine."""
    with socket.socket() as client:
        return client.connect_ex((HOST, port)) == 0


def answers(port: int) -> bool:
    """Whether the UI says that it is healthy; asked directly, past any proxy of the environment."""
    connection = http.client.HTTPConnection(HOST, port, timeout=5)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _show(address: str) -> None:
    """Print an address, and open it in the user's browser if there is a display."""
    print(f"\nThe stages and all other runs:\n\n  {address}\n", flush=True)
    if has_display(os.environ):
        opener = [sys.executable, "-m", "webbrowser", "-t", address]
        subprocess.Popen(opener, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def has_display(environment: Mapping[str, str], platform: str = sys.platform) -> bool:
    """Whether a browser has a screen to open on."""
    return platform == "darwin" or any(environment.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))


def main() -> None:
    """Run ``browse`` with the port of the command line; Ctrl-C and SIGTERM end it and the UI."""
    parser = argparse.ArgumentParser(
        prog="python -m abalone.tracking.browse", description=str(browse.__doc__).split("\n")[0]
    )
    parser.add_argument("--port", type=int, default=PORT, help=f"port of the UI on this machine (default {PORT})")
    port = parser.parse_args().port
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")  # a dead server is told after seconds, not minutes
    signal.signal(signal.SIGTERM, _end)
    try:
        browse(port)
    except KeyboardInterrupt:
        sys.exit(130)
    except (UserError, MlflowException) as error:
        sys.exit(f"Error: {error}")


def _end(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


if __name__ == "__main__":
    main()

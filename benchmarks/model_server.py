"""Start MLflow's own model server on a free loopback port, for benchmarks and tests."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path

START_SECONDS = 120


@contextlib.contextmanager
def model_server(uri: str, log: Path, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> Iterator[str]:
    """Run ``mlflow models serve``, and stop its whole process group at the end.

    Parameters
    ----------
    uri : str
        URI of the model, or its folder.
    log : Path
        File for the output of the server.
    env : mapping, optional
        Environment variables to add to those of this process.
    cwd : Path, optional
        Working folder of the server.

    Yields
    ------
    str
        URL to post rows to.

    Raises
    ------
    RuntimeError
        If the server does not answer in time; with the end of its output.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    tools = Path(sys.executable).parent  # mlflow calls uvicorn by name
    environment = {**os.environ, "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}", **(env or {})}
    command = [str(tools / "mlflow"), "models", "serve", "-m", uri, "--env-manager", "local", "--port", str(port)]
    with log.open("w") as output:
        server = subprocess.Popen(
            command, stdout=output, stderr=output, env=environment, cwd=cwd, start_new_session=True
        )
        try:
            _wait(server, f"http://127.0.0.1:{port}/ping", log)
            yield f"http://127.0.0.1:{port}/invocations"
        finally:
            for number in (signal.SIGTERM, signal.SIGKILL):
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(server.pid, number)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    server.wait(10)


def _wait(server: subprocess.Popen, address: str, log: Path) -> None:
    """Return when the server answers at ``address``."""
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and server.poll() is None:
        with contextlib.suppress(urllib.error.URLError, ConnectionError):
            urllib.request.urlopen(address, timeout=5).close()
            return
        time.sleep(0.1)
    raise RuntimeError(f"the model server did not start; its output ends with: {log.read_text()[-2000:]}")

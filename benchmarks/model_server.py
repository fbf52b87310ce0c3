"""MLflow's own model server on a loopback port of its own, for benchmarks and tests."""

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
    """Serve a model as ``mlflow models serve`` does, and end the server's whole process group afterwards.

    Parameters
    ----------
    uri : str
        ``models:/…``.
    log : Path
        File for what the server says.
    env : mapping, optional
        More environment variables.
    cwd : Path, optional
        Folder to start in.

    Yields
    ------
    str
        Address to post rows to.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    tools = Path(sys.executable).parent  # where mlflow and the uvicorn that it calls are
    environment = {**os.environ, "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}", **(env or {})}
    command = [str(tools / "mlflow"), *("models", "serve", "-m", uri, "--env-manager", "local", "--port", str(port))]
    with log.open("w") as output:
        server = subprocess.Popen(
            command, stdout=output, stderr=output, env=environment, cwd=cwd, start_new_session=True
        )
        try:
            _wait(server, f"http://127.0.0.1:{port}/ping", log)
            yield f"http://127.0.0.1:{port}/invocations"
        finally:
            for last in (signal.SIGTERM, signal.SIGKILL):
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(server.pid, last)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    server.wait(10)


def _wait(server: subprocess.Popen, address: str, log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and server.poll() is None:
        with contextlib.suppress(urllib.error.URLError, ConnectionError):
            urllib.request.urlopen(address, timeout=5).close()
            return
        time.sleep(0.1)
    raise RuntimeError(f"the model server did not come up: {log.read_text()[-2000:]}")

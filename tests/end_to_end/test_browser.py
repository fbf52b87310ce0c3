"""What a person sees: the real MLflow UI in a real browser, on the runs of a real ``main``."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import environment

from abalone.main import run_main
from abalone.settings import STAGES, load_settings
from abalone.tracking.views import SHOWN_METRICS

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not BROWSER, reason="no Chromium on the path: apt-get install chromium"),
]


@pytest.fixture
def ui(store: str) -> Iterator[str]:
    """Address of ``mlflow ui`` on the test's store."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [Path(sys.executable).with_name("mlflow"), "ui", "--backend-store-uri", store, "--port", str(port)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    server = subprocess.Popen(command, env=environment(), start_new_session=True, **quiet)
    try:
        until = time.monotonic() + 120
        while socket.socket().connect_ex(("127.0.0.1", port)):
            assert server.poll() is None and time.monotonic() < until, "the UI does not come up"
        yield f"http://127.0.0.1:{port}/"
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)


def page(address: str, folder: Path) -> str:
    """The page's elements as text, after its scripts have run."""
    command = [BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}"]
    command += ["--window-size=1900,1200", "--virtual-time-budget=20000", "--dump-dom", address]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


def test_a_stranger_sees_what_was_tried_and_what_came_out(ui, own_folder):
    said: list[str] = []
    experiments = {name: load_settings(name, {"epochs": 2}) for name in ("classify", "regress")}
    classify, regress = run_main(experiments, said.append)
    # The address that the command prints, on the port of this test.
    (path, query), *boards = [line.split("?") for line in re.findall(r"http://127.0.0.1:5000/(\S+)", said[-1])]
    parent = page(f"{ui}{path}?{query}", own_folder)
    assert "Every stage of the guide" in parent
    assert f"{classify.metrics['accuracy/test']:.4f}" in parent, "the comparison table"
    for (runs, view), (shown, hidden) in zip(boards, [(classify, regress), (regress, classify)], strict=True):
        board = page(f"{ui}{runs}?{view}", own_folder)
        assert f"runs/{shown.run_id}" in board and f"runs/{hidden.run_id}" not in board
        assert all(name in board for name in SHOWN_METRICS[shown.task][:2]), (
            "the columns of the view, as far as they fit"
        )
    path = f"{path.rsplit('/', 1)[0]}/{classify.run_id}"
    run = page(f"{ui}{path}?{query}", own_folder)
    assert STAGES["classify"].teaches in run
    assert all(text in run for text in ("baseline", "hidden_sizes", "64,64", "accuracy/test", "loss/val"))
    artifacts = page(f"{ui}{path}/artifacts/roc.png?{query}", own_folder)
    assert all(name in artifacts for name in ("curves.png", "roc.png", "confusion.png", "predictions"))
    assert "<img" in artifacts

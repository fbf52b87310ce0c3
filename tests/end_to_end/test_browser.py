"""What a person sees: the real MLflow UI in a real browser, showing the runs of a real ``main``.

Chromium is driven by its own command line (``--dump-dom``), which saves the dependency on a driver package.
"""

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
from contextlib import suppress
from pathlib import Path

import pytest
from helpers import environment

from abalone.main import run_main
from abalone.settings import STAGES, load_settings
from abalone.tracking.views import SHOWN_METRICS

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
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
    server = subprocess.Popen(
        [Path(sys.executable).with_name("mlflow"), "ui", "--backend-store-uri", store, "--port", str(port)],
        env=environment(),
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 120
        while socket.socket().connect_ex(("127.0.0.1", port)):
            assert server.poll() is None and time.monotonic() < deadline, "the UI did not start"
        yield f"http://127.0.0.1:{port}/"
    finally:
        with suppress(ProcessLookupError):  # it ended by itself, and the assertion above says so
            os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)


def page(address: str, folder: Path) -> str:
    """The HTML of a page after its scripts have run."""
    command = [
        BROWSER,
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={folder / 'profile'}",
        "--window-size=1900,1200",
        "--virtual-time-budget=20000",
        "--dump-dom",
        address,
    ]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


def test_the_ui_shows_what_was_tried_and_how_it_ended(ui, own_folder):
    printed: list[str] = []
    stages = {name: load_settings(name, {"epochs": 2}) for name in ("classify", "regress")}
    classify, regress = run_main(stages, printed.append)

    # The addresses that the command prints, on the port of this test: of the parent run, then of the leaderboards.
    addresses = re.findall(r"http://127.0.0.1:5000/(\S+)", printed[-1])
    (path, query), *boards = [address.split("?") for address in addresses]
    parent = page(f"{ui}{path}?{query}", own_folder)
    assert "Every stage of the guide" in parent
    assert f"{classify.metrics['test/accuracy']:.4f}" in parent, "the comparison table"

    for (runs, view), (shown, hidden) in zip(boards, [(classify, regress), (regress, classify)], strict=True):
        board = page(f"{ui}{runs}?{view}", own_folder)
        assert f"runs/{shown.run_id}" in board and f"runs/{hidden.run_id}" not in board
        columns = SHOWN_METRICS[shown.task][:2]  # more do not fit into the window
        assert all(name in board for name in columns)

    path = f"{path.rsplit('/', 1)[0]}/{classify.run_id}"
    run = page(f"{ui}{path}?{query}", own_folder)
    assert STAGES["classify"].teaches in run
    assert all(text in run for text in ("baseline", "hidden_sizes", "64,64", "test/accuracy", "loss/val"))

    artifacts = page(f"{ui}{path}/artifacts/roc.png?{query}", own_folder)
    assert all(name in artifacts for name in ("curves.png", "roc.png", "confusion.png", "predictions"))
    assert "<img" in artifacts

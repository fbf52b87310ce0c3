"""``make pictures``: the pictures of README and docs, from a real run of ``main`` and a study, in a store of their own.

Figures are copied from the runs' artifacts; a screenshot shows the view ``curves`` in MLflow's UI. It needs Chromium on
the path, and no network.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

import mlflow
from mlflow import MlflowClient
from playwright.sync_api import BrowserContext, Page, ViewportSize, expect, sync_playwright

from abalone.tracking.addresses import runs_path
from abalone.tracking.browse import HOST, serve
from abalone.tracking.runs import EXPERIMENT_NAME
from abalone.tracking.views import CURVES_VIEW

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
STUDY = "pictures"
TRIALS = 64  # as the README says
# Name of the picture, stage of the run, and its artifact.
FIGURES = (
    ("lesson.png", "main", "lesson.png"),
    ("study.png", "tune", "history.png"),
    ("study-slices.png", "tune", "slices.png"),
)
SCREENSHOT = "curves.png"
MAX_BYTES = 300_000
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    "--no-sandbox",
    "--disable-background-networking",
    "--disable-component-update",
    f"--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE {HOST}",  # it reaches no other host
)
WINDOW = ViewportSize(width=1600, height=1000)
MILLISECONDS = 60_000  # for anything to appear


@contextmanager
def open_chromium() -> Iterator[BrowserContext]:
    """The system's Chromium; nothing is downloaded. Its profile keeps scripts compiled from one page to the next."""
    with TemporaryDirectory() as profile, sync_playwright() as driver:
        browser = driver.chromium.launch_persistent_context(
            profile, executable_path=CHROMIUM, args=FLAGS, viewport=WINDOW
        )
        browser.set_default_timeout(MILLISECONDS)
        expect.set_options(timeout=MILLISECONDS)
        yield browser
        browser.close()


@contextmanager
def fresh_page(browser: BrowserContext, address: str) -> Iterator[Page]:
    """An address in a browser that remembers no earlier visit."""
    page = browser.new_page()
    page.goto(address, wait_until="domcontentloaded")
    yield page
    stored = {"origin": f"http://{urlsplit(address).netloc}", "storageTypes": "cookies,local_storage,indexeddb"}
    browser.new_cdp_session(page).send("Storage.clearDataForOrigin", stored)
    for opened in browser.pages[1:]:  # without the last page, the browser would end
        opened.close()


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as free:
        free.bind((HOST, 0))
        return free.getsockname()[1]


def make_pictures() -> None:
    """Run ``main`` and a study with default settings, and write every picture to ``docs/``."""
    with TemporaryDirectory() as folder:
        uri = f"sqlite:///{folder}/mlflow.db"
        mlflow.set_tracking_uri(uri)
        run_command(folder, uri, "main")
        take_screenshot(DOCS / SCREENSHOT)
        run_command(folder, uri, "tune", "--task", "classification", "--trials", str(TRIALS), "--study", STUDY)
        for picture, stage, artifact in FIGURES:
            copy_figure(stage, artifact, DOCS / picture)


def run_command(folder: str, uri: str, *arguments: str) -> None:
    """Run a command of the project on a store in a folder."""
    print(f"python -m abalone {' '.join(arguments)}", flush=True)
    settings = {**os.environ, "MLFLOW_TRACKING_URI": uri, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "abalone", *arguments]
    subprocess.run(command, cwd=folder, env=settings, check=True, stdout=subprocess.DEVNULL)


def copy_figure(stage: str, artifact: str, target: Path) -> None:
    """Copy a figure of the latest run of a stage."""
    client = MlflowClient()
    experiment_id = client.get_experiment_by_name(EXPERIMENT_NAME).experiment_id
    [run] = client.search_runs([experiment_id], f"tags.stage = '{stage}'", max_results=1)
    with TemporaryDirectory() as folder:
        shutil.copy(client.download_artifacts(run.info.run_id, artifact, folder), target)
    report(target)


def take_screenshot(target: Path) -> None:
    """Take a picture of the view ``curves``, as it looks after MLflow's assistant and notice are closed."""
    experiment_id = MlflowClient().get_experiment_by_name(EXPERIMENT_NAME).experiment_id
    port = free_port()
    address = f"http://{HOST}:{port}/{runs_path(experiment_id, CURVES_VIEW, charts=True)}"
    with serve(port), open_chromium() as browser, fresh_page(browser, address) as page:
        expect(page.get_by_text("dropout (loss/test)", exact=True).first).to_be_visible()
        page.get_by_role("button", name="Close", exact=True).last.click()
        page.get_by_role("button", name="Hide banner").click()
        page.locator(".js-plotly-plot").nth(3).wait_for()
        page.screenshot(path=target)
    report(target)


def report(picture: Path) -> None:
    """Say what was written; refuse what is too large for a README."""
    size = picture.stat().st_size
    print(f"{picture.relative_to(ROOT)}: {size} bytes", flush=True)
    if size >= MAX_BYTES:
        sys.exit(f"{picture} has more than {MAX_BYTES} bytes")


if __name__ == "__main__":
    if not CHROMIUM:
        sys.exit("no Chromium on the path: apt-get install chromium")
    make_pictures()

"""``make ui``: which address it prints, on which server, and what it says if there is nothing to see."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
from pathlib import Path

import pytest
from helpers import ROOT, free_port
from mlflow import MlflowClient
from warm_processes import PYTHON, warm_environment

from abalone.settings import UserError
from abalone.tracking.browse import browse, first_page, has_display

MODE = "workflowType=machine_learning"


def add_run(experiment_name: str, **tags: str) -> str:
    """A finished run of an experiment; returns the experiment's id."""
    client = MlflowClient()
    experiment = client.get_experiment_by_name(experiment_name)
    experiment_id = experiment.experiment_id if experiment else client.create_experiment(experiment_name)
    run = client.create_run(experiment_id, tags=tags)
    client.set_terminated(run.info.run_id)
    return experiment_id


def command(port: int) -> list[str]:
    return [PYTHON, "-m", "abalone.tracking.browse", "--port", str(port)]


def test_an_empty_store_says_what_to_run_first(store):
    with pytest.raises(UserError, match=r"no experiment 'abalone' in sqlite.* yet: `make run`"):
        browse()
    MlflowClient().create_experiment("abalone")
    with pytest.raises(UserError, match="no runs in the experiment 'abalone' yet: `make run`"):
        browse()


def test_runs_of_other_experiments_are_pointed_to(store, monkeypatch):
    add_run("mine")
    with pytest.raises(UserError, match="MLFLOW_EXPERIMENT_NAME=mine make ui"):
        browse()
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "mine")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=rf"port {port} is in use.*make ui PORT={port + 1}"):
            browse(port)


def test_the_first_page_is_that_of_the_stages_or_of_all_runs_before_a_stage_has_run(store):
    experiment_id = add_run("abalone", stage="promote")
    experiment = MlflowClient().get_experiment(experiment_id)
    assert first_page(experiment) == f"#/experiments/{experiment_id}/runs?{MODE}"
    add_run("abalone", stage="classify", guide_order="1")
    assert first_page(experiment) == f"#/experiments/{experiment_id}/runs?{MODE}&viewStateShareKey=stages"


@pytest.mark.parametrize(
    "settings, platform, expected",
    [
        ({}, "linux", False),
        ({"DISPLAY": ""}, "linux", False),
        ({"DISPLAY": ":0"}, "linux", True),
        ({"WAYLAND_DISPLAY": "wayland-0"}, "linux", True),
        ({}, "darwin", True),
    ],
)
def test_a_browser_is_opened_where_there_is_a_display(settings, platform, expected):
    assert has_display(settings, platform) is expected


@pytest.mark.slow
def test_the_address_is_printed_last_opened_and_the_same_on_a_server(store, own_folder):
    experiment_id = add_run("abalone", stage="classify", guide_order="1")
    port = free_port()
    expected = f"http://127.0.0.1:{port}/#/experiments/{experiment_id}/runs?{MODE}&viewStateShareKey=stages"
    opened = own_folder / "opened"
    browser = own_folder / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > {opened}\n')
    browser.chmod(0o755)
    settings = {**warm_environment(), "PYTHONPATH": str(ROOT), "DISPLAY": ":0", "BROWSER": f"{browser} %s"}
    settings.pop("WAYLAND_DISPLAY", None)

    ui = subprocess.Popen(command(port), env=settings, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        printed = []
        for line in ui.stdout:
            printed.append(line.strip())
            if line.startswith("Ctrl-C"):
                break
        assert expected in printed[-4:], printed

        settings["MLFLOW_TRACKING_URI"] = f"http://127.0.0.1:{port}"
        again = subprocess.run(command(port), env=settings, capture_output=True, text=True, timeout=120)
        assert again.returncode == 0, again.stderr
        assert expected in again.stdout and "Starting" not in again.stdout
        assert_content(opened, expected)
    finally:
        ui.send_signal(signal.SIGTERM)
        rest, _ = ui.communicate(timeout=60)
    assert "GET" not in rest, "requests would push the address away"
    assert ui.returncode == 128 + signal.SIGTERM
    with socket.socket() as client:
        assert client.connect_ex(("127.0.0.1", port)) != 0, "the server has ended too"


def assert_content(path: Path, expected: str) -> None:
    """The file holds a line, once the process that writes it has got so far."""
    subprocess.run(
        ["timeout", "60", "sh", "-c", f'until grep -q . "{path}" 2>/dev/null; do sleep 0.1; done'], check=True
    )
    assert path.read_text().strip() == expected


def test_make_help_readme_and_docs_print_no_address_that_a_fresh_browser_profile_forgets():
    for name in ("README.md", "Makefile", "MLproject", *(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))):
        text = (ROOT / name).read_text(encoding="utf-8")
        for address in re.findall(r"http://127\.0\.0\.1:5000\S*", text):
            assert f"/runs?{MODE}" in address, f"{name}: {address}"

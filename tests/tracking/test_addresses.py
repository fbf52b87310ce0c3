"""Addresses of the UI's pages: each names the page and the mode, so that it works in a fresh browser."""

from __future__ import annotations

import mlflow
import pytest

from abalone.tracking.addresses import (
    full_address,
    link,
    logged_model_path,
    registered_model_path,
    run_path,
    runs_path,
    version_path,
)

MODE = "?workflowType=machine_learning"


@pytest.mark.parametrize(
    "path, expected",
    [
        (runs_path("1"), f"#/experiments/1/runs{MODE}"),
        (runs_path("1", "stages"), f"#/experiments/1/runs{MODE}&viewStateShareKey=stages"),
        (
            runs_path("1", "curves", charts=True),
            f"#/experiments/1/runs{MODE}&compareRunsMode=CHART&viewStateShareKey=curves",
        ),
        (run_path("1", "abc"), f"#/experiments/1/runs/abc{MODE}"),
        (run_path("1", "abc", "artifacts/roc.png"), f"#/experiments/1/runs/abc/artifacts/roc.png{MODE}"),
        (logged_model_path("1", "m-2"), f"#/experiments/1/models/m-2{MODE}"),
        (registered_model_path("abalone-classifier"), f"#/models/abalone-classifier{MODE}"),
        (version_path("abalone-classifier", 3), f"#/models/abalone-classifier/versions/3{MODE}"),
    ],
)
def test_a_path_names_page_and_mode_and_stays_on_the_server_that_shows_it(path, expected):
    assert path == expected


def test_a_link_is_markdown():
    assert link("the stages", "#/a?b") == "[the stages](#/a?b)"


@pytest.mark.parametrize(
    "uri, server",
    [
        ("sqlite:///mlflow.db", "http://127.0.0.1:5000"),
        ("http://server:5000", "http://server:5000"),
        ("https://server/mlflow/", "https://server/mlflow"),
    ],
)
def test_a_full_address_is_on_the_tracking_server_or_on_the_local_ui(store, uri, server):
    mlflow.set_tracking_uri(uri)
    assert full_address("#/a") == f"{server}/#/a"

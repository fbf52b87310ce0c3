"""Addresses of pages in the MLflow UI.

The UI opens in its GenAI mode whatever an experiment holds, and forgets the mode that the start page was given. An
address that names the mode and the page works with a fresh browser profile. Links on pages begin with ``#``, so that
they stay on the server that shows them.
"""

from __future__ import annotations

from collections.abc import Callable

import mlflow

from abalone.tracking.known_runs import experiment_id_of
from abalone.tracking.markdown import escape

MODE = "workflowType=machine_learning"
Naming = Callable[[str, str], str]  # ``link`` or ``text_only``
LOCAL_UI = "http://127.0.0.1:5000"  # where ``mlflow ui`` serves unless told otherwise


def runs_path(experiment_id: str, view: str = "", charts: bool = False) -> str:
    """Path of an experiment's runs, in one of the shared views, as a table or as charts."""
    path = f"#/experiments/{experiment_id}/runs?{MODE}"
    if charts:
        path += "&compareRunsMode=CHART"
    if view:
        path += f"&viewStateShareKey={view}"
    return path


def run_path(experiment_id: str, run_id: str, tab: str = "") -> str:
    """Path of a run's page, or of one of its tabs, such as ``artifacts/report.html``."""
    place = f"{run_id}/{tab}" if tab else run_id
    return f"#/experiments/{experiment_id}/runs/{place}?{MODE}"


def find_run_path(run_id: str, tab: str = "") -> str:
    """Path of a run's page, or of one of its tabs, for a run whose experiment is not known."""
    return run_path(experiment_id_of(run_id), run_id, tab)


def logged_model_path(experiment_id: str, model_id: str) -> str:
    """Path of a logged model's page."""
    return f"#/experiments/{experiment_id}/models/{model_id}?{MODE}"


def registered_model_path(name: str) -> str:
    """Path of a registered model's page."""
    return f"#/models/{name}?{MODE}"


def version_path(name: str, version: int | str) -> str:
    """Path of the page of a model version."""
    return f"#/models/{name}/versions/{version}?{MODE}"


def artifact_picture(text: str, run_id: str, file: str) -> str:
    """A picture among a run's artifacts as Markdown, from the address at which the UI's own server has it."""
    return f"![{text}](get-artifact?path={file}&run_uuid={run_id})"


def link(text: str, path: str) -> str:
    """A Markdown link, whose text is shown as it is."""
    return f"[{escape(text)}]({path})"


def text_only(text: str, path: str) -> str:
    """The text alone, in place of ``link``, for a terminal."""
    return text


def full_address(path: str) -> str:
    """The whole address of a path: on the tracking server, or on the local UI of a database."""
    uri = mlflow.get_tracking_uri()
    server = uri if uri.startswith(("http://", "https://")) else LOCAL_UI
    return f"{server.rstrip('/')}/{path}"

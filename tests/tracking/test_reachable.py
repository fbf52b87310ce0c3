"""A tracking store that is away, or that refuses this client, is found at the start, in one sentence."""

from __future__ import annotations

import os
import shlex
import socket
import sys
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import click
import pytest

from abalone.cli import group
from abalone.cli.program import cli
from abalone.settings import UserError
from abalone.tracking import reachable
from abalone.tracking.reachable import RETRIES, TIMEOUT, check_store, set_client_defaults


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.fixture
def refusing_server(request) -> Iterator[int]:
    """Port of a server that answers every request with a status and a text."""
    status, text = request.param

    class Refuse(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(text.encode())

        do_POST = do_GET

        def log_message(self, *arguments) -> None:
            """Print nothing."""

    server = HTTPServer(("127.0.0.1", 0), Refuse)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


def refusal(monkeypatch: pytest.MonkeyPatch, uri: str) -> str:
    """What is said about a store, in how many seconds."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    began = time.monotonic()
    with pytest.raises(UserError) as error:
        check_store()
    assert time.monotonic() - began < 10
    return str(error.value)


def test_a_server_that_is_away_is_named_with_the_reason(monkeypatch, closed_port):
    uri = f"http://me:secret@127.0.0.1:{closed_port}"
    text = refusal(monkeypatch, uri)
    assert text.startswith(f"the tracking server http://127.0.0.1:{closed_port} does not answer (Connection refused)")
    assert len(text) < 200


def test_a_server_that_accepts_and_says_nothing_is_given_up_within_ten_seconds(monkeypatch):
    assert reachable.CONNECT_SECONDS + reachable.ANSWER_SECONDS <= 10
    monkeypatch.setattr(reachable, "ANSWER_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        assert "does not answer (timed out)" in refusal(monkeypatch, f"http://127.0.0.1:{port}")


@pytest.mark.parametrize("refusing_server", [(401, "You are not authenticated.")], indirect=True)
def test_a_wrong_password_is_named(monkeypatch, refusing_server):
    text = refusal(monkeypatch, f"http://127.0.0.1:{refusing_server}")
    assert "does not know this user or password; set MLFLOW_TRACKING_USERNAME" in text


@pytest.mark.parametrize("refusing_server", [(401, "You are not authenticated.")], indirect=True)
@pytest.mark.parametrize("in_uri", [True, False])
def test_a_wrong_password_is_found_without_the_import_of_mlflow(monkeypatch, refusing_server, in_uri):
    login = "me:secret@" if in_uri else ""
    if not in_uri:
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "me")
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "secret")
    with monkeypatch.context() as without_mlflow:
        without_mlflow.setitem(sys.modules, "mlflow", None)  # an import of it would fail
        text = refusal(monkeypatch, f"http://{login}127.0.0.1:{refusing_server}")
    assert "does not know this user or password" in text


@pytest.mark.parametrize(
    "refusing_server", [(403, "Invalid Host header - possible DNS rebinding attack detected")], indirect=True
)
def test_a_server_that_refuses_its_name_is_to_be_started_with_it(monkeypatch, refusing_server):
    text = refusal(monkeypatch, f"http://localhost:{refusing_server}")
    assert f"start it with --allowed-hosts localhost:{refusing_server},localhost" in text


def test_a_database_server_that_is_away_is_named_without_its_password(monkeypatch, closed_port):
    text = refusal(monkeypatch, f"postgresql://me:secret@127.0.0.1:{closed_port}/mlflow")
    assert text.startswith(f"the tracking database postgresql://127.0.0.1:{closed_port}/mlflow does not answer")


@pytest.mark.parametrize("uri", ["", "sqlite:///nowhere.db", "postgresql:///mlflow?host=/tmp"])
def test_files_and_sockets_are_not_checked(monkeypatch, uri):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    check_store()


@pytest.mark.parametrize("name", sorted(cli.commands))
def test_every_command_asks_first(monkeypatch, name):
    def away() -> None:
        raise UserError("away")

    monkeypatch.setattr(group, "check_store", away)
    words = shlex.split(cli.commands[name].epilog)[5:]
    with pytest.raises(UserError, match="away"):
        cli.commands[name].main(words, standalone_mode=False, parent=click.Context(cli))


def test_what_the_user_has_set_wins(monkeypatch):
    monkeypatch.setenv(RETRIES, "9")
    monkeypatch.setenv(TIMEOUT, "")
    monkeypatch.delenv(TIMEOUT)
    set_client_defaults()
    assert (os.environ[RETRIES], os.environ[TIMEOUT]) == ("9", "8")

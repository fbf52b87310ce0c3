"""``make server``: the servers of a team, with logins, as another machine sees them."""

from __future__ import annotations

import http.client
import subprocess
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from helpers import free_port
from mlflow import MlflowClient
from warm_processes import PYTHON, start_servers_warm, warm_environment

from abalone.tracking.browse import listens
from abalone.tracking.team_server import start, stop

pytestmark = pytest.mark.slow
NAME = "tracking.example"  # by which the other machines call the server
READER = ("reader", "a password of the reader")


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[Path, int, int]]:
    """A server with logins: its folder, and the ports of MLflow and PostgreSQL."""
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        start_servers_warm(patch)
        port = free_port()
        database_port = free_port()
        start(NAME, port, database_port=database_port, login=True, folder=Path(folder))
        yield Path(folder), port, database_port
        stop(Path(folder))
        assert not listens(port) and not listens(database_port)


@pytest.fixture
def login(server, monkeypatch):
    """Makes this process and its children users of the server, by name and password."""
    folder, port, _ = server
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")

    def log_in(name: str, password: str) -> None:
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", name)
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", password)

    log_in("admin", (folder / "admin-password").read_text())
    return log_in


def abalone(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [PYTHON, "-m", "abalone", *arguments], capture_output=True, text=True, env=warm_environment(), timeout=300
    )


@pytest.mark.parametrize(("host", "status"), [(NAME, 401), ("other.example", 403)])
def test_the_server_answers_to_its_name_only_and_to_nobody_without_a_login(server, host, status):
    _, port, _ = server
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request(
        "POST",
        "/api/2.0/mlflow/experiments/search",
        "{}",
        {"Host": f"{host}:{port}", "Content-Type": "application/json"},
    )
    assert connection.getresponse().status == status


def test_nobody_reads_the_passwords_but_the_owner(server):
    folder, _, _ = server
    for name in ("password", "admin-password", "secret-key", "logins.ini"):
        assert (folder / name).stat().st_mode & 0o777 == 0o600, name


def test_who_logs_in_trains_and_a_reader_cannot_promote_what_they_trained(server, login):
    from mlflow.server.auth.client import AuthServiceClient

    _, port, _ = server
    trained = abalone("classify", "--epochs", "1")
    assert trained.returncode == 0, trained.stderr
    AuthServiceClient(f"http://127.0.0.1:{port}").create_user(*READER)
    login(*READER)
    refused = abalone("promote", "--task", "classification")
    assert refused.returncode == 1 and "Permission denied" in refused.stderr
    assert not MlflowClient(f"http://127.0.0.1:{port}").search_registered_models()


def test_a_wrong_password_is_one_sentence_before_anything_is_trained(login):
    login("admin", "wrong")
    done = abalone("classify", "--epochs", "1")
    assert done.returncode == 1 and done.stdout == ""
    assert "does not know this user or password" in done.stderr and len(done.stderr.splitlines()) == 1

"""Whether the tracking store answers: asked once at the start of a command, so that nothing is trained in vain.

MLflow's own defaults keep a client silent for minutes when a server is away. The defaults here suit a server that
restarts: a request is tried again for about half a minute. Variables that the user has set are left alone.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from abalone.settings import UserError

if TYPE_CHECKING:
    from mlflow.exceptions import MlflowException

RETRIES = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"
TIMEOUT = "MLFLOW_HTTP_REQUEST_TIMEOUT"
# MLflow waits 0, 4, 8 and 16 seconds before the four attempts that follow the first.
CLIENT_DEFAULTS = {RETRIES: "4", TIMEOUT: "30"}
AT_START = {RETRIES: "1", TIMEOUT: "4"}  # at most two attempts of four seconds each
HTTP_LOGGER = logging.getLogger("urllib3.connectionpool")
DATABASE_LOGGER = logging.getLogger("mlflow.store.db.utils")  # prints the traceback of an error that it also raises
CONNECT_SECONDS = 4.0
NETWORK_ERRORS = (
    "Connection refused",
    "Name or service not known",
    "Temporary failure in name resolution",
    "No route to host",
    "timed out",
)
DATABASE_PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}


def set_client_defaults() -> None:
    """Set how long MLflow's client waits for a server, unless the user has, and let it say so in plain words."""
    for name, value in CLIENT_DEFAULTS.items():
        os.environ.setdefault(name, value)
    DATABASE_LOGGER.setLevel(logging.CRITICAL)
    if not HTTP_LOGGER.handlers:
        handler = logging.StreamHandler()
        handler.addFilter(_reword)
        HTTP_LOGGER.addHandler(handler)
        HTTP_LOGGER.propagate = False


def _reword(record: logging.LogRecord) -> bool:
    """Replace urllib3's message about a further attempt, which shows objects of Python, by a sentence."""
    if str(record.msg).startswith("Retrying ("):
        reason = _innermost(record.getMessage())
        record.msg = "The tracking server does not answer (%s); trying again."
        record.args = (reason,)
    return True


def check_store() -> None:
    """Raise if the tracking server, or the database server of a tracking URI, does not answer within ten seconds.

    SQLite files and folders are not checked.

    Raises
    ------
    UserError
        With the address and the reason, if there is no answer, or the server refuses this user or the name by which it
        is called.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    scheme = urlsplit(uri).scheme
    if scheme in ("http", "https"):
        _check_server(uri)
    elif scheme.split("+")[0] in DATABASE_PORTS:
        _check_database(uri)


@contextmanager
def no_http_retries() -> Iterator[None]:
    """Within the block, a request to a server that is away fails at once."""
    with _environment({RETRIES: "0", TIMEOUT: "4"}):
        yield


def _check_server(uri: str) -> None:
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    address = without_login(uri)
    try:
        # Not `/health`, which answers those who may not log in.
        with _environment(AT_START):
            MlflowClient(uri).search_experiments(max_results=1)
    except MlflowException as error:
        raise UserError(_server_says(address, error)) from None


def explain(error: BaseException) -> str:
    """An error in one sentence if it means that the tracking server does not answer; otherwise its own text."""
    if "Max retries exceeded" not in str(error):
        return str(error)
    address = without_login(os.environ.get("MLFLOW_TRACKING_URI", ""))
    return f"the tracking server {address} does not answer any more ({_innermost(str(error))}); what was logged is kept"


def _server_says(address: str, error: MlflowException) -> str:
    """One sentence about why a server does not serve this client."""
    status = error.get_http_status_code()
    text = str(error)
    if "401" in text:
        return (
            f"the tracking server {address} does not know this user or password; set MLFLOW_TRACKING_USERNAME and "
            "MLFLOW_TRACKING_PASSWORD"
        )
    if "rebinding" in text.lower() or "Invalid Host" in text:
        host = urlsplit(address).netloc
        return (
            f"the tracking server {address} refuses to be called by this name; start it with "
            f"--allowed-hosts {host},{urlsplit(address).hostname}"
        )
    reason = _innermost(text) if "Max retries exceeded" in text else f"status {status}: {text.splitlines()[0][:200]}"
    return f"the tracking server {address} does not answer ({reason}); start it, or set MLFLOW_TRACKING_URI to another"


def _innermost(text: str) -> str:
    """What the network said, without the layers of urllib3 and requests around it."""
    for known in (
        "Connection refused",
        "Name or service not known",
        "Temporary failure in name resolution",
        "timed out",
    ):
        if known in text:
            return known
    return text.splitlines()[0][-200:]


def _check_database(uri: str) -> None:
    parts = urlsplit(uri)
    if not parts.hostname:  # a socket in the file system
        return
    port = parts.port or DATABASE_PORTS[parts.scheme.split("+")[0]]
    try:
        socket.create_connection((parts.hostname, port), timeout=CONNECT_SECONDS).close()
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(
            f"the tracking database {without_login(uri)} does not answer ({reason}); start it, or set "
            "MLFLOW_TRACKING_URI to another"
        ) from None


def without_login(uri: str) -> str:
    """A URI without the user's name and password."""
    parts = urlsplit(uri)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables of the client within the block, and keep it from announcing attempts."""
    level = HTTP_LOGGER.level
    HTTP_LOGGER.setLevel(logging.ERROR)
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        HTTP_LOGGER.setLevel(level)
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value

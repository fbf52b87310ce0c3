"""Whether the tracking store answers: asked once at the start of a command, so that nothing is trained in vain.

MLflow's own defaults keep a client silent for minutes when a server is away. The defaults here suit a server that
restarts: a request is tried again for about half a minute, and given up after a minute if the server takes it and says
nothing. Variables that the user has set are left alone.
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
    from requests import Response

RETRIES = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"
TIMEOUT = "MLFLOW_HTTP_REQUEST_TIMEOUT"
BACKOFF = "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR"
# Of a backoff of 4, MLflow makes pauses of 0, 8 and 16 seconds before the three attempts that follow the first.
CLIENT_DEFAULTS = {RETRIES: "3", TIMEOUT: "8", BACKOFF: "4"}
AT_ONCE = {RETRIES: "0", TIMEOUT: "4"}
LOGIN = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
HTTP_LOGGER = logging.getLogger("urllib3.connectionpool")
DATABASE_LOGGER = logging.getLogger("mlflow.store.db.utils")  # prints the traceback of an error that it also raises
CONNECT_SECONDS = 4.0
ANSWER_SECONDS = 6.0
NETWORK_ERRORS = (
    "Connection refused",
    "Name or service not known",
    "Temporary failure in name resolution",
    "No route to host",
    "timed out",
)
# What MLflow's client says after several attempts, and after one.
SIGNS_OF_ABSENCE = ("Max retries exceeded", "failed with timeout exception")
KEPT_RESULTS = "kept-results"  # folder for results that a server did not take
DATABASE_PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}


class ServerAway(UserError):
    """The tracking server does not answer."""


def set_client_defaults() -> None:
    """Set how long MLflow's client waits for a server, unless the user has, and let it say so in plain words."""
    for name, value in CLIENT_DEFAULTS.items():
        os.environ.setdefault(name, value)
    DATABASE_LOGGER.addFilter(_below_error)
    if not HTTP_LOGGER.handlers:
        handler = logging.StreamHandler()
        handler.addFilter(_reword)
        HTTP_LOGGER.addHandler(handler)
        HTTP_LOGGER.propagate = False


def _below_error(record: logging.LogRecord) -> bool:
    return record.levelno < logging.ERROR


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
    with _environment(AT_ONCE):
        yield


def _check_server(uri: str) -> None:
    import requests

    address = without_login(uri)
    try:
        answer = _ask(uri)
    except requests.exceptions.SSLError:
        answer = None
    except requests.RequestException as error:
        raise ServerAway(_does_not_answer(address, _innermost(str(error)))) from None
    gave_login = _login() is not None or uri != address
    if answer is None or (answer.status_code == 401 and not gave_login):
        _ask_as_mlflow_does(uri, address)
    elif answer.status_code != 200:
        raise UserError(_server_says(address, answer.status_code, answer.text))


def _ask(uri: str) -> Response:
    """A request that needs a login, without MLflow, whose import takes longer than everything else here."""
    import requests

    # Not `/health`, which answers those who may not log in.
    address = f"{uri.rstrip('/')}/api/2.0/mlflow/experiments/search"
    return requests.post(address, json={"max_results": 1}, auth=_login(), timeout=(CONNECT_SECONDS, ANSWER_SECONDS))


def _login() -> tuple[str, str] | None:
    """User and password in the environment, if there are both."""
    user = os.environ.get(LOGIN[0], "")
    password = os.environ.get(LOGIN[1], "")
    return (user, password) if user and password else None


def _ask_as_mlflow_does(uri: str, address: str) -> None:
    """Ask with certificates, tokens and a file of credentials, all of which MLflow's client knows."""
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    try:
        with no_http_retries():
            MlflowClient(uri).search_experiments(max_results=1)
    except MlflowException as error:
        if is_away(error):
            raise ServerAway(_does_not_answer(address, _innermost(str(error)))) from None
        raise UserError(_server_says(address, error.get_http_status_code(), str(error))) from None


def is_away(error: BaseException) -> bool:
    """Whether an error means that the tracking server does not answer."""
    return isinstance(error, ServerAway) or bool(_sign_of_absence(error))


def _sign_of_absence(error: BaseException | None) -> str:
    """What MLflow's client said of the server, which may be the cause of what it said later; "" if it did not."""
    while error is not None:
        text = str(error)
        if any(sign in text for sign in SIGNS_OF_ABSENCE):
            return text
        error = error.__cause__
    return ""


def explain(error: BaseException) -> str:
    """An error in one sentence if it means that the tracking server does not answer; otherwise its own text."""
    if isinstance(error, ServerAway) or not is_away(error):
        return str(error)
    address = without_login(os.environ.get("MLFLOW_TRACKING_URI", ""))
    reason = _innermost(_sign_of_absence(error))
    return f"the tracking server {address} does not answer any more ({reason}); what was logged is kept"


def _does_not_answer(address: str, reason: str) -> str:
    return f"the tracking server {address} does not answer ({reason}); start it, or set MLFLOW_TRACKING_URI to another"


def _server_says(address: str, status: int, text: str) -> str:
    """One sentence about why a server does not serve this client."""
    if "401" in text or status == 401:
        return f"the tracking server {address} does not know this user or password; set {LOGIN[0]} and {LOGIN[1]}"
    if "rebinding" in text.lower() or "Invalid Host" in text:
        host = urlsplit(address).netloc
        return (
            f"the tracking server {address} refuses to be called by this name; start it with "
            f"--allowed-hosts {host},{urlsplit(address).hostname}"
        )
    first_line = text.strip().partition("\n")[0][:200]
    return _does_not_answer(address, f"status {status}: {first_line}")


def _innermost(text: str) -> str:
    """What the network said, without the layers of urllib3 and requests around it."""
    for known in NETWORK_ERRORS:
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
    if "@" not in parts.netloc:
        return uri
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

"""``make server``: PostgreSQL and MLflow's tracking server for a team, and what its machines export to use them.

``make server-stop`` ends both. Their data stay in the folder ``server``.
"""

from __future__ import annotations

import argparse
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from abalone.settings import UserError
from abalone.tracking.browse import SERVER_DEFAULTS, answers, listens
from abalone.tracking.postgres import Postgres

FOLDER = Path("server")
PORT = 5000
DATABASE_PORT = 5433  # not 5432, where a PostgreSQL of the machine's own would be
STARTING_SECONDS = 180
STOPPING_SECONDS = 20


def start(
    host: str,
    port: int,
    database: str = "",
    database_port: int = DATABASE_PORT,
    login: bool = False,
    folder: Path = FOLDER,
) -> None:
    """Start the servers in the background, and print what to export on the other machines.

    Parameters
    ----------
    host : str
        Name by which the other machines call this one.
    port, database_port : int
        Ports of MLflow and of PostgreSQL.
    database : str, default ""
        URL of a database for MLflow; "" to start a PostgreSQL of our own.
    login : bool, default False
        Whether users log in.
    folder : Path
        Where data, logs and process ids are kept.

    Raises
    ------
    UserError
        If a port is in use, or a server does not start.
    """
    folder = folder.resolve()
    if listens(port):
        raise UserError(f"port {port} is in use; is the server running already? Otherwise: make server PORT={port + 1}")
    folder.mkdir(parents=True, exist_ok=True)
    storage = ""
    logins = f"sqlite:///{folder / 'logins.db'}"
    if not database:
        postgres = Postgres(folder, database_port)
        postgres.start("0.0.0.0", ["mlflow", "optuna", "logins"])
        database = postgres.url("mlflow")
        logins = postgres.url("logins")
        storage = postgres.url("optuna", host, password=False)
    server = _start_mlflow(host, port, database, folder, logins if login else "")
    (folder / "mlflow.pid").write_text(str(server.pid))
    _wait_for(server, port, folder)
    print(f"The tracking server runs at http://{host}:{port}; `make server-stop` ends it.\n\nOn each machine:\n")
    print(f"  export MLFLOW_TRACKING_URI=http://{host}:{port}")
    if login:
        print("  export MLFLOW_TRACKING_USERNAME=admin")
        print(f"  export MLFLOW_TRACKING_PASSWORD={_secret(folder / 'admin-password')}")
    if storage:
        print(f"  export ABALONE_STORAGE={storage}")
        print(f"  export PGPASSWORD={Postgres(folder, database_port).password}")


def stop(folder: Path = FOLDER) -> None:
    """End the servers that ``start`` has started."""
    folder = folder.resolve()
    pid_file = folder / "mlflow.pid"
    if pid_file.exists():
        _end(int(pid_file.read_text()))
        pid_file.unlink()
    if (folder / "postgres").exists():
        Postgres(folder, 0).stop()
    print(f"The servers are stopped; their data stay in {folder}.")


def _start_mlflow(host: str, port: int, database: str, folder: Path, logins: str) -> subprocess.Popen:
    """MLflow's server with one worker, which passes artifacts on, so that machines need no access to their store."""
    command = [sys.executable, "-m", "mlflow", "server", "--host", "0.0.0.0", "--port", str(port), "--workers", "1"]
    command += ["--artifacts-destination", str(folder / "artifacts")]
    # Without this, MLflow answers 403 to whoever calls the server by another name than localhost.
    names = sorted({"localhost", "127.0.0.1", host})
    command += ["--allowed-hosts", ",".join(f"{name}:{port}" for name in names)]
    # Not as an option, which every user of this machine could read in the list of processes.
    environment = {**SERVER_DEFAULTS, **os.environ, "MLFLOW_BACKEND_STORE_URI": database}
    environment.pop("MLFLOW_TRACKING_URI", None)
    if logins:
        command += ["--app-name", "basic-auth"]
        environment |= _login_settings(folder, logins)
    with (folder / "mlflow.log").open("a") as log:
        return subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)


def _login_settings(folder: Path, logins: str) -> dict[str, str]:
    """Environment of a server with logins, which are kept in a database of their own."""
    config = folder / "logins.ini"
    config.touch(mode=0o600)
    config.write_text(
        f"[mlflow]\ndefault_permission = READ\ndatabase_uri = {logins}\nadmin_username = admin\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
        # Without it, the server spends half a second of its processor on the password of every request.
        "auth_cache_ttl_seconds = 60\n"
    )
    return {
        "MLFLOW_AUTH_CONFIG_PATH": str(config),
        "MLFLOW_AUTH_ADMIN_PASSWORD": _secret(folder / "admin-password"),
        "MLFLOW_FLASK_SERVER_SECRET_KEY": _secret(folder / "secret-key"),
    }


def _secret(path: Path) -> str:
    """A secret that is kept in a file, made by the first call."""
    if not path.exists():
        path.touch(mode=0o600)
        path.write_text(secrets.token_hex(16))
    return path.read_text()


def _wait_for(server: subprocess.Popen, port: int, folder: Path) -> None:
    print("Starting the tracking server, which takes some seconds ...", flush=True)
    deadline = time.monotonic() + STARTING_SECONDS
    while not answers(port):
        if server.poll() is not None or time.monotonic() > deadline:
            raise UserError(f"the tracking server does not answer; see {folder / 'mlflow.log'}")
        time.sleep(0.5)


def _end(pid: int) -> None:
    """End a process group that ``start`` has begun, and wait until it is gone."""
    deadline = time.monotonic() + STOPPING_SECONDS
    number = signal.SIGTERM
    try:
        while True:
            os.killpg(pid, number)
            time.sleep(0.2)
            with suppress(ChildProcessError):  # not started by this process
                os.waitpid(pid, os.WNOHANG)
            if time.monotonic() > deadline:
                number = signal.SIGKILL
    except ProcessLookupError:
        return


def main() -> None:
    """Start or stop the servers, as the command line says."""
    parser = argparse.ArgumentParser(prog="python -m abalone.tracking.team_server", description=__doc__.split("\n")[0])
    parser.add_argument("action", choices=("start", "stop"))
    parser.add_argument("--host", default=socket.gethostname(), help="name of this machine for the others")
    parser.add_argument("--port", type=int, default=PORT, help=f"port of the tracking server (default {PORT})")
    parser.add_argument("--database", default="", help="URL of a database, instead of a PostgreSQL of our own")
    parser.add_argument("--database-port", type=int, default=DATABASE_PORT, help="port of PostgreSQL")
    parser.add_argument("--login", action="store_true", help="users log in, as admin at first")
    given = parser.parse_args()
    try:
        if given.action == "start":
            start(given.host, given.port, given.database, given.database_port, given.login)
        else:
            stop()
    except UserError as error:
        sys.exit(f"Error: {error}")


if __name__ == "__main__":
    main()

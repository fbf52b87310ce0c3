"""Wait for an SQLite database that another process has locked, and say so.

By themselves, Python waits 5 seconds for a lock and MLflow 20, silently, and no signal is handled before that. What was
trained meanwhile would be lost. Here SQLite waits a second at a time, and the statement is repeated until the lock is
gone or patience ends. SQLite does nothing of a statement, or of a commit, that it refuses because of a lock, so it can
be repeated.

This holds for every connection that SQLAlchemy opens in this process: those of MLflow, and those of Optuna.
"""

from __future__ import annotations

import sqlite3
import sys
import time
from collections.abc import Callable
from typing import Any, TypeVar
from weakref import WeakSet

ATTEMPT = 1.0  # seconds that SQLite waits by itself, in which no signal is handled
PAUSE = 0.05  # seconds between attempts: some are refused without a wait
QUIET = 3.0  # seconds before a wait is announced
PATIENCE = 180.0  # seconds until a statement gives up
AFTERMATH = 60.0  # seconds after a wait in vain in which the next one is short: they only end runs
T = TypeVar("T")
_given_up: dict[str, float] = {}  # when a wait for a database has ended in vain, or with a Ctrl-C


class StoreFault(sqlite3.OperationalError):
    """A database that is locked or cannot be written; the message is a sentence for the user."""


class PatientCursor(sqlite3.Cursor):
    """A cursor whose statements wait for the database."""

    connection: PatientConnection

    def execute(self, sql: str, parameters: Any = (), /) -> PatientCursor:
        """Execute a statement, except MLflow's, which would make SQLite wait for 20 seconds at a time."""
        if sql.startswith("PRAGMA busy_timeout"):
            return self
        return _wait(self.connection.path, super().execute, sql, parameters)

    def executemany(self, sql: str, parameters: Any, /) -> PatientCursor:
        """Execute a statement for several rows; the first of them takes the lock."""
        return _wait(self.connection.path, super().executemany, sql, parameters)


class PatientConnection(sqlite3.Connection):
    """A connection whose statements and commits wait for the database."""

    def __init__(self, path: str, *arguments: Any, **options: Any):
        super().__init__(path, *arguments, **options)
        self.path = path
        self.cursors: WeakSet[PatientCursor] = WeakSet()

    def cursor(self, factory: Any = PatientCursor) -> Any:
        """A cursor whose statements wait."""
        cursor = super().cursor(factory)
        self.cursors.add(cursor)
        return cursor

    def commit(self) -> None:
        """Commit; this waits for those who still read."""
        _wait(self.path, super().commit)

    def close(self) -> None:
        """Close, with all cursors: one that a Ctrl-C left behind with rows to read would keep the database locked."""
        for cursor in list(self.cursors):
            cursor.close()
        self.cursors.clear()
        super().close()


def wait_for_locks() -> None:
    """Make the connections that SQLAlchemy opens from now on wait for a locked SQLite database."""
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    if not event.contains(Engine, "do_connect", _connect_patiently):
        event.listen(Engine, "do_connect", _connect_patiently)


def _connect_patiently(dialect: Any, record: Any, arguments: Any, options: dict[str, Any]) -> None:
    if dialect.name == "sqlite":
        options["factory"] = PatientConnection
        options["timeout"] = ATTEMPT


def _wait(path: str, call: Callable[..., T], *arguments: Any) -> T:
    """Repeat a call until the database is not locked any more; say so, once, if that takes long."""
    began = time.monotonic()
    is_aftermath = began - _given_up.get(path, -AFTERMATH) < AFTERMATH
    patience = ATTEMPT if is_aftermath else PATIENCE
    is_announced = False
    try:
        while True:
            try:
                return call(*arguments)
            except sqlite3.OperationalError as error:
                waited = time.monotonic() - began
                _raise_unless_locked(path, error)
                if waited >= patience:
                    raise StoreFault(f"{path} is locked: another process has kept it so for {waited:.0f} s") from error
            if waited >= QUIET and not is_announced:
                print(f"Waiting up to {patience:.0f} s for {path}: another process has locked it.", file=sys.stderr)
                is_announced = True
            time.sleep(PAUSE)
    except (StoreFault, KeyboardInterrupt, SystemExit):
        if not is_aftermath:
            _given_up[path] = time.monotonic()
        raise


def _raise_unless_locked(path: str, error: sqlite3.OperationalError) -> None:
    """Raise an error again, with a sentence if the disk is to blame."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # without what extended codes add to it
    if code == sqlite3.SQLITE_FULL:
        raise StoreFault(f"the disk is full: {path} could not be written; free some space") from error
    if code == sqlite3.SQLITE_IOERR:
        raise StoreFault(f"{path} could not be read or written ({error}); is the disk full or damaged?") from error
    if code == sqlite3.SQLITE_READONLY:
        raise StoreFault(f"{path} cannot be written: it is read-only, or was removed meanwhile") from error
    if code != sqlite3.SQLITE_BUSY:
        raise error

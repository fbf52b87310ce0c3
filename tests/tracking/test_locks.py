"""A database that another process has locked is waited for, for a while and not in silence."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from mlflow import MlflowClient
from sqlalchemy import create_engine, text

from abalone.tracking import locks
from abalone.tracking.database import settle_store
from abalone.tracking.plain_errors import fault
from abalone.tracking.run_logging import log_tags
from abalone.tracking.runs import tracked_run
from abalone.tuning.storage import open_storage


class Clock:
    """Takes the place of ``time``: moved by pauses alone, each of which may do something."""

    def __init__(self):
        self.now = 0.0
        self.during_pause: Callable[[], None] = lambda: None

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += 1
        self.during_pause()


@pytest.fixture
def clock(monkeypatch) -> Iterator[Clock]:
    clock = Clock()
    monkeypatch.setattr(locks, "time", SimpleNamespace(monotonic=clock.monotonic, sleep=clock.sleep))
    monkeypatch.setattr(locks, "ATTEMPT", 0.0)
    monkeypatch.setattr(locks, "PATIENCE", 100.0)
    yield clock
    locks._given_up.clear()


@pytest.fixture
def other() -> Iterator[sqlite3.Connection]:
    """Another program that uses the database in the test's folder."""
    connection = sqlite3.connect("mlflow.db", isolation_level=None)
    yield connection
    connection.close()


def lock(other: sqlite3.Connection, clock: Clock, seconds: float) -> None:
    """Lock the whole database for so many seconds."""
    other.execute("BEGIN EXCLUSIVE")
    until = clock.now + seconds

    def release() -> None:
        if clock.now >= until and other.in_transaction:
            other.execute("COMMIT")

    clock.during_pause = release


@pytest.mark.parametrize("seconds", [30, 90])
def test_a_run_outlives_a_lock_at_its_start_and_one_before_its_results_are_written(
    store, own_folder, clock, other, capsys, seconds
):
    settle_store()
    lock(other, clock, seconds)
    with tracked_run("classify") as run_id:
        assert clock.now >= seconds
        lock(other, clock, seconds)
        log_tags(run_id, {"what": "was trained"})
    run = MlflowClient().get_run(run_id)
    assert run.info.status == "FINISHED" and run.data.tags["what"] == "was trained"
    waiting = f"Waiting up to 100 s for {own_folder / 'mlflow.db'}: another process has locked it."
    assert capsys.readouterr().err.splitlines() == [waiting, waiting]


def test_short_waits_are_not_announced(store, clock, other, capsys):
    settle_store()
    lock(other, clock, 2)
    MlflowClient().search_experiments()
    assert capsys.readouterr().err == ""


def test_patience_ends_with_one_sentence_and_the_run_is_then_ended_without_more_of_it(store, own_folder, clock, other):
    settle_store()
    with pytest.raises(Exception) as raised, tracked_run("classify") as run_id:
        lock(other, clock, 1000)
        log_tags(run_id, {"what": "was trained"})
    assert fault(raised.value) == f"{own_folder / 'mlflow.db'} is locked: another process has kept it so for 100 s"
    assert clock.now < 110
    other.execute("COMMIT")
    clock.now += locks.AFTERMATH
    lock(other, clock, 50)
    MlflowClient().search_experiments()  # a later command in the same process is patient again


def test_a_commit_waits_for_those_who_read(store, clock, other):
    settle_store()
    client = MlflowClient()
    run_id = client.create_run("0").info.run_id
    other.execute("BEGIN")
    other.execute("SELECT * FROM runs").fetchall()  # its lock allows others to write, but not to commit
    clock.during_pause = lambda: other.execute("COMMIT") if clock.now == 40 else None
    client.set_tag(run_id, "what", "was trained")
    assert clock.now == 40 and client.get_run(run_id).data.tags["what"] == "was trained"


def test_ctrl_c_ends_a_wait(store, clock, other):
    def interrupt() -> None:
        if clock.now == 5:
            raise KeyboardInterrupt

    settle_store()
    other.execute("BEGIN EXCLUSIVE")
    clock.during_pause = interrupt
    with pytest.raises(KeyboardInterrupt):
        MlflowClient().search_experiments()
    assert clock.now == 5


def test_the_storage_of_studies_waits_too(store, clock, capsys):
    settle_store()
    storage = open_storage("sqlite:///studies.db")
    other = sqlite3.connect("studies.db", isolation_level=None)
    lock(other, clock, 90)
    assert storage.get_all_studies() == []
    assert f"Waiting up to 100 s for {Path('studies.db').absolute()}" in capsys.readouterr().err


def test_a_database_for_which_there_is_no_room_is_named(own_folder, clock):
    locks.wait_for_locks()
    path = Path("full.db").absolute()
    with create_engine(f"sqlite:///{path}").connect() as connection:
        connection.execute(text("CREATE TABLE words (word TEXT)"))
        connection.execute(text("PRAGMA max_page_count = 10"))
        with pytest.raises(Exception) as raised:
            connection.execute(text("INSERT INTO words VALUES (:word)"), [{"word": "x" * 100_000}])
    assert fault(raised.value) == f"the disk is full: {path} could not be written; free some space"


def test_a_database_that_was_removed_meanwhile_is_named(own_folder, clock):
    locks.wait_for_locks()
    path = Path("gone.db").absolute()
    with create_engine(f"sqlite:///{path}").connect() as connection:
        connection.execute(text("CREATE TABLE words (word TEXT)"))
        path.unlink()
        with pytest.raises(Exception) as raised:
            connection.execute(text("INSERT INTO words VALUES ('a')"))
    assert fault(raised.value) == f"{path} cannot be written: it is read-only, or was removed meanwhile"


@pytest.mark.parametrize("statement", ["SELECT runs.", "INSERT INTO tags"])
def test_a_ctrl_c_within_a_statement_leaves_no_lock(store, clock, monkeypatch, statement):
    locks.wait_for_locks()
    client = MlflowClient()
    run_id = client.create_run("0").info.run_id
    execute = locks.PatientCursor.execute

    def interrupted(cursor, sql, parameters=()):
        found = execute(cursor, sql, parameters)
        if sql.startswith(statement):
            raise KeyboardInterrupt
        return found

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt) as raised:
        patch.setattr(locks.PatientCursor, "execute", interrupted)
        client.set_tag(run_id, "first", "1")
    client.set_terminated(run_id, "KILLED")
    assert raised.tb, "it holds the cursor that was left"
    assert client.get_run(run_id).data.tags.keys().isdisjoint({"first"})


def test_a_connection_can_be_closed_twice_while_a_cursor_is_alive(own_folder):
    connection = locks.PatientConnection("rows.db")
    cursor = connection.execute("SELECT 1 UNION SELECT 2")
    connection.close()
    connection.close()
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        cursor.fetchone()

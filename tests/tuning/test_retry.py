"""Calls that are tried again while a database is away, and given up after a while."""

from __future__ import annotations

import sqlite3

import optuna
import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import TEMPORARILY_UNAVAILABLE
from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import OperationalError, PendingRollbackError

from abalone.settings import UserError
from abalone.tracking.locks import StoreFault
from abalone.tuning import retry as module
from abalone.tuning.heartbeat import record_heartbeat
from abalone.tuning.retry import no_retries, retry
from abalone.tuning.storage import open_storage


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    """A clock that only the pauses move."""
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr(module.time, "sleep", sleep)
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


def storage_error(cause: Exception) -> Exception:
    """An error of SQLAlchemy, as Optuna's storage passes it on."""
    error = StorageInternalError("An exception is raised during the commit.")
    error.__cause__ = cause
    return error


def database_error(cause: Exception) -> Exception:
    """An error of the database's driver, as Optuna's storage passes it on."""
    return storage_error(OperationalError("SELECT 1", {}, cause))


class Failing:
    """A call that fails some times before it succeeds."""

    def __init__(self, error: Exception, times: float = 3):
        self.error = error
        self.times = times
        self.calls = 0

    def __call__(self) -> str:
        self.calls += 1
        if self.calls <= self.times:
            raise self.error
        return "done"


@pytest.mark.parametrize(
    "error",
    [
        database_error(ConnectionError("Connection refused")),
        storage_error(PendingRollbackError("Can't reconnect until invalid transaction is rolled back.")),
        MlflowException("server closed the connection", TEMPORARILY_UNAVAILABLE),
    ],
)
def test_a_call_is_tried_again_and_every_pause_is_announced(error, capsys):
    assert retry(Failing(error))() == "done"
    lines = capsys.readouterr().err.splitlines()
    assert [line.rpartition("; ")[2] for line in lines] == [
        f"trying again in {pause} s." for pause in ("0.5", "1", "2")
    ]


def test_a_database_that_stays_away_is_given_up_within_a_minute(no_pauses):
    call = Failing(database_error(ConnectionError("Connection refused")), times=float("inf"))
    with pytest.raises(UserError, match=r"the database does not answer \(Connection refused\)"):
        retry(call)()
    assert 30 < no_pauses[0] < 60


@pytest.mark.parametrize(
    "error",
    [
        database_error(sqlite3.OperationalError("no such table")),
        database_error(StoreFault("mlflow.db is locked: another process has kept it so for 180 s")),
        MlflowException("no such run"),
    ],
)
def test_other_errors_are_raised_at_once(error):
    call = Failing(error)
    with pytest.raises(type(error)):
        retry(call)()
    assert call.calls == 1


def test_nothing_is_tried_again_while_cleaning_up():
    call = Failing(database_error(ConnectionError("Connection refused")))
    with no_retries(), pytest.raises(UserError):
        retry(call)()
    assert call.calls == 1


def test_a_storage_waits_for_its_database(own_folder, monkeypatch):
    storage = open_storage("sqlite:///studies.db")
    calls = []
    session = storage.scoped_session

    def locked_once():
        calls.append(1)
        if len(calls) == 1:
            raise OperationalError("SELECT 1", {}, ConnectionError("Connection refused"))
        return session()

    monkeypatch.setattr(storage, "scoped_session", locked_once)
    assert storage.get_all_studies() == [] and len(calls) == 2


def test_the_first_heartbeat_of_a_trial_waits_for_the_database_too(monkeypatch, tmp_path):
    study = optuna.create_study(storage=open_storage(f"sqlite:///{tmp_path}/optuna.db"))
    failing = Failing(database_error(ConnectionError("Connection refused")))
    monkeypatch.setattr(study._storage._backend, "record_heartbeat", lambda trial_id: failing())
    record_heartbeat(study, study.ask())
    assert failing.calls == 4

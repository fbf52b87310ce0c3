"""Try again while a database restarts, and give up after a while.

MLflow's client tries HTTP requests again by itself (see ``tracking/reachable.py``); what is here is for databases, of
Optuna and, where runs are written to one directly, of MLflow.
"""

from __future__ import annotations

import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import ParamSpec, TypeVar

from mlflow.exceptions import MlflowException
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, PendingRollbackError

from abalone.settings import UserError
from abalone.tracking.plain_errors import fault
from abalone.tracking.reachable import no_http_retries

FIRST_PAUSE = 0.5  # seconds; doubled after every attempt
LONGEST_PAUSE = 8.0
P = ParamSpec("P")
T = TypeVar("T")
_patience: ContextVar[float] = ContextVar("patience", default=45.0)  # seconds until a call gives up

# Methods of a storage of which each is one transaction, so that it can be called again. A heartbeat that is missed is
# followed by the next one, and must not wait in the thread that records it.
RETRIED = (
    "create_new_study",
    "get_all_studies",
    "get_all_trials",
    "get_best_trial",
    "get_n_trials",
    "get_study_directions",
    "get_study_id_from_name",
    "get_study_name_from_id",
    "get_study_system_attrs",
    "get_study_user_attrs",
    "get_trial",
    "get_trial_id_from_study_id_trial_number",
    "set_study_system_attr",
    "set_study_user_attr",
    "set_trial_intermediate_value",
    "set_trial_state_values",
    "set_trial_system_attr",
    "set_trial_user_attr",
    "_create_new_trial",
    "_get_best_trial_id",
    "_get_stale_trial_ids",
    "_get_trials",
    "_set_trial_param",
)


def retrying(storage: RDBStorage) -> RDBStorage:
    """Make every method of a storage wait for a database that restarts; returns the storage."""
    for name in RETRIED:
        setattr(storage, name, retry(getattr(storage, name)))
    return storage


def retry(call: Callable[P, T]) -> Callable[P, T]:
    """The same call, which is tried again for up to 45 seconds while the database is away.

    Every pause is announced on stderr.

    Raises
    ------
    UserError
        If the database stays away.
    """

    @wraps(call)
    def patient(*arguments: P.args, **options: P.kwargs) -> T:
        pause = FIRST_PAUSE
        deadline = time.monotonic() + _patience.get()
        while True:
            try:
                return call(*arguments, **options)
            except (StorageInternalError, DBAPIError, MlflowException) as error:
                if not is_temporary(error):
                    raise
                reason = _reason(error)
                if time.monotonic() + pause > deadline:
                    raise UserError(f"the database does not answer ({reason})") from error
            print(f"The database does not answer ({reason}); trying again in {pause:g} s.", file=sys.stderr, flush=True)
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    return patient


@contextmanager
def no_retries() -> Iterator[None]:
    """Within the block, fail at once where a database or the tracking server is away: for cleaning up."""
    token = _patience.set(0.0)
    try:
        with no_http_retries():
            yield
    finally:
        _patience.reset(token)


def is_temporary(error: BaseException) -> bool:
    """Whether an error of Optuna's storage or MLflow's store may go away, as when there is no connection.

    A full disk does not, and for an SQLite database that is locked, ``tracking/locks.py`` has waited already.
    """
    if fault(error):
        return False
    if isinstance(error, MlflowException):
        return error.error_code == "TEMPORARILY_UNAVAILABLE"
    cause = _cause(error)
    if isinstance(cause, PendingRollbackError):  # a second statement in a transaction whose connection has broken
        return True
    if not isinstance(cause, InterfaceError | OperationalError):
        return isinstance(cause, DBAPIError) and cause.connection_invalidated
    return not isinstance(cause.orig, sqlite3.Error)


def _cause(error: BaseException) -> BaseException | None:
    return error.__cause__ if isinstance(error, StorageInternalError) else error


def _reason(error: BaseException) -> str:
    """The first line of what the database's driver said."""
    cause = _cause(error)
    text = str(getattr(cause, "orig", cause)).strip()
    return text.splitlines()[0][:200] if text else type(cause).__name__

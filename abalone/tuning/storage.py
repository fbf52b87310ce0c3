"""Where Optuna keeps a study: opening a storage, and creating or resuming a study in it."""

from __future__ import annotations

import os
import socket
import time
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

import numpy as np
import optuna
from optuna.storages import BaseStorage, RDBStorage
from optuna.trial import TrialState

from abalone.metrics import METRICS
from abalone.settings import SELECTION, UserError
from abalone.tracking.database import beside_database
from abalone.tracking.plain_errors import fault
from abalone.tracking.processes import process_tags
from abalone.tuning import heartbeat
from abalone.tuning.dead_trials import give_up_trial
from abalone.tuning.journal import open_journal, read_journal
from abalone.tuning.optuna_logging import quiet_optuna
from abalone.tuning.plan import Plan
from abalone.tuning.retry import retrying

PLAN_ATTRIBUTE = "abalone"  # user attribute of a study that holds its plan
CREATOR_ATTRIBUTE = "creator"  # user attribute of a study that names the process which opens its run
STORAGE_VARIABLE = "ABALONE_STORAGE"
CREATING_SECONDS = 2.0  # at most, from the creation of a study to its plan
POLL_SECONDS = 0.05
# Objects that a process may create at the same moment as another one: tables, two versions of their schema.
CREATORS = 3
JOURNAL = "studies.journal"  # the default storage: 4 ms per trial, where SQLite takes some 90


def check_study(plan: Plan, name: str, storage: str) -> None:
    """Raise what ``open_study`` would raise, and write nothing.

    Parameters
    ----------
    plan, name, storage
        As for ``open_study``.

    Raises
    ------
    UserError
        As for ``open_study``.
    """
    with quiet_optuna(), _usable(storage):
        backend = _existing(storage)
        if backend and name in _study_names(backend):
            _check_plan(optuna.load_study(study_name=name, storage=backend), plan)


def open_study(plan: Plan, name: str, storage: str, worker: int = 0) -> optuna.Study:
    """Create a study, or resume the one of this name.

    Parameters
    ----------
    plan : Plan
        What is studied.
    name : str
        Name of the study.
    storage : str
        Path of a journal file, or URL of a database (``sqlite:///...``, ``postgresql://...``).
    worker : int, default 0
        Index of the worker process, so that each samples with its own seed.

    Returns
    -------
    optuna.Study
        With its sampler seeded, and the base stage as the first trial to run.

    Raises
    ------
    UserError
        If the storage cannot be used, or holds a study of this name with another plan.
    """
    with quiet_optuna():
        backend = open_storage(storage)
        entropy = [plan.settings.seed, worker]
        study = _create(plan, name, backend)
        if study is None:
            study = optuna.load_study(study_name=name, storage=backend)
            _wait_for_plan(study)
            _check_plan(study, plan)
            # A process that joins a study must not draw what others have drawn. A new study stays reproducible.
            host = zlib.crc32(socket.gethostname().encode())
            entropy += [len(study.get_trials(deepcopy=False)), os.getpid(), host]
        if PLAN_ATTRIBUTE not in study.user_attrs:  # written last, so it is missing if the creator was killed
            study.set_user_attr(CREATOR_ATTRIBUTE, process_tags())
            study.enqueue_trial(plan.start(), skip_if_exists=True)
            study.set_user_attr(PLAN_ATTRIBUTE, plan.as_attributes())
        seed = int(np.random.SeedSequence(entropy).generate_state(1)[0])
        study.sampler = optuna.samplers.TPESampler(seed=seed, constant_liar=True)
        return study


def storage_of(given: str) -> str:
    """Where studies are kept: the storage that was given, or that of ``ABALONE_STORAGE``, or the default journal."""
    return given or os.environ.get(STORAGE_VARIABLE) or str(beside_database(JOURNAL))


def open_storage(storage: str) -> BaseStorage:
    """Open a storage of Optuna.

    Parameters
    ----------
    storage : str
        Path of a journal file, or URL of a database.

    Raises
    ------
    UserError
        If it cannot be opened, or is an MLflow tracking database.
    """
    with _usable(storage):
        if "://" not in storage:
            return open_journal(storage)
        _table_names(storage)
        with quiet_optuna():
            return retrying(_open_database(storage))


@contextmanager
def _usable(storage: str) -> Iterator[None]:
    """Turn errors of the file system, SQLAlchemy and database drivers into one that names the storage."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        reason = fault(error) or str(error).strip().splitlines()[0][:200]
        raise UserError(
            f"the storage {hide_password(storage)!r} cannot be used ({reason}); expected the path of a journal file, "
            "or the URL of a database that can be reached, such as sqlite:///studies.db"
        ) from None


def _existing(storage: str) -> BaseStorage | None:
    """Open a storage that exists without writing to it; None if ``open_storage`` is to create it."""
    if "://" not in storage:
        return read_journal(storage) if _is_file(Path(storage)) else None
    from sqlalchemy.engine import make_url

    url = make_url(storage)
    is_sqlite = url.get_backend_name() == "sqlite"
    if is_sqlite and url.database and not _is_file(Path(url.database)):  # connecting to it would create it
        return None
    return _connect(storage) if "studies" in _table_names(storage) else None


def _is_file(path: Path) -> bool:
    """Whether a file exists; raises an ``OSError`` if it does not and cannot be created."""
    if path.exists():
        return True
    if not os.access(path.parent, os.W_OK):
        raise OSError(f"{path.parent} is not a folder that can be written to")
    return False


def _open_database(storage: str) -> RDBStorage:
    # A connection that broke while the database restarted is replaced before it is used.
    engine: dict[str, Any] = {"pool_pre_ping": True}
    if storage.startswith("postgresql"):
        engine["connect_args"] = {"connect_timeout": 5}
    return _connect(
        storage,
        engine_kwargs=engine,
        heartbeat_interval=heartbeat.INTERVAL,
        grace_period=heartbeat.GRACE,
        heartbeat_stale_trial_callback=give_up_trial,
    )


def _connect(storage: str, **options: Any) -> RDBStorage:
    """Open a database, once more if another process was creating Optuna's tables in it at the same moment."""
    from sqlalchemy.exc import IntegrityError, ProgrammingError

    for _ in range(CREATORS):
        with suppress(IntegrityError, ProgrammingError, optuna.exceptions.StorageInternalError):
            return RDBStorage(storage, **options)
    return RDBStorage(storage, **options)


def hide_password(storage: str) -> str:
    """The storage as it may be shown: a path as it is, a URL with its password masked."""
    from sqlalchemy.engine import make_url

    if "://" not in storage:
        return storage
    try:
        return make_url(storage).render_as_string(hide_password=True)
    except Exception:  # not a valid URL; opening it says what is wrong
        return storage


def study_exists(name: str, storage: str) -> bool:
    """Whether a storage holds a study of this name; a storage that does not exist is not created."""
    with quiet_optuna(), _usable(storage):
        backend = _existing(storage)
        return backend is not None and name in _study_names(backend)


def _create(plan: Plan, name: str, backend: BaseStorage) -> optuna.Study | None:
    """Create a study; None if one of this name exists."""
    if name in _study_names(backend):  # looked up first, because a journal also keeps the attempts that it refuses
        return None
    greater_is_better = METRICS[SELECTION[plan.task]].greater_is_better
    direction: Literal["maximize", "minimize"] = "maximize" if greater_is_better else "minimize"
    with suppress(optuna.exceptions.DuplicatedStudyError):  # another process has just created it
        return optuna.create_study(storage=backend, study_name=name, direction=direction)
    return None


def _study_names(backend: BaseStorage) -> list[str]:
    return [study.study_name for study in backend.get_all_studies()]


def _table_names(storage: str) -> list[str]:
    """Tables of a database.

    Raises
    ------
    UserError
        If MLflow's are among them: mixed with Optuna's, neither program could open the database again.
    """
    from sqlalchemy import create_engine, inspect

    engine = create_engine(storage)
    try:
        names = inspect(engine).get_table_names()
    finally:
        engine.dispose()
    if "experiments" in names:
        raise UserError(
            f"the storage {hide_password(storage)!r} is an MLflow tracking database; expected a separate database, "
            "such as sqlite:///studies.db, or no -P storage for the default journal file"
        )
    return names


def _wait_for_plan(study: optuna.Study) -> None:
    """Give the process that may be creating a study the time to write its plan, so that it is not begun twice."""
    deadline = time.monotonic() + CREATING_SECONDS
    while PLAN_ATTRIBUTE not in study.user_attrs and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)


def _check_plan(study: optuna.Study, plan: Plan) -> None:
    """Raise unless the study was created with this plan."""
    name = study.study_name
    if PLAN_ATTRIBUTE not in study.user_attrs:
        if all(trial.state == TrialState.WAITING for trial in study.get_trials(deepcopy=False)):
            return  # its creator was killed before it could write the plan
        raise UserError(f"study {name!r} was not created by abalone; choose another name")
    # Studies of earlier versions have no units and no target: these were what they are now by default.
    old = {"settings.units": "file", "settings.target": "auto"} | _flatten(study.user_attrs[PLAN_ATTRIBUTE])
    new = _flatten(plan.as_attributes())
    for key in sorted({*old, *new}):
        if old.get(key) == new.get(key):
            continue
        if key not in new:
            difference = f"with {key} = {old[key]}, which is not searched now"
        elif key not in old:
            difference = f"without {key}, which is searched now"
        else:
            difference = f"with {key} = {old[key]}, not {new[key]}"
        raise UserError(
            f"study {name!r} was created {difference}; choose another name, or use the settings it was created with"
        )


def _flatten(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Turn ``{"base": ..., "settings": {"seed": ...}}`` into ``{"base": ..., "settings.seed": ...}``."""
    flat: dict[str, Any] = {}
    for key, value in attributes.items():
        if isinstance(value, Mapping):
            flat |= {f"{key}.{part}": inner for part, inner in value.items()}
        else:
            flat[key] = value
    return flat

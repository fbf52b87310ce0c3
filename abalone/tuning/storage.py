"""What a study is: a base stage, a space around it, and the place where Optuna keeps the trials."""

from __future__ import annotations

import os
import socket
import warnings
import zlib
from collections.abc import Mapping
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
import optuna
from optuna.trial import TrialState

from abalone.settings import METRICS, SELECTION, UserError
from abalone.tuning.plan import Plan

PLAN_ATTRIBUTE = "abalone"  # attribute of a study that holds its plan


def open_study(plan: Plan, name: str, storage: str, sampler: int = 0) -> optuna.Study:
    """Create a study, or go on with the one of this name.

    Parameters
    ----------
    plan : Plan
        What is studied.
    name : str
        Name of the study.
    storage : str
        Path of a journal file, or URL of a database (``sqlite:///...``, ``postgresql://...``).
    sampler : int, default 0
        Number of the worker, so that no two ask for the same.

    Raises
    ------
    UserError
        If the storage cannot be reached, or the name belongs to a study of something else.
    """
    with quiet():
        place = open_storage(storage)
        study, others = _create(plan, name, place), ()
        if study is None:
            study = optuna.load_study(study_name=name, storage=place)
            _check_same(name, study, plan)
            # Who joins or goes on must not draw what others have drawn; who begins draws the same for the same seed.
            others = (len(study.get_trials(deepcopy=False)), os.getpid(), zlib.crc32(socket.gethostname().encode()))
        if PLAN_ATTRIBUTE not in study.user_attrs:  # the last that is written of a new study
            study.enqueue_trial(plan.start(), skip_if_exists=True)
            study.set_user_attr(PLAN_ATTRIBUTE, plan.as_attributes())
        seed = int(np.random.SeedSequence((plan.settings.seed, sampler, *others)).generate_state(1)[0])
        study.sampler = optuna.samplers.TPESampler(seed=seed, constant_liar=True)
        return study


def _create(plan: Plan, name: str, place: optuna.storages.BaseStorage) -> optuna.Study | None:
    """A new study, or none if there is one of this name."""
    known = optuna.get_all_study_summaries(place, include_best_trial=False)
    if name in [summary.study_name for summary in known]:  # asked first: a journal keeps what it has refused
        return None
    direction = "maximize" if METRICS[SELECTION[plan.task]].greater_is_better else "minimize"
    with suppress(optuna.exceptions.DuplicatedStudyError):  # another process was quicker
        return optuna.create_study(storage=place, study_name=name, direction=direction)


def open_storage(storage: str) -> optuna.storages.BaseStorage:
    from optuna.storages import JournalStorage, RDBStorage
    from optuna.storages.journal import JournalFileBackend

    try:
        if "://" not in storage:
            return JournalStorage(JournalFileBackend(storage))
        _check_no_tracking_database(storage)
        return RDBStorage(storage)
    except UserError:
        raise
    except Exception as error:  # of the file system, SQLAlchemy, a driver, or a driver that is not there
        reason = str(error).strip().splitlines()[0][:200]
        raise UserError(
            f"the storage {shown(storage)!r} cannot be used ({reason}); expected a path for a journal file, "
            "or the URL of a database that can be reached, such as sqlite:///studies.db"
        ) from None


def _check_no_tracking_database(storage: str) -> None:
    """Complain of a database with MLflow's tables: Optuna's would mix with them, and neither opens it again."""
    from sqlalchemy import create_engine, inspect

    engine = create_engine(storage)
    try:
        if "settings" in inspect(engine).get_table_names():
            raise UserError(
                f"the storage {shown(storage)!r} is a tracking database of MLflow; expected a database of its own, "
                "such as sqlite:///studies.db, or no -P storage at all"
            )
    finally:
        engine.dispose()


def shown(storage: str) -> str:
    """A path, or a URL without its password."""
    from sqlalchemy.engine import make_url

    try:
        return make_url(storage).render_as_string(hide_password=True) if "://" in storage else storage
    except Exception:  # no URL at all; what is wrong with it is said where it is opened
        return storage


def _check_same(name: str, study: optuna.Study, plan: Plan) -> None:
    if PLAN_ATTRIBUTE not in study.user_attrs:
        if all(trial.state == TrialState.WAITING for trial in study.get_trials(deepcopy=False)):
            return  # begun by a process that was killed at once
        raise UserError(f"study {name!r} is not one of abalone's; give it another name")
    known, wanted = _flat(study.user_attrs[PLAN_ATTRIBUTE]), _flat(plan.as_attributes())
    for key in sorted({*known, *wanted}):
        if known.get(key) != wanted.get(key):
            raise UserError(
                f"study {name!r} has {key} = {known.get(key, 'not searched')}, not {wanted.get(key, 'unsearched')}; "
                "give it another name, or the settings that it was begun with"
            )


def _flat(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """``{"base": ..., "settings": {...}}`` without the levels, for comparison key by key."""
    flat = {}
    for key, value in attributes.items():
        flat |= {f"{key}.{part}": v for part, v in value.items()} if isinstance(value, Mapping) else {key: value}
    return flat


@contextmanager
def quiet():
    """Without Optuna's line per trial, and its notes on what is experimental."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        try:
            yield
        finally:
            optuna.logging.set_verbosity(before)

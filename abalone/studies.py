"""What a study is: a base stage, a space around it, and the place where Optuna keeps the trials."""

from __future__ import annotations

import math
import os
import socket
import tomllib
import warnings
import zlib
from collections.abc import Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from abalone.config import BadValue, Experiment, UserError, toml_path
from abalone.evaluation import GREATER_IS_BETTER, SELECTION

ABOUT = "abalone"  # attribute of a study that holds its plan


@dataclass(frozen=True)
class Plan:
    """What is studied: the same for everybody who works on a study of this name.

    Parameters
    ----------
    base : str
        Stage whose settings are the first trial, and those of every trial where nothing else is searched.
    experiment : Experiment
        These settings.
    space : mapping of name to range
        What is searched, as in ``experiments/tune.toml``.
    """

    base: str
    experiment: Experiment
    space: Mapping[str, Mapping[str, Any]]

    @property
    def task(self) -> str:
        """classification or regression."""
        return self.experiment.task

    def distributions(self) -> dict[str, BaseDistribution]:
        """The space in Optuna's terms."""
        return {name: _distribution(allowed) for name, allowed in self.space.items()}

    def start(self) -> dict[str, Any]:
        """The base stage as a point of the space."""
        sizes = self.experiment.hidden_sizes
        known = {**vars(self.experiment), "depth": len(sizes), "width": sizes[0]}
        below = {name: allowed["float"][0] for name, allowed in self.space.items() if known[name] == 0}
        return {name: below.get(name, known[name]) for name in self.space}

    def at(self, point: Mapping[str, Any]) -> Experiment:
        """The settings at a point of the space."""
        values = {name: self.value(name, value) for name, value in point.items()}
        sizes = self.experiment.hidden_sizes
        depth, width = values.pop("depth", len(sizes)), values.pop("width", sizes[0])
        values["hidden_sizes"] = sizes if (depth, width) == (len(sizes), sizes[0]) else (width,) * depth
        return replace(self.experiment, **values)

    def value(self, name: str, value: Any) -> Any:
        """A coordinate of the space as the setting that it stands for."""
        return 0.0 if value < self.space[name].get("zero_below", -math.inf) else value

    def as_attributes(self) -> dict[str, Any]:
        """What must not change within a study."""
        space = {name: str(dict(allowed)) for name, allowed in self.space.items()}
        return {"base": self.base, "settings": self.experiment.as_text(), "space": space}


def read_space(names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The ranges of ``experiments/tune.toml`` with these names.

    Raises
    ------
    BadValue
        If there is no such range.
    """
    known = tomllib.loads(toml_path("tune").read_text(encoding="utf-8"))
    if unknown := [name for name in names if name not in known]:
        raise BadValue("search", f"{unknown[0]!r} cannot be searched; expected some of {','.join(known)}")
    if not names:
        raise BadValue("search", f"nothing to search; expected some of {','.join(known)}")
    return {name: known[name] for name in known if name in names}


def _distribution(allowed: Mapping[str, Any]) -> BaseDistribution:
    if "choice" in allowed:
        return CategoricalDistribution(allowed["choice"])
    kind, (low, high) = next((key, allowed[key]) for key in ("float", "int") if key in allowed)
    return {"float": FloatDistribution, "int": IntDistribution}[kind](low, high, log=allowed.get("log", False))


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
        place = _open_storage(storage)
        study, others = _create(plan, name, place), ()
        if study is None:
            study = optuna.load_study(study_name=name, storage=place)
            _check_same(name, study, plan)
            # Who joins or goes on must not draw what others have drawn; who begins draws the same for the same seed.
            others = (len(study.get_trials(deepcopy=False)), os.getpid(), zlib.crc32(socket.gethostname().encode()))
        if ABOUT not in study.user_attrs:  # the last that is written of a new study
            study.enqueue_trial(plan.start(), skip_if_exists=True)
            study.set_user_attr(ABOUT, plan.as_attributes())
        seed = int(np.random.SeedSequence((plan.experiment.seed, sampler, *others)).generate_state(1)[0])
        study.sampler = optuna.samplers.TPESampler(seed=seed, constant_liar=True)
        return study


def _create(plan: Plan, name: str, place: optuna.storages.BaseStorage) -> optuna.Study | None:
    """A new study, or none if there is one of this name."""
    known = optuna.get_all_study_summaries(place, include_best_trial=False)
    if name in [summary.study_name for summary in known]:  # asked first: a journal keeps what it has refused
        return None
    direction = "maximize" if GREATER_IS_BETTER[SELECTION[plan.task]] else "minimize"
    with suppress(optuna.exceptions.DuplicatedStudyError):  # another process was quicker
        return optuna.create_study(storage=place, study_name=name, direction=direction)


def _open_storage(storage: str) -> optuna.storages.BaseStorage:
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
        if "experiments" in inspect(engine).get_table_names():
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
    if ABOUT not in study.user_attrs:
        if all(trial.state == TrialState.WAITING for trial in study.get_trials(deepcopy=False)):
            return  # begun by a process that was killed at once
        raise UserError(f"study {name!r} is not one of abalone's; give it another name")
    known, wanted = _flat(study.user_attrs[ABOUT]), _flat(plan.as_attributes())
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

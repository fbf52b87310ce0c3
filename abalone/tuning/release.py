"""``release``: give up the trials that a machine holds and will never finish."""

from __future__ import annotations

from collections.abc import Callable

import optuna

from abalone.settings import UserError
from abalone.tuning.dead_trials import fail_trial, holders, host_of, point_of, running_trials
from abalone.tuning.optuna_logging import quiet_optuna
from abalone.tuning.storage import hide_password, open_storage, study_exists

RELEASED = "released by hand"


def release_trials(name: str, storage: str, host: str, say: Callable[[str], None]) -> list[int]:
    """Fail the running trials of a machine and requeue their settings.

    If the machine is at work after all, the results of these trials are not counted.

    Parameters
    ----------
    name : str
        Name of the study.
    storage : str
        Path of a journal file, or URL of a database.
    host : str
        Name of the machine, as ``tune`` prints it.
    say : callable
        Takes a line about what was released.

    Returns
    -------
    list of int
        Numbers of the trials.

    Raises
    ------
    UserError
        If there is no such study, or the machine holds none of its trials.
    """
    with quiet_optuna():
        if not study_exists(name, storage):
            raise UserError(f"no study {name!r} in {hide_password(storage)}; expected its name and its storage")
        study = optuna.load_study(study_name=name, storage=open_storage(storage))
        running = running_trials(study)
        held = [trial for trial in running if host_of(trial) == host]
        if not held:
            found = holders(running) or "none"
            raise UserError(f"{host} holds no trial of study {name!r}; trials that are running: {found}")
        released = []
        for trial in held:
            if fail_trial(study, trial.number, point_of(trial), trial.user_attrs.get("run_id", ""), RELEASED):
                released.append(trial.number)
    say(f"released {holders(held)}; continue the study with -P study={name}")
    return released

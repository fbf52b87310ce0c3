"""The end of a study on which others work too: waiting for their last trials, and naming those that never came."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable

import optuna

from abalone.settings import UserError
from abalone.tuning.dead_trials import holders, host_of, trials_of_others, unwatched
from abalone.tuning.results import DONE, count_trials
from abalone.tuning.storage import hide_password

FEWEST_SECONDS = 60.0  # to wait for a machine that nothing here can watch


class Waiting:
    """Waits for the last trials of other processes, which are made up for if they die.

    Parameters
    ----------
    say : callable
        Takes a line that names the machines waited for.
    """

    def __init__(self, say: Callable[[str], None]):
        self.say = say
        self.hosts: set[str] = set()  # that were named
        self.held = 0  # trials of others
        self.since = time.monotonic()

    def goes_on(self, study: optuna.Study) -> bool:
        """Whether other processes still hold trials that are worth waiting for."""
        trials = trials_of_others(study)
        if not trials:
            return False
        hosts = {host_of(trial) for trial in trials}
        if not hosts <= self.hosts:
            self.hosts |= hosts
            self.say(f"waiting for {holders(trials)}")
        if len(trials) != self.held:
            self.held = len(trials)
            self.since = time.monotonic()
        if all(unwatched(study, trial) for trial in trials):
            return time.monotonic() < self.since + patience(study)
        return True


def patience(study: optuna.Study) -> float:
    """Seconds to wait for a process of another machine that nothing here can watch."""
    seconds = [trial.duration.total_seconds() for trial in study.get_trials(deepcopy=False, states=DONE)]
    return FEWEST_SECONDS + 2 * max(seconds, default=0.0)


def check_total(study: optuna.Study, storage: str, trials: int) -> None:
    """Raise if a study lacks trials because others hold them.

    Raises
    ------
    UserError
        Naming the machines, and how to give their trials up.
    """
    held = trials_of_others(study)
    lacking = trials - count_trials(study) + len(held)
    if lacking <= 0:
        return
    name = study.study_name
    text = f"study {name} has {trials - lacking} of {trials} trials"
    if held:
        text += (
            f": others are held by {holders(held)}, where this machine cannot see whether they are at work. They count "
            "when they end; if they never will, give them up, and continue the study: python -m abalone release "
            f"--study {shlex.quote(name)} --storage {shlex.quote(hide_password(storage))} --host {host_of(held[0])}"
        )
    else:
        text += f"; continue it with -P study={name}"
    raise UserError(text)

"""The end of a study on which others work too: waiting for their last trials, and naming those that never came."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable

import optuna

from abalone.tuning.dead_trials import holders, host_of, trials_of_others, unwatched
from abalone.tuning.results import DONE, count_trials
from abalone.tuning.storage import hide_password, storage_of

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
    durations = [trial.duration for trial in study.get_trials(deepcopy=False, states=DONE)]
    seconds = [duration.total_seconds() for duration in durations if duration]
    return FEWEST_SECONDS + 2 * max(seconds, default=0.0)


def what_is_lacking(study: optuna.Study, storage: str, trials: int) -> str:
    """Why a study has fewer trials than it should have, and what to do; "" if it has them all."""
    held = trials_of_others(study)
    done = count_trials(study) - len(held)
    if done >= trials:
        return ""
    name = study.study_name
    text = f"study {name} has {done} of {trials} trials"
    if not held:
        return f"{text}; continue it with -P study={name}"
    command = f"python -m abalone release --study {shlex.quote(name)} --host {host_of(held[0])}"
    if storage != storage_of(""):
        command += f" --storage {shlex.quote(hide_password(storage))}"
    return (
        f"{text}: others are held by {holders(held)}, and this machine cannot see whether it is at work. They count "
        f"when they end; if they never will, give them up, and continue the study: {command}"
    )

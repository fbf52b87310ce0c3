"""Ask Optuna for a batch of trials with one read of the study and one transaction for each trial.

Asked one at a time, each trial reads the study from the storage several times, and writes its settings one by one. Here
the sampler draws from a copy of the study in memory, and sees there what it drew before. It draws what it would draw
otherwise. Trials that wait are taken from the storage itself, which gives each to one process only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import TPESampler
from optuna.trial import TrialState

from abalone.tracking.processes import process_tags


def ask(study: optuna.Study, space: Mapping[str, BaseDistribution], size: int) -> Iterator[optuna.Trial]:
    """Create trials that this process is to train.

    Parameters
    ----------
    study : optuna.Study
    space : mapping of str to BaseDistribution
        What is searched.
    size : int
        Number of trials.

    Yields
    ------
    optuna.Trial
        With its settings and the tag of this process.
    """
    waiting = study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
    taken = min(size, len(waiting))
    if taken:
        yield from _take(study, space, taken)
    if taken == size:
        return
    copy = _copy_of(study)
    for _ in range(size - taken):
        drawn = copy.ask(dict(space))
        drawn.set_user_attr("process", process_tags())
        template = copy.get_trials(deepcopy=False)[drawn.number]
        trial_id = study._storage.create_new_trial(study._study_id, template)
        yield optuna.Trial(study, trial_id)


def _take(study: optuna.Study, space: Mapping[str, BaseDistribution], size: int) -> Iterator[optuna.Trial]:
    """Take trials that wait."""
    # If another process takes what waits first, a trial is drawn here: by another sampler, since that of the study has
    # seen the copy and takes no second study.
    waited_for = optuna.Study(study.study_name, study._storage, sampler=TPESampler(constant_liar=True))
    for _ in range(size):
        trial = waited_for.ask(dict(space))
        trial.set_user_attr("process", process_tags())
        yield trial


def _copy_of(study: optuna.Study) -> optuna.Study:
    """A copy of a study in memory, with the same sampler and every trial that it may learn from."""
    trials = study.get_trials(deepcopy=False)
    copy = optuna.create_study(direction=study.direction, sampler=study.sampler)
    copy.add_trials([trial for trial in trials if trial.state != TrialState.WAITING])
    return copy

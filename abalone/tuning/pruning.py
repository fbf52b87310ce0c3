"""When a trial is pruned: medians over a whole batch, at a few epochs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import optuna

from abalone.settings import SELECTION
from abalone.tuning.plan import Plan

RUNGS = (0.2, 0.4, 0.6)  # shares of the epochs after which trials are pruned
FEWEST_TRIALS = 5  # below this a median says too little to prune by


class Pruning:
    """Median pruning of a batch, in the form of the ``stop`` argument of ``fit_many``.

    At each rung, a trial ends if its best value so far is worse than the median of the best values that the study's
    trials, this batch included, had by that epoch. Optuna's own pruners look at one trial at a time and only at those
    before it, so they would never prune in the first batch. The base stage is never pruned, so a study cannot end
    worse than the stage that it starts from.

    Parameters
    ----------
    study : optuna.Study
        Source of the earlier trials' values.
    plan : Plan
        What is studied.
    trials : sequence of Trial, K
        The batch, in the order of the population.

    Attributes
    ----------
    pruned : set of int
        Places of the trials that were pruned so far.
    """

    def __init__(self, study: optuna.Study, plan: Plan, trials: Sequence[optuna.Trial]):
        self.study = study
        self.trials = trials
        self.pruned: set[int] = set()
        self.base = {place for place, trial in enumerate(trials) if trial.params == plan.start()}
        self.loss_is_squared = SELECTION[plan.task] == "rmse"  # the loss is in rings squared, values are in rings
        epochs = plan.settings.epochs
        self.rungs = {max(1, round(share * epochs)) for share in RUNGS} - {epochs}
        self.best = np.full(len(trials), np.inf)

    def __call__(self, epoch: int, losses: np.ndarray) -> set[int]:
        """Record an epoch and choose the trials to end.

        Parameters
        ----------
        epoch : int
            Counted from 1.
        losses : ndarray [K], float64
            Validation loss of each trial; NaN for those that are no longer training.

        Returns
        -------
        set of int
            Places of the trials to end.
        """
        values = np.sqrt(losses) if self.loss_is_squared else losses
        self.best = np.fmin(self.best, values)
        if epoch not in self.rungs:
            return set()
        training = np.flatnonzero(np.isfinite(losses)).tolist()
        for place in training:
            self.trials[place].report(self.best[place], epoch)
        known = self._values_at(epoch)
        if len(known) < FEWEST_TRIALS:
            return set()
        median = np.median(known)
        worse = {place for place in training if self.best[place] > median}
        ended = worse - self.base
        self.pruned |= ended
        return ended

    def _values_at(self, epoch: int) -> list[float]:
        """Values that the study's trials reported at an epoch."""
        trials = self.study.get_trials(deepcopy=False)
        return [trial.intermediate_values[epoch] for trial in trials if epoch in trial.intermediate_values]

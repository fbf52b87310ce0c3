"""TODO tuning.pruning"""

from __future__ import annotations

from collections.abc import Sequence
from multiprocessing import parent_process

import numpy as np
import optuna

from abalone.settings import SELECTION
from abalone.tuning.plan import Plan

RUNGS = (0.2, 0.4, 0.6)  # shares of the epochs after which the worse half of the trials ends
ENOUGH = 5  # trials that a median is taken of


class Pruning:
    """Median pruning, of a whole batch at once: at each rung, whoever is worse than the median ends.

    The median is of the best values so far that all trials of the study, in this batch or before, had by that epoch;
    Optuna's own pruners compare a trial with those before it only. The base stage always goes on.

    Parameters
    ----------
    study, plan
        As for ``search``.
    trials : sequence of Trial, K
        The batch.
    """

    def __init__(self, study: optuna.Study, plan: Plan, trials: Sequence[optuna.Trial]):
        self.study, self.trials, self.pruned = study, trials, set()
        self.base = {k for k, trial in enumerate(trials) if trial.params == plan.start()}
        self.root = SELECTION[plan.task] == "rmse"  # its loss is the square
        self.rungs = {max(1, round(share * plan.settings.epochs)) for share in RUNGS} - {plan.settings.epochs}
        self.best = np.full(len(trials), np.inf)

    def __call__(self, epoch: int, losses: np.ndarray) -> set[int]:
        """Places of the trials that end; the form that ``fit_many`` wants."""
        if (parent := parent_process()) and not parent.is_alive():
            raise SystemExit("the process that gave the work is gone")
        self.best = np.fmin(self.best, np.sqrt(losses) if self.root else losses)
        if epoch not in self.rungs:
            return set()
        alive = np.flatnonzero(np.isfinite(losses))
        for place in alive:
            self.trials[place].report(self.best[place], epoch)
        known = [
            t.intermediate_values[epoch]
            for t in self.study.get_trials(deepcopy=False)
            if epoch in t.intermediate_values
        ]
        if len(known) < ENOUGH:
            return set()
        ends = {int(k) for k in alive if self.best[k] > np.median(known)} - self.base
        self.pruned |= ends
        return ends

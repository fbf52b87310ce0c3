"""Median pruning of a batch, held against small examples."""

from __future__ import annotations

import numpy as np
import optuna
from tuning_helpers import make_plan

from abalone.tuning.pruning import Pruning


def prune(
    losses: list[list[float]], earlier: list[float], base: str = "encode", with_base: bool = False
) -> list[set[int]]:
    """Places pruned at each epoch of a batch in a study with earlier trials.

    Parameters
    ----------
    losses : list of list of float
        Validation losses of the batch, by epoch. The rungs are at epochs 2, 4 and 6.
    earlier : list of float
        Best values that earlier trials of the study had at epoch 2.
    base : str
        Stage that the study starts from.
    with_base : bool
        Whether the batch's first trial is the base stage.
    """
    plan = make_plan(base, epochs=10)
    study = optuna.create_study()
    for value in earlier:
        study.add_trial(optuna.trial.create_trial(value=value, intermediate_values={2: value}))
    trials = []
    for place in range(len(losses[0])):
        if with_base and place == 0:
            study.enqueue_trial(plan.start())
            trials.append(study.ask(plan.distributions()))
        else:
            trials.append(study.ask())
    pruning = Pruning(study, plan, trials)
    pruned = [pruning(epoch, np.array(row)) for epoch, row in enumerate(losses, 1)]
    assert pruning.pruned == set().union(*pruned)
    return pruned


def test_at_a_rung_trials_end_whose_best_value_so_far_is_worse_than_the_median():
    assert prune([[0.9, 0.1, 0.5, 0.6, 0.7], [0.2, 0.8, 0.5, 0.6, 0.7]], []) == [set(), {3, 4}]


def test_earlier_trials_count_for_the_median_and_ended_ones_do_not():
    assert prune([[0.5, np.nan, 0.3]] * 2, [0.1, 0.2, 0.4]) == [set(), {0}]


def test_the_base_is_never_pruned():
    assert prune([[0.9, 0.1, 0.1, 0.1, 0.2]] * 2, [], with_base=True) == [set(), {4}]


def test_too_few_trials_are_not_pruned():
    assert prune([[0.9, 0.1, 0.2, 0.3]] * 2, []) == [set(), set()]


def test_regressors_are_compared_in_rings_as_earlier_values_are():
    assert prune([[4.0, 9.0]] * 2, [2.5, 2.5, 2.5], base="regress") == [set(), {1}]

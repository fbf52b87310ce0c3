"""Plans: the space around a base stage, and the settings at its points."""

from __future__ import annotations

from dataclasses import replace

import optuna
import pytest
from tuning_helpers import make_plan

from abalone.settings import SEARCHED_BY_DEFAULT, STAGES, BadValue
from abalone.tuning.plan import read_space

EVERYTHING = (*SEARCHED_BY_DEFAULT, "width", "dropout", "batch_size")


@pytest.mark.parametrize("base", STAGES)
def test_every_stage_is_a_point_of_the_space_that_leads_back_to_its_settings(base):
    plan = make_plan(base, EVERYTHING)
    # Optuna raises if a value is not in its distribution.
    optuna.trial.create_trial(value=0.0, params=plan.start(), distributions=plan.distributions())
    assert plan.at(plan.start()) == plan.settings


def test_a_point_becomes_settings_and_the_lowest_weight_decays_become_zero():
    point = {"learning_rate": 0.01, "gamma": 0.9, "depth": 2, "weight_decay": 9e-6, "width": 16, "batch_size": 128}
    assert make_plan(names=tuple(point)).at(point) == replace(
        make_plan().settings, learning_rate=0.01, gamma=0.9, hidden_sizes=(16, 16), weight_decay=0.0, batch_size=128
    )
    assert make_plan().at({"weight_decay": 2e-5}).weight_decay == 2e-5


def test_settings_that_are_not_searched_stay_as_in_the_base():
    plan = make_plan("dropout", ["gamma"])
    assert plan.at({"gamma": 0.9}) == replace(plan.settings, gamma=0.9)


@pytest.mark.parametrize(
    ("names", "message"), [(["seed"], "'seed' cannot be searched"), ([], "nothing to search")], ids=["seed", "none"]
)
def test_a_setting_that_cannot_be_searched_is_refused(names, message):
    with pytest.raises(BadValue, match=message):
        read_space(names)

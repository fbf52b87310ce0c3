"""Settings: what the TOML files say, and what an override may say."""

from __future__ import annotations

from dataclasses import asdict, fields
from itertools import pairwise

import pytest

from abalone.model.columns import FEATURES
from abalone.settings import STAGES, BadValue, RingsSettings, StageSettings, load_settings, read_toml


def refused(stage: str = "classify", **overrides) -> str:
    """The message with which ``overrides`` are refused."""
    with pytest.raises(BadValue) as error:
        load_settings(stage, overrides)
    assert error.value.key in overrides
    return str(error.value)


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_has_a_complete_toml(stage):
    experiment = load_settings(stage)
    assert set(read_toml(stage)) == {f.name for f in fields(StageSettings)}
    assert experiment.epochs == 50 and experiment.batch_size == 32 and experiment.gamma == 0.95


@pytest.mark.parametrize("before, stage", list(pairwise(STAGES)))
def test_a_stage_differs_from_the_one_before_in_what_it_teaches(before, stage):
    old, new = asdict(load_settings(before)), asdict(load_settings(stage))
    assert {key for key in old if old[key] != new[key]} == set(STAGES[stage].taught)


@pytest.mark.parametrize("stage", STAGES)
def test_the_text_of_an_experiment_gives_it_back(stage):
    experiment = load_settings(stage, {"features": FEATURES, "weight_decay": 1e-20, "data": "my folder/a_b.csv"})
    text = experiment.as_text()
    assert all(isinstance(value, str) for value in text.values())
    assert " " not in text["features"] and text["standardize_target"] in ("true", "false")
    assert load_settings(stage, text) == experiment
    assert load_settings(stage, load_settings(stage).as_text()) == load_settings(stage)


@pytest.mark.parametrize(
    "key, given, value",
    [
        ("learning_rate", "1e-3", 0.001),
        ("learning_rate", ".001", 0.001),
        ("learning_rate", 1, 1.0),
        ("clip", "4", 4.0),
        ("clip", "-0", 0.0),
        ("batch_size", "64", 64),
        ("batch_size", "1e2", 100),
        ("epochs", 3.0, 3),
        ("seed", "4294967295", 2**32 - 1),
        ("hidden_sizes", "32", (32,)),
        ("hidden_sizes", "64,32", (64, 32)),
        ("hidden_sizes", "[64, 32]", (64, 32)),
        ("hidden_sizes", "(64, 32)", (64, 32)),
        ("hidden_sizes", [64, 32], (64, 32)),
        ("standardize_target", "True", True),
        ("standardize_target", "1", True),
        ("standardize_target", 1, True),
        ("standardize_target", "FALSE", False),
        ("standardize_target", "0", False),
        ("standardize_target", False, False),
        ("features", "I,Whole_weight", ("I", "Whole weight")),
        ("features", "I, Whole weight", ("I", "Whole weight")),
        ("features", ["Shell_weight"], ("Shell weight",)),
        ("data", "a_b.csv", "a_b.csv"),
    ],
)
def test_a_value_in_any_spelling(key, given, value):
    parsed = getattr(load_settings("classify", {key: given}), key)
    assert parsed == value and type(parsed) is type(value)


@pytest.mark.parametrize(
    "key, given, expected",
    [
        ("dropout", "1", "from 0 to below 1"),
        ("dropout", "-0.1", "from 0 to below 1"),
        ("clip", "-4", "from 0 (none) to 1000000"),
        ("clip", "1e39", "from 0 (none) to 1000000"),
        ("learning_rate", "0", "above 0 and at most 1"),
        ("learning_rate", "1.5", "above 0 and at most 1"),
        ("learning_rate", "nan", "above 0 and at most 1"),
        ("learning_rate", "fast", "above 0 and at most 1"),
        ("learning_rate", True, "above 0 and at most 1"),
        ("gamma", "0", "above 0 and at most 1"),
        ("gamma", "inf", "above 0 and at most 1"),
        ("weight_decay", "1.01", "from 0 to 1"),
        ("batch_size", "0", "from 1 to 1000000"),
        ("batch_size", "32.5", "from 1 to 1000000"),
        ("epochs", "0", "from 1 to 10000"),
        ("epochs", "1e400", "from 1 to 10000"),
        ("epochs", True, "from 1 to 10000"),
        ("seed", "-1", "from 0 to 4294967295"),
        ("seed", 2**32, "from 0 to 4294967295"),
        ("hidden_sizes", "64,0", "from 1 to 4096"),
        ("hidden_sizes", "4097", "from 1 to 4096"),
        ("hidden_sizes", "64,", "from 1 to 4096"),
        ("hidden_sizes", [], "from 1 to 4096"),
        ("features", "Length,Sex", "I,F,M,Length,Diameter,Height,Whole_weight"),
        ("features", "Length,Length", "I,F,M,Length,Diameter,Height,Whole_weight"),
        ("features", "", "I,F,M,Length,Diameter,Height,Whole_weight"),
        ("standardize_target", "yes", "true or false"),
        ("standardize_target", 2, "true or false"),
        ("task", "ranking", "classification (Young or Old) or regression (rings)"),
        ("checkpoint", "first", "best (validation loss) or last"),
        ("device", "tpu", "auto, cpu or cuda"),
        ("device", None, "auto, cpu or cuda"),
        ("data", " ", "uci (the shipped file) or a path"),
    ],
)
def test_a_value_out_of_range_is_refused_with_key_value_and_range(key, given, expected):
    message = refused(**{key: given})
    shown = ",".join(given) if isinstance(given, list) else str(given).lower() if given is True else str(given)
    assert message.startswith(f"{key}: {shown!r} is not valid; expected ") and expected in message


@pytest.mark.parametrize(
    "key, near",
    [
        ("learning_rat", "learning_rate"),
        ("hiden_size", "hidden_sizes"),
        ("sed", "seed"),
        ("wieghtdecay", "weight_decay"),
    ],
)
def test_a_misspelt_key_is_refused_with_the_nearest_name(key, near):
    assert refused(**{key: "1"}) == f"{key}: no such key; did you mean {near}?"


def test_a_key_near_to_none_is_refused_with_all_of_them():
    message = refused(xyzzy=1)
    assert all(f.name in message for f in fields(StageSettings))


@pytest.mark.parametrize("key", [f.name for f in fields(StageSettings)])
def test_a_missing_key_is_named(key):
    settings = read_toml("regress")
    del settings[key]
    with pytest.raises(BadValue, match=f"^{key}: missing$"):
        StageSettings.from_mapping(settings)


def test_an_experiment_cannot_be_changed():
    with pytest.raises(AttributeError):
        load_settings("classify").epochs = 1


def test_rings_has_settings_of_its_own_kind():
    experiment = load_settings("rings")
    assert type(experiment) is RingsSettings
    assert set(read_toml("rings")) == {f.name for f in fields(RingsSettings)}
    assert load_settings("rings", load_settings("rings", {"refit": "false", "average": ".5"}).as_text()).refit is False
    assert refused("rings", average="1").endswith(
        "expected decay per step of the moving average of weights, 0 to below 1"
    )
    assert refused("rings", gamma="0.9").startswith("gamma: no such key")

"""Settings: what the TOML files hold, which values an override may have, and how metrics are labelled."""

from __future__ import annotations

from dataclasses import asdict, fields
from itertools import pairwise

import pytest

from abalone.metrics import METRICS
from abalone.model.columns import FEATURES
from abalone.settings import STAGES, BadValue, RingsSettings, StageSettings, load_settings, read_toml


def refused(stage: str = "classify", **overrides) -> str:
    """The message of the error that the overrides raise."""
    with pytest.raises(BadValue) as error:
        load_settings(stage, overrides)
    assert error.value.key in overrides
    return str(error.value)


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_has_a_complete_toml(stage):
    settings = load_settings(stage)
    assert set(read_toml(stage)) == {spec.name for spec in fields(StageSettings)}
    assert settings.epochs == 50
    assert settings.batch_size == 32
    assert settings.gamma == 0.95


@pytest.mark.parametrize("before, stage", list(pairwise(STAGES)))
def test_a_stage_differs_from_the_one_before_in_what_it_teaches(before, stage):
    old = asdict(load_settings(before))
    new = asdict(load_settings(stage))
    assert {key for key in old if old[key] != new[key]} == set(STAGES[stage].taught)


@pytest.mark.parametrize("stage", STAGES)
def test_settings_can_be_read_back_from_their_text(stage):
    settings = load_settings(stage, {"features": FEATURES, "weight_decay": 1e-20, "data": "my folder/a_b.csv"})
    text = settings.as_text()
    assert all(isinstance(value, str) for value in text.values())
    assert " " not in text["features"]
    assert text["standardize_target"] in ("true", "false")
    assert load_settings(stage, text) == settings
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
def test_a_value_is_accepted_in_every_spelling(key, given, value):
    parsed = getattr(load_settings("classify", {key: given}), key)
    assert parsed == value
    assert type(parsed) is type(value)


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
    assert message.startswith(f"{key}: '{shown(given)}' is not valid; expected ")
    assert expected in message


def shown(value) -> str:
    """A value as a message shows it."""
    if isinstance(value, list):
        return ",".join(value)
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)


@pytest.mark.parametrize(
    "key, near",
    [
        ("learning_rat", "learning_rate"),
        ("hiden_size", "hidden_sizes"),
        ("sed", "seed"),
        ("wieghtdecay", "weight_decay"),
    ],
)
def test_a_misspelt_key_is_refused_with_the_nearest_known_key(key, near):
    assert refused(**{key: "1"}) == f"{key}: no such key; did you mean {near}?"


def test_a_key_unlike_any_other_is_refused_with_all_known_keys():
    message = refused(xyzzy=1)
    assert all(spec.name in message for spec in fields(StageSettings))


@pytest.mark.parametrize("key", [spec.name for spec in fields(StageSettings)])
def test_a_missing_key_is_named(key):
    values = read_toml("regress")
    del values[key]
    with pytest.raises(BadValue, match=f"^{key}: missing$"):
        StageSettings.from_mapping(values)


def test_settings_are_immutable():
    with pytest.raises(AttributeError):
        load_settings("classify").epochs = 1


def test_rings_has_settings_of_its_own_class():
    assert type(load_settings("rings")) is RingsSettings
    assert set(read_toml("rings")) == {spec.name for spec in fields(RingsSettings)}
    changed = load_settings("rings", {"refit": "false", "average": ".5"})
    assert changed.refit is False
    assert load_settings("rings", changed.as_text()) == changed
    expected = "expected decay per step of the moving average of weights, 0 to below 1"
    assert refused("rings", average="1").endswith(expected)
    assert refused("rings", gamma="0.9").startswith("gamma: no such key")


def test_only_a_setting_that_allows_it_can_be_auto():
    settings = load_settings("rings", {"batch_size": "auto", "epochs": "30"})
    assert (settings.batch_size, settings.epochs) == ("auto", 30)
    assert load_settings("rings", settings.as_text()) == settings
    assert "from 1 to 10000, or auto" in refused("rings", epochs="Auto")
    assert "from 1 to 1000000, or auto" in refused("rings", batch_size=0)
    assert "from 1 to 10000" in refused("classify", epochs="auto")
    assert "from 1 to 1024" in refused("rings", members="auto")


def test_a_metric_is_labelled_with_its_unit_if_it_has_one():
    assert METRICS["rmse"].label_with_unit == "RMSE (rings)"
    assert METRICS["log_loss"].label_with_unit == "log loss (nats)"
    assert METRICS["roc_auc"].label_with_unit == "AUC"

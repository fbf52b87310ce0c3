"""Raw rows in, named columns out: which rows are accepted, which are refused, and in which words."""

from __future__ import annotations

import math
import re
from collections import Counter

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_models import GOOD_ROW, ensemble_config, mlp_config, rows, untrained_model

from abalone.data.reading import read
from abalone.model.columns import CLASS_LABELS, LIMITS, MEASUREMENTS, RAW_COLUMNS, SEXES
from abalone.model.distribution import median_rings, ring_interval
from abalone.model.features import encode
from abalone.model.rows import BadRows, check
from abalone.model.scorer import Scorer, save_weights


@pytest.fixture
def make_scorer(tmp_path):
    """A function that saves and loads an untrained model of a configuration."""

    def make(config: dict) -> Scorer:
        save_weights(tmp_path / "weights.pt", untrained_model(config), config, read().frame)
        return Scorer(tmp_path / "weights.pt")

    return make


@pytest.fixture(params=["classification", "regression"])
def scorer(request, make_scorer) -> Scorer:
    return make_scorer(mlp_config(request.param))


def test_the_limits_are_ten_times_the_largest_in_the_shipped_file():
    assert (10 * read().frame[list(MEASUREMENTS)].max()).round(9).to_dict() == LIMITS


def test_every_row_of_the_shipped_file_is_accepted(scorer):
    assert len(scorer.predict(read().frame)) == 4177


def test_predictions_have_named_columns_and_the_index_of_the_rows(scorer):
    frame = read().frame.tail(5)
    predicted = scorer.predict(frame)
    assert list(predicted.index) == list(frame.index)
    output = scorer.model(encode(frame)).detach().double()
    if scorer.task == "regression":
        assert list(predicted.columns) == ["rings", "age_years", "outside_training_range"]
        assert predicted["rings"].to_numpy() == pytest.approx(output[:, 0].numpy(), abs=1e-6)
        assert (predicted["age_years"] - predicted["rings"]).to_numpy() == pytest.approx(1.5)
    else:
        assert list(predicted.columns) == ["label", "probability_old", "outside_training_range"]
        assert predicted["probability_old"].to_numpy() == pytest.approx(output.softmax(1)[:, 1].numpy(), abs=1e-6)
        assert list(predicted["label"]) == [CLASS_LABELS[int(p >= 0.5)] for p in predicted["probability_old"]]


def test_a_ring_ensemble_predicts_median_and_interval_too(make_scorer):
    scorer = make_scorer(ensemble_config("regression"))
    frame = read().frame.tail(5)
    predicted = scorer.predict(frame)
    numbers = ["rings", "age_years", "rings_median", "rings_low", "rings_high"]
    assert list(predicted.columns) == [*numbers, "outside_training_range"]
    assert predicted["rings"].to_numpy() == pytest.approx(scorer.model(encode(frame))[:, 0].detach().numpy(), abs=1e-4)
    probabilities = scorer.model.distribution(encode(frame)).double()
    assert predicted["rings_median"].tolist() == median_rings(probabilities).tolist()
    low, high = ring_interval(probabilities)
    assert predicted["rings_low"].tolist() == low.tolist() and predicted["rings_high"].tolist() == high.tolist()


def test_scoring_in_parts_changes_nothing(make_scorer):
    scorer = make_scorer(ensemble_config("classification"))
    frame = read().frame
    whole = scorer.predict(pd.concat([frame] * 3, ignore_index=True))
    part = scorer.predict(frame)
    assert whole["probability_old"].tail(len(frame)).to_numpy() == pytest.approx(
        part["probability_old"].to_numpy(), abs=1e-6
    )


def test_a_scorer_reads_its_file_without_unpickling_and_is_in_eval_mode(make_scorer, tmp_path):
    config = {**mlp_config("classification"), "dropout": 0.5}
    scorer = make_scorer(config)
    assert not scorer.model.training
    saved = torch.load(tmp_path / "weights.pt", weights_only=True)
    assert saved["config"] == config
    frame = read().frame.head(20)
    pd.testing.assert_frame_equal(scorer.predict(frame), scorer.predict(frame), check_exact=True)


def test_order_extra_columns_spelling_and_number_types_do_not_matter(scorer):
    frame = read().frame.head(50)
    expected = scorer.predict(frame)
    others = [
        frame[frame.columns[::-1]],
        frame.assign(note="x", **{"Shell weights": -1}),
        frame.rename(columns={"Shell weight": "Shell weights"}),
        frame.astype({"Sex": object}),
        frame.astype({"Sex": "category"}),
        frame.astype({"Length": "Float64", "Sex": "string"}),
        frame.astype(dict.fromkeys(MEASUREMENTS, str)),
        frame.to_dict(orient="list"),
        frame.to_dict(orient="records"),
    ]
    for other in others:
        pd.testing.assert_frame_equal(scorer.predict(other), expected)


def test_no_rows_are_refused(scorer):
    with pytest.raises(BadRows, match="no rows; expected at least one"):
        scorer.predict(read().frame.head(0))


WORDS = {"M": "male", "F": " Female", "I": "'infant'"}
OTHER_NAMES = {
    "lower case": str.lower,
    "underscores": lambda name: name.replace(" ", "_"),
    "points": lambda name: name.replace(" ", "."),
    "padding, quotes and a BOM": lambda name: f"\ufeff '{name}' ",
    "R's AppliedPredictiveModeling": lambda name: {"Sex": "Type", "Length": "LongestShell"}.get(name, name.title()),
    "the Kaggle playground": lambda name: {"Shucked weight": "Whole weight.1", "Viscera weight": "Whole weight.2"}.get(
        name, name
    ),
    "others": lambda name: {"Sex": "gender", "Viscera weight": "Gut weight", "Shell weight": "Shell weights"}.get(
        name, name
    ),
}


@pytest.mark.parametrize("spell", OTHER_NAMES.values(), ids=OTHER_NAMES)
def test_columns_go_by_name_however_it_is_spelt(spell):
    frame = read().frame.head()
    pd.testing.assert_frame_equal(check(frame.rename(columns=spell)), frame[list(RAW_COLUMNS)])


def test_an_exact_name_is_preferred_to_another_spelling_and_that_to_an_alias():
    frame = read().frame.head()
    others = frame.assign(length=-1, gender="x", **{"whole-weight.1": -1, "Whole weight.2": -1})
    expected = check(frame)
    pd.testing.assert_frame_equal(check(others), expected)
    pd.testing.assert_frame_equal(check(others.drop(columns="length").rename(columns=str.upper)), expected)
    with pytest.raises(BadRows, match=r"column Length appears more than once \('length', 'LENGTH'\)"):
        check(others.drop(columns="Length").assign(LENGTH=0.5))


@pytest.mark.parametrize(
    "convert",
    [
        lambda frame: frame.assign(Sex=frame["Sex"].str.lower()),
        lambda frame: frame.assign(Sex=frame["Sex"].map(WORDS)),
        lambda frame: frame.assign(Sex=frame["Sex"].map(str.encode)),
        lambda frame: frame.assign(Sex=frame["Sex"].map(WORDS).astype("category")),
        lambda frame: frame.astype(object).map(np.array),
        lambda frame: frame.convert_dtypes(),
    ],
    ids=["lower case", "words", "bytes", "category", "arrays without dimensions", "pandas' own types"],
)
def test_a_value_counts_as_what_it_means(convert):
    frame = read().frame.head(8)
    checked = check(convert(frame))
    pd.testing.assert_frame_equal(checked, frame[list(RAW_COLUMNS)], check_dtype=False)
    assert set(checked["Sex"]) == set(SEXES)


@pytest.mark.parametrize(
    "change, reason",
    [
        ({"Sex": "X"}, "Sex is 'X', expected M, F or I"),
        ({"Sex": 1}, "Sex is 1, expected M, F or I; there is no one code of numbers"),
        ({"Sex": "2"}, "Sex is '2', expected M, F or I; there is no one code of numbers"),
        ({"Sex": np.array("X")}, "Sex is 'X', expected M, F or I"),
        ({"Sex": None}, "Sex is missing"),
        ({"Sex": ["M"]}, "Sex is ['M'], expected M, F or I"),
        ({"Length": math.nan}, "Length is missing"),
        ({"Length": None}, "Length is missing"),
        ({"Length": ""}, "Length is missing"),
        ({"Length": "long"}, "Length is 'long', expected a number from 0 to 8.15"),
        ({"Height": -0.01}, "Height is -0.01, expected a number from 0 to 11.3"),
        ({"Whole weight": 28.256}, "Whole weight is 28.256, expected a number from 0 to 28.255"),
        ({"Whole weight": math.inf}, "Whole weight is inf, expected a number"),
        ({"Length": "0_1"}, "Length is '0_1', expected a number"),
        ({"Length": "０.５"}, "Length is '０.５', expected a number"),
        ({"Length": b"0.5"}, "Length is b'0.5', expected a number"),
        ({"Diameter": True}, "Diameter is True, expected a number"),
        ({"Diameter": 10**400}, "Diameter is 1000"),
        ({"Diameter": pd.Timestamp(0)}, "Diameter is 1970-01-01"),
    ],
    ids=str,
)
def test_a_bad_field_is_refused_with_row_and_reason(scorer, change, reason):
    with pytest.raises(BadRows) as refusal:
        scorer.predict(rows({}, change))
    assert refusal.value.message.startswith(f"row 1: {reason}")
    assert refusal.value.get_http_status_code() == 400


def test_an_integer_too_long_for_python_to_write_is_refused():
    with pytest.raises(BadRows, match=r"^row 1: Diameter is too long to show, expected a number from 0 to 6\.5"):
        check(rows({}, {"Diameter": 10**5000}))


def test_five_problems_are_named_and_the_rest_counted():
    with pytest.raises(BadRows) as refusal:
        check(rows(*[{"Height": -1}] * 7))
    assert refusal.value.message.count("Height is -1") == 5
    assert refusal.value.message.endswith("; and 2 more")


@pytest.mark.parametrize("length, hint", [(91, True), (8.2, False), (11, False), (2000, False)])
def test_millimetres_and_grams_are_recognised(length, hint):
    """Neither centimetres nor a typing error is taken for millimetres."""
    with pytest.raises(BadRows, match="Length is ") as refusal:
        check(rows({"Length": length}))
    assert ("look like millimetres and grams: give -P units=mm_g" in refusal.value.message) == hint


def test_a_named_index_names_the_rows():
    with pytest.raises(BadRows, match=r"^line 7: Height is -1"):
        check(rows({"Height": -1}).set_axis(pd.Index([7], name="line")))


@pytest.mark.parametrize(
    "table, reason",
    [
        (rows({}).drop(columns=["Sex", "Height"]), "missing columns Sex, Height; found Length"),
        (pd.DataFrame(), "missing columns Sex, Length, .*; found none"),
        (np.zeros((2, 8)), "missing columns Sex"),
        (pd.concat([rows({}), rows({})[["Length"]]], axis=1), "column Length appears more than once"),
        ("text", "not a table"),
        (3, "not a table"),
    ],
    ids=["two missing", "nothing", "no names", "twice", "text", "number"],
)
def test_a_table_without_the_columns_is_refused(table, reason):
    with pytest.raises(BadRows, match=reason):
        check(table)


strange_values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.sampled_from([*SEXES, "-1", "1e3", "0_1", "nan", "inf", " M", "NA", b"M", [0.5], {"a": 1}, pd.NA, pd.NaT]),
    # Good values of most measurements:
    st.floats(0, 5),
    st.integers(0, 5),
    st.floats(0, 5).map(str),
)
changes = st.dictionaries(st.sampled_from(RAW_COLUMNS), strange_values, max_size=3)
dropped_columns = st.sampled_from([None] * 24 + list(RAW_COLUMNS))
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)


def is_good(name: str, value: object) -> bool:
    """Whether a field is acceptable, by an implementation of its own."""
    if name == "Sex":
        return isinstance(value, str | bytes) and value in ("M", "F", "I", "m", "f", "i", " M", b"M")
    if isinstance(value, str):
        is_number = value.isascii() and NUMBER.fullmatch(value.strip(" \t\n\r\f\v"))
    else:
        is_number = type(value) in (int, float)
    return bool(is_number) and 0 <= float(value) <= LIMITS[name]


def refusal_of(scorer: Scorer, table: pd.DataFrame) -> str:
    with pytest.raises(BadRows) as refusal:
        scorer.predict(table)
    return refusal.value.message


@pytest.mark.slow
def test_malformed_rows_are_refused_by_name_or_scored_and_never_crash(make_scorer):
    classifier = make_scorer(mlp_config("classification"))
    outcomes = Counter()

    @settings(max_examples=1000, deadline=None)
    @given(changes, st.integers(0, 2), dropped_columns)
    def check_one_table(change, place, dropped):
        table = rows(*(change if i == place else {} for i in range(3)))
        bad = [name for name in RAW_COLUMNS if not is_good(name, {**GOOD_ROW, **change}[name])]
        if dropped:
            outcomes["missing"] += 1
            message = refusal_of(classifier, table.drop(columns=dropped))
            assert message.startswith(f"missing column {dropped}; found ")
        elif bad:
            outcomes["refused"] += 1
            message = refusal_of(classifier, table)
            assert message.startswith(f"row {place}: {bad[0]} is ")
            assert all(f"row {place}: {name} is " in message for name in bad)
        else:
            outcomes["scored"] += 1
            predicted = classifier.predict(table)
            assert len(predicted) == 3 and predicted["probability_old"].between(0, 1).all()

    check_one_table()
    assert min(outcomes[outcome] for outcome in ("missing", "refused", "scored")) >= 50, outcomes

"""What a model keeps of the rows that it was fitted on: their range marks guesses, their digests recognise them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sample_models import GOOD_ROW, ensemble_config, mlp_config, rows, untrained_model

from abalone.data.reading import read
from abalone.model.columns import MEASUREMENTS
from abalone.model.features import encode
from abalone.model.scorer import Scorer, save_weights
from abalone.model.training_range import LEVELS, TrainingRange

FITTED = read().frame.iloc[::2]
OTHERS = read().frame.iloc[1::2]


@pytest.fixture(scope="module")
def training() -> TrainingRange:
    return TrainingRange.of(FITTED)


def test_the_rows_that_were_fitted_are_inside_their_own_range_in_any_precision(training):
    as_float32 = FITTED.astype(dict.fromkeys(MEASUREMENTS, "float32"))
    for frame in (FITTED, as_float32):
        assert set(training.outside(encode(frame))) == {""}


def test_a_row_beyond_the_range_names_its_measurements_in_their_order(training):
    low = FITTED[list(MEASUREMENTS)].min()
    high = FITTED[list(MEASUREMENTS)].max()
    table = rows(
        {},
        {"Height": high["Height"] + 0.005},
        {"Shell weight": high["Shell weight"] + 0.005, "Length": low["Length"] - 0.005},
        dict(high),
        dict(low),
    )
    assert training.outside(encode(table)).tolist() == ["", "Height", "Length,Shell weight", "", ""]


def test_lengths_in_inches_are_outside_in_every_row(training):
    inches = FITTED.assign(**{name: FITTED[name] * 200 / 25.4 for name in ("Length", "Diameter")})
    marks = training.outside(encode(inches))
    assert np.mean([mark.startswith("Length,Diameter") for mark in marks]) > 0.95


def test_rows_are_recognised_by_value_whatever_their_rings_order_and_precision(training):
    both = pd.concat([OTHERS, FITTED.sample(frac=1, random_state=0)])
    expected = both.index.isin(FITTED.index)
    expected |= both[["Sex", *MEASUREMENTS]].duplicated(keep=False).to_numpy()
    assert training.contains(both).tolist() == expected.tolist()
    in_millimetres = both.assign(Rings=1, Length=both["Length"] * 200)
    back = in_millimetres.assign(Length=in_millimetres["Length"] / 200).astype({"Height": "float32"})
    assert training.contains(back).tolist() == expected.tolist()


def test_the_sex_and_the_last_digit_of_a_measurement_make_another_row():
    training = TrainingRange.of(rows({"Rings": 9}))
    table = rows({}, {"Sex": "F"}, {"Shell weight": GOOD_ROW["Shell weight"] + 0.0005})
    assert training.contains(table).tolist() == [True, False, False]


def test_the_digests_are_the_same_in_every_version():
    """Models are compared with files for years, so the bytes that are hashed must not change."""
    [digest] = TrainingRange.of(rows({"Rings": 9})).digests.tolist()
    assert digest == -8833358272319065786


def test_the_quantiles_are_those_of_the_rows_that_were_fitted(training):
    expected = FITTED[list(MEASUREMENTS)].quantile(LEVELS).to_numpy().T
    assert training.quantiles.numpy() == pytest.approx(expected)
    summary = training.summary()
    assert summary["Length"]["max"] == FITTED["Length"].max()
    assert summary["Height"]["50%"] == FITTED["Height"].median()


@pytest.mark.parametrize(
    "config", [mlp_config("classification"), ensemble_config("regression")], ids=["mlp", "ensemble"]
)
def test_a_saved_model_keeps_all_of_it(tmp_path, config):
    save_weights(tmp_path / "weights.pt", untrained_model(config), config, FITTED)
    scorer = Scorer(tmp_path / "weights.pt")
    answer = scorer.predict(rows({}, {"Height": 1.14}, {"Length": 0.01, "Height": 1.14}))
    assert answer["outside_training_range"].tolist() == ["", "Height", "Length,Height"]
    kept = scorer.get_raw_model().training
    assert kept.rings.tolist() == FITTED["Rings"].tolist()
    assert kept.contains(FITTED).all() and not kept.contains(OTHERS).all()

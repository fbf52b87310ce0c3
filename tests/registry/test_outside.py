"""Rows outside the training range in the answers of both champions, and the line that a command prints about them."""

from __future__ import annotations

import pandas as pd

from abalone.registry.outside import OutsideCount, join_answers


def answer(*marks: str, **columns: list) -> pd.DataFrame:
    return pd.DataFrame({**columns, "outside_training_range": list(marks)})


def test_the_champions_share_one_column_that_names_what_is_outside_for_any_of_them():
    classifier = answer("", "Height", "Length,Height", label=["Old"] * 3)
    regressor = answer("", "Length", "Height", rings=[9.0] * 3)
    joined = join_answers([classifier, regressor])
    assert list(joined) == ["label", "rings", "outside_training_range"]
    assert joined["outside_training_range"].tolist() == ["", "Length,Height", "Length,Height"]
    assert classifier["outside_training_range"].tolist() == ["", "Height", "Length,Height"]


def test_a_champion_of_an_earlier_version_has_no_such_column():
    earlier = pd.DataFrame({"label": ["Old"]})
    assert list(join_answers([earlier, answer("Height", rings=[9.0])])) == ["label", "rings", "outside_training_range"]
    assert list(join_answers([earlier, pd.DataFrame({"rings": [9.0]})])) == ["label", "rings"]


def count(*batches: list[str]) -> OutsideCount:
    counted = OutsideCount()
    for batch in batches:
        counted.add(batch)
    return counted


def test_a_few_rows_outside_are_counted_over_all_batches():
    counted = count(["", "", "Height"], ["Length,Height", "", ""])
    assert (counted.outside, counted.rows) == (2, 6)
    assert counted.sentence() == (
        "2 of 6 rows lie outside the range of the training rows (Height 2, Length 1); their predictions are guesses."
    )


def test_one_row_outside_is_one_guess():
    text = "1 of 3 rows lies outside the range of the training rows (Height 1); its prediction is a guess."
    assert count(["", "", "Height"]).sentence() == text


def test_most_rows_outside_ask_for_the_units():
    sentence = count(["Length", "Length", ""]).sentence()
    assert sentence.startswith("WARNING: 2 of 3 rows lie outside the range of the training rows (Length 2): check the")


def test_no_rows_outside_is_said_too():
    assert count(["", ""], []).sentence() == "All rows lie within the range of the training rows."

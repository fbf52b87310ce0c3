"""The forms of a table that training reads, what it says about them, and which tables it refuses."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from table_forms import BARE, FORMS, REFUSED, TABLE, as_bytes, csv, in_mm_and_g

from abalone.data import reading
from abalone.data.reading import DataError, Dataset, read


def read_content(content: str | bytes, **options: str) -> Dataset:
    """Read a file with this content."""
    Path("table.csv").write_bytes(as_bytes(content))
    return read("table.csv", **options)


@pytest.mark.parametrize("content", FORMS.values(), ids=FORMS)
def test_every_form_of_a_table_is_read_alike(content):
    pd.testing.assert_frame_equal(read_content(content).frame, TABLE)


@pytest.mark.parametrize("content, reason", REFUSED.values(), ids=REFUSED)
def test_what_is_no_such_table_is_refused_with_the_reason(content, reason):
    with pytest.raises(DataError, match=rf"(?s)table\.csv: .*{reason}"):
        read_content(content)


@pytest.mark.parametrize(
    "form, says",
    [
        ("no header", "table.csv: 24 rows; separated by commas; no header, so the columns are Sex, Length, Diameter, "),
        ("header", "table.csv: 24 rows; separated by commas; columns by name"),
        ("decimal commas", "separated by semicolons; decimal commas; columns by name"),
        ("gzip of UTF-16", "24 rows; gzip, UTF-16; separated by tabs; columns by name"),
        ("ARFF", "ARFF; separated by commas; columns by name; read 'Viscera_weight' as Viscera weight, 'Shell_weight'"),
        ("the Kaggle playground", "read 'Whole weight.1' as Shucked weight, 'Whole weight.2' as Viscera weight; "),
        ("the Kaggle playground", "ignored 'id'"),
        ("OpenML's target", "read 'Class_number_of_rings' as Rings"),
    ],
)
def test_it_says_in_one_line_what_it_understood(form, says):
    understood = read_content(FORMS[form]).understood
    assert says in understood and "\n" not in understood


AGES = TABLE.rename(columns={"Rings": "Age"})
HALVES = AGES.assign(Age=TABLE["Rings"] + 1.5)
COMPLETED = AGES.assign(Age=TABLE["Rings"] + 1)


@pytest.mark.parametrize(
    "frame, target",
    [
        (HALVES, "auto"),
        (HALVES, "age"),
        (COMPLETED, "age"),
        (AGES, "rings"),
        (HALVES.assign(Rings=TABLE["Rings"]), "auto"),
        (TABLE.assign(age=1), "rings"),
        (HALVES.assign(Rings=1), "age"),
    ],
)
def test_the_target_is_rings_or_an_age_of_rings_and_a_half(frame, target):
    dataset = read_content(csv(frame), target=target)
    pd.testing.assert_frame_equal(dataset.frame, TABLE)
    is_age = "Rings" not in frame or target == "age"
    assert ("Rings computed from Age in years" in dataset.understood) == (is_age and target != "rings")


def test_without_names_the_ninth_column_may_be_an_age():
    pd.testing.assert_frame_equal(read_content(csv(HALVES, header=False), target="age").frame, TABLE)


@pytest.mark.parametrize(
    "frame, target, reason",
    [
        (
            COMPLETED,
            "auto",
            "line 2: Age is 8, which may be rings or completed years; say which with",
        ),
        (HALVES.assign(Age=16.3), "age", r"line 2: Age is '16\.3', expected years of at least 2, whole or half"),
        (HALVES.assign(Age=1.5), "auto", r"line 2: Age is '1\.5', expected years"),
        (HALVES.assign(Age=""), "auto", "line 2: Age is missing"),
        (HALVES, "rings", r"line 2: Age is '8\.5', expected an integer of at least 1"),
        (TABLE.assign(Rings=2.5), "auto", r"line 2: Rings is '2\.5', expected an integer of at least 1"),
        (TABLE.assign(Rings=2.5), "auto", r"half numbers are ages: -P target=age"),
        (TABLE.assign(rings=1).rename(columns={"Rings": "RINGS"}), "auto", r"column Rings appears more than once"),
        (TABLE, "age", "missing column Age; found Sex, Length"),
        (TABLE.drop(columns="Rings"), "auto", r"missing column Rings \(or Age\); found Sex, Length"),
    ],
)
def test_a_target_that_is_unclear_is_refused(frame, target, reason):
    with pytest.raises(DataError, match=reason):
        read_content(csv(frame), target=target)


def test_a_target_in_the_shipped_file_cannot_be_an_age():
    with pytest.raises(DataError, match="the shipped file holds rings; leave out -P target=age"):
        read("uci", target="age")


def test_millimetres_and_grams_are_converted():
    dataset = read_content(csv(in_mm_and_g()), units="mm_g")
    pd.testing.assert_frame_equal(dataset.frame, TABLE, rtol=1e-12)
    assert dataset.understood.endswith("millimetres and grams, divided by 200")


@pytest.mark.parametrize(
    "content, units, reason",
    [
        (BARE, "mm_g", "these look like the units of the UCI file .*: leave out -P units=mm_g"),
        (csv(in_mm_and_g()).replace(",70.0,", ",1631,", 1), "mm_g", "line 2: Length is '1631', expected .* 0 to 1630"),
        (csv().replace(",0.35,", ",8.16,", 1), "file", r"line 2: Length is '8\.16', expected a number from 0 to 8\.15"),
    ],
)
def test_measurements_are_checked_in_the_units_of_the_file(content, units, reason):
    with pytest.raises(DataError, match=reason):
        read_content(content, units=units)


def test_lengths_in_millimetres_beside_weights_in_the_files_unit_are_refused():
    lengths = {name: TABLE[name] * 200 for name in ("Length", "Diameter", "Height")}
    with pytest.raises(DataError, match="the weights do not look like grams"):
        read_content(csv(TABLE.assign(**lengths)), units="mm_g")


def test_a_typing_error_at_the_end_of_a_large_table_is_named_and_is_no_other_unit(monkeypatch):
    monkeypatch.setattr(reading, "LINES_AT_ONCE", 8)
    content = csv() + csv(TABLE.head(1).assign(Length=45.5), header=False)
    with pytest.raises(DataError, match=r"line 26: Length is '45\.5', expected a number from 0 to 8\.15"):
        read_content(content)

"""Which data files are read, and which are refused with what message."""

from __future__ import annotations

import shutil
import subprocess
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from data_files import GOOD, OLD, YOUNG, write_rows
from helpers import ROOT
from hypothesis import example, given, settings
from hypothesis import strategies as st
from warm_processes import PYTHON, warm_environment

from abalone.data.reading import FILE_COLUMNS, SHIPPED_FILE, SHIPPED_SHA256, DataError, Dataset, read
from abalone.model.columns import MEASUREMENTS


@pytest.fixture(scope="module")
def uci() -> Dataset:
    return read()


def refused(source: str) -> str:
    """The message with which a file is refused; a warning on the way is an error."""
    with warnings.catch_warnings(), pytest.raises(DataError) as error:
        warnings.simplefilter("error")
        read(source)
    return str(error.value)


def test_the_shipped_file_is_read_completely(uci):
    assert list(uci.frame.columns) == list(FILE_COLUMNS)
    assert len(uci.frame) == 4177
    assert uci.frame["Sex"].value_counts().to_dict() == {"M": 1528, "I": 1342, "F": 1307}
    assert uci.frame["Rings"].dtype == "int64"
    assert (uci.frame[list(MEASUREMENTS)].dtypes == "float64").all()
    assert uci.frame.iloc[0].tolist() == ["M", 0.455, 0.365, 0.095, 0.514, 0.2245, 0.101, 0.15, 15]
    assert uci.sha256 == SHIPPED_SHA256
    assert uci.name == "abalone"


def test_odd_but_real_rows_are_kept(uci):
    height = uci.frame["Height"]
    assert height[height == 0].index.tolist() == [1257, 3996]
    assert height[2051] == 1.13


@pytest.mark.slow
def test_a_changed_shipped_file_is_refused(own_folder):
    """In a copy of the project, since the file belongs to the package."""
    shutil.copytree(ROOT / "abalone", "abalone", ignore=shutil.ignore_patterns("__pycache__"))
    changed = own_folder / "abalone" / "data" / SHIPPED_FILE.name
    changed.write_bytes(SHIPPED_FILE.read_bytes().replace(b"M,0.455", b"M,0.456", 1))
    code = "from abalone.data.reading import read; read('uci')"
    failed = subprocess.run([PYTHON, "-c", code], capture_output=True, text=True, env=warm_environment())
    message = failed.stderr.splitlines()[-1]
    assert failed.returncode == 1
    assert f"DataError: data file {changed}: SHA-256" in message
    assert SHIPPED_SHA256 in message and "restore" in message
    assert len(read(str(changed)).frame) == 4177, "given as a path it is a file like any other"


def test_line_ends_byte_order_mark_and_blanks_make_no_difference():
    plain = read(write_rows(GOOD))
    Path("other.csv").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(GOOD).replace(",", " , ").encode())
    other = read("other.csv")
    pd.testing.assert_frame_equal(plain.frame, other.frame)
    assert plain.name == "rows"
    assert plain.path.is_absolute()
    assert plain.sha256 != other.sha256


@pytest.mark.parametrize(
    "column, value, expected",
    [
        ("Sex", "X", "M, F or I"),
        ("Height", "tall", "a number from 0 to 11.3"),
        ("Height", "inf", "a number from 0 to 11.3"),
        ("Height", "1e39", "a number from 0 to 11.3"),
        ("Height", "-0.1", "a number from 0 to 11.3"),
        ("Whole weight", "0x10", "a number from 0 to 28.255"),
        ("Rings", "0", "an integer of at least 1"),
        ("Rings", "2.5", "an integer of at least 1"),
        ("Rings", "-1", "an integer of at least 1"),
        ("Rings", "ten", "an integer of at least 1"),
        ("Rings", "9223372036854775808", "at most 1000000"),
    ],
)
def test_an_invalid_field_is_refused_with_line_column_value_and_expectation(column, value, expected):
    fields = YOUNG.split(",")
    fields[FILE_COLUMNS.index(column)] = value
    message = refused(write_rows([*GOOD, ",".join(fields), OLD]))
    assert f"rows.csv: line {len(GOOD) + 1}: {column} is {value!r}, expected " in message
    assert expected in message


@pytest.mark.parametrize("line, found", [("M,1,2", "3 columns"), (YOUNG + ",1", "10 columns"), ("M", "1 column")])
def test_a_wrong_number_of_columns_is_refused(line, found):
    message = refused(write_rows([OLD, line, *GOOD]))
    assert f"line 2: {found}, expected 9: Sex, Length, " in message


def test_the_first_five_problems_are_shown_in_order_and_the_others_counted():
    lines = [*GOOD, YOUNG.replace("M", "x"), "1,2", *[OLD.replace("12", "0")] * 6]
    first, *shown, rest = refused(write_rows(lines)).splitlines()
    assert first.endswith("8 problems")
    assert rest == "  and 3 more"
    assert [line.split(":")[0] for line in shown] == [f"  line {n}" for n in (21, 22, 23, 24, 25)]
    assert "Sex is 'x'" in shown[0]
    assert "2 columns" in shown[1]
    assert "Rings is '0'" in shown[2]


def test_exactly_five_problems_are_all_shown():
    assert "more" not in refused(write_rows([*GOOD, *["1,2"] * 5]))


def test_problems_of_one_line_are_in_the_order_of_its_columns_and_long_values_are_cut():
    fields = YOUNG.split(",")
    fields[FILE_COLUMNS.index("Sex")] = "x" * 5000
    fields[FILE_COLUMNS.index("Height")] = "tall"
    _, sex, height = refused(write_rows([*GOOD, ",".join(fields)])).splitlines()
    assert f"Sex is '{'x' * 50}'," in sex
    assert "Height is 'tall'" in height


@pytest.mark.parametrize("column, value", [("Sex", ""), ("Height", ""), ("Height", "NaN"), ("Rings", "")])
def test_a_missing_field_is_named(column, value):
    fields = YOUNG.split(",")
    fields[FILE_COLUMNS.index(column)] = value
    message = refused(write_rows([*GOOD, ",".join(fields), "", OLD]))
    assert message.endswith(f"rows.csv: line {len(GOOD) + 1}: {column} is missing")


def test_lines_are_numbered_as_in_the_file_and_problems_counted_in_all_of_it(monkeypatch):
    monkeypatch.setattr("abalone.data.reading.LINES_AT_ONCE", 7)
    lines = [",".join(FILE_COLUMNS), "", *GOOD, "", *["M,1"] * 3, *[OLD.replace("F", "x")] * 20]
    first, *shown, rest = refused(write_rows(lines)).splitlines()
    assert first.endswith("23 problems") and rest == "  and 18 more"
    assert [line.split(":")[0] for line in shown] == [f"  line {n}" for n in (24, 25, 26, 27, 28)]


def test_a_source_that_is_not_a_readable_text_file_is_refused():
    Path("folder").mkdir()
    Path("image.png").write_bytes(b"\x89PNG\r\n\x1a\n\xff\xfe")
    Path("a").symlink_to("b")
    Path("b").symlink_to("a")
    assert "No such file" in refused("missing.csv")
    assert "-P data=PATH" in refused("missing.csv")
    assert "Is a directory" in refused("folder")
    assert "not text in UTF-8 or UTF-16 ('utf-8' codec can't decode byte 0x89 in position 0" in refused("image.png")
    for source in ("~nobody-has-this-name/rows.csv", "a", "nul\0.csv"):
        assert "not a path" in refused(source)
        assert "-P data=PATH" in refused(source)


FIELDS = st.one_of(
    st.sampled_from(["M", "F", "I", "5", "12", "0.5", "0", "1e3", "", "-1", "nan", "inf", "1e39", "1e400", "9" * 25]),
    st.floats().map(str),
    st.integers().map(str),
    st.text(max_size=5),
)
ROWS = st.one_of(st.sampled_from([YOUNG, OLD]), st.lists(FIELDS, min_size=8, max_size=10).map(",".join))
FILES = st.one_of(
    st.binary(max_size=200),
    st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.lists(ROWS, max_size=6).map(lambda rows: "\n".join(rows).encode("utf-8", "surrogatepass")),
    st.lists(ROWS, max_size=2).map(lambda rows: "\n".join([*GOOD, *rows]).encode("utf-8", "surrogatepass")),
)


@pytest.mark.slow
@settings(max_examples=150, deadline=None, derandomize=True, database=None)
@given(content=FILES)
@example(content="\n".join([*GOOD, YOUNG[:-1] + "9" * 25]).encode())
def test_any_file_is_either_refused_or_read_with_valid_values(content):
    Path("any.csv").write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            frame = read("any.csv").frame
        except DataError:
            return
    assert frame["Sex"].isin(["M", "F", "I"]).all()
    assert (frame["Rings"] >= 1).all()
    numbers = frame.drop(columns="Sex").to_numpy(dtype=np.float32)
    assert np.isfinite(numbers).all()
    assert (numbers >= 0).all()

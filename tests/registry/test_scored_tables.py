"""A table through champions in memory: its forms, what is refused, and where it is read from and written to."""

from __future__ import annotations

import os
import threading
from io import StringIO
from pathlib import Path

import pandas as pd
import pytest
from sample_models import mlp_config, untrained_model
from table_forms import FORMS, REFUSED, TABLE, as_bytes, csv, in_mm_and_g

from abalone.data.layout import FILE_COLUMNS
from abalone.data.reading import SHIPPED_FILE, read
from abalone.model.columns import outputs
from abalone.model.scorer import Scorer, save_weights
from abalone.registry.loading import LoadedModel
from abalone.registry.scoring import Request, score_table
from abalone.settings import REGISTERED_MODELS, UserError


def score(text: str) -> pd.DataFrame:
    """Score a file with this text."""
    Path("rows.csv").write_text(text)
    score_table("rows.csv", "scored.csv")
    return pd.read_csv("scored.csv")


FRAME = read().frame.head(7)


HEADERLESS = "".join(SHIPPED_FILE.read_text().splitlines(keepends=True)[:7])


ODD_FORMS = {
    **FORMS,
    "no rings": csv(TABLE.drop(columns="Rings"), header=False),
    "no rings and names": csv(TABLE.drop(columns="Rings"), sep=";", decimal=","),
    "no end of the last line": csv().rstrip(),
    "numbers as names": csv(TABLE.assign(**{"2020": 1, "nan": 2})),
    "two ages and two rings": csv(TABLE.assign(age=1, AGE=2, RINGS=3, rINGS=4)),
}


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, LoadedModel]:
    """Untrained models by task that are neither logged nor registered, which is much faster."""
    folder = tmp_path_factory.mktemp("models")
    models = {}
    for task in REGISTERED_MODELS:
        config = mlp_config(task)
        save_weights(folder / task, untrained_model(config), config, read().frame)
        models[task] = LoadedModel(f"models:/{task}/7", outputs(config), Scorer(folder / task))
    return models


@pytest.fixture
def in_memory(models, monkeypatch) -> dict[str, LoadedModel]:
    """The champions are the models in memory."""
    monkeypatch.setattr("abalone.registry.scoring.load_champion", models.get)
    return models


@pytest.mark.parametrize("content", ODD_FORMS.values(), ids=ODD_FORMS)
def test_every_form_that_can_be_trained_on_can_be_scored(in_memory, content):
    Path("rows.txt").write_bytes(as_bytes(content))
    assert score_table("rows.txt", "scored.csv").rows == len(TABLE)
    scored = pd.read_csv("scored.csv")
    expected = in_memory["regression"].predict(TABLE)["rings"].to_numpy()
    assert scored["rings"].to_numpy() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("content, reason", REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_trained_on_cannot_be_scored_for_the_same_reason(in_memory, content, reason):
    Path("rows.txt").write_bytes(as_bytes(content))
    with pytest.raises(UserError, match=rf"(?s)^rows\.txt: .*{reason}"):
        score_table("rows.txt", "scored.csv")
    assert not Path("scored.csv").exists()


def test_what_is_written_is_csv_whatever_is_read(in_memory):
    odd = TABLE.assign(note='5 "long", or so', code="007", share="0,5").rename(columns={"Rings": "rings"})
    Path("rows.txt").write_text(csv(odd, sep=";", decimal=","))
    score_table("rows.txt", "scored.csv")
    scored = pd.read_csv("scored.csv", dtype={"code": str})
    assert list(scored.columns)[8:13] == ["Rings", "note", "code", "share", "label"]
    written = scored[list(FILE_COLUMNS)]
    pd.testing.assert_frame_equal(written, TABLE)
    assert scored.loc[0, ["note", "code", "share"]].tolist() == ['5 "long", or so', "007", "0,5"]


def test_millimetres_and_grams_are_converted(in_memory):
    Path("rows.csv").write_text(csv(in_mm_and_g()))
    score_table("rows.csv", "scored.csv", Request(units="mm_g"))
    scored = pd.read_csv("scored.csv")
    expected = in_memory["regression"].predict(TABLE)["rings"].to_numpy()
    assert scored["rings"].to_numpy() == pytest.approx(expected, abs=1e-6)
    assert scored["Length"].tolist() == in_mm_and_g()["Length"].tolist(), "rows are as they were"


def test_bad_rows_can_be_left_out_and_are_listed(in_memory):
    lines = csv(TABLE).splitlines()
    lines[2:4] = ["M,,0.4,-1,1,1,1,1,5", "M,1"]
    lines.insert(5, "")
    Path("rows.csv").write_text("\n".join(lines))
    scored = score_table("rows.csv", "scored.csv", Request(skip_bad=True), lines_at_once=2)
    assert (scored.rows, scored.skipped) == (len(TABLE) - 2, 2)
    expected = TABLE.drop(index=[1, 2]).reset_index(drop=True)
    pd.testing.assert_frame_equal(pd.read_csv("scored.csv")[list(FILE_COLUMNS)], expected)
    skipped = pd.read_csv("scored.skipped.csv")
    assert list(skipped.columns) == ["line", "problem", "row"]
    assert skipped["line"].tolist() == [3, 4]
    assert skipped["problem"][0].startswith("Length is missing; Height is '-1', expected a number from 0 to 11.3")
    assert skipped["problem"][1].startswith("2 columns, expected 9") and skipped["row"].tolist() == lines[2:4]


def test_where_every_row_is_bad_there_is_nothing_to_skip_to(in_memory):
    Path("rows.csv").write_text(csv(TABLE.assign(Sex="X")))
    with pytest.raises(UserError, match=r"^rows\.csv: no valid row among 24$"):
        score_table("rows.csv", "scored.csv", Request(skip_bad=True))
    assert not Path("scored.csv").exists() and not Path("scored.skipped.csv").exists()


def test_the_versions_stand_beside_the_answers(in_memory):
    scored = score(HEADERLESS)
    assert set(scored["classifier_version"]) == set(scored["regressor_version"]) == {7}


def test_the_sample_of_the_figure_is_spread_over_all_rows(in_memory):
    Path("rows.csv").write_text(SHIPPED_FILE.read_text())
    summary = score_table("rows.csv", "scored.csv").summary
    ages = pd.read_csv("scored.csv")["age_years"]
    assert 500 < len(summary.sample) <= 1000
    step = -(-len(ages) // len(summary.sample))
    assert [age for (age,) in summary.sample] == pytest.approx(ages[::step].tolist(), abs=1e-6)
    assert summary.metrics()["mean_age_years"] == pytest.approx(ages.mean(), abs=1e-6)


def test_batches_change_nothing(in_memory):
    whole = score(HEADERLESS)
    score_table("rows.csv", "batches.csv", lines_at_once=3)
    pd.testing.assert_frame_equal(pd.read_csv("batches.csv"), whole)


@pytest.mark.parametrize(
    "old, new, reason",
    [
        ("M,0.35,", "X,0.35,", "line 2: Sex is 'X', expected M, F or I"),
        ("M,0.35,", "M,long,", "line 2: Length is 'long', expected a number"),
        ("M,0.35,", "M,,", "line 2: Length is missing"),
        ("M,0.35,", "M,-0.35,", "line 2: Length is '-0.35', expected a number"),
        ("M,0.35,", "M,35,", "line 2: Length is '35', expected a number from 0 to 8.15"),
        ("M,0.35,", "M,0.35,1,", "line 2: 10 columns, expected 9"),
        ("M,0.35,", "M,", "line 2: 8 columns, expected 9"),
        ("M,0.35,", '"M,0.35,', "line 2: unexpected end of data; quotes must enclose a whole field"),
        ("M,0.35,", 'M,"0.35"x,', "line 2: ',' expected after '\"'; quotes must enclose a whole field"),
        ("0.0485,0.07,7", '0.0485,5"x,"', "line 2: unexpected end of data"),
        ("M,0.455,", "M,0.455,1,1,", "line 1: 11 columns and no header; expected 8 or 9: Sex, Length"),
        ("M,0.455,", "\n\nM,0.455,1,1,", "line 3: 11 columns and no header"),
        ("M,0.455,", "Sexe,Length,0.455,", "missing columns Sex, Diameter"),
    ],
)
def test_a_bad_line_is_refused_and_nothing_is_written(in_memory, own_folder, old, new, reason):
    Path("scored.csv").write_text("from before")
    with pytest.raises(UserError) as refusal:
        score(HEADERLESS.replace(old, new, 1))
    assert str(refusal.value).startswith(f"rows.csv: {reason}")
    assert Path("scored.csv").read_text() == "from before"
    assert not list(own_folder.glob(".scored*"))


def test_problems_are_numbered_by_the_lines_of_the_file_and_counted_in_all_of_it(in_memory):
    text = FRAME.to_csv(index=False).replace("M,0.35,", "\n\nX,0.35,", 1) + "M,1\n" * 10
    Path("rows.csv").write_text(text)
    with pytest.raises(UserError) as refusal:
        score_table("rows.csv", "scored.csv", lines_at_once=3)
    first, *shown, rest = str(refusal.value).splitlines()
    assert first == "rows.csv: 11 problems" and rest == "  and 6 more"
    assert [line.split(":")[0] for line in shown] == [f"  line {n}" for n in (5, 11, 12, 13, 14)]


def test_a_column_with_the_name_of_an_answer_is_refused(in_memory):
    with pytest.raises(UserError, match=r"column rings, label has the name of an output; rename or remove it$"):
        score(FRAME.assign(rings=1, label="x", rings_low=1).to_csv(index=False))


@pytest.mark.parametrize(
    "source, target, reason",
    [
        ("none.csv", "scored.csv", "input 'none.csv': no such file"),
        ("rows.csv", "none/scored.csv", "output 'none/scored.csv': not a file in a folder that exists"),
        ("", "scored.csv", "input ''"),
        ("x" * 300, "scored.csv", r"input 'x+': not a path that can be used \(File name too long\)"),
        ("rows.csv", "x" * 300, r"output 'x+': not a path that can be used \(File name too long\)"),
        ("rows.csv", "a\0b", r"output 'a.x00b': not a path that can be used \(.*null byte\)"),
        ("~nobody-of-that-name/rows.csv", "scored.csv", r"input '~.*': not a path that can be used"),
    ],
)
def test_a_file_that_cannot_be_read_or_written_is_refused(source, target, reason):
    Path("rows.csv").write_text(HEADERLESS)
    with pytest.raises(UserError, match=reason):
        score_table(source, target)


def test_a_file_that_is_replaced_keeps_its_mode_and_its_link(in_memory, own_folder):
    real, link = own_folder / "real.csv", own_folder / "scored.csv"
    real.write_text("from before")
    real.chmod(0o640)
    link.symlink_to(real.name)
    assert len(score(HEADERLESS)) == 7
    assert link.is_symlink() and real.stat().st_mode & 0o777 == 0o640
    assert real.read_text() == link.read_text() != "from before"


def test_an_output_that_is_neither_file_nor_pipe_is_refused(own_folder):
    Path("rows.csv").write_text(HEADERLESS)
    Path("loop").symlink_to("loop")
    for target in ("loop", "."):
        with pytest.raises(UserError, match=f"^output '{target}': cannot be written; give"):
            score_table("rows.csv", target)
    assert Path("loop").is_symlink()


def test_rows_come_through_a_pipe_and_scores_go_into_one(in_memory):
    os.mkfifo("rows.pipe")
    os.mkfifo("scored.pipe")
    received = []
    writer = threading.Thread(target=Path("rows.pipe").write_text, args=[HEADERLESS], daemon=True)
    reader = threading.Thread(target=lambda: received.append(Path("scored.pipe").read_text()), daemon=True)
    writer.start()
    reader.start()
    assert score_table("rows.pipe", "scored.pipe").rows == 7
    reader.join(60)
    assert pd.read_csv(StringIO(received[0]))["rings"].notna().all()


@pytest.mark.skipif(not Path("/dev/fd").exists(), reason="as in a shell's >(command), which names a pipe by its number")
def test_scores_go_into_a_pipe_without_a_name(in_memory):
    Path("rows.csv").write_text(HEADERLESS)
    reading, writing = os.pipe()
    score_table("rows.csv", f"/dev/fd/{writing}", Request(skip_bad=True))
    os.close(writing)
    with open(reading) as pipe:
        assert len(pd.read_csv(pipe)) == 7


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder in which not even root makes files")
def test_an_output_that_cannot_be_written_is_named(in_memory):
    Path("rows.csv").write_text(HEADERLESS)
    with pytest.raises(UserError, match=r"^/proc/scored\.csv: "):
        score_table("rows.csv", "/proc/scored.csv")

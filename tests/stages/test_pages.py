"""The words on a run's page and the tables."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from abalone.evaluation.calibration import reliability_text
from abalone.settings import RINGS, STAGES, load_settings
from abalone.stages.pages import HEADLINES, TABLE_HEADER, closing_rows, rings_card, run_card, stage_rows
from abalone.tracking.markdown import markdown_table

EPOCHS = {"best_epoch": 31, "reported_epoch": 50}


def final(task: str, score: float, plain: float) -> dict[str, float]:
    """Final metrics of a run in which every score is ``score`` and every baseline ``plain``."""
    names = HEADLINES[task]
    return {**{f"{n}/test": score for n in names}, **{f"baseline_{n}/test": plain for n in names}, **EPOCHS}


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def table(card: str) -> list[list[str]]:
    return [cells(line) for line in card.splitlines() if line.startswith("|")]


@pytest.mark.parametrize("stage", STAGES)
def test_a_card_says_what_is_taught_what_came_out_and_how_to_load(stage):
    experiment = load_settings(stage)
    card = run_card(stage, experiment, final(experiment.task, 0.76543, 0.5), "models:/m-1", previous=None)
    assert card.startswith(f"**{stage}** (guide section {STAGES[stage].guide}). {STAGES[stage].teaches}")
    header, _, *rows = table(card)
    assert header == ["test score", "this run", "baseline"]
    assert rows == [[name, "0.7654", "0.5000"] for name in HEADLINES[experiment.task]]
    assert "Reported epoch: 50; best by validation loss: 31 of 50" in card
    for flavor in ("pytorch", "pyfunc"):
        assert f'import mlflow.{flavor}\n\nmodel = mlflow.{flavor}.load_model("models:/m-1")\n```' in card
    assert card.count("```") == 4
    assert ("rings `[n, 1]`" in card, "training mean" in card) == (stage == "regress",) * 2
    assert "stage before" not in card


def test_a_card_compares_with_the_stage_before():
    before = ("a1b2c3", final("classification", 0.7, 0.5))
    card = run_card("deepen", load_settings("deepen"), final("classification", 0.8, 0.5), "models:/m-1", before)
    header, _, *rows = table(card)
    assert header == ["test score", "this run", "baseline", "stage before"]
    assert rows[0] == ["accuracy", "0.8000", "0.5000", "0.7000"]
    assert "run `a1b2c3`, on the same rows" in card


def test_a_card_shows_a_dash_for_a_score_that_the_stage_before_lacks():
    card = run_card("deepen", load_settings("deepen"), final("classification", 0.8, 0.5), "models:/m-1", ("a1b2c3", {}))
    assert {row[3] for row in table(card)[2:]} == {"–"}


def test_the_code_of_a_card_is_python():
    card = run_card("classify", load_settings("classify"), final("classification", 0.8, 0.5), "models:/m-1", None)
    for block in card.split("```python\n")[1:]:
        compile(block.split("```")[0], "card", "exec")


def test_stage_rows_of_both_tasks_and_of_a_failure():
    results = [
        SimpleNamespace(stage="classify", metrics=final("classification", 0.75, 0.5), seconds=3.14),
        SimpleNamespace(stage="regress", metrics=final("regression", 2.5, 3.2), seconds=3.0),
        SimpleNamespace(stage="encode", metrics={}, seconds=0.04),
    ]
    assert stage_rows(results) == [
        ("classify", "0.7500", "–", "0.7500", "31", "3.1"),
        ("regress", "–", "2.5000", "–", "31", "3.0"),
        ("encode", "–", "–", "–", "failed", "0.0"),
    ]
    assert all(len(row) == len(TABLE_HEADER) for row in stage_rows(results))


def test_the_closing_table_ends_with_the_baselines_and_the_guides_own_figures():
    results = [SimpleNamespace(stage="classify", metrics=final("classification", 0.75, 0.5), seconds=3.0)]
    *_, baseline, guide = closing_rows(results)
    assert baseline == ("baseline", "0.5000", "–", "0.5000", "–", "–")
    assert guide[0] == "the guide" and guide[3] == "0.72"


def test_a_markdown_table_is_aligned_in_its_source():
    source = markdown_table(("stage", "RMSE"), [("classify", "–"), ("x", "2.5000")])
    assert source.splitlines() == [
        "| stage    | RMSE   |",
        "| -------- | ------ |",
        "| classify | –      |",
        "| x        | 2.5000 |",
    ]


def rings_metrics() -> dict[str, float]:
    names = [
        f"{b}{n}/{part}" for n in sum(HEADLINES.values(), ()) for b in ("", "baseline_") for part in ("val", "test")
    ]
    believed = {"ece/val": 0.05, "ece/test": 0.03, "coverage80/val": 0.81, "coverage80/test": 0.8}
    return {**dict.fromkeys(names, 0.5), **believed, **EPOCHS}


@pytest.mark.parametrize("refit", [True, False])
def test_the_card_of_rings_names_both_models_how_far_to_believe_them_and_what_was_fitted(refit):
    uris = {"classification": "models:/m-1", "regression": "models:/m-2"}
    card = rings_card(load_settings("rings", {"refit": refit}), rings_metrics(), uris)
    assert card.startswith(f"**rings** ({RINGS.guide}). {RINGS.teaches}")
    assert len(table(card)) == 2 + len(sum(HEADLINES.values(), ()))
    assert "0.050 on validation, 0.030 on test" in card and "81.0% on validation, 80.0% on test" in card
    assert ("second fit" in card) == refit
    for uri in uris.values():
        assert card.count(uri) == 2
    for block in card.split("```python\n")[1:]:
        compile(block.split("```")[0], "card", "exec")


def test_a_run_without_calibration_has_no_words_on_it():
    assert reliability_text({"log_loss/val": 0.5}) == ""

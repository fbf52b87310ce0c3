"""The pages of stage runs, and the table that compares results."""

from __future__ import annotations

import pytest

from abalone.evaluation.calibration import reliability_text
from abalone.settings import RINGS, STAGES, TUNED, load_settings
from abalone.stages.pages import PAGE_METRICS, RESULTS_HEADER, closing_rows, result_rows, rings_page, stage_page
from abalone.stages.recorder import Result
from abalone.tracking.markdown import markdown_table

EPOCHS = {"best_epoch": 31, "reported_epoch": 50}


def final(task: str, score: float, baseline: float) -> dict[str, float]:
    """Final metrics of a run with the same value for every score, and another for every baseline."""
    metrics = dict(EPOCHS)
    for name in PAGE_METRICS[task]:
        metrics[f"test/{name}"] = score
        metrics[f"baseline/test_{name}"] = baseline
    return metrics


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def table(page: str) -> list[list[str]]:
    return [cells(line) for line in page.splitlines() if line.startswith("|")]


def compile_code(page: str) -> None:
    """Raise a SyntaxError unless every code block of the page is Python."""
    for block in page.split("```python\n")[1:]:
        compile(block.split("```")[0], "page", "exec")


@pytest.mark.parametrize("stage", STAGES)
def test_a_page_says_what_is_taught_what_came_out_and_how_to_load(stage):
    settings = load_settings(stage)
    page = stage_page(stage, settings, final(settings.task, 0.76543, 0.5), "models:/m-1", previous=None)
    assert page.startswith(f"**{stage}** (guide section {STAGES[stage].guide}). {STAGES[stage].teaches}")
    header, _, *rows = table(page)
    assert header == ["test score", "this run", "baseline"]
    assert rows == [[name, "0.7654", "0.5000"] for name in PAGE_METRICS[settings.task]]
    assert "Reported epoch: 50; best by validation loss: 31 of 50" in page
    for flavor in ("pytorch", "pyfunc"):
        assert f'import mlflow.{flavor}\n\nmodel = mlflow.{flavor}.load_model("models:/m-1")\n```' in page
    assert page.count("```") == 4
    assert ("rings `[n, 1]`" in page) == (stage == "regress")
    assert ("training mean" in page) == (stage == "regress")
    assert "stage before" not in page


def test_a_page_compares_with_the_stage_before():
    before = ("a1b2c3", final("classification", 0.7, 0.5))
    page = stage_page("deepen", load_settings("deepen"), final("classification", 0.8, 0.5), "models:/m-1", before)
    header, _, *rows = table(page)
    assert header == ["test score", "this run", "baseline", "stage before"]
    assert rows[0] == ["accuracy", "0.8000", "0.5000", "0.7000"]
    assert "run `a1b2c3`, on the same rows" in page
    assert "Test: accuracy 0.8000 (baseline 0.5000, stage before 0.7000)." in page


def test_a_page_shows_a_dash_for_a_score_that_the_stage_before_lacks():
    before = ("a1b2c3", {})
    page = stage_page("deepen", load_settings("deepen"), final("classification", 0.8, 0.5), "models:/m-1", before)
    assert {row[3] for row in table(page)[2:]} == {"–"}


def test_the_page_of_a_studys_winner_has_no_section_of_the_guide():
    page = stage_page("tuned", load_settings("encode"), final("classification", 0.8, 0.5), "models:/m-1", None)
    assert page.startswith(f"**tuned** ({TUNED.guide}). {TUNED.teaches}")


def test_the_code_of_a_page_is_python():
    compile_code(
        stage_page("classify", load_settings("classify"), final("classification", 0.8, 0.5), "models:/m-1", None)
    )


def result(stage: str, metrics: dict[str, float], seconds: float) -> Result:
    return Result(stage=stage, task="", seconds=seconds, metrics=metrics)


def test_result_rows_of_both_tasks_and_of_a_failure():
    rows = result_rows([
        result("classify", final("classification", 0.75, 0.5), 3.14),
        result("regress", final("regression", 2.5, 3.2), 3.0),
        result("encode", {}, 0.04),
    ])  # fmt: skip
    assert rows == [
        ("classify", "0.7500", "–", "0.7500", "31", "3.1"),
        ("regress", "–", "2.5000", "–", "31", "3.0"),
        ("encode", "–", "–", "–", "failed", "0.0"),
    ]
    assert RESULTS_HEADER == ("stage", "accuracy", "RMSE (rings)", "AUC", "epochs to best", "seconds")


def test_the_closing_table_ends_with_the_baselines_and_the_guides_own_figures():
    *_, baseline, guide = closing_rows([result("classify", final("classification", 0.75, 0.5), 3.0)])
    assert baseline == ("baseline", "0.5000", "–", "0.5000", "–", "–")
    assert guide[0] == "the guide"
    assert guide[3] == "0.72"


def test_a_markdown_table_is_aligned_in_its_source():
    source = markdown_table(("stage", "RMSE"), [("classify", "–"), ("x", "2.5000")])
    assert source.splitlines() == [
        "| stage    | RMSE   |",
        "| -------- | ------ |",
        "| classify | –      |",
        "| x        | 2.5000 |",
    ]


def rings_metrics() -> dict[str, float]:
    metrics = {"val/ece": 0.05, "test/ece": 0.03, "val/coverage80": 0.81, "test/coverage80": 0.8, **EPOCHS}
    for names in PAGE_METRICS.values():
        for name in names:
            for part in ("val", "test"):
                metrics[f"{part}/{name}"] = 0.5
                metrics[f"baseline/{part}_{name}"] = 0.5
    return metrics


@pytest.mark.parametrize("refit", [True, False])
def test_the_page_of_rings_names_both_models_their_calibration_and_what_was_fitted(refit):
    uris = {"classification": "models:/m-1", "regression": "models:/m-2"}
    page = rings_page(load_settings("rings", {"refit": refit}), rings_metrics(), uris)
    assert page.startswith(f"**rings** ({RINGS.guide}). {RINGS.teaches}")
    assert len(table(page)) == 2 + len(PAGE_METRICS["classification"]) + len(PAGE_METRICS["regression"])
    assert "0.050 on validation, 0.030 on test" in page
    assert "81.0% on validation, 80.0% on test" in page
    assert ("second fit" in page) == refit
    for uri in uris.values():
        assert page.count(uri) == 2
    compile_code(page)


def test_a_run_without_calibration_has_no_text_about_it():
    assert reliability_text({"val/log_loss": 0.5}) == ""

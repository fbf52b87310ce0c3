"""The table that compares results."""

from __future__ import annotations

from page_examples import final

from abalone.stages.recorder import Result
from abalone.stages.results_table import RESULTS_HEADER, closing_rows, result_rows


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
    classify = result("classify", final("classification", 0.75, 0.5), 3.0)
    regress = result("regress", final("regression", 2.5, 3.2), 3.0)
    *_, baseline, guide = closing_rows([classify, regress])
    assert baseline == ("baseline", "0.5000", "3.2000", "0.5000", "–", "–")
    assert guide == ("the guide", "0.725", "–", "0.72", "5", "–")

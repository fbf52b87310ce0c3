"""Shared by the tests of pages: metrics of runs, and the tables and code of a page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from abalone.metrics import metrics_of
from abalone.settings import load_settings
from abalone.stages.earlier_runs import EarlierRun
from abalone.stages.stage_page import StageFacts, stage_page

EPOCHS = {"best_epoch": 31, "reported_epoch": 31}


def final(task: str, score: float, baseline: float, rise: float | None = None) -> dict[str, float]:
    """Final metrics of a run with the same value for every score, and another for every baseline."""
    metrics = dict(EPOCHS)
    for name in metrics_of(task):
        metrics[f"test/{name}"] = score
        metrics[f"baseline/test_{name}"] = baseline
    if rise is not None:
        metrics["overfit/test_rise"] = rise
    return metrics


def page_of(stage: str, metrics: Mapping[str, float], **facts: Any) -> str:
    """The page of a run of a stage with its default settings."""
    known = {"settings": load_settings("encode" if stage == "tuned" else stage), "test_rows": 2089}
    ids = {"experiment_id": "7", "run_id": "a1b2", "model_id": "m-1"}
    return stage_page(StageFacts(stage=stage, metrics=metrics, **{**known, **ids, **facts}))


def answer(page: str) -> str:
    """The first paragraph."""
    return page.split("\n\n")[0]


def earlier(stage: str, score: float, rise: float | None = None) -> EarlierRun:
    """A run of a classifier to compare with."""
    return EarlierRun(stage, f"#/{stage}", final("classification", score, 0.5, rise))


def table(page: str) -> list[list[str]]:
    """The cells of the tables of a page."""
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line.startswith("|")]


def compile_code(page: str) -> None:
    """Raise a SyntaxError unless every code block of the page is Python."""
    blocks = page.split("```python\n")[1:]
    assert blocks
    for block in blocks:
        compile(block.split("```")[0], "page", "exec")

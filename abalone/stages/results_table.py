"""The table that compares results, in a terminal and on the page of ``main``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from abalone.metrics import METRICS
from abalone.stages.lessons import GUIDE_FIGURES
from abalone.stages.recorder import Result
from abalone.tracking.markdown import format_score

SHOWN = ("accuracy", "rmse", "roc_auc")
SHOWN_LABELS = tuple(METRICS[name].label_with_unit for name in SHOWN)
RESULTS_HEADER = ("stage", *SHOWN_LABELS, "epochs to best", "seconds")
BASELINE_PREFIX = "baseline/test_"
CLOSING_NOTE = (
    "Scores are of the test half. The baseline is the majority class of the training rows, or their mean. The guide "
    f"prints TPR 0.81 and FPR 0.36, which amount to an accuracy of {GUIDE_FIGURES['accuracy']}, an area of "
    f"{GUIDE_FIGURES['roc_auc']} under a curve of hard labels, and overfitting from epoch {GUIDE_FIGURES['epochs']} on."
)


def result_rows(results: Sequence[Result]) -> list[tuple[str, ...]]:
    """The cells under ``RESULTS_HEADER``, one row per result; a stage without metrics is shown as failed."""
    rows = []
    for result in results:
        epochs = "failed"
        if "best_epoch" in result.metrics:
            epochs = f"{result.metrics['best_epoch']:.0f}"
        scores = _cells(result.metrics, "test/")
        rows.append((result.stage, *scores, epochs, f"{result.seconds:.1f}"))
    return rows


def closing_rows(results: Sequence[Result]) -> list[tuple[str, ...]]:
    """The rows of all results, then the baselines and the figures that the guide prints."""
    baselines = {}
    for result in results:
        for name, value in result.metrics.items():
            baselines.setdefault(name, value)
    guide = [GUIDE_FIGURES.get(name, "–") for name in SHOWN]
    return [
        *result_rows(results),
        ("baseline", *_cells(baselines, BASELINE_PREFIX), "–", "–"),
        ("the guide", *guide, GUIDE_FIGURES["epochs"], "–"),
    ]


def _cells(metrics: Mapping[str, float], prefix: str) -> list[str]:
    """The cells of the scores in ``RESULTS_HEADER``."""
    return [format_score(metrics.get(f"{prefix}{name}")) for name in SHOWN]

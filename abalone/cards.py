"""The words on a run's page: Markdown from settings and scores, nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from abalone.config import STAGES, Experiment

HEADLINES = {
    "classification": ("accuracy", "balanced_accuracy", "roc_auc", "log_loss", "brier"),
    "regression": ("rmse", "mae", "r2"),
}
TABLE_HEADER = ("stage", "accuracy", "RMSE (rings)", "AUC", "epochs to best", "seconds")


def run_card(
    stage: str,
    experiment: Experiment,
    metrics: Mapping[str, float],
    model_uri: str,
    previous: tuple[str, Mapping[str, float]] | None,
) -> str:
    """The description of a stage run.

    Parameters
    ----------
    stage, experiment
        What was run.
    metrics : mapping
        Final scores, named ``name/split``, with ``baseline_name/split`` beside them, and ``best_epoch``.
    model_uri : str
        Address of the logged model.
    previous : (run id, metrics) or None
        The stage before this one, on the same rows, where such a run is known.

    Returns
    -------
    str
        Markdown.
    """
    lesson = STAGES[stage]
    names = HEADLINES[experiment.task]
    before = previous[1] if previous else {}
    columns = ["test score", "this run", "baseline"] + (["stage before"] if previous else [])
    rows = [
        [name, *(_number(source.get(key)) for source, key in _cells(name, metrics, before, bool(previous)))]
        for name in names
    ]
    baseline = "the training rows' majority class" if experiment.task == "classification" else "the training mean"
    earlier = f" The stage before is run `{previous[0]}`, on the same rows." if previous else ""
    return "\n\n".join([
        f"**{stage}** (guide section {lesson.guide}). {lesson.teaches}",
        markdown_table(columns, rows),
        f"The baseline is {baseline}.{earlier} Reported epoch: {metrics['reported_epoch']:.0f}; best by validation "
        f"loss: {metrics['best_epoch']:.0f} of {experiment.epochs}. Its scores stand one step after the last epoch "
        "in the charts.",
        "Load it as a PyTorch module, float32 `[n, 10]` in, "
        + ("logits `[n, 2]` (Young, Old) out" if experiment.task == "classification" else "rings `[n, 1]` out")
        + f":\n\n```python\nimport mlflow.pytorch\n\nmodel = mlflow.pytorch.load_model(\"{model_uri}\")\n```",
        f"or score raw rows (text `Sex`, seven measurements):\n\n```python\nimport mlflow.pyfunc\n\n"
        f"model = mlflow.pyfunc.load_model(\"{model_uri}\")\n```",
    ])  # fmt: skip


def stage_rows(results: Sequence[Any]) -> list[tuple[str, ...]]:
    """The cells of the comparison table, one row per result of ``run_stage``; a failed stage says so."""
    rows = []
    for result in results:
        scores = result.metrics
        cells = [_number(scores.get(f"{name}/test")) for name in ("accuracy", "rmse", "roc_auc")]
        epochs = f"{scores['best_epoch']:.0f}" if "best_epoch" in scores else "failed"
        rows.append((result.stage, *cells, epochs, f"{result.seconds:.1f}"))
    return rows


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose source is aligned too, so that it reads in a terminal."""
    widths = [max(len(str(line[i])) for line in (header, *rows)) for i in range(len(header))]
    rule = ["-" * width for width in widths]
    lines = [" | ".join(str(cell).ljust(w) for cell, w in zip(line, widths)) for line in (header, rule, *rows)]
    return "\n".join(f"| {line} |" for line in lines)


def _cells(name: str, metrics: Mapping, before: Mapping, compare: bool) -> list[tuple[Mapping, str]]:
    cells = [(metrics, f"{name}/test"), (metrics, f"baseline_{name}/test")]
    return cells + ([(before, f"{name}/test")] if compare else [])


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"

"""TODO stages.pages"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from abalone.evaluation.calibration import reliability_text
from abalone.settings import RINGS, STAGES, TUNED, RingsSettings, StageSettings
from abalone.tracking.markdown import format_score, markdown_table

HEADLINES = {
    "classification": ("accuracy", "balanced_accuracy", "roc_auc", "log_loss", "brier"),
    "regression": ("rmse", "mae", "r2"),
}
TABLE_HEADER = ("stage", "accuracy", "RMSE (rings)", "AUC", "epochs to best", "seconds")
CLOSING_NOTE = (
    "Test half. Baseline: the training rows' majority class, or their mean. The guide prints TPR 0.81 and FPR 0.36, "
    "which make 0.725 of the rows right, the area 0.72 of a curve of hard labels, and sees overfitting from epoch 5 on."
)


def run_card(
    stage: str,
    settings: StageSettings,
    metrics: Mapping[str, float],
    model_uri: str,
    previous: tuple[str, Mapping[str, float]] | None,
) -> str:
    """The description of a stage run.

    Parameters
    ----------
    stage, settings
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
    lesson = STAGES.get(stage, TUNED)
    names = HEADLINES[settings.task]
    before = previous[1] if previous else {}
    columns = ["test score", "this run", "baseline"] + (["stage before"] if previous else [])
    rows = [
        [name, *(format_score(source.get(key)) for source, key in _cells(name, metrics, before, bool(previous)))]
        for name in names
    ]
    baseline = "the training rows' majority class" if settings.task == "classification" else "the training mean"
    earlier = f" The stage before is run `{previous[0]}`, on the same rows." if previous else ""
    return "\n\n".join([
        f"**{stage}** ({f'guide section {lesson.guide}' if stage in STAGES else lesson.guide}). {lesson.teaches} "
        f"Test: {_headline(settings.task, metrics, before)}.",
        markdown_table(columns, rows),
        f"The baseline is {baseline}.{earlier} Reported epoch: {metrics['reported_epoch']:.0f}; best by validation "
        f"loss: {metrics['best_epoch']:.0f} of {settings.epochs}. Its scores stand one step after the last epoch "
        "in the charts.",
        "Load it as a PyTorch module, float32 `[n, 10]` in, "
        + ("logits `[n, 2]` (Young, Old) out" if settings.task == "classification" else "rings `[n, 1]` out")
        + f":\n\n```python\nimport mlflow.pytorch\n\nmodel = mlflow.pytorch.load_model(\"{model_uri}\")\n```",
        f"or score raw rows (text `Sex`, seven measurements):\n\n```python\nimport mlflow.pyfunc\n\n"
        f"model = mlflow.pyfunc.load_model(\"{model_uri}\")\n```",
    ])  # fmt: skip


def _headline(task: str, metrics: Mapping[str, float], before: Mapping[str, float]) -> str:
    """The first score of a task beside those that it is to be held against; pages show little else unless unfolded."""
    name, *_ = HEADLINES[task]
    others = {"baseline": metrics.get(f"baseline_{name}/test"), "stage before": before.get(f"{name}/test")}
    told = ", ".join(f"{whose} {format_score(value)}" for whose, value in others.items() if value is not None)
    return f"{name} {format_score(metrics[f'{name}/test'])} ({told})"


def rings_card(settings: RingsSettings, metrics: Mapping[str, float], model_uris: Mapping[str, str]) -> str:
    """The description of a run of ``rings``; ``model_uris`` are the addresses of its models by task."""
    names = [*HEADLINES["classification"], *HEADLINES["regression"]]
    shown = ("{}/val", "baseline_{}/val", "{}/test", "baseline_{}/test")
    rows = [[name, *(format_score(metrics.get(key.format(name))) for key in shown)] for name in names]
    fits = (
        "Validation scores, which promotion sees, are of a fit on the training rows. The models logged here, and the "
        "test scores, are of a second fit with the same settings on training and validation rows."
        if settings.refit
        else "One fit on the training rows: it has the scores, and its models are logged here."
    )
    loading = "\n".join(f'model = mlflow.pytorch.load_model("{uri}")  # {task}' for task, uri in model_uris.items())
    scoring = "\n".join(f'model = mlflow.pyfunc.load_model("{uri}")  # {task}' for task, uri in model_uris.items())
    return "\n\n".join([
        f"**rings** ({RINGS.guide}). {RINGS.teaches} "
        f"Test: {'; '.join(_headline(task, metrics, {}) for task in HEADLINES)}.",
        markdown_table(["score", "validation", "baseline", "test", "baseline"], rows),
        f"{fits} Baselines are the majority class and the mean of the rows of each fit. The lowest validation loss was "
        f"at epoch {metrics['best_epoch']:.0f} of {settings.epochs}; the last one is reported, since the weights are "
        "an average over the steps.",
        reliability_text(metrics),
        "`importance.png` says what the predictions of the validation rows lose with a column, "
        "`partial_dependence.png` how the predicted age goes with a measurement while the others stay.",
        "Load a model as a PyTorch module, float32 `[n, 10]` in, logits `[n, 2]` (Young, Old) or rings `[n, 1]` out:"
        f"\n\n```python\nimport mlflow.pytorch\n\n{loading}\n```",
        f"or score raw rows (text `Sex`, seven measurements):\n\n```python\nimport mlflow.pyfunc\n\n{scoring}\n```",
    ])  # fmt: skip


def stage_rows(results: Sequence[Any]) -> list[tuple[str, ...]]:
    """The cells of the comparison table, one row per result of ``run_stage``; a failed stage says so."""
    rows = []
    for result in results:
        scores = result.metrics
        cells = [format_score(scores.get(f"{name}/test")) for name in ("accuracy", "rmse", "roc_auc")]
        epochs = f"{scores['best_epoch']:.0f}" if "best_epoch" in scores else "failed"
        rows.append((result.stage, *cells, epochs, f"{result.seconds:.1f}"))
    return rows


def closing_rows(results: Sequence[Any]) -> list[tuple[str, ...]]:
    """The rows of all results, and beneath them the baselines and the figures that the guide prints."""
    baselines = {
        name: value for result in reversed(results) for name, value in result.metrics.items() if "baseline" in name
    }
    cells = [format_score(baselines.get(f"baseline_{name}/test")) for name in ("accuracy", "rmse", "roc_auc")]
    return [*stage_rows(results), ("baseline", *cells, "–", "–"), ("the guide", "0.725", "–", "0.72", "5", "–")]


def _cells(name: str, metrics: Mapping, before: Mapping, compare: bool) -> list[tuple[Mapping, str]]:
    cells = [(metrics, f"{name}/test"), (metrics, f"baseline_{name}/test")]
    return cells + ([(before, f"{name}/test")] if compare else [])

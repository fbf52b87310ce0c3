"""The pages of stage runs, and the table that compares their results, in Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from abalone.evaluation.calibration import reliability_text
from abalone.settings import METRICS, RINGS, STAGES, TUNED, RingsSettings, StageSettings
from abalone.stages.recorder import Result
from abalone.tracking.markdown import format_score, markdown_table

PAGE_METRICS = {
    "classification": ("accuracy", "balanced_accuracy", "roc_auc", "log_loss", "brier"),
    "regression": ("rmse", "mae", "r2"),
}
RESULTS_HEADER = (
    "stage",
    METRICS["accuracy"].label_with_unit,
    METRICS["rmse"].label_with_unit,
    METRICS["roc_auc"].label_with_unit,
    "epochs to best",
    "seconds",
)
CLOSING_NOTE = (
    "Scores are of the test half. The baseline is the majority class of the training rows, or their mean. The guide "
    "prints TPR 0.81 and FPR 0.36, which amount to 0.725 of the rows right, an area of 0.72 under a curve of hard "
    "labels, and overfitting from epoch 5 on."
)


def stage_page(
    stage: str,
    settings: StageSettings,
    metrics: Mapping[str, float],
    model_uri: str,
    previous: tuple[str, Mapping[str, float]] | None,
) -> str:
    """The description of a stage's run.

    Parameters
    ----------
    stage : str
        Name of the stage, or ``tuned``.
    settings : StageSettings
    metrics : mapping
        Final metrics such as ``test/accuracy`` and ``baseline/test_accuracy``, ``best_epoch`` and ``reported_epoch``.
    model_uri : str
        Address of the logged model.
    previous : (run id, metrics) or None
        A run of the stage before that can be compared with this one.

    Returns
    -------
    str
        Markdown.
    """
    if previous is None:
        metrics_before = None
        sentence_before = ""
    else:
        run_before, metrics_before = previous
        sentence_before = f" The stage before is run `{run_before}`, on the same rows."
    if settings.task == "classification":
        baseline = "the majority class of the training rows"
        output = "logits `[n, 2]` (Young, Old)"
    else:
        baseline = "the training mean"
        output = "rings `[n, 1]`"
    lesson = STAGES.get(stage, TUNED)
    section = f"guide section {lesson.guide}" if stage in STAGES else lesson.guide
    paragraphs = [
        f"**{stage}** ({section}). {lesson.teaches} Test: {_headline(settings.task, metrics, metrics_before)}.",
        _score_table(settings.task, metrics, metrics_before),
        f"The baseline is {baseline}.{sentence_before} Reported epoch: {metrics['reported_epoch']:.0f}; best by "
        f"validation loss: {metrics['best_epoch']:.0f} of {settings.epochs}. The charts show the scores of the "
        "reported epoch one step after the last epoch.",
        f"Load it as a PyTorch module, float32 `[n, 10]` in, {output} out:",
        _loading_code("pytorch", [f'model = mlflow.pytorch.load_model("{model_uri}")']),
        "or score raw rows (text `Sex`, seven measurements):",
        _loading_code("pyfunc", [f'model = mlflow.pyfunc.load_model("{model_uri}")']),
    ]
    return "\n\n".join(paragraphs)


def rings_page(settings: RingsSettings, metrics: Mapping[str, float], model_uris: Mapping[str, str]) -> str:
    """The description of a run of ``rings``.

    Parameters
    ----------
    settings : RingsSettings
    metrics : mapping
        As for ``stage_page``, of both tasks.
    model_uris : mapping of task to str
        Addresses of the logged models.

    Returns
    -------
    str
        Markdown.
    """
    if settings.refit:
        fits = (
            "Validation scores, by which promotion decides, come from a fit on the training rows. The logged models "
            "and the test scores come from a second fit, with the same settings, on training and validation rows."
        )
    else:
        fits = "One fit on the training rows gave all scores and the logged models."
    headlines = [_headline(task, metrics, None) for task in PAGE_METRICS]
    as_modules = []
    as_scorers = []
    for task, uri in model_uris.items():
        as_modules.append(f'model = mlflow.pytorch.load_model("{uri}")  # {task}')
        as_scorers.append(f'model = mlflow.pyfunc.load_model("{uri}")  # {task}')
    paragraphs = [
        f"**rings** ({RINGS.guide}). {RINGS.teaches} Test: {'; '.join(headlines)}.",
        _rings_score_table(metrics),
        f"{fits} Baselines are the majority class and the mean of the rows of each fit. The lowest validation loss was "
        f"at epoch {metrics['best_epoch']:.0f} of {settings.epochs}; the last epoch is reported, because the weights "
        "are an average over the steps.",
        reliability_text(metrics),
        "`importance.png` shows how much worse the predictions for the validation rows become when a column is "
        "shuffled, `partial_dependence.png` how the predicted age changes with one measurement while the others stay.",
        "Load a model as a PyTorch module, float32 `[n, 10]` in, logits `[n, 2]` (Young, Old) or rings `[n, 1]` out:",
        _loading_code("pytorch", as_modules),
        "or score raw rows (text `Sex`, seven measurements):",
        _loading_code("pyfunc", as_scorers),
    ]
    return "\n\n".join(paragraphs)


def _headline(task: str, metrics: Mapping[str, float], metrics_before: Mapping[str, float] | None) -> str:
    """The first test score with those to compare it with; the UI shows little else of a page until it is unfolded."""
    name = PAGE_METRICS[task][0]
    compared = []
    baseline = metrics.get(f"baseline/test_{name}")
    if baseline is not None:
        compared.append(f"baseline {format_score(baseline)}")
    before = (metrics_before or {}).get(f"test/{name}")
    if before is not None:
        compared.append(f"stage before {format_score(before)}")
    return f"{name} {format_score(metrics[f'test/{name}'])} ({', '.join(compared)})"


def _score_table(task: str, metrics: Mapping[str, float], metrics_before: Mapping[str, float] | None) -> str:
    header = ["test score", "this run", "baseline"]
    if metrics_before is not None:
        header.append("stage before")
    rows = []
    for name in PAGE_METRICS[task]:
        row = [name, format_score(metrics.get(f"test/{name}")), format_score(metrics.get(f"baseline/test_{name}"))]
        if metrics_before is not None:
            row.append(format_score(metrics_before.get(f"test/{name}")))
        rows.append(row)
    return markdown_table(header, rows)


def _rings_score_table(metrics: Mapping[str, float]) -> str:
    rows = []
    for names in PAGE_METRICS.values():
        for name in names:
            row = [name]
            for part in ("val", "test"):
                row.append(format_score(metrics.get(f"{part}/{name}")))
                row.append(format_score(metrics.get(f"baseline/{part}_{name}")))
            rows.append(row)
    return markdown_table(["score", "validation", "baseline", "test", "baseline"], rows)


def _loading_code(flavor: str, statements: Sequence[str]) -> str:
    code = "\n".join(statements)
    return f"```python\nimport mlflow.{flavor}\n\n{code}\n```"


def result_rows(results: Sequence[Result]) -> list[tuple[str, ...]]:
    """The cells under ``RESULTS_HEADER``, one row per result; a stage without metrics is shown as failed."""
    rows = []
    for result in results:
        epochs = "failed"
        if "best_epoch" in result.metrics:
            epochs = f"{result.metrics['best_epoch']:.0f}"
        rows.append((result.stage, *_result_scores(result.metrics), epochs, f"{result.seconds:.1f}"))
    return rows


def closing_rows(results: Sequence[Result]) -> list[tuple[str, ...]]:
    """The rows of all results, then the baselines and the figures that the guide prints."""
    baselines = {}
    for result in results:
        for name, value in result.metrics.items():
            if name.startswith("baseline_"):
                baselines.setdefault(name.removeprefix("baseline_"), value)
    return [
        *result_rows(results),
        ("baseline", *_result_scores(baselines), "–", "–"),
        ("the guide", "0.725", "–", "0.72", "5", "–"),
    ]


def _result_scores(metrics: Mapping[str, float]) -> list[str]:
    """The cells of the three scores in ``RESULTS_HEADER``."""
    return [format_score(metrics.get(f"test/{name}")) for name in ("accuracy", "rmse", "roc_auc")]

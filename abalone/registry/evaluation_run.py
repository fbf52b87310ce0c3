"""``evaluate``: score both champions on a labelled file, as a tracked run that trains nothing.

The run has no tag ``task`` and no fingerprint of a split, so promotion never takes it for a candidate and never lets it
define the current split.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from abalone.data.labels import is_old
from abalone.data.origin import origin
from abalone.data.reading import Dataset, read
from abalone.evaluation.calibration import calibration_error, reliability
from abalone.evaluation.figures import (
    confusion_matrix,
    predicted_actual,
    reliability_diagram,
    residuals,
    roc_curve,
)
from abalone.evaluation.population import population_figure
from abalone.registry.champion_evaluation import WORSE, Evaluation, evaluate_champion
from abalone.registry.evaluation_page import evaluation_page, evaluation_text, version_line
from abalone.registry.versions import RegistryClient
from abalone.settings import MODEL_KINDS, REGISTERED_MODELS, TASKS, as_text
from abalone.tracking.addresses import find_run_path
from abalone.tracking.run_logging import (
    DESCRIPTION_TAG,
    Scores,
    environment_tags,
    log_batch,
    log_dataset,
    log_files,
    log_params,
)
from abalone.tracking.runs import RunOptions, how_to_browse, tracked_run

EVALUATION_TAG = "evaluation"  # of a version: the newest verdict
LINE_START = "[Evaluated on "
SHOWN_LINES = 3  # on the page of a version, which holds 5,000 characters in PostgreSQL


def evaluate(
    source: str,
    say: Callable[[str], None],
    *,
    units: str = "file",
    target: str = "auto",
    fail_if_worse: bool = False,
    options: RunOptions = RunOptions(),
) -> list[Evaluation]:
    """Score both champions on a labelled file, and say whether they are still as good as promised.

    Each version gets a tag with the verdict and a line in its description.

    Parameters
    ----------
    source, units, target : str
        File as ``read`` takes it.
    say : callable
        Takes the verdicts, in Markdown.
    fail_if_worse : bool
        Recorded as a parameter; the command's exit status follows it.
    options : RunOptions
        Where the run is filed.

    Returns
    -------
    list of Evaluation
        One per task.

    Raises
    ------
    UserError
        If the file or a champion cannot be used; no version is marked then.
    """
    with tracked_run("evaluate", {"stage": "evaluate"}, options) as run_id:
        given = {"data": source, "units": units, "target": target, "fail_if_worse": as_text(fail_if_worse)}
        log_params(run_id, given)
        dataset = read(source, units, target)
        log_dataset(run_id, dataset, {"evaluation": np.arange(len(dataset.frame))}, origin(dataset))
        evaluations = [evaluate_champion(task, dataset) for task in TASKS]
        _log(run_id, evaluations, dataset)
        for evaluation in evaluations:
            _mark_version(evaluation, dataset, run_id)
        say(f"{evaluation_text(evaluations, dataset)}\n\n{how_to_browse(run_id)}")
    return evaluations


def is_any_worse(evaluations: Sequence[Evaluation]) -> bool:
    """Whether a champion is worse than promised, beyond the noise."""
    return any(evaluation.verdict == WORSE for evaluation in evaluations)


def evaluation_object(evaluation: Evaluation) -> dict[str, Any]:
    """What programs are told of an evaluation: all but its rows."""
    return {
        "version": evaluation.version,
        "verdict": evaluation.verdict,
        "rows": evaluation.rows,
        "left_out": evaluation.left_out,
        "outside_training_range": evaluation.outside.outside,
        "scores": evaluation.scores,
        "intervals": evaluation.intervals,
        "promised": evaluation.promised,
        "promised_rows": evaluation.promised_rows,
        "differences": evaluation.differences,
        "baseline": evaluation.baseline,
        "shifts": evaluation.shifts,
    }


def _log(run_id: str, evaluations: Sequence[Evaluation], dataset: Dataset) -> None:
    """Write metrics, figures, tables, page and tags to the run."""
    figures = {}
    tables = {}
    metrics: dict[str, float] = {}
    tags = environment_tags()
    for evaluation in evaluations:
        kind = MODEL_KINDS[evaluation.task]
        tables[f"predictions/{kind}.json"] = evaluation.table.rename_axis("row").reset_index()
        for name, figure in _figures(evaluation).items():
            figures[f"{kind}/{name}"] = figure
        metrics |= _metrics(evaluation)
        tags[f"champion_{evaluation.task}"] = str(evaluation.version)
        tags[f"verdict_{evaluation.task}"] = evaluation.verdict
    page = evaluation_page(evaluations, dataset, {name: find_run_path(run_id, f"artifacts/{name}") for name in figures})
    tags |= log_files(run_id, texts={"evaluation.md": page}, figures=figures, tables=tables)
    tags[DESCRIPTION_TAG] = page
    log_batch(run_id, final=[Scores(metrics)], tags=tags)


def _metrics(evaluation: Evaluation) -> dict[str, float]:
    """Scores with their intervals, those of the baseline, and counts; the names of no stage's metrics."""
    kind = MODEL_KINDS[evaluation.task]
    metrics: dict[str, float] = {
        f"{kind}/rows": evaluation.rows,
        f"{kind}/left_out": evaluation.left_out,
        f"{kind}/outside_training_range": evaluation.outside.outside,
    }
    for name, value in evaluation.scores.items():
        metrics[f"evaluation/{name}"] = value
    for name, (low, high) in evaluation.intervals.items():
        metrics[f"evaluation/{name}_low"] = low
        metrics[f"evaluation/{name}_high"] = high
    for name, value in evaluation.baseline.items():
        metrics[f"baseline/evaluation_{name}"] = value
    for shift in evaluation.shifts:
        metrics[f"{kind}/ks_{shift.name}"] = shift.ks
        metrics[f"{kind}/psi_{shift.name}"] = shift.psi
    return metrics


def _figures(evaluation: Evaluation) -> Mapping[str, Any]:
    """Figures of the predictions and of the population, by file name; none without rows."""
    if not evaluation.rows:
        return {}
    title = f"{REGISTERED_MODELS[evaluation.task]} {evaluation.version}"
    rings = evaluation.rings
    predicted = evaluation.predicted
    rows = evaluation.table
    differ = f"{title}: the rows of the file beside those that it was fitted on"
    figures = {"population.png": population_figure(evaluation.training, rows, evaluation.shifts, differ)}
    if evaluation.task == "regression":
        figures["predicted_actual.png"] = predicted_actual(rings, predicted, title, "evaluated")
        figures["residuals.png"] = residuals(rings, predicted, title)
        return figures
    old = is_old(rings)
    figures["confusion.png"] = confusion_matrix(old, predicted, title, "evaluated")
    calibration = f"{title}: expected calibration error {calibration_error(old, predicted):.3f}"
    figures["reliability.png"] = reliability_diagram({"evaluated": reliability(old, predicted)}, calibration)
    if 0 < old.sum() < len(old):
        figures["roc.png"] = roc_curve(old, predicted, title, "evaluated")
    return figures


def _mark_version(evaluation: Evaluation, dataset: Dataset, run_id: str) -> None:
    """Give the version a tag with the verdict, and its description a line; the newest lines stay."""
    client = RegistryClient()
    name = REGISTERED_MODELS[evaluation.task]
    version = client.get_model_version(name, str(evaluation.version))
    line = version_line(evaluation, dataset.path.name, time.strftime("%Y-%m-%d"), find_run_path(run_id))
    paragraphs = (version.description or "").split("\n\n")
    earlier = [paragraph for paragraph in paragraphs if paragraph.startswith(LINE_START)]
    others = [paragraph for paragraph in paragraphs if not paragraph.startswith(LINE_START)]
    lines = [*earlier, line][-SHOWN_LINES:]
    client.update_model_version(name, version.version, "\n\n".join([*others, *lines]).strip())
    verdict = f"{evaluation.verdict} ({evaluation.rows} rows of {dataset.path.name}, run {run_id})"
    client.set_model_version_tag(name, version.version, EVALUATION_TAG, verdict)

"""The page of a run of ``rings``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from abalone.evaluation.calibration import reliability_text
from abalone.metrics import METRICS
from abalone.settings import TASKS, RingsSettings
from abalone.stages.earlier_runs import EarlierRun
from abalone.stages.page_parts import (
    compare_accuracy,
    links_to_figures,
    links_to_views,
    loading_part,
    promotion_part,
    score_table,
)
from abalone.tracking.addresses import link, run_path
from abalone.tracking.markdown import data_part, format_score
from abalone.training.ring_schedule import COMPARED_FROM_ROWS

QUESTION = "What do all ten features, and a prediction of the whole distribution of rings, add to the guide's networks?"


@dataclass(frozen=True)
class RingsFacts:
    """The facts that the page of ``rings`` is written from.

    Parameters
    ----------
    settings : RingsSettings
    metrics : mapping
        As those of ``StageFacts``, of both tasks.
    epochs : int
        Epochs of the fit on the training rows.
    fitted_rows : int
        Number of rows that the logged models were fitted on.
    test_rows : int
        Number of test rows.
    experiment_id, run_id : str
    model_ids : mapping of task to id
        The logged models.
    compared : sequence of EarlierRun
        Runs of the guide's stages to compare with.
    understood : str
        How the data file was read.
    """

    settings: RingsSettings
    metrics: Mapping[str, float]
    epochs: int
    fitted_rows: int
    test_rows: int
    experiment_id: str
    run_id: str
    model_ids: Mapping[str, str]
    compared: Sequence[EarlierRun] = ()
    understood: str = ""


def rings_page(facts: RingsFacts) -> str:
    """The description of a run of ``rings``, in Markdown."""
    paragraphs = [
        _answer(facts),
        few_rows_text(facts.fitted_rows),
        _scores(facts.metrics),
        _fits(facts),
        reliability_text(facts.metrics),
        data_part(facts.understood),
        _what_to_look_at(facts),
        "**Next**: `tune` searches for better settings of the guide's networks; `promote` makes the best run champion.",
        promotion_part(facts.settings),
        loading_part(facts.experiment_id, facts.model_ids),
    ]
    return "\n\n".join(paragraph for paragraph in paragraphs if paragraph)


def _answer(facts: RingsFacts) -> str:
    sentences = [f"**{QUESTION}**"]
    for name, label, unit in (("accuracy", "Test accuracy", ""), ("rmse", "test RMSE", " rings")):
        score = facts.metrics[f"test/{name}"]
        text = f"{label} {format_score(score)}{unit}"
        for run in facts.compared:
            before = run.metrics.get(f"test/{name}")
            if before is None:
                continue
            text += f", against {format_score(before)} in {link(run.stage, run.path)}"
            if name == "accuracy":
                text += f": {compare_accuracy(score, before, facts.test_rows)}"
        sentences.append(text)
    question, accuracy, rmse = sentences
    return (
        f"{question} {accuracy}; {rmse}. One ensemble of {facts.settings.members} networks predicts the probability of "
        "each number of rings, and so answers both questions; the guide does not go this far."
    )


def few_rows_text(rows: int) -> str:
    """Say that a model was fitted on fewer rows than ``rings`` was compared on; empty with enough of them."""
    if rows >= COMPARED_FROM_ROWS:
        return ""
    return (
        f"Fitted on {rows} rows. With fewer than {COMPARED_FROM_ROWS}, rings was not compared with simpler models "
        "(docs/results.md), and a linear model may be better."
    )


def _scores(metrics: Mapping[str, float]) -> str:
    columns = {}
    for part, title in (("val", "validation"), ("test", "test")):
        columns[title] = (metrics, f"{part}/")
        columns[f"baseline, {title}"] = (metrics, f"baseline/{part}_")
    return score_table(columns, list(METRICS))


def _fits(facts: RingsFacts) -> str:
    if facts.settings.refit:
        fits = (
            "Validation scores, by which promotion decides, come from a fit on the training rows. The logged models "
            "and the test scores come from a second fit, with the same settings, on training and validation rows."
        )
    else:
        fits = "One fit on the training rows gave all scores and the logged models."
    return (
        f"{fits} RMSE and R² score the mean of the predicted distribution, and MAE its median: the best answers for a "
        "squared and for an absolute error. Baselines are the majority class and the mean of the rows of each fit. The "
        f"lowest validation loss was at epoch {facts.metrics['best_epoch']:.0f} of {facts.epochs}; the last epoch is "
        "reported, because the weights are an average over the steps."
    )


def _what_to_look_at(facts: RingsFacts) -> str:
    def file(text: str, name: str) -> str:
        return link(text, run_path(facts.experiment_id, facts.run_id, f"artifacts/{name}"))

    figures = [figure for task in TASKS for figure in links_to_figures(task, facts.experiment_id, facts.run_id)]
    return (
        f"**Look at** {file('importance', 'importance.png')} (how much worse the predictions for the validation rows "
        "become when a column is shuffled), "
        f"{file('partial dependence', 'partial_dependence.png')} (how the predicted age changes with one measurement "
        f"while the others stay), {file('reliability', 'reliability.png')}, {', '.join(figures)}; beside the other "
        f"runs: {', '.join(links_to_views(TASKS, facts.experiment_id))}."
    )

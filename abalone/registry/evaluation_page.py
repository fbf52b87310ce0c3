"""What an evaluation says: on its page, in a terminal, and in a line on the page of the version."""

from __future__ import annotations

from collections.abc import Sequence

from abalone.data.reading import Dataset
from abalone.evaluation.population import expected_index
from abalone.metrics import METRICS
from abalone.registry.champion_evaluation import FEWEST_ROWS, TOO_FEW, Evaluation
from abalone.registry.promoted_run import age_table
from abalone.settings import REGISTERED_MODELS, SELECTION
from abalone.tracking.addresses import Naming, link, text_only, version_path
from abalone.tracking.markdown import format_score, markdown_table

LABELS = {
    "ece": "calibration error",
    "bias": "mean error, or bias (rings)",
    "coverage80": "animals in their interval (of 80 %)",
}
SCORE_HEADER = ("score", "this file", "95 % interval", "promised", "baseline")
SHIFT_HEADER = ("column", "KS", "p", "PSI")
LEGEND = (
    "*Promised* are the scores on the test rows of the champion's own run. The *baseline* gives every animal the same "
    "answer, from the rows that the champion was fitted on. A champion is worse if the whole interval is worse than "
    "the promise. It holds if the interval reaches the promise and is better than the baseline. Otherwise, and with "
    f"fewer than {FEWEST_ROWS} rows, there are too few rows to say. Nothing was trained."
)


def evaluation_page(evaluations: Sequence[Evaluation], dataset: Dataset) -> str:
    """Return the description of an evaluation's run, in Markdown: the verdicts, then the numbers behind them."""
    file = dataset.path.name
    parts = [" ".join(verdict_sentence(evaluation, file, link) for evaluation in evaluations), LEGEND]
    if dataset.understood:
        as_code = dataset.understood.replace("`", "'")
        parts.append(f"Data: `{as_code}`")
    for place, evaluation in enumerate(evaluations):
        parts += _champion_part(evaluation)
        if evaluation.shifts not in [earlier.shifts for earlier in evaluations[:place]]:
            parts.append(_shift_part(evaluation))
    return "\n\n".join(part for part in parts if part)


def evaluation_text(evaluations: Sequence[Evaluation], dataset: Dataset) -> str:
    """Return what a terminal shows: the verdict on each champion and its scores."""
    parts = [dataset.understood]
    for evaluation in evaluations:
        sentence = verdict_sentence(evaluation, dataset.path.name, text_only)
        parts += [f"### {evaluation.task}", f"{sentence} {evaluation.outside.sentence()}", _score_table(evaluation)]
    return "\n\n".join(part for part in parts if part)


def verdict_sentence(evaluation: Evaluation, file: str, named: Naming) -> str:
    """Say in one sentence whether a champion is still as good as promised.

    Parameters
    ----------
    evaluation : Evaluation
    file : str
        Name of the file.
    named : callable
        ``link`` for a page, ``text_only`` for a terminal.
    """
    name = REGISTERED_MODELS[evaluation.task]
    version = named(f"version {evaluation.version}", version_path(name, evaluation.version))
    animals = f"{evaluation.rows} animals of {file}"
    if evaluation.left_out:
        animals += f" (without {evaluation.left_out} that it was fitted on)"
    if evaluation.verdict == TOO_FEW:
        return f"There are **{TOO_FEW}** whether {name} {version} still holds: {animals}; {_why_too_few(evaluation)}."
    return f"{name} {version} is **{evaluation.verdict}** on {animals}: {score_text(evaluation)}."


def score_text(evaluation: Evaluation) -> str:
    """Return the selection metric with its interval, and the promised one."""
    metric = SELECTION[evaluation.task]
    low, high = evaluation.intervals[metric]
    return (
        f"{METRICS[metric].label_with_unit} {evaluation.scores[metric]:.3f} (95 % interval {low:.3f} to {high:.3f}), "
        f"promised {evaluation.promised[metric]:.3f}"
    )


def _why_too_few(evaluation: Evaluation) -> str:
    metric = SELECTION[evaluation.task]
    if evaluation.rows < FEWEST_ROWS:
        return f"at least {FEWEST_ROWS} are needed"
    if metric not in evaluation.promised:
        return "its score on its own test rows is not known, because its run is gone"
    return f"{score_text(evaluation)}, and the interval reaches the baseline's {evaluation.baseline[metric]:.3f}"


def version_line(evaluation: Evaluation, file: str, day: str, run: str) -> str:
    """Return the line about an evaluation on the page of a version.

    Parameters
    ----------
    evaluation : Evaluation
    file, day : str
        Name of the file, and the date.
    run : str
        Path of the evaluation's run in the UI.
    """
    reason = _why_too_few(evaluation) if evaluation.verdict == TOO_FEW else score_text(evaluation)
    found = f"**{evaluation.verdict}** on {evaluation.rows} animals of {file}: {reason}."
    return f"{link(f'Evaluated on {day}', run)}: {found}"


def _champion_part(evaluation: Evaluation) -> list[str]:
    name = REGISTERED_MODELS[evaluation.task]
    title = f"### {name}, version {evaluation.version}"
    if not evaluation.rows:
        return [title, "It was fitted on every row of the file, so none is left to score."]
    return [
        title,
        _score_table(evaluation),
        age_table(evaluation.age_groups, "animals of the file"),
        evaluation.outside.sentence(),
    ]


def _score_table(evaluation: Evaluation) -> str:
    rows = []
    for name, value in evaluation.scores.items():
        label = METRICS[name].label_with_unit if name in METRICS else LABELS[name]
        interval = "–"
        if name in evaluation.intervals:
            low, high = evaluation.intervals[name]
            interval = f"{low:.4f} to {high:.4f}"
        others = (format_score(evaluation.promised.get(name)), format_score(evaluation.baseline.get(name)))
        rows.append((label, format_score(value), interval, *others))
    return markdown_table(SCORE_HEADER, rows) if rows else ""


def _shift_part(evaluation: Evaluation) -> str:
    """How the animals differ from the training rows, and how much of that is to be expected of so few rows."""
    if not evaluation.shifts:
        return ""
    rows = []
    for shift in evaluation.shifts:
        rows.append((shift.name, f"{shift.ks:.3f}", f"{shift.p_value:.2g}", f"{shift.psi:.3f}"))
    chance = expected_index(evaluation.training_rows, evaluation.rows)
    return (
        f"How these animals differ from the {evaluation.training_rows:,} that it was fitted on: the Kolmogorov-Smirnov "
        f"distance of each column with its p-value, and the population stability index (chance alone gives "
        f"{chance:.3f} with so many rows; by custom above 0.25 is another population). The training side of the "
        "measurements comes from the percentiles that the model keeps, within 0.01 of their true distribution.\n\n"
        f"{markdown_table(SHIFT_HEADER, rows)}"
    )

"""What an evaluation says: on its page, in a terminal, and in a line on the page of the version."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from abalone.data.reading import Dataset
from abalone.evaluation.population import expected_index
from abalone.metrics import METRICS
from abalone.model.columns import MEDIAN_OUTPUT
from abalone.registry.answer_scores import FEWEST_ROWS
from abalone.registry.champion_evaluation import HOLDS, TOO_FEW, Evaluation
from abalone.registry.promoted_run import age_table
from abalone.settings import MODEL_KINDS, REGISTERED_MODELS, SELECTION
from abalone.tracking.addresses import Naming, link, text_only, version_path
from abalone.tracking.file_sums import unchecked_text
from abalone.tracking.markdown import data_part, escape, format_score, markdown_table

LABELS = {
    "ece": "calibration error",
    "bias": "mean error, or bias (rings), of the mean",
    "coverage80": "animals in their interval (of 80 %)",
}
OTHER_SCORES = ("accuracy", "mae")  # that a verdict names beside the metric that selected the champion
WANTED_COVERAGE = 0.8
ANOTHER_POPULATION = 0.25  # stability index, by custom
SCORE_HEADER = ("score", "this file", "95 % interval", "promised", "baseline")
SHIFT_HEADER = ("column", "KS", "p", "PSI")
LEGEND = (
    "*Promised* are the scores on the test rows of the champion's own run. The *baseline* gives every animal the same "
    "answer, from the rows that the champion was fitted on. Both sets of rows are drawn again 1,000 times (bootstrap). "
    "A champion is worse if the 95 % interval of the difference to the promise is all on the worse side. It holds if "
    "not, and if the whole interval of this file is better than the baseline. Otherwise, and with fewer than "
    f"{FEWEST_ROWS} rows on either side, there are too few rows to say. Nothing was trained."
)


def evaluation_page(evaluations: Sequence[Evaluation], dataset: Dataset, figures: Mapping[str, str]) -> str:
    """Return the description of an evaluation's run, in Markdown: the verdicts, then the numbers behind them.

    Parameters
    ----------
    evaluations : sequence of Evaluation
    dataset : Dataset
        The file.
    figures : mapping of name to path
        Paths of the figures in the UI; a name begins with the kind of the champion: ``classifier/roc.png``.
    """
    file = escape(dataset.path.name)
    verdicts = [verdict_text(evaluation, file, link) for evaluation in evaluations]
    parts = [" ".join(verdicts), LEGEND, data_part(dataset.understood)]
    parts += [_unchecked(evaluation) for evaluation in evaluations]
    for place, evaluation in enumerate(evaluations):
        parts += _champion_part(evaluation, figures)
        if evaluation.shifts not in [earlier.shifts for earlier in evaluations[:place]]:
            parts.append(_shift_part(evaluation))
    return "\n\n".join(part for part in parts if part)


def evaluation_text(evaluations: Sequence[Evaluation], dataset: Dataset) -> str:
    """Return what a terminal shows: the verdict on each champion and its scores."""
    parts = [dataset.understood]
    for evaluation in evaluations:
        parts += [f"### {evaluation.task}", verdict_text(evaluation, dataset.path.name, text_only)]
        if evaluation.rows:
            parts += [evaluation.outside.sentence(), _score_table(evaluation)]
        parts.append(_unchecked(evaluation))
    return "\n\n".join(part for part in parts if part)


def _unchecked(evaluation: Evaluation) -> str:
    """Say that the champion's files could not be checked; empty if they were."""
    if evaluation.is_checked:
        return ""
    return unchecked_text(f"models:/{REGISTERED_MODELS[evaluation.task]}/{evaluation.version}")


def verdict_text(evaluation: Evaluation, file: str, named: Naming) -> str:
    """Say whether a champion is still as good as promised, and what the verdict does not say.

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
    sentence = f"{name} {version} is **{evaluation.verdict}** on {animals}: {score_text(evaluation)}."
    return f"{sentence} {caveat_sentence(evaluation)}".strip()


def caveat_sentence(evaluation: Evaluation) -> str:
    """Say what else is worse than promised, beyond the noise, and whether the animals differ; empty if nothing does."""
    found = [*_worse_scores(evaluation), *_bias_and_coverage(evaluation)]
    chance = expected_index(evaluation.training_rows, evaluation.rows)
    shifted = [shift.name for shift in evaluation.shifts if shift.psi - chance > ANOTHER_POPULATION]
    if shifted:
        columns = ", ".join(shifted)
        found.append(f"these animals are another population (PSI above {ANOTHER_POPULATION} in {columns})")
    if not found:
        return ""
    start = "But" if evaluation.verdict == HOLDS else "Besides,"
    return f"{start} {'; '.join(found)}."


def _worse_scores(evaluation: Evaluation) -> list[str]:
    found = []
    for name in OTHER_SCORES:
        if name not in evaluation.differences:
            continue
        low, high = evaluation.differences[name]
        is_worse = high < 0 if METRICS[name].greater_is_better else low > 0
        if is_worse:
            label = METRICS[name].label_with_unit
            found.append(f"its {label} is {evaluation.scores[name]:.3f} instead of {evaluation.promised[name]:.3f}")
    return found


def _bias_and_coverage(evaluation: Evaluation) -> list[str]:
    found = []
    if _is_further("bias", 0, evaluation):
        bias = evaluation.scores["bias"]
        way = "many" if bias > 0 else "few"
        found.append(f"it predicts {abs(bias):.2f} rings too {way} (promised {evaluation.promised['bias']:+.2f})")
    if _is_further("coverage80", WANTED_COVERAGE, evaluation):
        held = 100 * evaluation.scores["coverage80"]
        found.append(f"its interval holds {held:.0f} % of the animals instead of {100 * WANTED_COVERAGE:.0f} %")
    return found


def _is_further(name: str, wanted: float, evaluation: Evaluation) -> bool:
    """Whether a score is further from what is wanted than was promised, beyond the noise."""
    if name not in evaluation.differences:
        return False
    low, high = evaluation.differences[name]
    is_beyond_noise = low > 0 or high < 0
    further = abs(evaluation.scores[name] - wanted) > abs(evaluation.promised[name] - wanted)
    return is_beyond_noise and further


def score_text(evaluation: Evaluation) -> str:
    """Return the selection metric with its interval, and the promised one."""
    metric = SELECTION[evaluation.task]
    low, high = evaluation.intervals[metric]
    return (
        f"{METRICS[metric].label_with_unit} {evaluation.scores[metric]:.3f} (95 % interval {low:.3f} to {high:.3f}), "
        f"promised {evaluation.promised[metric]:.3f} on {evaluation.promised_rows} test rows"
    )


def _why_too_few(evaluation: Evaluation) -> str:
    metric = SELECTION[evaluation.task]
    if not evaluation.rows:
        return f"all {evaluation.left_out} rows of the file were used to fit it"
    if evaluation.rows < FEWEST_ROWS:
        return f"at least {FEWEST_ROWS} are needed"
    if not evaluation.promised_rows:
        return "its predictions of its own test rows are lost, so the noise of what it promised is not known"
    if evaluation.promised_rows < FEWEST_ROWS:
        return f"it promised a score on {evaluation.promised_rows} test rows, and at least {FEWEST_ROWS} are needed"
    return f"{score_text(evaluation)}; the interval reaches the baseline's {evaluation.baseline[metric]:.3f}"


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
    found = f"**{evaluation.verdict}** on {evaluation.rows} animals of {escape(file)}: {reason}."
    caveat = "" if evaluation.verdict == TOO_FEW else caveat_sentence(evaluation)
    return f"{link(f'Evaluated on {day}', run)}: {found} {caveat}".strip()


def _champion_part(evaluation: Evaluation, figures: Mapping[str, str]) -> list[str]:
    name = REGISTERED_MODELS[evaluation.task]
    title = f"### {name}, version {evaluation.version}"
    if not evaluation.rows:
        return [title, "It was fitted on every row of the file, so none is left to score."]
    links = []
    for name, path in figures.items():
        kind, _, file = name.partition("/")
        if kind == MODEL_KINDS[evaluation.task]:
            links.append(link(file.removesuffix(".png").replace("_", " "), path))
    return [
        title,
        _score_table(evaluation),
        age_table(evaluation.age_groups, "animals of the file"),
        evaluation.outside.sentence(),
        f"Figures: {', '.join(links)}.",
    ]


def _score_table(evaluation: Evaluation) -> str:
    rows = []
    for name, value in evaluation.scores.items():
        label = METRICS[name].label_with_unit if name in METRICS else LABELS[name]
        if name == "mae" and MEDIAN_OUTPUT in evaluation.table:
            label += ", of the median"
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

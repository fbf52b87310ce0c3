"""``docs/results.md``: the tables that compare ``rings`` with its peers, and what they call better, and what noise."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from abalone.claims.pages import claims_section
from abalone.claims.verdicts import Finding, interval
from abalone.metrics import METRICS, Metric
from abalone.settings import SELECTION
from abalone.tracking.markdown import markdown_table
from abalone.training.ring_schedule import COMPARED_FROM_ROWS
from benchmarks.measured_parts import Record
from benchmarks.quality_models import AGE_PARTS, DISTRIBUTION, OURS

COMMAND = "make bench-quality"
SECTIONS = {"classification": "Classification", "regression": "Regression", DISTRIBUTION: "Distribution of rings"}
SHOWN = {
    "classification": ("log_loss", "roc_auc", "accuracy"),
    "regression": ("rmse", "mae"),
    DISTRIBUTION: ("ring_log_score", "crps", "width_80", "width_90"),
}
JUDGED_BY = {**SELECTION, DISTRIBUTION: "ring_log_score"}
TABLE_METRICS = {
    **METRICS,
    "width_80": Metric(
        "width of 80 % intervals", unit="rings", greater_is_better=False, task="distribution", meaning=""
    ),
    "width_90": Metric(
        "width of 90 % intervals", unit="rings", greater_is_better=False, task="distribution", meaning=""
    ),
}
BETTER = "rings is better"
WORSE = "rings is worse"
NOISE = "within the noise"
MARKS = {BETTER: "", NOISE: " ≈", WORSE: " †"}  # after a score

Scores = Mapping[str, Mapping[str, np.ndarray]]  # by model, then by metric, "cpu" or "seed": [S]
Table = Mapping[str, Scores]  # by section
INTRODUCTION = """Scores on the test half, mean ± sd over the splits of seeds 0 to {last}; a peer that takes many times
the CPU time of `rings` has fewer *splits*. Every model except the guide's stages gets the same features, derived from
all ten columns. CatBoost, LightGBM, SVM, the linear models and NGBoost are tuned on the validation rows of every split
(three to five settings; early stopping for boosting rounds) and refitted on training and validation rows. The *fixed*
CatBoost has one setting, chosen on splits outside the table, and is the mean of eight fits. RealMLP and TabM have the
settings of pytabkit (RealMLP classifies without label smoothing, which spoils probabilities); RealMLP is the mean of
five fits on four fifths of the rows, each stopped by the last fifth; TabM, the mean of 32 networks in itself, is one
such fit. `rings` is fitted on the same rows with its default settings, which were chosen on validation rows
(`experiments/rings.toml`), those of seeds 0 to 9 in part; the guide's stages run as the guide defines them. *Advantage*
is how much better `rings` scores on the same splits, with the 95 % interval of Nadeau and Bengio (2003), which allows
for splits that share rows; *wins* counts the splits on which it is better. Advantage, wins and verdict use log loss for
classification, RMSE for regression and the log score for the distribution. The other scores are judged the same way: ≈
marks a difference within the noise, † a score on which `rings` is worse; on unmarked scores `rings` is better. CPU
seconds are for one split on one thread, tuning included; one fit of `rings` serves all three tables."""
NOTES = {
    "classification": "",
    "regression": """MAE is that of the median for `rings` and NGBoost, which know the distribution, and of the one
prediction for all others. (The mean of `rings`, which RMSE scores, has an MAE of {mae_of_mean:.4f}.)""",
    DISTRIBUTION: """The *ring log score* is minus the logarithm of the probability of the true number of rings, *CRPS*
the absolute error generalised to distributions. *Width* is highest minus lowest count, at the level at which
the intervals cover that share of the test rows. The 80 % intervals that a model of `rings` answers with cover
{coverage:.1%} of the test rows; by fifth of the predicted number of rings, the youngest first: {by_age}.""",
}
SIZES_INTRODUCTION = """The same test halves, with fewer training and validation rows: mean scores over the splits of
seeds 0 to {last}. After the score of a peer stands the advantage of `rings`, with its interval and marks as above. The
schedule of `rings` follows the number of rows; with fewer than {fewest}, its page and its output say that it was not
compared there."""


def collect(measured: Mapping[str, Sequence[Record]], names: Iterable[str]) -> Table:
    """Sort the records of some parts by section and model; each value becomes an array with one entry per split."""
    found: dict[str, dict[str, list[Record]]] = {section: {} for section in SECTIONS}
    for name in names:
        for record in measured[name]:
            found[record["section"]].setdefault(record["model"], []).append(record)
    return {section: {model: _arrays(rows) for model, rows in by_model.items()} for section, by_model in found.items()}


def _arrays(records: Sequence[Record]) -> dict[str, np.ndarray]:
    keys = [key for key in records[0] if key not in ("section", "model")]
    return {key: np.array([record[key] for record in records]) for key in keys}


@dataclass(frozen=True)
class Advantage:
    """How much better ``rings`` is by one metric.

    Parameters
    ----------
    gains : ndarray [S]
        Of each split; above 0 where ``rings`` is better.
    text : str
        Mean and interval.
    verdict : str
        Key of ``MARKS``.
    """

    gains: np.ndarray
    text: str
    verdict: str


def advantage(metric: str, found: Scores, name: str, test_to_train: float) -> Advantage:
    """Compare the scores of ``rings`` and a peer on the peer's splits; if the interval contains 0, it is noise.

    The interval is that of Nadeau and Bengio; ``test_to_train`` is the number of test rows per training row.
    """
    same_splits = np.isin(found[OURS]["seed"], found[name]["seed"])
    gains = found[OURS][metric][same_splits] - found[name][metric]
    if not TABLE_METRICS[metric].greater_is_better:
        gains = -gains
    low, high = interval(gains, 1 / len(gains) + test_to_train)
    if low > 0:
        verdict = BETTER
    elif high < 0:
        verdict = WORSE
    else:
        verdict = NOISE
    return Advantage(gains, f"{gains.mean():+.4f} ({low:+.4f} to {high:+.4f})", verdict)


def summary(section: str, found: Scores, test_to_train: float) -> list[tuple[str, ...]]:
    """One row per model, the best first: mean ± sd of each score, marked, and the comparison with ``rings``."""
    metric = JUDGED_BY[section]
    names = sorted(found, key=lambda name: found[name][metric].mean(), reverse=TABLE_METRICS[metric].greater_is_better)
    rows = []
    for name in names:
        measured = found[name]
        splits = str(len(measured["seed"]))
        cells = {key: f"{measured[key].mean():.4f} ± {measured[key].std(ddof=1):.4f}" for key in SHOWN[section]}
        cpu = f"{measured['cpu'].mean():.1f}"
        if name == OURS:
            rows.append((f"**{name}**", splits, *cells.values(), "", "", "", cpu))
            continue
        against = {key: advantage(key, found, name, test_to_train) for key in SHOWN[section]}
        for key, compared in against.items():
            cells[key] += MARKS[compared.verdict]
        gains = against[metric].gains
        wins = f"{(gains > 0).sum()} of {len(gains)}"
        rows.append((name, splits, *cells.values(), against[metric].text, wins, against[metric].verdict, cpu))
    return rows


def section_part(section: str, found: Scores, test_to_train: float) -> str:
    """Heading, table and notes of a section."""
    labels = [TABLE_METRICS[metric].label_with_unit for metric in SHOWN[section]]
    header = ("model", "splits", *labels, f"advantage, {JUDGED_BY[section]}", "wins", "verdict", "CPU s")
    table = markdown_table(header, summary(section, found, test_to_train))
    means = {key: values.mean() for key, values in found[OURS].items()}
    by_age = [f"{means[f'coverage_{part}']:.1%}" for part in range(1, AGE_PARTS + 1) if f"coverage_{part}" in means]
    note = NOTES[section].replace("\n", " ").format(**means, by_age=", ".join(by_age))
    return "\n\n".join(part for part in (f"### {SECTIONS[section]}", table, note) if part)


def sizes_table(sizes: Mapping[int, Table], test_rows: int) -> str:
    """One row per task and number of rows: the mean score of each model, and the advantage of ``rings``."""
    smallest = next(iter(sizes.values()))
    names = list(smallest["classification"])
    rows = []
    for section, metric in SELECTION.items():
        for known, table in sizes.items():
            cells = [_size_cell(metric, table[section], name, test_rows / known) for name in names]
            rows.append((TABLE_METRICS[metric].label_with_unit, f"{known:,}", *cells))
    return markdown_table(("score", "rows", *names), rows)


def _size_cell(metric: str, found: Scores, name: str, test_to_train: float) -> str:
    mean = f"{found[name][metric].mean():.4f}"
    if name == OURS:
        return mean
    compared = advantage(metric, found, name, test_to_train)
    return f"{mean}{MARKS[compared.verdict]}; {compared.text}"


def page(
    table: Table,
    sizes: Mapping[int, Table],
    claims: Sequence[Finding],
    test_rows: int,
    known_rows: int,
    date: datetime.date,
) -> str:
    """The whole of ``docs/results.md``.

    Parameters
    ----------
    table : mapping
        All models on whole splits, as ``collect`` returns them.
    sizes : mapping of int to mapping
        Some models by number of training and validation rows, ascending.
    claims : sequence of Finding
        The guide's claims.
    test_rows, known_rows : int
        Rows of the test half and of the other half.
    date : date
        Of the measurement.
    """
    seeds = len(table["classification"][OURS]["seed"])
    seeds_of_sizes = len(next(iter(sizes.values()))["classification"][OURS]["seed"])
    parts = [
        "# Results",
        f"Written by `{COMMAND}` on {date.isoformat()}; do not edit.",
        "## `rings` and its peers",
        INTRODUCTION.format(last=seeds - 1).replace("\n", " "),
    ]
    for section, found in table.items():
        parts.append(section_part(section, found, test_rows / known_rows))
    parts += [
        "### By number of rows",
        SIZES_INTRODUCTION.format(last=seeds_of_sizes - 1, fewest=COMPARED_FROM_ROWS).replace("\n", " "),
        sizes_table(sizes, test_rows),
        "![Log loss and RMSE by the number of rows, of rings and two peers](sizes.png)",
        "## The guide's claims",
        claims_section(claims),
    ]
    return "\n\n".join(parts) + "\n"

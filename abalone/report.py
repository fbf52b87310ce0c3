"""The guide's claims, each over many seeds, splits included: differences, intervals, verdicts, figures."""

from __future__ import annotations

import base64
import html
import io
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from abalone import plots, tracking
from abalone.cards import markdown_table
from abalone.config import Experiment, UserError
from abalone.dataset import Dataset, is_old, read, split
from abalone.evaluation import predict, scores
from abalone.features import encode
from abalone.population import fit_many

OVERFIT_AT = 5  # epoch after which the guide sees the test loss rise (section 2.c)
CURVED = ("encode", "regularize", "dropout")  # stages whose test loss is followed by epoch
HEADER = ("claim", "guide", "measured difference", "95 % interval", "corrected", "wins", "verdict")

Measured = Mapping[str, Mapping[str, np.ndarray]]


@dataclass(frozen=True)
class Claim:
    """A statement of the guide as a number that is above 0 where the statement holds.

    Parameters
    ----------
    words, section : str
        What the guide says, in our words, and where.
    effect : str
        What the number is, with its unit.
    measure : callable
        Measured stages to the number of each seed, [S].
    expected : float or None
        For a figure that the guide prints: that figure. The claim then is that a single split gives it.
    """

    words: str
    section: str
    effect: str
    measure: Callable[[Measured], np.ndarray]
    expected: float | None = None


def _gain(metric: str, stage: str, before: str) -> Callable[[Measured], np.ndarray]:
    return lambda measured: measured[stage][metric] - measured[before][metric]


def _rise(stages: Measured, stage: str) -> np.ndarray:
    curves = stages[stage]["loss/test"]  # [S, epochs]
    return curves[:, -1] - curves[:, min(OVERFIT_AT, curves.shape[1]) - 1]


CLAIMS = (
    Claim("Three layers beat two.", "1.a", "accuracy, deepen - classify", _gain("accuracy", "deepen", "classify")),
    Claim("Sex helps: accuracy.", "2.b", "accuracy, encode - deepen", _gain("accuracy", "encode", "deepen")),
    Claim("Sex helps: ranking.", "2.b", "AUC, encode - deepen", _gain("roc_auc", "encode", "deepen")),
    Claim(
        "The encoded network overfits after about five epochs.",
        "2.c",
        f"test loss (nats), last epoch - epoch {OVERFIT_AT}",
        lambda measured: _rise(measured, "encode"),
    ),
    Claim(
        "Weight decay helps against overfitting.",
        "3",
        "rise of the test loss (nats), encode - regularize",
        lambda measured: _rise(measured, "encode") - _rise(measured, "regularize"),
    ),
    Claim("Dropout makes it worse.", "3", "accuracy, regularize - dropout", _gain("accuracy", "regularize", "dropout")),
    Claim("True positive rate 0.81.", "2.c", "TPR of encode at 0.5", lambda m: m["encode"]["tpr"], 0.81),
    Claim("False positive rate 0.36.", "2.c", "FPR of encode at 0.5", lambda m: m["encode"]["fpr"], 0.36),
    Claim(
        "Area 0.72, as drawn from hard labels.",
        "2.c",
        "balanced accuracy of encode",
        lambda m: m["encode"]["balanced_accuracy"],
        0.72,
    ),
    Claim("Area 0.72, from probabilities.", "2.c", "AUC of encode", lambda m: m["encode"]["roc_auc"], 0.72),
)


@dataclass(frozen=True)
class Finding:
    """A claim judged.

    Parameters
    ----------
    values : ndarray [S]
        The number of each seed.
    mean, low, high : float
        Over the seeds, with the 95 % interval of the mean; for a printed figure, that of one split's value.
    corrected : (float, float) or None
        The interval of the mean that allows for splits that share rows.
    wins : int
        Seeds with a number above 0; for a printed figure, at or above it.
    verdict : str
        supported, not supported, or undecided.
    """

    claim: Claim
    values: np.ndarray
    mean: float
    low: float
    high: float
    corrected: tuple[float, float] | None
    wins: int
    verdict: str


def measure(experiments: Sequence[Experiment], names: Sequence[str], dataset: Dataset, seeds: int) -> Measured:
    """Train every stage on the splits of seeds 0 to S - 1, all in one population.

    Returns
    -------
    dict of stage to dict
        Test scores [S], ``tpr`` and ``fpr`` at the 0.5 threshold [S], and of ``CURVED`` ``loss/test`` [S, epochs].

    Raises
    ------
    UserError
        If a training diverges.
    """
    x, rings = encode(dataset.frame), dataset.frame["Rings"].to_numpy()
    splits = [split(dataset, seed) for seed in range(seeds)]
    untested = [replace(rows, test=rows.test[:0]) for rows in splits]
    given = [rows for name in names for rows in (splits if name in CURVED else untested)]
    all_experiments = [replace(e, seed=seed) for e in experiments for seed in range(seeds)]
    trained = fit_many(all_experiments, x, rings, given, train_curves=False)
    measured: dict[str, dict[str, list]] = {}
    for place, (experiment, result) in enumerate(zip(all_experiments, trained)):
        if isinstance(result, Exception):
            raise UserError(f"{names[place // seeds]}, seed {experiment.seed}: {result}")
        model, history = result
        test = splits[place % seeds].test
        predicted = predict(model, x[test])
        row = scores(experiment.task, rings[test], predicted)
        if names[place // seeds] in CURVED:
            row["loss/test"] = history.metrics["loss/test"]
        if experiment.task == "classification":
            old, called = is_old(rings[test]) == 1, predicted >= 0.5
            row |= {"tpr": called[old].mean(), "fpr": called[~old].mean()}
        for name, value in row.items():
            measured.setdefault(names[place // seeds], {}).setdefault(name, []).append(value)
    return {stage: {name: np.array(values) for name, values in of.items()} for stage, of in measured.items()}


def judge(claim: Claim, values: np.ndarray, test_to_train: float) -> Finding:
    """Say whether the numbers of the seeds support a claim.

    A difference is supported if the 95 % interval of its mean is above 0, not supported if it is below, else
    undecided. A printed figure is supported if it lies where 95 % of single splits lie.

    Parameters
    ----------
    claim : Claim
    values : ndarray [S]
    test_to_train : float
        Test rows per training row, for the interval corrected for splits that share rows (Nadeau & Bengio, 2003,
        Inference for the Generalization Error, Machine Learning 52).
    """
    mean = float(values.mean())
    if claim.expected is not None:
        low, high = interval(values, 1.0 + 1 / len(values))
        verdict = "supported" if low <= claim.expected <= high else "not supported"
        return Finding(claim, values, mean, low, high, None, int((values >= claim.expected).sum()), verdict)
    low, high = interval(values, 1 / len(values))
    verdict = "supported" if low > 0 else "not supported" if high < 0 else "undecided"
    corrected = interval(values, 1 / len(values) + test_to_train)
    return Finding(claim, values, mean, low, high, corrected, int((values > 0).sum()), verdict)


def interval(values: np.ndarray, variances: float, level: float = 0.95) -> tuple[float, float]:
    """Student's interval around the mean of ``values``; its half width is t * sd * sqrt(``variances``)."""
    from scipy.stats import t

    half = t.ppf(0.5 + level / 2, len(values) - 1) * values.std(ddof=1) * np.sqrt(variances)
    return float(values.mean() - half), float(values.mean() + half)


def findings(measured: Measured, test_to_train: float) -> list[Finding]:
    """Judge every claim."""
    return [judge(claim, claim.measure(measured), test_to_train) for claim in CLAIMS]


def table(found: Sequence[Finding]) -> list[tuple[str, ...]]:
    """The cells under ``HEADER``, one row per finding."""
    return [
        (
            f.claim.words,
            f.claim.section,
            f"{f.mean:{'+' if f.corrected else ''}.4f} ({f.claim.effect})",
            f"{f.low:.4f} to {f.high:.4f}",
            f"{f.corrected[0]:.4f} to {f.corrected[1]:.4f}" if f.corrected else "–",
            f"{f.wins} of {len(f.values)}",
            f.verdict if f.verdict != "undecided" else f"undecided at {len(f.values)} seeds",
        )
        for f in found
    ]


def figures(found: Sequence[Finding], measured: Measured) -> dict[str, Any]:
    """A figure per claim; for overfitting the band of test-loss curves over the seeds."""
    drawn = {}
    for number, f in enumerate(found, 1):
        if f.claim.section == "2.c" and "loss (nats)" in f.claim.effect:
            curves = {stage: measured[stage]["loss/test"] for stage in CURVED}
            drawn[f"claim_{number}.png"] = plots.curve_bands(curves, "loss/test (nats)", f.claim.words)
        else:
            reference = 0.0 if f.claim.expected is None else f.claim.expected
            drawn[f"claim_{number}.png"] = plots.seed_values(
                f.values, f.mean, f.low, f.high, reference, f.claim.effect, f.claim.words
            )
    return drawn


EXPLANATION = """Every stage was trained on the splits of {seeds} seeds; split, first weights and batch order all follow
the seed. A difference is that of two stages on the same split. *95 % interval* is Student's interval of the mean over
such splits of these rows; *corrected* is wider, as Nadeau and Bengio give it, since the splits share rows: it is the
one for another sample of shells. For a figure that the guide prints, the interval is where 95 % of single splits lie.
*Wins* counts the seeds in the claim's favour; for a printed figure, those at or above it."""


def markdown(found: Sequence[Finding], drawn: Mapping[str, Any]) -> str:
    """The whole report as one Markdown text, figures inside."""
    parts = ["# The guide's claims, measured", explain(found)]
    parts.append(markdown_table(HEADER, table(found)))
    parts += [f"## {f.claim.words}\n\n![{f.claim.effect}]({_data(figure)})" for f, figure in zip(found, drawn.values())]
    return "\n\n".join(parts) + "\n"


def page(found: Sequence[Finding], drawn: Mapping[str, Any]) -> str:
    """The whole report as one HTML page, figures inside."""
    cells = [[html.escape(cell) for cell in row] for row in (HEADER, *table(found))]
    head, *rows = cells
    lines = [f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows]
    explanation = re.sub(r"\*(.+?)\*", r"<em>\1</em>", explain(found))
    sections = [
        f"<h2>{html.escape(f.claim.words)}</h2><p>Guide section {f.claim.section}: <b>{f.verdict}</b>.</p>"
        f'<img alt="{html.escape(f.claim.effect)}" src="{_data(figure)}">'
        for f, figure in zip(found, drawn.values())
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>The guide\'s claims, measured</title><style>'
        "body{font:16px/1.5 sans-serif;max-width:70em;margin:2em auto;padding:0 1em}table{border-collapse:collapse}"
        "td,th{border-bottom:1px solid #ccc;padding:.3em .6em;text-align:left}img{max-width:100%}</style></head><body>"
        f"<h1>The guide's claims, measured</h1><p>{explanation}</p>"
        f"<table><tr>{''.join(f'<th>{cell}</th>' for cell in head)}</tr>{''.join(lines)}</table>"
        f"{''.join(sections)}</body></html>\n"
    )


def run_report(
    experiments: Mapping[str, Experiment], seeds: int, say: Callable[[str], None], **run_options: Any
) -> list[Finding]:
    """Measure the stages, judge the claims, and keep the report as a tracked run.

    Parameters
    ----------
    experiments : mapping of stage to Experiment
        Their ``data`` is the first one's.
    seeds : int
        How many, from 0.
    say : callable
        Takes a line of progress.
    **run_options
        As ``tracking.run`` takes them.
    """
    with tracking.run("report", {"stage": "report"}, **run_options) as run_id:
        dataset = read(next(iter(experiments.values())).data)
        began = time.process_time()
        measured = measure(list(experiments.values()), list(experiments), dataset, seeds)
        seconds = time.process_time() - began
        rows = split(dataset, 0)
        found = findings(measured, len(rows.test) / len(rows.train))
        drawn = figures(found, measured)
        cells = markdown_table(HEADER, table(found))
        texts = {"report.md": markdown(found, drawn), "report.html": page(found, drawn)}
        frame = pd.DataFrame(table(found), columns=HEADER)
        tags = tracking.log_files(run_id, texts=texts, figures=drawn, tables={"claims.json": frame})
        tags["mlflow.note.content"] = f"{cells}\n\n{explain(found)}\n\nThe whole report: *Artifacts*, `report.html`."
        tags |= {"dataset": dataset.sha256[:12]} | tracking.environment_tags()
        tracking.log_tags(run_id, tags)
        say(f"{cells}\n\n{len(experiments)} stages, {seeds} seeds: {seconds:.1f} CPU seconds of training and scoring")
    return found


def explain(found: Sequence[Finding]) -> str:
    """What the columns of the table mean."""
    return EXPLANATION.format(seeds=len(found[0].values)).replace("\n", " ")


def _data(figure: Any) -> str:
    content = io.BytesIO()
    figure.savefig(content, format="png")
    return "data:image/png;base64," + base64.b64encode(content.getvalue()).decode()

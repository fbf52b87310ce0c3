"""The guide's claims, each over many seeds, splits included: differences, intervals, verdicts, figures."""

from __future__ import annotations

import datetime
import html
import re
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from abalone import plots, tracking
from abalone.cards import markdown_table
from abalone.columns import OLD_FROM_RINGS
from abalone.config import STAGES, Experiment, UserError
from abalone.dataset import Dataset, is_old, read, split
from abalone.evaluation import predict, scores
from abalone.features import encode
from abalone.population import fit_many
from abalone.training import cpu_settings

OVERFIT_AT = 5  # epoch after which the guide sees the test loss rise (section 2.c)
CURVED = ("encode", "regularize")  # stages whose test loss by epoch a claim reads
HEADER = ("claim", "guide", "measured difference", "95 % interval", "corrected", "single splits", "wins", "verdict")
METRICS = {
    "accuracy": "accuracy", "roc_auc": "AUC", "log_loss": "log loss (nats)", "rmse": "RMSE (rings)",
    "rise": f"rise of the test loss after epoch {OVERFIT_AT} in nats", "lowest": "epoch of the lowest test loss",
    "tpr": "TPR at 0.5", "fpr": "FPR at 0.5", "balanced_accuracy": "balanced accuracy",
}  # fmt: skip
SHOWN = ("accuracy", "roc_auc", "log_loss", "rmse")  # of every stage

Measured = Mapping[str, Mapping[str, np.ndarray]]


@dataclass(frozen=True)
class Claim:
    """A statement of the guide about a difference that every seed gives.

    Parameters
    ----------
    words, section : str
        What the guide says, in our words, and where.
    metric, stage, before : str
        Which number of which stage, and the stage whose number is subtracted, if any.
    expected, of_split : float, bool
        Without such a stage: the guide's own figure, which is subtracted, and whether it is that of one split.
    """

    words: str
    section: str
    metric: str
    stage: str
    before: str = ""
    expected: float = 0.0
    of_split: bool = False

    @property
    def effect(self) -> str:
        """What the number is, with its unit."""
        return f"{METRICS[self.metric]}, {self.stage}" + (f" - {self.before}" if self.before else "")

    def differences(self, measured: Measured) -> np.ndarray:
        """Of each seed, [S]."""
        value = _number(measured[self.stage], self.metric)
        return value - (_number(measured[self.before], self.metric) if self.before else self.expected)


def _number(of: Mapping[str, np.ndarray], metric: str) -> np.ndarray:
    if metric == "lowest":
        return 1.0 + of["loss/test"].argmin(1)
    if metric == "rise":  # from a fixed epoch: from the lowest of the same curve it would never be below 0
        return of["loss/test"][:, -1] - of["loss/test"][:, :OVERFIT_AT][:, -1]
    return of[metric]


CLAIMS = (
    Claim("Three layers beat two", "1.a", "accuracy", "deepen", "classify"),
    Claim("Sex helps accuracy", "2.b", "accuracy", "encode", "deepen"),
    Claim("Sex helps ranking", "2.b", "roc_auc", "encode", "deepen"),
    Claim("The encoded network overfits", "2.c", "rise", "encode"),
    Claim("The rise begins after about five epochs", "2.c", "lowest", "encode", expected=OVERFIT_AT),
    Claim("Weight decay helps against overfitting", "3", "rise", "encode", "regularize"),
    Claim("Dropout makes it worse", "3", "accuracy", "regularize", "dropout"),
    Claim("True positive rate 0.81", "2.c", "tpr", "encode", expected=0.81, of_split=True),
    Claim("False positive rate 0.36", "2.c", "fpr", "encode", expected=0.36, of_split=True),
    Claim("Area 0.72, from hard labels", "2.c", "balanced_accuracy", "encode", expected=0.72, of_split=True),
    Claim("Area 0.72, from probabilities", "2.c", "roc_auc", "encode", expected=0.72, of_split=True),
)


@dataclass(frozen=True)
class Finding:
    """A claim judged.

    Parameters
    ----------
    values : ndarray [S]
        The difference of each seed.
    mean : float
    interval, corrected, single : (float, float)
        At 95 %: of the mean over splits of these rows; of the mean, allowing for splits that share rows; of one split.
    wins : int
        Seeds with a value above 0; where the guide gives a figure, at or above it.
    verdict : str
        supported, not supported, or undecided.
    """

    claim: Claim
    values: np.ndarray
    mean: float
    interval: tuple[float, float]
    corrected: tuple[float, float]
    single: tuple[float, float]
    wins: int
    verdict: str

    @property
    def told(self) -> str:
        """The verdict, and how far it reaches."""
        if self.claim.of_split:
            given = "a single split can give it" if self.verdict == "supported" else "single splits do not give it"
            return f"{self.verdict} ({given})"
        if self.verdict == "undecided":
            return f"undecided at {len(self.values)} seeds"
        here_only = np.prod(self.corrected) <= 0 < np.prod(self.interval)  # only the first one holds 0
        return self.verdict + (" on these rows; undecided for another sample" if here_only else "")


def train(experiments: Mapping[str, Experiment], dataset: Dataset, seeds: int) -> dict[str, list]:
    """Train every stage on the splits of seeds 0 to S - 1, all in one population.

    Returns
    -------
    dict of stage to list, S
        As ``fit_many`` gives them; the test loss by epoch only of ``CURVED``.
    """
    x, rings = encode(dataset.frame), dataset.frame["Rings"].to_numpy()
    splits = [split(dataset, seed) for seed in range(seeds)]
    untested = [replace(rows, test=rows.test[:0]) for rows in splits]
    given = [rows for stage in experiments for rows in (splits if stage in CURVED else untested)]
    members = [replace(experiment, seed=seed) for experiment in experiments.values() for seed in range(seeds)]
    results = fit_many(members, x, rings, given, train_curves=False)
    return {stage: results[place * seeds :][:seeds] for place, stage in enumerate(experiments)}


def measure(experiments: Mapping[str, Experiment], dataset: Dataset, trained: Mapping[str, Sequence]) -> Measured:
    """Score what ``train`` gave, each model on the test rows of its seed.

    Returns
    -------
    dict of stage to dict
        Test scores [S], ``tpr`` and ``fpr`` at the 0.5 threshold [S], and of ``CURVED`` ``loss/test`` [S, epochs].

    Raises
    ------
    UserError
        If a training diverged.
    """
    x, rings = encode(dataset.frame), dataset.frame["Rings"].to_numpy()
    tests = [split(dataset, seed).test for seed in range(max(map(len, trained.values())))]
    measured = {}
    for stage, results in trained.items():
        task, rows = experiments[stage].task, []
        for seed, (result, test) in enumerate(zip(results, tests)):
            if isinstance(result, Exception):
                raise UserError(f"{stage}, seed {seed}: {result}")
            model, history = result
            with cpu_settings():
                predicted = predict(model, x[test])
            row = scores(task, rings[test], predicted)
            if task == "classification":
                old, called = is_old(rings[test]) == 1, predicted >= 0.5
                row |= {"tpr": called[old].mean(), "fpr": called[~old].mean()}
            rows.append(row | ({"loss/test": history.metrics["loss/test"]} if stage in CURVED else {}))
        measured[stage] = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    return measured


def judge(claim: Claim, values: np.ndarray, test_to_train: float) -> Finding:
    """Say whether the differences of the seeds, [S], support a claim; ``EXPLANATION`` has the rules.

    ``test_to_train``, test rows per training row, is for the interval that allows for splits that share rows. Source:
    Nadeau & Bengio (2003), Inference for the Generalization Error, Machine Learning 52.
    """
    n = len(values)
    low, high = of_mean = interval(values, 1 / n)
    corrected, single = interval(values, 1 / n + test_to_train), interval(values, 1 / n + 1)
    if claim.expected:
        low, high = single if claim.of_split else of_mean
        verdict, wins = "supported" if low <= 0 <= high else "not supported", values >= 0
    else:
        verdict, wins = "supported" if low > 0 else "not supported" if high < 0 else "undecided", values > 0
    return Finding(claim, values, float(values.mean()), of_mean, corrected, single, int(wins.sum()), verdict)


def interval(values: np.ndarray, variances: float, level: float = 0.95) -> tuple[float, float]:
    """Student's interval around the mean of ``values``; its half width is t * sd * sqrt(``variances``)."""
    from scipy.stats import t

    half = t.ppf(0.5 + level / 2, len(values) - 1) * values.std(ddof=1) * np.sqrt(variances)
    return float(values.mean() - half), float(values.mean() + half)


def findings(measured: Measured, test_to_train: float) -> list[Finding]:
    """Judge every claim."""
    return [judge(claim, claim.differences(measured), test_to_train) for claim in CLAIMS]


def table(found: Sequence[Finding]) -> list[tuple[str, ...]]:
    """The cells under ``HEADER``, one row per finding."""
    rows = []
    for f in found:
        d, expected = 1 if f.claim.metric == "lowest" else 4, f.claim.expected  # decimals of epochs, of scores
        parts = f" = {f.mean + expected:.{d}f} - {expected:g}" if expected else ""
        ranges = [f"{low:.{d}f} to {high:.{d}f}" for low, high in (f.interval, f.corrected, f.single)]
        difference, wins = f"{f.mean:+.{d}f}{parts} ({f.claim.effect})", f"{f.wins} of {len(f.values)}"
        rows.append((f.claim.words, f.claim.section, difference, *ranges, wins, f.told))
    return rows


def stage_table(measured: Measured) -> str:
    """What each stage is, and mean ± sd of its scores over the seeds, in Markdown."""
    rows = []
    for stage, of in measured.items():
        cells = (f"{of[key].mean():.4f} ± {of[key].std(ddof=1):.4f}" if key in of else "–" for key in SHOWN)
        rows.append((stage, STAGES[stage].guide, STAGES[stage].teaches, *cells))
    return markdown_table(("stage", "guide", "what it is", *(METRICS[key] for key in SHOWN)), rows)


def figures(found: Sequence[Finding], measured: Measured) -> dict[str, Any]:
    """A figure per claim; for overfitting the band of test-loss curves over the seeds."""
    curves = {stage: measured[stage]["loss/test"] for stage in CURVED}
    drawn = {}
    for number, f in enumerate(found, 1):
        title = f"{f.claim.words}: {f.told}"  # a claim alone would read as a finding
        drawn[f"claim_{number}.png"] = (
            plots.curve_bands(curves, "test loss (nats)", title, OVERFIT_AT)
            if f.claim.metric == "rise" and not f.claim.before
            else plots.seed_values(f.values, f.interval, f.single, f.claim.effect, f.claim.expected, title)
        )
    return drawn


TITLE = "The guide's claims, measured"
ABOUT = """A course guide teaches deep learning with PyTorch on the Abalone data: sex, size, weights and number of
rings, which stand for age, of {rows} shells. A shell of {old} rings or more is Old (the positive class), another Young.
The guide trains networks that tell the two apart, and one that counts rings, and says what helped. Here its stages are
trained again on {seeds} random splits of the shells, half of them for test, and each claim is held against the scores.

Made on {date}; the same again: `mlflow run . -e report -P seeds={seeds} -P epochs={epochs} -P data={data}`. It is of
seeds 0 to {last}, {epochs} epochs, data set `{name}`, fingerprint `{sha256}` (SHA-256). The figures stand here, and
beside this file as `claim_1.png` to `claim_{claims}.png`; MLflow's UI shows them in `report.html` only."""
EXPLANATION = """Every stage was trained on the splits of {seeds} seeds; split, first weights and batch order all follow
the seed. A difference is that of two stages on the same split, or of a stage and a figure that the guide gives. *95 %
interval* is Student's interval of its mean over such splits of these rows; *corrected* is wider, as Nadeau and Bengio
give it, since the splits share rows: it is the one for another sample of shells. *Single splits* is where 95 % of
single splits lie if they are normally distributed. *Wins* counts the seeds in the claim's favour; of a figure that the
guide gives, those at or above it. A claim is *supported* if the 95 % interval is above 0, *not supported* if it is
below, else *undecided*; that of epoch five is supported if the interval holds 0. Where the interval leaves out 0 and
the corrected one holds it, the verdict is one *on these rows*. A printed rate or area is that of one split, and
supported if it lies where single splits lie."""
STYLE = """body{font:16px/1.5 sans-serif;max-width:76em;margin:2em auto;padding:0 1em}table{border-collapse:collapse}
td,th{border-bottom:1px solid #ccc;padding:.3em .5em;text-align:left;font-size:14px}img{max-width:100%}
td:nth-child(n+4):nth-child(-n+7){white-space:nowrap}"""
HTML = {  # of the little Markdown that the report uses
    r"^# (.+)": r"<h1>\1</h1>",
    r"^## (.+)": r"<h2>\1</h2>",
    r"^!\[(.+)\]\((.+)\)": r'<img alt="\1" src="\2">',
    r"^([^<].+)": r"<p>\1</p>",
    r"\*(.+?)\*": r"<em>\1</em>",
    r"`(.+?)`": r"<code>\1</code>",
}


def explain(found: Sequence[Finding]) -> str:
    """What the columns of the table mean, and how the verdicts come about."""
    return EXPLANATION.format(seeds=len(found[0].values)).replace("\n", " ")


def markdown(dataset: Dataset, first: Experiment, found: Sequence[Finding], measured: Measured, drawn: Mapping) -> str:
    """The whole report as one Markdown text, figures inside; ``first`` has the settings that all stages share."""
    seeds = len(found[0].values)
    about = {"rows": len(dataset.frame), "old": OLD_FROM_RINGS, "seeds": seeds, "last": seeds - 1, "name": dataset.name}
    about |= {"date": datetime.date.today(), "epochs": first.epochs, "data": shlex.quote(first.data)}
    about |= {"sha256": dataset.sha256[:12], "claims": len(found)}
    parts = [f"# {TITLE}", ABOUT.format(**about), markdown_table(HEADER, table(found))]
    title = "## Stages: test scores at the epoch of the lowest validation loss, mean ± sd over the seeds"
    parts += [explain(found), title, stage_table(measured)]
    for (words, section, difference, ends, *_, wins, told), figure in zip(table(found), drawn.values()):
        line = f"Guide section {section}. {difference}; 95 % interval {ends}; wins {wins}: *{told}*."
        parts += [f"## {words}: {told}", line, f"![{difference}]({plots.as_address(figure)})"]
    return "\n\n".join(parts) + "\n"


def page(text: str) -> str:
    """The Markdown report as one HTML page."""
    parts = html.escape(text, quote=False).strip().split("\n\n")
    for i, part in enumerate(parts):
        if part.startswith("|"):
            head, _, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in part.split("\n"))
            parts[i] = pd.DataFrame(rows, columns=head).to_html(index=False, border=0, justify="left", escape=False)
        for markdown, tags in HTML.items():
            parts[i] = re.sub(markdown, tags, parts[i], flags=re.DOTALL)
    head = f'<meta charset="utf-8"><title>{TITLE}</title><style>{STYLE}</style>'
    return "\n".join([f'<!doctype html>\n<html lang="en"><head>{head}</head><body>', *parts, "</body></html>\n"])


def run_report(
    experiments: Mapping[str, Experiment], seeds: int, say: Callable[[str], None], **run_options: Any
) -> list[Finding]:
    """Measure the stages, judge the claims, and keep the report as a tracked run.

    Parameters
    ----------
    experiments : mapping of stage to Experiment
        Their ``data`` and ``epochs`` are the first one's.
    seeds : int
        How many, from 0.
    say : callable
        Takes a line of progress.
    **run_options
        As ``tracking.run`` takes them.
    """
    first = next(iter(experiments.values()))
    with tracking.run("report", {"stage": "report"}, **run_options) as run_id:
        tracking.log_params(run_id, {"seeds": seeds, "epochs": first.epochs, "data": first.data})
        dataset = read(first.data)
        began = time.process_time()
        trained = train(experiments, dataset, seeds)
        training = time.process_time() - began
        measured = measure(experiments, dataset, trained)
        scoring = time.process_time() - began - training
        rows = split(dataset, 0)
        found = findings(measured, len(rows.test) / len(rows.train))
        drawn, cells = figures(found, measured), markdown_table(HEADER, table(found))
        text, frame = markdown(dataset, first, found, measured, drawn), pd.DataFrame(table(found), columns=HEADER)
        texts = {"report.md": text, "report.html": page(text)}
        tags = tracking.log_files(run_id, texts=texts, figures=drawn, tables={"claims.json": frame})
        tags["mlflow.note.content"] = f"{cells}\n\n{explain(found)}\n\nThe whole report: *Artifacts*, `report.html`."
        tags |= {"dataset": dataset.sha256[:12]} | tracking.environment_tags()
        tracking.log_tags(run_id, tags)
        took = f"{training:.1f} CPU seconds of training, {scoring:.1f} of scoring"
        say(f"{cells}\n\n{len(experiments)} stages, {seeds} seeds: {took}")
    return found

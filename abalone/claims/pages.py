"""The report on the guide's claims, as Markdown and as one HTML page."""

from __future__ import annotations

import datetime
import html
import re
import shlex
from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.figure import Figure

from abalone.claims.claims import Measured, measure_label
from abalone.claims.figures import as_address
from abalone.claims.verdicts import Finding, Interval
from abalone.data.reading import Dataset
from abalone.model.columns import OLD_FROM_RINGS
from abalone.settings import STAGES, StageSettings
from abalone.tracking.markdown import markdown_table

CLAIMS_HEADER = (
    "claim",
    "guide",
    "measured difference",
    "95 % interval",
    "corrected",
    "single splits",
    "wins",
    "verdict",
)
STAGE_METRICS = ("accuracy", "roc_auc", "log_loss", "rmse")
TITLE = "The guide's claims, measured"
INTRODUCTION = (
    "A course guide teaches deep learning with PyTorch on the Abalone data: sex, size, weights and number of rings, "
    "which tell the age, of {rows} shells. A shell with {old} rings or more is Old (the positive class), any other is "
    "Young. The guide trains networks that tell the two apart, and one that predicts the number of rings, and says "
    "which changes helped. For this report its stages were trained again on {seeds} random splits of the shells, half "
    "of each held out for testing, and each claim was checked against the test scores.\n\n"
    "Made on {date} with seeds 0 to {last}, {epochs} epochs, data set `{name}`, fingerprint `{sha256}` (SHA-256). To "
    "make it again: `mlflow run . -e report -P seeds={seeds} -P epochs={epochs} -P data={data}`. The figures are part "
    "of this file, and stand beside it as `claim_1.png` to `claim_{claims}.png`; MLflow's UI shows them in "
    "`report.html` only."
)
EXPLANATION = (
    "Every stage was trained with {seeds} seeds; the seed decides split, initial weights and batch order. A difference "
    "is one between two stages on the same split, or between a stage and a figure that the guide prints. *95 % "
    "interval* is Student's interval for the mean difference over random splits of these rows. *Corrected* is the "
    "wider interval of Nadeau and Bengio, which allows for splits that share rows: it is the one for another sample of "
    "shells. *Single splits* is the range of 95 % of single splits, if they are normally distributed. *Wins* counts "
    "the seeds that favour the claim or, if the guide prints a figure, the seeds at or above it. A claim is "
    "*supported* if its 95 % interval is above 0, *not supported* if it is below 0, and *undecided* otherwise; the "
    "claim about epoch five is supported if the interval contains 0. If that interval excludes 0 and the corrected one "
    "contains it, the verdict holds *on these rows*. A rate or an area that the guide prints was measured on one "
    "split, and is supported if it lies in the range of single splits."
)
STYLE = """body{font:16px/1.5 sans-serif;max-width:76em;margin:2em auto;padding:0 1em}table{border-collapse:collapse}
td,th{border-bottom:1px solid #ccc;padding:.3em .5em;text-align:left;font-size:14px}img{max-width:100%}
td:nth-child(n+4):nth-child(-n+7){white-space:nowrap}"""
HTML_OF_MARKDOWN = {  # all the Markdown that the report uses, besides tables
    r"^# (.+)": r"<h1>\1</h1>",
    r"^## (.+)": r"<h2>\1</h2>",
    r"^!\[(.+)\]\((.+)\)": r'<img alt="\1" src="\2">',
    r"^([^<].+)": r"<p>\1</p>",
    r"\*(.+?)\*": r"<em>\1</em>",
    r"`(.+?)`": r"<code>\1</code>",
}


def claims_table(found: Sequence[Finding]) -> list[tuple[str, ...]]:
    """The cells under ``CLAIMS_HEADER``, one row per finding."""
    rows = []
    for finding in found:
        claim = finding.claim
        decimals = 1 if claim.metric == "lowest" else 4  # of epochs, of scores
        rows.append((
            claim.words,
            claim.section,
            _difference(finding, decimals),
            _range(finding.interval, decimals),
            _range(finding.corrected, decimals),
            _range(finding.single, decimals),
            f"{finding.wins} of {len(finding.values)}",
            finding.full_verdict,
        ))  # fmt: skip
    return rows


def _difference(finding: Finding, decimals: int) -> str:
    claim = finding.claim
    difference = f"{finding.mean:+.{decimals}f}"
    if claim.expected:
        difference += f" = {finding.mean + claim.expected:.{decimals}f} - {claim.expected:g}"
    return f"{difference} ({claim.effect})"


def _range(ends: Interval, decimals: int) -> str:
    low, high = ends
    return f"{low:.{decimals}f} to {high:.{decimals}f}"


def stage_table(measured: Measured) -> str:
    """What each stage is, and its scores as mean ± sd over the seeds, in Markdown."""
    labels = [measure_label(metric) for metric in STAGE_METRICS]
    rows = []
    for stage, values in measured.items():
        cells = []
        for metric in STAGE_METRICS:
            if metric in values:
                cells.append(f"{values[metric].mean():.4f} ± {values[metric].std(ddof=1):.4f}")
            else:
                cells.append("–")
        rows.append((stage, STAGES[stage].guide, STAGES[stage].teaches, *cells))
    return markdown_table(("stage", "guide", "what it is", *labels), rows)


def explanation(found: Sequence[Finding]) -> str:
    """What the columns of the claims' table mean, and how the verdicts are reached."""
    return EXPLANATION.format(seeds=len(found[0].values))


def report_markdown(
    dataset: Dataset,
    first: StageSettings,
    found: Sequence[Finding],
    measured: Measured,
    figures: Mapping[str, Figure],
) -> str:
    """The whole report as one Markdown text that contains its figures.

    Parameters
    ----------
    dataset : Dataset
    first : StageSettings
        Settings of one stage, for the data and the epochs that all stages share.
    found : sequence of Finding
    measured : mapping
        As ``measure_stages`` returns it.
    figures : mapping of file name to Figure
        As ``claim_figures`` returns them, in the order of ``found``.
    """
    seeds = len(found[0].values)
    introduction = INTRODUCTION.format(
        rows=len(dataset.frame),
        old=OLD_FROM_RINGS,
        seeds=seeds,
        last=seeds - 1,
        date=datetime.date.today(),
        epochs=first.epochs,
        data=shlex.quote(first.data),
        name=dataset.name,
        sha256=dataset.sha256[:12],
        claims=len(found),
    )
    rows = claims_table(found)
    parts = [
        f"# {TITLE}",
        introduction,
        markdown_table(CLAIMS_HEADER, rows),
        explanation(found),
        "## Stages: test scores at the epoch of the lowest validation loss, mean ± sd over the seeds",
        stage_table(measured),
    ]
    for row, figure in zip(rows, figures.values()):
        words, section, difference, interval, _, _, wins, verdict = row
        parts += [
            f"## {words}: {verdict}",
            f"Guide section {section}. {difference}; 95 % interval {interval}; wins {wins}: *{verdict}*.",
            f"![{difference}]({as_address(figure)})",
        ]
    return "\n\n".join(parts) + "\n"


def html_page(text: str) -> str:
    """The Markdown of the report as one HTML page."""
    parts = []
    for part in html.escape(text, quote=False).strip().split("\n\n"):
        if part.startswith("|"):
            part = _html_table(part)
        for markdown, tags in HTML_OF_MARKDOWN.items():
            part = re.sub(markdown, tags, part, flags=re.DOTALL)
        parts.append(part)
    head = f'<meta charset="utf-8"><title>{TITLE}</title><style>{STYLE}</style>'
    return "\n".join([f'<!doctype html>\n<html lang="en"><head>{head}</head><body>', *parts, "</body></html>\n"])


def _html_table(markdown: str) -> str:
    """A Markdown table, already escaped, as an HTML table."""
    lines = []
    for line in markdown.split("\n"):
        lines.append([cell.strip() for cell in line.strip("|").split("|")])
    header, _, *rows = lines  # the second line is the rule below the header
    return pd.DataFrame(rows, columns=header).to_html(index=False, border=0, justify="left", escape=False)

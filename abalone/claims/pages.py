"""The report on the guide's claims, as Markdown and as one HTML page."""

from __future__ import annotations

import datetime
import html
import re
import shlex
from collections.abc import Mapping, Sequence

import pandas as pd

from abalone.claims.claims import Measured, epochs_of, measure_label, short_label
from abalone.claims.figures import as_address, figure_name
from abalone.claims.verdicts import NOT_JUDGED, NOT_SUPPORTED, SUPPORTED, UNDECIDED, Finding, Interval
from abalone.data.reading import Dataset
from abalone.model.columns import OLD_FROM_RINGS
from abalone.settings import STAGES, StageSettings
from abalone.tracking.markdown import as_code, data_part, markdown_table

CLAIMS_HEADER = ("verdict", "claim", "difference")  # as wide as MLflow's pane for artifacts
DETAILS_HEADER = ("claim", "what is measured", "guide", "95 % interval", "corrected", "single splits", "wins")
STAGE_METRICS = ("accuracy", "roc_auc", "log_loss", "rmse")
TITLE = "The guide's claims, measured"
INTRODUCTION = (
    "A course guide teaches deep learning with PyTorch on the Abalone data: sex, size, weights and number of rings "
    "(which gives the age) of {rows} shells. A shell with {old} rings or more is Old (the positive class), any other "
    "is Young. The guide trains networks that distinguish the two, and one that predicts the number of rings, and says "
    "which changes helped. For this report its stages were trained again on {seeds} random splits of the shells, half "
    "of each held out for testing, and each claim was checked against the test scores.\n\n"
    "Made on {date} with seeds 0 to {last}, {epochs} epochs, data set {name}, fingerprint `{sha256}` (SHA-256). To "
    "reproduce it: {command}. The figures are embedded in this file and stored beside it as `claim_1.png` and so on; "
    "MLflow's UI shows them in `report.html` only."
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
    "contains it, the verdict holds *on these rows*. A claim about later epochs than were trained is *not judged*. A "
    "rate or an area that the guide prints was measured on one split, and is supported if it lies in the range of "
    "single splits."
)
STYLE = """body{font:16px/1.5 sans-serif;max-width:76em;margin:1em auto;padding:0 1em}img{max-width:100%}
table{border-collapse:collapse;display:block;overflow-x:auto}code{overflow-wrap:anywhere}
td,th{border-bottom:1px solid #ccc;padding:.3em .5em;text-align:left;font-size:14px;vertical-align:top}"""
HTML_OF_MARKDOWN = {  # all the Markdown that the report uses, besides tables
    r"^# (.+)": r"<h1>\1</h1>",
    r"^## (.+)": r"<h2>\1</h2>",
    r"^!\[(.+)\]\((.+)\)": r'<img alt="\1" src="\2">',
    r"^([^<].+)": r"<p>\1</p>",
    r"\*\*(.+?)\*\*": r"<strong>\1</strong>",
    r"\*(.+?)\*": r"<em>\1</em>",
    r"`(.+?)`": r"<code>\1</code>",
}


def claims_table(found: Sequence[Finding]) -> list[tuple[str, ...]]:
    """The cells under ``CLAIMS_HEADER``, one row per finding; the reason in place of a number if it is not judged."""
    rows: list[tuple[str, ...]] = []
    for finding in found:
        difference = finding.reason
        if finding.is_judged:
            difference = f"{finding.mean:+.{_decimals(finding)}f} {short_label(finding.claim.metric)}"
        rows.append((finding.short_verdict, finding.claim.words, difference))
    return rows


def details_table(found: Sequence[Finding]) -> list[tuple[str, ...]]:
    """The cells under ``DETAILS_HEADER``, one row per finding; dashes for one that is not judged."""
    rows = []
    for finding in found:
        claim = finding.claim
        numbers = ["–"] * 4
        if finding.is_judged:
            intervals = (finding.interval, finding.corrected, finding.single)
            numbers = [_range(ends, _decimals(finding)) for ends in intervals]
            numbers.append(f"{finding.wins} of {len(finding.values)}")
        rows.append((claim.words, _effect(finding), claim.section, *numbers))
    return rows


def _effect(finding: Finding) -> str:
    """What is measured; with the guide's figure and the mean, if the guide gives one."""
    claim = finding.claim
    if not claim.expected:
        return claim.effect
    effect = f"{claim.effect}, less the guide's {claim.expected:g}"
    if finding.is_judged:
        effect += f" (mean {finding.mean + claim.expected:.{_decimals(finding)}f})"
    return effect


def _decimals(finding: Finding) -> int:
    return 1 if finding.claim.metric == "lowest" else 4  # of epochs, of scores


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


def explanation(seeds: int) -> str:
    """What the columns of the claims' tables mean, and how the verdicts are reached."""
    return EXPLANATION.format(seeds=seeds)


def claims_section(found: Sequence[Finding]) -> str:
    """The table of verdicts, then their rules and numbers, in Markdown."""
    return f"{verdicts_markdown(found)}\n\n{details_markdown(found)}"


def verdicts_markdown(found: Sequence[Finding]) -> str:
    """The table under ``CLAIMS_HEADER``."""
    return markdown_table(CLAIMS_HEADER, claims_table(found))


def details_markdown(found: Sequence[Finding]) -> str:
    """The rules by which verdicts are reached, and the table under ``DETAILS_HEADER``."""
    return f"{explanation(count_seeds(found))}\n\n{markdown_table(DETAILS_HEADER, details_table(found))}"


def count_seeds(found: Sequence[Finding]) -> int:
    """Number of seeds behind the findings."""
    return max(len(finding.values) for finding in found)


def answer(found: Sequence[Finding], epochs: int, report_link: str = "") -> str:
    """How many of the guide's claims hold, and which do not, in a few sentences.

    Parameters
    ----------
    found : sequence of Finding
    epochs : int
        Epochs of training.
    report_link : str, optional
        Markdown link to the report.
    """
    by_verdict: dict[str, list[str]] = {verdict: [] for verdict in (SUPPORTED, NOT_SUPPORTED, UNDECIDED, NOT_JUDGED)}
    for finding in found:
        words = finding.claim.words
        by_verdict[finding.verdict].append(f"{words} (on these rows)" if finding.is_of_these_rows_only else words)
    sentences = [
        f"**{len(by_verdict[SUPPORTED])} of the guide's {len(found)} claims hold** over {count_seeds(found)} seeds of "
        f"{_count(epochs, 'epoch')}."
    ]
    if report_link:
        sentences.append(f"With figures: {report_link}.")
    for verdict in (NOT_SUPPORTED, UNDECIDED, NOT_JUDGED, SUPPORTED):
        claims = by_verdict[verdict]
        if claims:
            reason = f" ({_reason(found)})" if verdict == NOT_JUDGED else ""
            sentences.append(f"{verdict.capitalize()}{reason}: {'; '.join(claims)}.")
    return " ".join(sentences)


def _reason(found: Sequence[Finding]) -> str:
    """Why claims are not judged; the reason is the same for all."""
    return next(finding.reason for finding in found if not finding.is_judged)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def run_page(found: Sequence[Finding], measured: Measured, report_link: str, understood: str = "") -> str:
    """The description of the report's run: the answer with a link to the report, then the data and the tables.

    Parameters
    ----------
    found : sequence of Finding
    measured : mapping
        As ``measure_stages`` returns it.
    report_link : str
        Markdown link to the report.
    understood : str
        How the data file was read.
    """
    parts = [answer(found, epochs_of(measured), report_link), data_part(understood), claims_section(found)]
    return "\n\n".join(part for part in parts if part)


def report_markdown(
    dataset: Dataset,
    first: StageSettings,
    found: Sequence[Finding],
    measured: Measured,
    images: Mapping[str, bytes],
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
    images : mapping of file name to bytes
        The figures of ``claim_figures``, drawn.
    """
    seeds = count_seeds(found)
    data = _data_options(first)
    introduction = INTRODUCTION.format(
        rows=len(dataset.frame),
        old=OLD_FROM_RINGS,
        seeds=seeds,
        last=seeds - 1,
        date=datetime.date.today(),
        epochs=first.epochs,
        command=as_code(f"mlflow run . -e report -P seeds={seeds} -P epochs={first.epochs} -P data={data}"),
        name=as_code(dataset.name),
        sha256=dataset.sha256[:12],
    )
    parts = [
        f"# {TITLE}",
        answer(found, first.epochs),
        verdicts_markdown(found),
        introduction,
        details_markdown(found),
        "## Stages: test scores at the epoch of the lowest validation loss, mean ± sd over the seeds",
        stage_table(measured),
    ]
    for number, finding in enumerate(found, 1):
        parts += _claim_section(finding, images.get(figure_name(number)))
    return "\n\n".join(parts) + "\n"


def _data_options(settings: StageSettings) -> str:
    """The value of ``data`` in a command, and the options that say how its file is read, unless by default."""
    text = shlex.quote(settings.data)
    if settings.units != "file":
        text += f" -P units={settings.units}"
    if settings.target != "auto":
        text += f" -P target={settings.target}"
    return text


def _claim_section(finding: Finding, image: bytes | None) -> list[str]:
    """Heading, line and figure of a claim; a claim that is not judged has no figure."""
    section = finding.claim.section
    if image is None:
        return [
            f"## {finding.claim.words}: {NOT_JUDGED}",
            f"Guide section {section}. No figure: it {finding.reason}.",
        ]
    [(_, _, difference)] = claims_table([finding])
    [(_, effect, _, interval, _, _, wins)] = details_table([finding])
    return [
        f"## {finding.claim.words}: {finding.full_verdict}",
        f"Guide section {section}. {difference} ({effect}); 95 % interval {interval}; wins {wins}: "
        f"*{finding.full_verdict}*.",
        f"![{difference} ({effect})]({as_address(image)})",
    ]


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

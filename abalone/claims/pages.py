"""TODO claims.pages"""

from __future__ import annotations

import datetime
import html
import re
import shlex
from collections.abc import Mapping, Sequence

import pandas as pd

from abalone.claims.claims import MEASURES, Measured
from abalone.claims.figures import as_address
from abalone.claims.verdicts import Finding
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
SHOWN_SCORES = ("accuracy", "roc_auc", "log_loss", "rmse")  # of every stage


def claims_table(found: Sequence[Finding]) -> list[tuple[str, ...]]:
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
        cells = (f"{of[key].mean():.4f} ± {of[key].std(ddof=1):.4f}" if key in of else "–" for key in SHOWN_SCORES)
        rows.append((stage, STAGES[stage].guide, STAGES[stage].teaches, *cells))
    return markdown_table(("stage", "guide", "what it is", *(MEASURES[key] for key in SHOWN_SCORES)), rows)


TITLE = "The guide's claims, measured"
INTRODUCTION = """A course guide teaches deep learning with PyTorch on the Abalone data: sex, size, weights and number
of rings, which stand for age, of {rows} shells. A shell of {old} rings or more is Old (the positive class), another
Young. The guide trains networks that tell the two apart, and one that counts rings, and says what helped. Here its
stages are trained again on {seeds} random splits of the shells, half of them for test, and each claim is held against
the scores.

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


def explanation(found: Sequence[Finding]) -> str:
    """What the columns of the table mean, and how the verdicts come about."""
    return EXPLANATION.format(seeds=len(found[0].values)).replace("\n", " ")


def report_markdown(
    dataset: Dataset, first: StageSettings, found: Sequence[Finding], measured: Measured, drawn: Mapping
) -> str:
    """The whole report as one Markdown text, figures inside; ``first`` has the settings that all stages share."""
    seeds = len(found[0].values)
    about = {"rows": len(dataset.frame), "old": OLD_FROM_RINGS, "seeds": seeds, "last": seeds - 1, "name": dataset.name}
    about |= {"date": datetime.date.today(), "epochs": first.epochs, "data": shlex.quote(first.data)}
    about |= {"sha256": dataset.sha256[:12], "claims": len(found)}
    parts = [f"# {TITLE}", INTRODUCTION.format(**about), markdown_table(CLAIMS_HEADER, claims_table(found))]
    title = "## Stages: test scores at the epoch of the lowest validation loss, mean ± sd over the seeds"
    parts += [explanation(found), title, stage_table(measured)]
    for (words, section, difference, ends, *_, wins, told), figure in zip(claims_table(found), drawn.values()):
        line = f"Guide section {section}. {difference}; 95 % interval {ends}; wins {wins}: *{told}*."
        parts += [f"## {words}: {told}", line, f"![{difference}]({as_address(figure)})"]
    return "\n\n".join(parts) + "\n"


def html_page(text: str) -> str:
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

"""What a benchmark of speed has found, line by line, in the table that all of them share."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from abalone.tracking.markdown import markdown_table

HEADER = ("what", "compared with", "ours", "theirs", "result", "aim")


@dataclass(frozen=True)
class Figure:
    """One line of the table; its texts name their units.

    Parameters
    ----------
    what : str
        What was measured.
    ours : str
        Its figure.
    peer, theirs : str, default "–"
        What it is compared with, and the figure of that.
    result : str, default "–"
        The comparison, such as ``3.8 times faster``.
    aim : str, default "–"
        What the result, or else our figure, should be.
    """

    what: str
    ours: str
    peer: str = "–"
    theirs: str = "–"
    result: str = "–"
    aim: str = "–"


def speed_table(figures: Sequence[Figure]) -> str:
    """The table, in Markdown."""
    rows = []
    for figure in figures:
        rows.append((figure.what, figure.peer, figure.ours, figure.theirs, figure.result, figure.aim))
    return markdown_table(HEADER, rows)


def times(ratio: float) -> str:
    """A ratio as people quote it: ``1.3``, ``42``."""
    return f"{ratio:.1f}" if ratio < 10 else f"{ratio:.0f}"


def show(figures: Sequence[Figure]) -> None:
    """Print the table, and as the last line the same as JSON, which ``bench_all`` reads."""
    print(speed_table(figures))
    print(json.dumps([asdict(figure) for figure in figures]))

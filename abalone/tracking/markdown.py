"""Markdown helpers for the pages that runs, models and experiments show.

Pages show names that others chose: of runs, experiments, studies, files and their columns, and messages that quote
them. ``escape`` and ``as_code`` keep these from becoming links, pictures, HTML or cells of a table.
"""

from __future__ import annotations

import html
import re
from collections.abc import Sequence

SPECIAL = re.compile(r"[\\`\[\]|]")


def escape(text: str) -> str:
    """Return Markdown that shows a text as it is, on one line, without links."""
    one_line = html.escape(" ".join(text.split()), quote=False)
    without_addresses = one_line.replace("://", "&#58;//").replace("www.", "www&#46;")  # the UI makes links of these
    return SPECIAL.sub(r"\\\g<0>", without_addresses)


def as_code(text: str) -> str:
    """Return Markdown that shows a text as code, on one line."""
    one_line = " ".join(text.split())
    if "`" not in one_line:
        return f"`{one_line}`"
    longest = max(len(ticks) for ticks in re.findall("`+", one_line))
    fence = "`" * (longest + 1)
    return f"{fence} {one_line} {fence}"


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Format a Markdown table with aligned columns, so that its source reads well in a terminal.

    Parameters
    ----------
    header : sequence of str
        Column titles.
    rows : sequence of sequence of str
        One cell per column.

    Returns
    -------
    str
        Lines without a final newline.
    """
    cells = [[str(cell) for cell in row] for row in (header, *rows)]
    widths = [max(len(cell) for cell in column) for column in zip(*cells)]
    rule = ["-" * width for width in widths]
    lines = []
    for row in (cells[0], rule, *cells[1:]):
        padded = [cell.ljust(width) for cell, width in zip(row, widths)]
        lines.append(f"| {' | '.join(padded)} |")
    return "\n".join(lines)


def data_part(understood: str, title: str = "Data") -> str:
    """How a table was read, as a paragraph of a page; "" if there is nothing to say."""
    return f"{title}: {as_code(understood)}" if understood else ""


def format_score(value: float | None) -> str:
    """Format a score with four decimals, or a dash if there is none."""
    return "–" if value is None else f"{value:.4f}"

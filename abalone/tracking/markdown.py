"""Markdown helpers for the pages that runs, models and experiments show."""

from __future__ import annotations

from collections.abc import Sequence


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
    as_code = understood.replace("`", "'")
    return f"{title}: `{as_code}`" if understood else ""


def format_score(value: float | None) -> str:
    """Format a score with four decimals, or a dash if there is none."""
    return "–" if value is None else f"{value:.4f}"

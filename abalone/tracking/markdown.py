"""TODO tracking.markdown"""

from __future__ import annotations

from collections.abc import Sequence


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose source is aligned too, so that it reads in a terminal."""
    widths = [max(len(str(line[i])) for line in (header, *rows)) for i in range(len(header))]
    rule = ["-" * width for width in widths]
    lines = [" | ".join(str(cell).ljust(w) for cell, w in zip(line, widths)) for line in (header, rule, *rows)]
    return "\n".join(f"| {line} |" for line in lines)


def format_score(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"

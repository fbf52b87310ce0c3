"""Fit the Markdown tables in a text to the width of a terminal.

Rule: a table that is too wide is wrapped at words, first the titles that are wider than their columns, then the widest
cells, each to at most ``MOST_LINES`` lines. If that is not enough, columns are left out, the
second-to-last first, and named below the table. The first and the last column always stay: they say what a row is about
and how it ended.

Files and pages in MLflow keep the whole tables. Links to pages of the UI begin with ``#`` and lead nowhere from a
terminal, so only their text is printed.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence

MOST_LINES = 4  # of a cell
LONGEST_WORD = 24  # characters; a longer word may be broken
NARROWEST = 8  # characters, of a column when only two are left
SEPARATOR = len(" | ")  # between two columns; "| " and " |" at both ends are one character more than that
TABLE = re.compile(r"(?:^\|.*\|$\n?)+", re.MULTILINE)
UI_LINK = re.compile(r"\[([^\]]+)\]\(#/[^)]*\)")

Row = Sequence[str]


def fit_text(text: str, width: int) -> str:
    """Replace the tables of a Markdown text by ones of at most ``width`` columns, and links to the UI by their text."""
    return TABLE.sub(lambda table: _fit_table(table.group(), width), UI_LINK.sub(r"\1", text))


def _fit_table(table: str, width: int) -> str:
    """One table, which may end with a newline."""
    lines = table.splitlines()
    end = table[len(table.rstrip("\n")) :]
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    if any(len(row) != len(cells[0]) for row in cells):  # a cell that holds a bar: better too wide than wrong
        return table
    rows = [cells[0], *cells[2:]]  # without the rule below the header
    left_out: list[str] = []
    while len(rows[0]) > 2 and sum(_narrowest(column) for column in zip(*rows)) > _room(rows, width):
        left_out.insert(0, rows[0][-2])
        rows = [[*row[:-2], row[-1]] for row in rows]
    fitted = _draw(rows, _column_widths(rows, width))
    if left_out:
        fitted += f"\n(Not shown in {width} columns: {', '.join(left_out)}.)"
    return fitted + end


def _room(rows: Sequence[Row], width: int) -> int:
    """Characters that a line has for all of its cells."""
    return width - SEPARATOR * len(rows[0]) - 1


def _narrowest(column: Row) -> int:
    """The smallest width at which no cell of a column has more than ``MOST_LINES`` lines or a broken word."""
    longest = max((len(word) for cell in column for word in cell.split()), default=1)
    width = min(longest, LONGEST_WORD)
    while any(len(_wrap(cell, width)) > MOST_LINES for cell in column):
        width += 1
    return width


def _wrap(cell: str, width: int) -> list[str]:
    return textwrap.wrap(cell, width, break_on_hyphens=False) or [""]


def _column_widths(rows: Sequence[Row], width: int) -> list[int]:
    """Widths of all columns, as wide as the room allows."""
    columns = list(zip(*rows))
    room = _room(rows, width)
    widths = [max(len(cell) for cell in column) for column in columns]
    titles_wrapped = []
    for title, *cells in columns:
        longest_cell = max((len(cell) for cell in cells), default=1)
        titles_wrapped.append(max(_narrowest([title]), longest_cell))
    cells_wrapped = [_narrowest(column) for column in columns]
    words_broken = [min(NARROWEST, least) for least in cells_wrapped]
    for least in (titles_wrapped, cells_wrapped, words_broken):
        widths = _shrink(widths, least, room)
    return widths


def _shrink(widths: Sequence[int], least: Sequence[int], room: int) -> list[int]:
    """Take from the widest column until all fit in the room, or none can give any more."""
    widths = list(widths)
    while sum(widths) > room:
        spare = [i for i in range(len(widths)) if widths[i] > least[i]]
        if not spare:
            break
        widths[max(spare, key=lambda i: widths[i])] -= 1
    return widths


def _draw(rows: Sequence[Row], widths: Sequence[int]) -> str:
    """The table with a header, its rule, and rows of as many lines as their longest cell."""
    lines = []
    for number, row in enumerate(rows):
        wrapped = [_wrap(cell, width) for cell, width in zip(row, widths)]
        for i in range(max(len(cell) for cell in wrapped)):
            parts = [(cell[i] if i < len(cell) else "").ljust(width) for cell, width in zip(wrapped, widths)]
            lines.append(f"| {' | '.join(parts)} |")
        if number == 0:
            lines.append(f"| {' | '.join('-' * width for width in widths)} |")
    return "\n".join(lines)

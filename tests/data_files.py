"""Small data files for tests."""

from __future__ import annotations

from pathlib import Path

from abalone.data.reading import SHIPPED_FILE, read
from abalone.data.splitting import split

YOUNG = "M,0.455,0.365,0.095,0.514,0.2245,0.101,0.15,5"
OLD = "F,0.53,0.42,0.135,0.677,0.2565,0.1415,0.21,12"
GOOD = [YOUNG, OLD] * 10  # the fewest rows of each class that a file may have


def write_rows(lines: list[str], name: str = "rows.csv") -> str:
    """Write lines to a file in the current folder and return its name."""
    Path(name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return name


def write_diverging_rows(part: str, name: str) -> str:
    """Write the shipped rows, with heights by which an unclipped regressor diverges on a part of the split."""
    rows = split(read(), 0).parts()
    heights = {rows["train"][0]: "1e-30", rows[part][0]: "11"}  # 11 is 1e32 standard deviations of the training rows
    lines = SHIPPED_FILE.read_text().splitlines()
    for row, line in enumerate(lines):
        cells = line.split(",")
        cells[3] = heights.get(row, "0")
        lines[row] = ",".join(cells)
    return write_rows(lines, name)

"""Small data files for tests."""

from __future__ import annotations

from pathlib import Path

YOUNG = "M,0.455,0.365,0.095,0.514,0.2245,0.101,0.15,5"
OLD = "F,0.53,0.42,0.135,0.677,0.2565,0.1415,0.21,12"
GOOD = [YOUNG, OLD] * 10  # the fewest rows of each class that a file may have


def write_rows(lines: list[str], name: str = "rows.csv") -> str:
    """Write lines to a file in the current folder and return its name."""
    Path(name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return name

"""What is wrong with the rows of a table, by line: the first few problems in full, and how many there are in all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from abalone.data.layout import Layout, split_fields
from abalone.data.tables import Batch
from abalone.model.columns import RAW_COLUMNS
from abalone.model.rows import SHOWN_PROBLEMS, BadRows, describe_field, examine, unit_hint

Problem = tuple[int, str]  # number of a line, and what is wrong with it


@dataclass
class Problems:
    """The problems of a table, collected batch by batch.

    Parameters
    ----------
    shown : list of Problem
        The first ``SHOWN_PROBLEMS``.
    count : int
        Number of all.
    """

    shown: list[Problem] = field(default_factory=list)
    count: int = 0

    def add(self, found: Sequence[Problem]) -> None:
        """Add the problems of the next batch."""
        self.count += len(found)
        first = sorted(found, key=lambda problem: problem[0])  # stable: the columns of a line stay in their order
        self.shown += first[: SHOWN_PROBLEMS - len(self.shown)]

    def message(self) -> str:
        """The problems that are shown, and the number of the others."""
        lines = [f"line {number}: {text}" for number, text in self.shown]
        if self.count == 1:
            return lines[0]
        if self.count > len(lines):
            lines.append(f"and {self.count - len(lines)} more")
        return "\n  ".join([f"{self.count} problems", *lines])


def check_batch(batch: Batch, layout: Layout, units: str, is_first: bool) -> tuple[pd.DataFrame, list[Problem]]:
    """Check the measurements and the sex in every line of a batch.

    Parameters
    ----------
    batch : Batch
    layout : Layout
        That of the table.
    units : str
        As for ``examine``.
    is_first : bool
        Whether the table begins with this batch, by which its unit is judged.

    Returns
    -------
    checked : DataFrame [n, 8]
        As ``examine`` returns it, with the line numbers as index.
    problems : list of Problem
        Of the lines of the batch, those with a wrong number of columns included.

    Raises
    ------
    BadRows
        If the measurements look like those of another unit.
    """
    checked, is_good = examine(batch.frame[list(RAW_COLUMNS)], units)
    hint = unit_hint(checked, units) if is_first else ""
    if hint:
        raise BadRows(hint)
    found = list(batch.problems)
    for row, column in np.argwhere(~is_good):
        number = int(checked.index[row])
        name = RAW_COLUMNS[column]
        found.append((number, describe_field(name, written(batch, layout, number, name), units)))
    return checked, found


def written(batch: Batch, layout: Layout, number: int, name: str) -> str:
    """A field as it is written in the file.

    Parameters
    ----------
    batch : Batch
    layout : Layout
        That of the table.
    number : int
        Number of the line.
    name : str
        Name of the column in ``layout.columns``.
    """
    return split_fields(batch.lines[number], layout.separator)[layout.columns[name]].strip()

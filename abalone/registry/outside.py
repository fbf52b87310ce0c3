"""Rows beyond the measurements that the champions have learned from: one column for both, and a line about them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from abalone.model.columns import MEASUREMENTS, OUTSIDE

LOUD_SHARE = 0.5  # of the rows; so many are rather in another unit than of another size


def join_answers(answers: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Put the answers of the champions side by side.

    Parameters
    ----------
    answers : sequence of DataFrame
        Of the same rows. A model of an earlier version has no column ``outside_training_range``.

    Returns
    -------
    DataFrame
        The columns of all answers. ``outside_training_range`` appears once, as the last, and names what is outside for
        any of the champions.
    """
    marks = [answer[OUTSIDE] for answer in answers if OUTSIDE in answer]
    joined = pd.concat([answer.drop(columns=OUTSIDE, errors="ignore") for answer in answers], axis=1)
    if marks:
        joined[OUTSIDE] = _union(marks)
    return joined


def _union(marks: Sequence[pd.Series]) -> np.ndarray:
    """Names in any of several columns of names, in the order of the measurements."""
    union = marks[0].to_numpy(dtype=object, copy=True)
    for others in marks[1:]:
        other = others.to_numpy(dtype=object)
        for row in np.flatnonzero(union != other):
            named = {*union[row].split(","), *other[row].split(",")}
            union[row] = ",".join(name for name in MEASUREMENTS if name in named)
    return union


@dataclass
class OutsideCount:
    """Count of the rows outside the training range, batch by batch.

    Parameters
    ----------
    rows, outside : int
        All rows, and those of them with a measurement outside.
    columns : Counter
        Rows outside by the name of the measurement.
    """

    rows: int = 0
    outside: int = 0
    columns: Counter[str] = field(default_factory=Counter)

    def add(self, marks: Iterable[str]) -> None:
        """Count the rows of a column ``outside_training_range``."""
        for names, rows in Counter(marks).items():
            self.rows += rows
            if names:
                self.outside += rows
                self.columns.update(dict.fromkeys(names.split(","), rows))

    def sentence(self) -> str:
        """Say how many rows are outside and in what; where it is most of them, ask for the units."""
        if not self.outside:
            return "All rows lie within the range of the training rows."
        named = ", ".join(f"{name} {rows}" for name, rows in self.columns.most_common())
        verb = "lies" if self.outside == 1 else "lie"
        text = f"{self.outside} of {self.rows} rows {verb} outside the range of the training rows ({named})"
        if self.outside < LOUD_SHARE * self.rows:
            guess = "its prediction is a guess" if self.outside == 1 else "their predictions are guesses"
            return f"{text}; {guess}."
        return f"WARNING: {text}: check the units, lengths are in mm / 200 and weights in g / 200."

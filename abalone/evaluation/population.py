"""How the animals of a file differ from those that a model was fitted on, column by column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from abalone.evaluation.figures import BLUE, ORANGE, legend_below, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BINS = 10
SMALLEST_SHARE = 1e-4  # of a bin without rows, whose logarithm would be infinite


@dataclass(frozen=True)
class ColumnShift:
    """How a column differs from the same column of the training rows.

    Parameters
    ----------
    name : str
    ks : float
        Kolmogorov-Smirnov statistic: the largest distance between the two distribution functions.
    p_value : float
        Probability of so large a distance between two samples of one population.
    psi : float
        Population stability index.
    """

    name: str
    ks: float
    p_value: float
    psi: float


def compare_populations(training: Mapping[str, np.ndarray], rows: Mapping[str, np.ndarray]) -> list[ColumnShift]:
    """Compare the columns of some rows with those of the training rows.

    Parameters
    ----------
    training, rows : mapping of column to ndarray [m] or [n]
        The same columns of the training rows and of the rows to compare.

    Returns
    -------
    list of ColumnShift
        In the order of ``training``.
    """
    from scipy.stats import ks_2samp

    shifts = []
    for name, learned in training.items():
        test = ks_2samp(learned, rows[name])
        index = stability_index(learned, rows[name])
        shifts.append(ColumnShift(name=name, ks=float(test.statistic), p_value=float(test.pvalue), psi=index))
    return shifts


def stability_index(training: np.ndarray, rows: np.ndarray) -> float:
    """Population stability index over the tenths of the training rows.

    It is the symmetric Kullback-Leibler divergence between the shares of the bins. Even rows of the same population
    have one above 0, see ``expected_index``.

    Source: Siddiqi (2006), Credit Risk Scorecards.

    Parameters
    ----------
    training : ndarray [m]
        Values that set the bins.
    rows : ndarray [n]
        Values to compare.
    """
    inner = np.unique(np.quantile(training, np.linspace(0, 1, BINS + 1)[1:-1]))
    shares = []
    for values in (training, rows):
        counts = np.bincount(np.searchsorted(inner, values), minlength=len(inner) + 1)
        shares.append(np.maximum(counts / len(values), SMALLEST_SHARE))
    expected, actual = shares
    return float(((actual - expected) * np.log(actual / expected)).sum())


def expected_index(training_rows: int, rows: int) -> float:
    """Stability index that rows of the same population have on average.

    Source: Yurdakul (2018), Statistical Properties of Population Stability Index.
    """
    return (BINS - 1) * (1 / training_rows + 1 / rows)


def spread_quantiles(quantiles: np.ndarray, levels: np.ndarray, rows: int) -> np.ndarray:
    """Make a column whose quantiles are known again: as many values as there were rows.

    Its distribution function is nowhere further from that of the rows than the distance of two levels.

    Parameters
    ----------
    quantiles, levels : ndarray [q]
    rows : int

    Returns
    -------
    ndarray [rows]
    """
    return np.interp((np.arange(rows) + 0.5) / rows, levels, quantiles)


def population_figure(
    training: Mapping[str, np.ndarray], rows: Mapping[str, np.ndarray], shifts: Sequence[ColumnShift], title: str
) -> Figure:
    """Distribution functions of the training rows and of the compared rows, a panel for each column.

    Parameters
    ----------
    training, rows : mapping of column to ndarray [m] or [n]
        As for ``compare_populations``; up to 8 columns.
    shifts : sequence of ColumnShift
        As it returns them.
    title : str
    """
    figure, axes = new_figure(title, columns=4, rows=2, width=11, height=5.5)
    for axis, shift in zip(axes, shifts):
        axis.ecdf(training[shift.name], color=BLUE, label="rows that it was fitted on")
        axis.ecdf(rows[shift.name], color=ORANGE, label="rows of the file")
        axis.set(xlabel=shift.name, title=f"KS {shift.ks:.2f}, PSI {shift.psi:.2f}")
        axis.title.set_fontsize("small")
    for axis in axes[::4]:
        axis.set_ylabel("share of the rows")
    for axis in axes[len(shifts) :]:
        axis.remove()
    legend_below(figure, axes[0])
    return figure

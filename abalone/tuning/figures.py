"""Figures of a study: its trials' values and settings in, matplotlib ``Figure`` out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from abalone.evaluation.figures import BLUE, GREY, RED, new_figure

LOGARITHMIC = ("learning_rate", "weight_decay")  # settings that are shown on a logarithmic scale
LOWEST_SHOWN = 1e-6  # stands for 0 on a logarithmic scale


def optimisation_history(
    numbers: ArrayLike, values: ArrayLike, complete: ArrayLike, base: float, name: str, unit: str
) -> Figure:
    """Draw each trial's value by its number, and the best value so far.

    Parameters
    ----------
    numbers : sequence of int, n
        Numbers of the trials.
    values : sequence of float, n
        Validation metric of each; of a pruned trial the best that it reached.
    complete : sequence of bool, n
        Whether the trial is complete, rather than pruned.
    base : float
        Value of the base stage.
    name, unit : str
        Of the metric.
    """
    numbers = np.asarray(numbers)
    values = np.asarray(values, dtype=float)
    complete = np.asarray(complete, dtype=bool)
    best = np.fmin.accumulate(np.where(complete, values, np.nan))
    figure, (axis,) = new_figure(f"{len(values)} trials, best {name} {best[-1]:.4f}", width=7)
    axis.plot(numbers[~complete], values[~complete], "x", color=GREY, markersize=4, label="pruned trial")
    axis.plot(numbers[complete], values[complete], "o", color=BLUE, markersize=4, label="complete trial")
    axis.step(numbers, best, where="post", color=RED, label="best so far")
    axis.axhline(base, color=GREY, linestyle=":", label="base stage")
    axis.set(xlabel="trial", ylabel=f"{name}, validation ({unit})")
    axis.legend()
    return figure


def parameter_importance(shares: Mapping[str, float]) -> Figure:
    """Draw the importance of each searched setting, as shares of 1, largest first."""
    figure, (axis,) = new_figure("What the validation score depends on", width=6)
    names = list(shares)[::-1]  # the first is drawn at the bottom
    axis.barh(names, [shares[name] for name in names], color=BLUE)
    axis.set(xlabel="importance (PED-ANOVA, shares of 1)", xlim=(0, 1))
    return figure


def parallel_coordinates(points: Mapping[str, Sequence[float]], values: Sequence[float], name: str) -> Figure:
    """Draw each complete trial as a line through its settings, darker for a better value.

    Parameters
    ----------
    points : mapping of setting to sequence of float, n
        The trials' settings.
    values : sequence of float, n
        Their validation metric.
    name : str
        Name of the metric.
    """
    figure, (axis,) = new_figure(f"Settings of the trials; dark: low {name}", width=9)
    worst_first = np.argsort(values)[::-1]  # so that the best is drawn on top
    heights = np.column_stack([_scale(label, raw) for label, raw in points.items()])  # [trials, settings]
    for darkness, place in zip(np.linspace(0.1, 1, len(worst_first)), worst_first):
        axis.plot(heights[place], color=str(1 - darkness))
    axis.plot(heights[worst_first[-1]], color=RED, linewidth=2, label="best")
    for column, raw in enumerate(points.values()):
        for end in {int(np.argmin(raw)), int(np.argmax(raw))}:
            axis.annotate(f"{raw[end]:.3g}", (column, heights[end, column]), textcoords="offset points", xytext=(5, 0))
    axis.set(xticks=range(len(points)), xticklabels=list(points), yticks=[])
    axis.legend()
    return figure


def slices(points: Mapping[str, Sequence[float]], values: ArrayLike, complete: ArrayLike, name: str) -> Figure:
    """Draw each trial's value against each searched setting.

    The vertical axis ends at the 90th percentile of the values, so that a few bad trials do not flatten the rest.

    Parameters
    ----------
    points : mapping of setting to sequence of float, n
        The trials' settings.
    values : sequence of float, n
        Validation metric of each; of a pruned trial the best that it reached.
    complete : sequence of bool, n
        Whether the trial is complete, rather than pruned.
    name : str
        Name of the metric.
    """
    values = np.asarray(values, dtype=float)
    complete = np.asarray(complete, dtype=bool)
    best = int(np.argmin(np.where(complete, values, np.inf)))
    top = np.quantile(values, 0.9)
    low = values[best] - max(0.1 * (top - values[best]), 0.001)
    high = max(top, 2 * values[best] - low)
    figure, axes = new_figure(f"{name} (validation) by setting", columns=len(points), width=3 * len(points))
    for axis, (label, given) in zip(axes, points.items()):
        raw = np.asarray(given, dtype=float)
        axis.plot(raw[~complete], values[~complete], "x", color=GREY, markersize=4, label="pruned")
        axis.plot(raw[complete], values[complete], "o", color=BLUE, markersize=4, label="complete")
        axis.plot(raw[best], values[best], "o", color=RED, label="best")
        axis.set(xlabel=label, ylim=(low, high))
        if label in LOGARITHMIC:
            _set_log_scale(axis, has_zero=raw.min() == 0)
    axes[0].set(ylabel=name)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3)
    return figure


def _set_log_scale(axis: Axes, has_zero: bool) -> None:
    """Make the horizontal axis logarithmic, with room for 0 if it occurs."""
    if has_zero:
        axis.set_xscale("symlog", linthresh=1e-5)
        axis.set(xlim=(-1e-5, None), xticks=[0, 1e-5, 1e-3, 1e-1])
    else:
        axis.set_xscale("log")


def _scale(label: str, raw: Sequence[float]) -> np.ndarray:
    """Map values to 0 to 1 from the smallest to the largest, by order of magnitude for logarithmic settings."""
    heights = np.asarray(raw, dtype=float)
    if label in LOGARITHMIC:
        heights = np.log10(np.maximum(heights, LOWEST_SHOWN))
    spread = np.ptp(heights) or 1.0
    return (heights - heights.min()) / spread

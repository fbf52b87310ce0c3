"""TODO tuning.figures"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from abalone.evaluation.figures import BLUE, GREY, RED, new_figure

LOGARITHMIC = ("learning_rate", "weight_decay")  # settings of which the order of magnitude counts


def optimisation_history(
    numbers: Sequence[int], values: Sequence[float], complete: Sequence[bool], base: float, name: str, unit: str
) -> Figure:
    """Value of each trial of a study by its number; of a pruned one the best that it had; and the best so far."""
    numbers, values, complete = np.asarray(numbers), np.asarray(values, dtype=float), np.asarray(complete, dtype=bool)
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
    """Share of each searched setting in how the trials' values differ."""
    figure, (axis,) = new_figure("What the validation score depends on", width=6)
    names = list(shares)[::-1]
    axis.barh(names, [shares[name] for name in names], color=BLUE)
    axis.set(xlabel="importance (PED-ANOVA, shares of 1)", xlim=(0, 1))
    return figure


def parallel_coordinates(points: Mapping[str, Sequence[float]], values: Sequence[float], name: str) -> Figure:
    """One line per complete trial through its settings; the darker, the better."""
    figure, (axis,) = new_figure(f"Settings of the trials; dark: low {name}", width=9)
    order = np.argsort(values)[::-1]  # the best on top
    heights = np.column_stack([_scale(label, raw) for label, raw in points.items()])  # [trials, settings]
    for shade, place in zip(np.linspace(0.1, 1, len(order)), order):
        axis.plot(heights[place], color=str(1 - shade))
    axis.plot(heights[order[-1]], color=RED, linewidth=2, label="best")
    for column, raw in enumerate(points.values()):
        for end in {np.argmin(raw), np.argmax(raw)}:
            axis.annotate(f"{raw[end]:.3g}", (column, heights[end, column]), textcoords="offset points", xytext=(5, 0))
    axis.set(xticks=range(len(points)), xticklabels=list(points), yticks=[])
    axis.legend()
    return figure


def slices(
    points: Mapping[str, Sequence[float]], values: Sequence[float], complete: Sequence[bool], name: str
) -> Figure:
    """Value of each trial against each searched setting; of a pruned one the best that it had."""
    values, complete = np.asarray(values, dtype=float), np.asarray(complete, dtype=bool)
    best = int(np.argmin(np.where(complete, values, np.inf)))
    top = np.quantile(values, 0.9)
    low = values[best] - max(0.1 * (top - values[best]), 0.001)
    figure, axes = new_figure(f"{name} (validation) by setting", columns=len(points), width=3 * len(points))
    for axis, (label, raw) in zip(axes, points.items()):
        raw = np.asarray(raw, dtype=float)
        axis.plot(raw[~complete], values[~complete], "x", color=GREY, markersize=4, label="pruned")
        axis.plot(raw[complete], values[complete], "o", color=BLUE, markersize=4, label="complete")
        axis.plot(raw[best], values[best], "o", color=RED, label="best")
        axis.set(xlabel=label, ylim=(low, max(top, 2 * values[best] - low)))
        if label in LOGARITHMIC:
            axis.set_xscale("symlog", linthresh=1e-5) if raw.min() == 0 else axis.set_xscale("log")
            if raw.min() == 0:
                axis.set(xlim=(-1e-5, None), xticks=[0, 1e-5, 1e-3, 1e-1])
    axes[0].set(ylabel=name)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def _scale(label: str, raw: Sequence[float]) -> np.ndarray:
    """0 to 1 from the smallest to the largest, by orders of magnitude where that is how they are searched."""
    heights = np.log10(np.maximum(raw, 1e-6)) if label in LOGARITHMIC else np.asarray(raw, dtype=float)
    return (heights - heights.min()) / (np.ptp(heights) or 1.0)

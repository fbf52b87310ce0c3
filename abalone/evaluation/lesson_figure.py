"""The lesson of the guide in one figure: overfitting, the effect of two remedies, and accuracies that hardly differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from abalone.evaluation.figures import GREEN, RED, SPLIT_COLOURS, legend_below, style_axis
from abalone.evaluation.overfitting import OVERFIT_AT, rise_of_test_loss
from abalone.evaluation.scores import accuracy_interval

DPI = 80  # three stages make a picture of 832 pixels: the UI cuts off wider pictures in a description
LINES = {"train": "training rows", "test": "test rows"}


@dataclass(frozen=True)
class LossCurves:
    """The curves of one stage.

    Parameters
    ----------
    title : str
    train, test : sequence of float
        Loss in nats, one value per epoch.
    reported_epoch : int
        Epoch of the reported model, from 1.
    """

    title: str
    train: Sequence[float]
    test: Sequence[float]
    reported_epoch: int


def lesson_figure(curves: Sequence[LossCurves], accuracies: Mapping[str, tuple[float, int]]) -> Figure:
    """Training and test loss of some stages on shared axes, and the test accuracy of all with intervals.

    Parameters
    ----------
    curves : sequence of LossCurves
        One panel each.
    accuracies : mapping of stage to (accuracy, number of test rows)
    """
    width = 2.4 * len(curves) + 3.2
    figure = Figure(figsize=(width, 4.4), dpi=DPI, layout="constrained")
    grid = figure.add_gridspec(1, len(curves) + 1)
    first = None
    for column, loss in enumerate(curves):
        axis = figure.add_subplot(grid[column], sharey=first)
        _plot_losses(axis, loss)
        if first is None:
            first = axis
            axis.set_ylabel("loss (cross-entropy, nats)")
        else:
            axis.tick_params(labelleft=False)
    _plot_accuracies(figure.add_subplot(grid[len(curves)]), accuracies)
    if first is not None:
        legend_below(figure, first)
    return figure


def _plot_losses(axis: Axes, loss: LossCurves) -> None:
    """Both curves of a stage, with the epoch from which the guide sees overfitting and the one that is reported."""
    epochs = np.arange(1, len(loss.test) + 1)
    axis.plot(epochs, loss.train, color=SPLIT_COLOURS["train"], label=LINES["train"])
    axis.plot(epochs, loss.test, color=SPLIT_COLOURS["test"], label=LINES["test"])
    label = f"epoch {OVERFIT_AT}: the guide sees overfitting"
    axis.axvline(OVERFIT_AT, color=RED, linestyle="--", linewidth=1, label=label)
    reported = loss.test[loss.reported_epoch - 1]
    label = "reported epoch (by validation)"
    axis.plot(loss.reported_epoch, reported, "o", color="black", markersize=5, label=label)
    rise = rise_of_test_loss(loss.test)
    below = f"no epochs\nafter epoch {OVERFIT_AT}"
    if rise is not None:
        below = f"test loss {rise:+.3f}\nafter epoch {OVERFIT_AT}"
    axis.set_title(f"{loss.title}\n{below}", fontsize="medium")
    axis.set(xlabel="epoch")
    style_axis(axis)


def _plot_accuracies(axis: Axes, accuracies: Mapping[str, tuple[float, int]]) -> None:
    """A point with its interval for each stage, the first on top."""
    names = list(accuracies)[::-1]
    for height, name in enumerate(names):
        accuracy, rows = accuracies[name]
        half_width = accuracy_interval(accuracy, rows)[1] - accuracy
        axis.errorbar(accuracy, height, xerr=half_width, fmt="o", color=GREEN, capsize=3)
        place: dict[str, Any] = {"xytext": (0, 7), "textcoords": "offset points", "ha": "center", "fontsize": "small"}
        axis.annotate(f"{accuracy:.3f}", (accuracy, height), **place)
    axis.set(yticks=range(len(names)), yticklabels=names, ylim=(-0.6, len(names) - 0.3))
    axis.set(xlabel="accuracy, 95 % intervals")
    axis.set_title(_accuracy_title(accuracies), fontsize="medium")
    style_axis(axis)


def _accuracy_title(accuracies: Mapping[str, tuple[float, int]]) -> str:
    """Whether all intervals overlap, and the largest difference."""
    intervals = [accuracy_interval(accuracy, rows) for accuracy, rows in accuracies.values()]
    highest_start = max(low for low, _ in intervals)
    lowest_end = min(high for _, high in intervals)
    overlap = "all intervals overlap" if highest_start <= lowest_end else "not all intervals overlap"
    values = [accuracy for accuracy, _ in accuracies.values()]
    return f"test accuracy\n{overlap}\nlargest difference {max(values) - min(values):.3f}"

"""TODO claims.figures"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from abalone.evaluation.figures import BLUE, GREEN, GREY, ORANGE, RED, new_figure


def seed_values(
    values: np.ndarray,
    interval: tuple[float, float],
    single: tuple[float, float],
    effect: str,
    expected: float,
    title: str,
) -> Figure:
    """One point per seed, their mean, and a line at no difference.

    Parameters
    ----------
    values : ndarray [S]
        Differences to another stage, or to ``expected``, which is not 0 then.
    interval, single : (float, float)
        95 % intervals of the mean, and of one split.
    effect, title : str
        What the values are, with their unit; and what they say.
    expected : float
        What the guide says.
    """
    figure, (axes,) = new_figure(title, width=8.5, height=3)
    axes.plot(values, np.linspace(-0.25, 0.25, len(values)), "o", color=GREY, markersize=4, label="one seed")
    for height, ends, colour, label in (
        (0.45, single, ORANGE, "where 95 % of single splits lie"),
        (0.7, interval, BLUE, "mean, 95 % interval of the mean"),
    ):
        axes.plot(ends, [height] * 2, "|-", color=colour, markersize=9, label=label)
    axes.plot(values.mean(), 0.7, "o", color=BLUE)
    zero = f"the guide's {expected:g}" if expected else "no difference"
    axes.axvline(0, color=RED, linestyle="--", label=zero)
    axes.spines["left"].set_visible(False)
    axes.set(yticks=[], ylim=(-0.5, 1), xlabel=f"{effect}, less {zero}" if expected else effect)
    figure.legend(loc="outside lower center", ncols=4, fontsize="small")
    return figure


def curve_bands(curves: Mapping[str, np.ndarray], label: str, title: str, marked: int) -> Figure:
    """Mean curve over the seeds with the band of their middle 80 %, of several stages [S, epochs]; an epoch marked."""
    figure, (axes,) = new_figure(title, width=8.5)
    for (name, values), colour in zip(curves.items(), (BLUE, ORANGE, GREEN)):
        epochs = np.arange(1, values.shape[1] + 1)
        low, high = np.percentile(values, [10, 90], axis=0)
        axes.plot(epochs, values.mean(0), color=colour, label=f"{name}, mean")
        axes.fill_between(epochs, low, high, color=colour, alpha=0.15, label=f"{name}, 10 to 90 % of the seeds")
    axes.axvline(marked, color=RED, linestyle="--", linewidth=1, label=f"epoch {marked}")
    axes.set(xlabel="epoch", ylabel=label)
    figure.legend(loc="outside lower center", ncols=3, fontsize="small")
    return figure


def as_address(figure: Figure) -> str:
    """The figure itself as an address, for a page that is to stand on its own."""
    content = io.BytesIO()
    figure.savefig(content, format="png")
    return "data:image/png;base64," + base64.b64encode(content.getvalue()).decode()

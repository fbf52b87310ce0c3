"""Parts of matplotlib figures, for tests of what a figure shows."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D


def lines_by_label(axis: Axes) -> dict[str, Line2D]:
    """The lines of a panel by the text that the legend shows for them."""
    return {line.get_label(): line for line in axis.lines}


def legend_texts(axis: Axes) -> list[str]:
    """The entries of a panel's legend."""
    return [text.get_text() for text in axis.get_legend().get_texts()]


def figure_legend_texts(figure: Figure) -> list[str]:
    """The entries of a figure's only legend, which stands outside the panels."""
    [legend] = figure.legends
    return [text.get_text() for text in legend.get_texts()]

"""The figure of the scores by number of rows."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.figure import Figure

from abalone.evaluation.figures import BLUE, GREEN, ORANGE, new_figure
from abalone.settings import SELECTION
from benchmarks.quality_page import TABLE_METRICS, Table

COLOURS = (BLUE, ORANGE, GREEN)


def sizes_figure(sizes: Mapping[int, Table]) -> Figure:
    """Draw the mean test score of each model by its number of training and validation rows, for both tasks."""
    figure, axes = new_figure("Test scores by number of training and validation rows", columns=2, height=3)
    for axis, (section, metric) in zip(axes, SELECTION.items()):
        smallest = next(iter(sizes.values()))
        for name, colour in zip(smallest[section], COLOURS):
            means = [table[section][name][metric].mean() for table in sizes.values()]
            axis.plot(list(sizes), means, color=colour, marker="o", label=name)
        axis.set_xscale("log", base=2)
        axis.set_xticks(list(sizes), [f"{rows:,}" for rows in sizes])
        axis.set_xlabel("rows")
        axis.set_ylabel(TABLE_METRICS[metric].label_with_unit)
    axes[0].legend(fontsize=8)
    return figure

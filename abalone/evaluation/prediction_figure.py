"""Figure of predicted ages and their intervals."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from abalone.evaluation.figures import BLUE, GREY, new_figure


def predicted_ages(sample: Sequence[tuple[float, ...]], interval: float, title: str) -> Figure:
    """Predicted ages in ascending order, each with its interval.

    Parameters
    ----------
    sample : sequence of (age, low, high) or (age,)
        In years.
    interval : float
        Share of the animals that the intervals are to hold.
    title : str
    """
    ages = np.array(sample)  # [n, 3] or [n, 1]
    ages = ages[np.argsort(ages[:, 0], kind="stable")]
    place = np.arange(1, len(ages) + 1)
    figure, [axis] = new_figure(title)
    if ages.shape[1] == 3:
        width = max(0.5, 300 / len(ages)) if len(ages) > 50 else 5
        axis.vlines(
            place, ages[:, 1], ages[:, 2], color=GREY, alpha=0.5, linewidth=width, label=f"{interval:.0%} interval"
        )
    axis.plot(place, ages[:, 0], ".", color=BLUE, markersize=4, label="predicted age")
    axis.set(xlabel="rows, by predicted age", ylabel="age (years)", ylim=(0, None))
    axis.legend(loc="upper left", frameon=False)
    return figure

"""Figures of the report on the guide's claims."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from abalone.claims.claims import CURVED, Measured
from abalone.claims.verdicts import Finding
from abalone.evaluation.figures import BLUE, GREEN, GREY, ORANGE, RED, new_figure
from abalone.evaluation.overfitting import OVERFIT_AT


def claim_figures(found: Sequence[Finding], measured: Measured) -> dict[str, Figure]:
    """One figure per judged claim, by file name: curves for the claim that a network overfits, else values by seed.

    Each title gives the claim with its verdict, because the claim alone would read like a result. A claim that was not
    judged has no figure.
    """
    curves = {stage: measured[stage]["loss/test"] for stage in CURVED}
    figures = {}
    for number, finding in enumerate(found, 1):
        if not finding.is_judged:
            continue
        claim = finding.claim
        title = f"{claim.words}: {finding.full_verdict}"
        if claim.metric == "rise" and not claim.before:
            figure = curve_bands(curves, "test loss (nats)", title, OVERFIT_AT)
        else:
            figure = seed_values(finding.values, finding.interval, finding.single, claim.effect, claim.expected, title)
        figures[figure_name(number)] = figure
    return figures


def figure_name(number: int) -> str:
    """File name of the figure of a claim, numbered from 1."""
    return f"claim_{number}.png"


def seed_values(
    values: np.ndarray,
    interval: tuple[float, float],
    single: tuple[float, float],
    effect: str,
    expected: float,
    title: str,
) -> Figure:
    """One point per seed, their mean with its interval, the range of single splits, and a line at no difference.

    Parameters
    ----------
    values : ndarray [S]
        Differences between two stages, or from ``expected``.
    interval : (float, float)
        95 % interval of the mean.
    single : (float, float)
        Range of 95 % of single splits.
    effect : str
        What was measured, with its unit.
    expected : float
        The guide's figure that the values are differences from; 0 for two stages.
    title : str
    """
    if expected:
        reference = f"the guide's {expected:g}"
        label = f"{effect}, less {reference}"
    else:
        reference = "no difference"
        label = effect
    figure, (axes,) = new_figure(title, width=8.5, height=3)
    heights = np.linspace(-0.25, 0.25, len(values))
    axes.plot(values, heights, "o", color=GREY, markersize=4, label="one seed")
    axes.plot(single, [0.45, 0.45], "|-", color=ORANGE, markersize=9, label="where 95 % of single splits lie")
    axes.plot(interval, [0.7, 0.7], "|-", color=BLUE, markersize=9, label="mean, 95 % interval of the mean")
    axes.plot(values.mean(), 0.7, "o", color=BLUE)
    axes.axvline(0, color=RED, linestyle="--", label=reference)
    axes.spines["left"].set_visible(False)
    axes.set(yticks=[], ylim=(-0.5, 1), xlabel=label)
    figure.legend(loc="outside lower center", ncols=4, fontsize="small")
    return figure


def curve_bands(curves: Mapping[str, np.ndarray], label: str, title: str, marked: int) -> Figure:
    """Mean curve of each stage over the seeds, with the band that holds the middle 80 % of them.

    Parameters
    ----------
    curves : mapping of stage to ndarray [S, epochs]
    label : str
        What the curves show, with its unit.
    title : str
    marked : int
        Epoch to mark with a line.
    """
    figure, (axes,) = new_figure(title, width=8.5)
    for (stage, values), colour in zip(curves.items(), (BLUE, ORANGE, GREEN)):
        epochs = np.arange(1, values.shape[1] + 1)
        low, high = np.percentile(values, [10, 90], axis=0)
        axes.plot(epochs, values.mean(axis=0), color=colour, label=f"{stage}, mean")
        axes.fill_between(epochs, low, high, color=colour, alpha=0.15, label=f"{stage}, 10 to 90 % of the seeds")
    axes.axvline(marked, color=RED, linestyle="--", linewidth=1, label=f"epoch {marked}")
    axes.set(xlabel="epoch", ylabel=label)
    figure.legend(loc="outside lower center", ncols=3, fontsize="small")
    return figure


def as_address(image: bytes) -> str:
    """A PNG image as a data URI, so that a page can contain it."""
    return "data:image/png;base64," + base64.b64encode(image).decode()

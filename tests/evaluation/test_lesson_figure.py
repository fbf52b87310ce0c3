"""The figure of overfitting and its remedies."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from figure_parts import figure_legend_texts, lines_by_label

from abalone.evaluation.lesson_figure import LossCurves, lesson_figure

pytestmark = pytest.mark.draws
TEST_LOSS = [0.55, 0.52, 0.51, 0.505, 0.50, 0.51, 0.52]
CURVES = [
    LossCurves("encode: no remedy", train=[0.5, 0.45, 0.4, 0.35, 0.3, 0.25, 0.2], test=TEST_LOSS, reported_epoch=5),
    LossCurves("regularize", train=TEST_LOSS, test=TEST_LOSS[::-1], reported_epoch=3),
]
CLOSE = {"classify": (0.742, 2089), "encode": (0.745, 2089)}


def test_every_stage_has_both_curves_epoch_five_and_its_reported_epoch_on_shared_axes():
    figure = lesson_figure(CURVES, CLOSE)
    *losses, _ = figure.axes
    assert len(losses) == 2
    assert len({axis.get_ylim() for axis in losses}) == 1
    for axis, curves in zip(losses, CURVES):
        drawn = lines_by_label(axis)
        assert drawn["training rows"].get_ydata().tolist() == list(curves.train)
        assert drawn["test rows"].get_ydata().tolist() == list(curves.test)
        assert list(drawn["epoch 5: the guide sees overfitting"].get_xdata()) == [5, 5]
        reported = drawn["reported epoch (by validation)"]
        assert list(reported.get_xdata()) == [curves.reported_epoch]
        assert list(reported.get_ydata()) == [curves.test[curves.reported_epoch - 1]]
    assert losses[0].get_title() == "encode: no remedy\ntest loss +0.020\nafter epoch 5"
    assert figure_legend_texts(figure)[0] == "training rows"


def test_accuracies_are_points_with_binomial_intervals():
    axis = lesson_figure(CURVES, CLOSE).axes[-1]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["encode", "classify"], "the first is on top"
    assert [text.get_text() for text in axis.texts] == ["0.745", "0.742"]
    [segment] = axis.collections[0].get_segments()
    assert np.ptp(segment[:, 0]) / 2 == pytest.approx(1.96 * np.sqrt(0.745 * 0.255 / 2089))


@pytest.mark.parametrize(
    "accuracies, says",
    [
        (CLOSE, "test accuracy\nall intervals overlap\nlargest difference 0.003"),
        ({"a": (0.70, 2089), "b": (0.75, 2089)}, "test accuracy\nnot all intervals overlap\nlargest difference 0.050"),
        ({"a": (0.70, 100), "b": (0.75, 100)}, "test accuracy\nall intervals overlap\nlargest difference 0.050"),
    ],
)
def test_the_title_says_whether_the_intervals_overlap(accuracies, says):
    assert lesson_figure(CURVES, accuracies).axes[-1].get_title() == says


def test_a_run_too_short_for_overfitting_is_drawn_and_says_so():
    short = [LossCurves("encode", train=[0.5], test=[0.5], reported_epoch=1)]
    figure = lesson_figure(short, {"encode": (0.7, 2089)})
    assert figure.axes[0].get_title() == "encode\nno epochs\nafter epoch 5"
    figure.savefig("lesson.png")
    assert Path("lesson.png").stat().st_size > 5_000


def test_the_legend_covers_nothing():
    figure = lesson_figure(CURVES, CLOSE)
    figure.draw_without_rendering()
    [legend] = figure.legends
    assert not any(axis.get_window_extent().overlaps(legend.get_window_extent()) for axis in figure.axes)

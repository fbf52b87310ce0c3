"""The figures of the report: what they show, and that titles fit."""

from __future__ import annotations

import base64

import numpy as np
import pytest
from figure_parts import lines_by_label

from abalone.claims.figures import as_address, curve_bands, seed_values
from abalone.tracking.drawing import draw

LONG_VERDICT = "The rise begins after about five epochs: not supported on these rows; undecided for another sample"


def test_seed_values_distinguish_the_mean_from_single_splits():
    values = np.array([0.1, 0.2, 0.3])
    figure = seed_values(values, (0.15, 0.25), (-0.1, 0.5), "TPR", 0.81, "verdict")
    [axis] = figure.axes
    lines = lines_by_label(axis)
    assert list(lines["one seed"].get_xdata()) == list(values)
    assert list(lines["mean, 95 % interval of the mean"].get_xdata()) == [0.15, 0.25]
    assert list(lines["where 95 % of single splits lie"].get_xdata()) == [-0.1, 0.5]
    assert list(lines["the guide's 0.81"].get_xdata()) == [0, 0]
    assert any(line.get_xdata() == pytest.approx([0.2]) for line in axis.lines), "the mean"
    assert axis.get_xlabel() == "TPR, less the guide's 0.81"
    assert figure.get_suptitle() == "verdict"


def test_seed_values_of_a_difference_have_a_line_at_no_difference():
    [axis] = seed_values(np.array([0.1, 0.2, 0.3]), (0, 1), (0, 1), "accuracy", 0.0, "verdict").axes
    assert "no difference" in lines_by_label(axis)


@pytest.mark.draws
def test_the_longest_verdict_fits_above_its_figure():
    for figure in (
        seed_values(np.arange(3.0), (0, 1), (-1, 2), "epoch", 5, LONG_VERDICT),
        curve_bands({"encode": np.ones((3, 9))}, "loss", LONG_VERDICT, 5),
    ):
        figure.draw_without_rendering()
        [title] = [text for text in figure.texts if text.get_text() == LONG_VERDICT]
        extent = title.get_window_extent()
        assert extent.x0 > 0
        assert extent.x1 < figure.bbox.x1


def test_curve_bands_name_their_bands_and_mark_the_epoch():
    values = np.random.default_rng(0).normal(size=(20, 9))
    figure = curve_bands({"encode": values, "regularize": values + 1}, "test loss (nats)", "verdict", 5)
    [axis] = figure.axes
    lines = lines_by_label(axis)
    assert list(lines["epoch 5"].get_xdata()) == [5, 5]
    assert lines["encode, mean"].get_ydata() == pytest.approx(values.mean(0))
    band = axis.collections[0]
    assert band.get_label() == "encode, 10 to 90 % of the seeds"
    assert band.get_paths()[0].vertices[:, 1].min() == pytest.approx(np.percentile(values, 10, axis=0).min())
    [legend] = figure.legends
    assert len(legend.get_texts()) == 5


def test_an_address_contains_the_whole_figure():
    figure = curve_bands({"encode": np.ones((3, 9))}, "loss", "verdict", 5)
    [image] = draw({"bands.png": figure}).values()
    kind, _, content = as_address(image).partition(",")
    assert kind == "data:image/png;base64"
    assert base64.b64decode(content, validate=True).startswith(b"\x89PNG")

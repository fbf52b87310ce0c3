"""The figures of a study: trials, the best so far, and settings."""

from __future__ import annotations

import pytest
from figure_parts import legend_texts, lines_by_label

from abalone.tuning.figures import optimisation_history, parallel_coordinates, parameter_importance, slices

VALUES = [0.50, 0.48, 0.55, 0.47]  # of four trials, the third of them pruned
COMPLETE = [True, True, False, True]
POINTS = {"learning_rate": [1e-3, 1e-2, 1e-1, 1e-2], "depth": [1, 2, 3, 4]}


def test_the_history_shows_every_trial_and_the_best_complete_one_so_far():
    figure = optimisation_history([0, 1, 2, 3], VALUES, COMPLETE, 0.49, "log_loss", "nats")
    [axis] = figure.axes
    lines = lines_by_label(axis)
    assert lines["pruned trial"].get_xydata().tolist() == [[2, 0.55]]
    assert lines["complete trial"].get_xydata().tolist() == [[0, 0.50], [1, 0.48], [3, 0.47]]
    assert lines["best so far"].get_ydata().tolist() == [0.50, 0.48, 0.48, 0.47]
    assert list(lines["base stage"].get_ydata()) == [0.49, 0.49]
    assert legend_texts(axis) == ["pruned trial", "complete trial", "best so far", "base stage"]
    assert axis.get_ylabel() == "log_loss, validation (nats)"
    assert figure.get_suptitle() == "4 trials, best log_loss 0.4700"


def test_importance_has_a_bar_per_setting_with_the_first_on_top():
    [axis] = parameter_importance({"learning_rate": 0.7, "depth": 0.3}).axes
    assert [label.get_text() for label in axis.get_yticklabels()] == ["depth", "learning_rate"]
    assert [bar.get_width() for bar in axis.patches] == [0.3, 0.7]


def test_parallel_coordinates_draw_the_best_trial_last_and_scale_rates_by_magnitude():
    complete = {name: [values[i] for i in (0, 1, 3)] for name, values in POINTS.items()}
    [axis] = parallel_coordinates(complete, [0.50, 0.48, 0.47], "log_loss").axes
    best = lines_by_label(axis)["best"]
    assert axis.lines[-1] is best
    assert best.get_ydata() == pytest.approx([1, 1])
    assert axis.lines[0].get_ydata() == pytest.approx([0, 0]), "the worst is drawn first"
    assert [label.get_text() for label in axis.get_xticklabels()] == ["learning_rate", "depth"]


def test_slices_have_a_panel_per_setting_that_marks_the_best_trial():
    figure = slices(POINTS, VALUES, COMPLETE, "log_loss")
    assert [axis.get_xlabel() for axis in figure.axes] == ["learning_rate", "depth"]
    assert [axis.get_xscale() for axis in figure.axes] == ["log", "linear"]
    for axis, best in zip(figure.axes, (1e-2, 4)):
        lines = lines_by_label(axis)
        assert [lines["best"].get_xdata()[0], lines["best"].get_ydata()[0]] == [best, 0.47]
        assert len(lines["complete"].get_xdata()) == 3
        assert len(lines["pruned"].get_xdata()) == 1


def test_slices_show_a_weight_decay_of_zero_on_a_logarithmic_axis():
    [axis] = slices({"weight_decay": [0, 1e-4, 1e-2, 1e-3]}, VALUES, COMPLETE, "log_loss").axes
    assert axis.get_xscale() == "symlog"
    low, _ = axis.get_xlim()
    assert low < 0, "zero is inside"

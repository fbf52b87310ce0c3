"""Figures: what they show, and that drawing has no side effects."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from figure_parts import figure_legend_texts, lines_by_label
from helpers import ROOT
from matplotlib.figure import Figure

from abalone.evaluation.figures import (
    confusion_matrix,
    importance_bars,
    loss_curves,
    partial_dependence_curves,
    predicted_actual,
    reliability_diagram,
    residuals,
    roc_curve,
    training_curves,
)
from abalone.model.columns import MEASUREMENTS

pytestmark = pytest.mark.draws
OLD = np.array([0, 0, 0, 0, 1, 1, 1, 1, 1, 1])
PROBABILITY = np.array([0.1, 0.2, 0.3, 0.7, 0.25, 0.5, 0.6, 0.8, 0.9, 0.95])  # 1 of 4 young, 5 of 6 old called Old
RINGS = np.array([5, 8, 10, 15])
PREDICTED = np.array([6.0, 8.0, 9.0, 19.0])
SPLITS = ("train", "val", "test")
BASELINE = {"baseline/test_log_loss": 0.7, "baseline/test_accuracy": 0.5, "baseline/test_rmse": 3.0}


def curves(score: str) -> dict[str, list[float]]:
    """Three epochs, every curve a different one."""
    names = [f"{name}/{part}" for name in ("loss", score) for part in SPLITS]
    return {name: [n + 0.3, n + 0.1, n + 0.2] for n, name in enumerate(names)}


FIGURES = {
    "accuracy curves": lambda: training_curves(curves("accuracy"), 2, BASELINE, "classify"),
    "rmse curves": lambda: training_curves(curves("rmse"), 2, BASELINE, "regress"),
    "roc": lambda: roc_curve(OLD, PROBABILITY, "classify"),
    "confusion": lambda: confusion_matrix(OLD, PROBABILITY, "classify"),
    "predicted": lambda: predicted_actual(RINGS, PREDICTED, "regress"),
    "residuals": lambda: residuals(RINGS, PREDICTED, "regress"),
    "loss": lambda: loss_curves({"loss/train": [3.0, 2.0], "loss/val": [3.1, 2.5]}, "rings"),
    "reliability": lambda: reliability_diagram({"test": np.array([[0.1, 0.2, 9], [0.9, 0.8, 9]])}, "rings"),
}


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_has_labels_and_saves_as_png(name):
    figure = FIGURES[name]()
    assert type(figure) is Figure
    assert figure.get_suptitle()
    assert all(axis.get_ylabel() for axis in figure.axes)
    figure.savefig("figure.png")
    content = Path("figure.png").read_bytes()
    assert content.startswith(b"\x89PNG")
    assert len(content) > 5_000


DRAW_WITHOUT_PYPLOT = """
import sys
import numpy as np
from abalone.evaluation.figures import roc_curve

old = np.arange(9) % 2
roc_curve(old, old * 0.9, "title").savefig(sys.argv[1])
sys.exit("matplotlib.pyplot" in sys.modules)
"""


@pytest.mark.slow
def test_drawing_does_not_import_pyplot_and_its_global_state():
    path = Path("roc.png").resolve()
    subprocess.run([sys.executable, "-c", DRAW_WITHOUT_PYPLOT, str(path)], check=True, cwd=ROOT)
    assert path.exists()


@pytest.mark.parametrize("score, label", [("accuracy", "accuracy"), ("rmse", "RMSE (rings)")])
def test_training_curves_show_three_splits_and_the_best_epoch(score, label):
    metrics = curves(score)
    figure = training_curves(metrics, 2, BASELINE, "classify")
    assert "epoch 2" in figure.get_suptitle()
    assert figure.axes[0].get_ylabel().startswith("loss (")
    assert figure.axes[1].get_ylabel() == label
    assert figure_legend_texts(figure) == [*SPLITS, "best epoch"]
    for axis, name in zip(figure.axes, ("loss", score)):
        drawn = lines_by_label(axis)
        for part in SPLITS:
            assert drawn[part].get_xdata().tolist() == [1, 2, 3]
            assert drawn[part].get_ydata().tolist() == metrics[f"{name}/{part}"]
        assert list(drawn["best epoch"].get_xdata()) == [2, 2]
        assert len({drawn[part].get_color() for part in SPLITS}) == 3


def near(loss: float, score: str, value: float) -> dict[str, list[float]]:
    """Curves of two epochs that stay near two values."""
    return {f"{name}/{part}": [v, v + 0.001] for name, v in (("loss", loss), (score, value)) for part in SPLITS}


@pytest.mark.parametrize(
    "score, first, second", [("accuracy", (0.5, 0.74), (0.45, 0.78)), ("rmse", (6, 2.5), (5.9, 2.4))]
)
def test_curves_of_different_runs_on_the_same_data_share_their_scales(score, first, second):
    figures = [training_curves(near(loss, score, value), 1, BASELINE, "x") for loss, value in (first, second)]
    for axes in zip(*(figure.axes for figure in figures), strict=True):
        assert len({axis.get_ylim() for axis in axes}) == 1
    inside = figures[0].axes[1].get_ylim()
    assert inside[0] < min(first[1], second[1]) and max(first[1], second[1]) < inside[1]


def test_a_scale_widens_for_a_curve_that_leaves_it():
    usual = training_curves(near(0.5, "accuracy", 0.74), 1, BASELINE, "x").axes[0].get_ylim()
    wide = training_curves(near(1.5, "accuracy", 0.74), 1, BASELINE, "x").axes[0].get_ylim()
    assert wide[0] == usual[0]
    assert usual[1] < 1.5 < wide[1]


def test_the_roc_curve_states_its_area_and_has_a_red_point_at_the_threshold_one_half():
    figure = roc_curve(OLD, PROBABILITY, "classify")
    (axis,) = figure.axes
    (point,) = [line for line in axis.lines if line.get_gid() == "threshold"]
    assert point.get_color() == "red"
    assert point.get_marker() == "o"
    assert (point.get_xdata()[0], point.get_ydata()[0]) == pytest.approx((1 / 4, 5 / 6))
    assert "threshold 0.5: FPR 0.25, TPR 0.83" in figure_legend_texts(figure)
    # Of 24 pairs (old, young), 20 are in order.
    assert "probabilities, AUC 0.833" in figure_legend_texts(figure)
    assert "0.833" in figure.get_suptitle()


def test_the_roc_curve_is_of_probabilities_and_passes_through_its_red_point():
    generator = np.random.default_rng(0)
    old = generator.integers(0, 2, 500)
    probability = 1 / (1 + np.exp(generator.normal(1 - 2 * old, 1.5)))
    (axis,) = roc_curve(old, probability, "classify").axes
    curve, _, point = axis.lines
    assert len(curve.get_xdata()) > 50, "a curve of hard labels has three points"
    height = np.interp(point.get_xdata()[0], curve.get_xdata(), curve.get_ydata())
    assert height == pytest.approx(point.get_ydata()[0], abs=0.01)


def test_confusion_cells_show_counts_and_shares_of_the_true_class():
    figure = confusion_matrix(OLD, PROBABILITY, "classify")
    (axis,) = figure.axes
    cells = {text.get_position(): text.get_text() for text in axis.texts}  # (predicted, true)
    assert cells == {(0, 0): "3\n75.0%", (1, 0): "1\n25.0%", (0, 1): "1\n16.7%", (1, 1): "5\n83.3%"}
    for ticks in (axis.get_xticklabels(), axis.get_yticklabels()):
        assert [tick.get_text() for tick in ticks] == ["Young", "Old"]
    assert axis.get_xlabel() == "predicted"
    assert axis.get_ylabel().startswith("true")
    assert "80.0%" in figure.get_suptitle()


def test_predicted_against_actual_has_every_row_and_the_diagonal():
    figure = predicted_actual(RINGS, PREDICTED, "regress")
    (axis,) = figure.axes
    assert axis.collections[0].get_offsets().tolist() == [[5, 6], [8, 8], [10, 9], [15, 19]]
    diagonal = lines_by_label(axis)["predicted = counted"]
    assert list(diagonal.get_xdata()) == list(diagonal.get_ydata()) == [5, 19]
    assert "RMSE 2.12" in figure.get_suptitle()  # sqrt((1 + 0 + 1 + 16) / 4)


def test_residuals_are_predicted_minus_counted():
    figure = residuals(RINGS, PREDICTED, "regress")
    scatter, histogram = figure.axes
    assert scatter.collections[0].get_offsets().tolist() == [[6, 1], [8, 0], [9, -1], [19, 4]]
    assert sum(bar.get_height() for bar in histogram.patches) == 4
    assert "+1.00" in figure.get_suptitle()


WITH_LEGENDS = [name for name in FIGURES if name not in ("confusion", "residuals")]


@pytest.mark.parametrize("name", WITH_LEGENDS)
def test_a_legend_covers_no_panel(name):
    figure = FIGURES[name]()
    figure.draw_without_rendering()
    [legend] = figure.legends
    for axis in figure.axes:
        assert axis.get_legend() is None
        assert not axis.get_window_extent().overlaps(legend.get_window_extent())


def test_importance_shows_means_and_deviations_with_the_largest_on_top():
    rises = {"rise of RMSE (rings)": {"Shell weight": np.array([1.0, 3.0]), "Sex": np.zeros(2)}}
    figure = importance_bars(rises, "rings")
    [axis] = figure.axes
    assert [label.get_text() for label in axis.get_yticklabels()] == ["Sex", "Shell weight"]
    assert [bar.get_width() for bar in axis.patches] == [0, 2]
    assert axis.get_xlabel() == "rise of RMSE (rings)"
    assert "sd of the shuffles" in figure.get_supxlabel()
    assert "stand in for" in figure.get_supxlabel()


def test_partial_dependence_has_a_panel_per_measurement_on_one_scale():
    curves = {name: (np.arange(3), np.arange(3) + shift) for shift, name in enumerate(MEASUREMENTS)}
    axes = partial_dependence_curves(curves, "rings").axes
    assert [axis.get_xlabel().split(" (")[0] for axis in axes] == list(MEASUREMENTS)
    assert len({axis.get_ylim() for axis in axes}) == 1
    assert "years" in axes[0].get_ylabel()
    # The unit of the file is mm / 200 and g / 200.
    assert [axis.get_xlabel().split(" (")[1] for axis in axes] == ["mm)"] * 3 + ["g)"] * 4
    assert all(list(axis.lines[0].get_xdata()) == [0, 200, 400] for axis in axes)


def test_a_reliability_diagram_has_the_diagonal_and_a_curve_per_split():
    bins = np.array([[0.1, 0.2, 9], [0.9, 0.8, 9]])
    figure = reliability_diagram({"val": bins, "test": bins}, "rings")
    [axis] = figure.axes
    assert set(figure_legend_texts(figure)) == {"perfect", "val", "test"}
    assert axis.get_xlim() == axis.get_ylim() == (0, 1)

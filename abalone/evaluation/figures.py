"""Figures of training curves, predictions and explanations.

Each function takes numbers and returns a matplotlib ``Figure``. Nothing is saved, and pyplot's global state stays
untouched.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from abalone.metrics import METRICS
from abalone.model.columns import CLASS_LABELS

# Colours that colour-blind readers can tell apart: Okabe & Ito (2008), Color Universal Design.
BLUE = "#0072B2"
ORANGE = "#E69F00"
GREEN = "#009E73"
RED = "#D55E00"
GREY = "#999999"
SPLIT_COLOURS = {"train": BLUE, "val": ORANGE, "test": GREEN}
# Limits of the y-axis of a curve, as shares of the baseline's loss, RMSE or share of errors.
CURVE_SHARES = {
    ("classification", "loss"): (0.58, 0.82),
    ("classification", "accuracy"): (0.36, 0.66),
    ("regression", "loss"): (0.55, 0.75),
    ("regression", "rmse"): (0.74, 0.87),
}
FILE_UNIT = 200  # lengths and weights of the data file are in mm / 200 and g / 200


def new_figure(
    title: str, columns: int = 1, width: float = 7, height: float = 4, rows: int = 1
) -> tuple[Figure, np.ndarray]:
    """Create a figure in the project's style.

    Parameters
    ----------
    title : str
        Title above all axes.
    columns, rows : int
        Grid of axes.
    width, height : float
        Size in inches.

    Returns
    -------
    figure : Figure
    axes : ndarray [rows * columns] of Axes
    """
    figure = Figure(figsize=(width, height), dpi=110, layout="constrained")
    figure.suptitle(title, fontsize=11)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes:
        style_axis(axis)
    return figure, axes


def style_axis(axis: Axes) -> None:
    """Give a panel a light grid, and no lines at the top and the right."""
    axis.grid(alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)


def training_curves(
    metrics: Mapping[str, Sequence[float]], best_epoch: int, baseline: Mapping[str, float], title: str
) -> Figure:
    """Loss, and accuracy or RMSE, of the three splits by epoch, on axes that runs on the same data share.

    Parameters
    ----------
    metrics : mapping of name to values
        ``loss/train``, ``accuracy/val``, ...; one value per epoch.
    best_epoch : int
        Epoch to mark, from 1.
    baseline : mapping of name to value
        ``baseline/test_log_loss``, ...: the test scores of the constant prediction.
    title : str
    """
    if "accuracy/val" in metrics:
        errors = {"loss": baseline["baseline/test_log_loss"], "accuracy": 1 - baseline["baseline/test_accuracy"]}
        labels = {"loss": "loss (nats)", "accuracy": METRICS["accuracy"].label_with_unit}
    else:
        rmse = baseline["baseline/test_rmse"]
        errors = {"loss": rmse**2, "rmse": rmse}
        labels = {"loss": "loss (rings²)", "rmse": METRICS["rmse"].label_with_unit}
    figure, axes = new_figure(f"{title}: lowest validation loss at epoch {best_epoch}", columns=2, width=9)
    for axis, (name, label) in zip(axes, labels.items()):
        _plot_splits(axis, metrics, name)
        axis.axvline(best_epoch, color=RED, linestyle="--", linewidth=1, label="best epoch")
        axis.set(xlabel="epoch", ylabel=label)
        _share_scale(axis, metrics, name, errors)
    legend_below(figure, axes[0])
    return figure


def _share_scale(axis: Axes, metrics: Mapping[str, Sequence[float]], name: str, errors: Mapping[str, float]) -> None:
    """Set limits of the y-axis that depend on the data alone, and widen them where a curve leaves them."""
    # A baseline depends on the data and the split, not on the stage. So limits at fixed shares of its error are the
    # same in every run on the same rows, without a look at the other runs. The shares hold the curves of the guide's
    # stages with a margin; an accuracy counts as 1 - the share of errors.
    task = "regression" if "rmse" in errors else "classification"
    low_share, high_share = CURVE_SHARES[task, name]
    low = low_share * errors[name]
    high = high_share * errors[name]
    if name == "accuracy":
        lowest_error = low
        low = 1 - high
        high = 1 - lowest_error
    values = np.concatenate([metrics.get(f"{name}/{part}", ()) for part in SPLIT_COLOURS])
    margin = 0.03 * (high - low)
    axis.set_ylim(min(low, values.min() - margin), max(high, values.max() + margin))


def legend_below(figure: Figure, axis: Axes, columns: int = 4) -> None:
    """Add the legend of a panel below all panels, where it covers no curve."""
    handles, labels = axis.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, fontsize="small")


def loss_curves(metrics: Mapping[str, Sequence[float]], title: str) -> Figure:
    """Loss by epoch of each split that has a curve.

    Parameters
    ----------
    metrics : mapping of name to values
        ``loss/train``, ``loss/val``, ``loss/test``, any of them; one value per epoch.
    title : str
    """
    figure, (axis,) = new_figure(title)
    _plot_splits(axis, metrics, "loss")
    axis.set(xlabel="epoch", ylabel="loss (nats, summed over the thresholds)")
    legend_below(figure, axis)
    return figure


def _plot_splits(axis: Axes, metrics: Mapping[str, Sequence[float]], name: str) -> None:
    """Add the curve ``name`` of each split that has one."""
    for part, colour in SPLIT_COLOURS.items():
        values = metrics.get(f"{name}/{part}", ())
        if len(values):
            axis.plot(range(1, len(values) + 1), values, color=colour, label=part)


def roc_curve(old: np.ndarray, probability: np.ndarray, title: str, part: str = "test") -> Figure:
    """ROC curve from probabilities, with the threshold 0.5 as a red point.

    Parameters
    ----------
    old : ndarray [n], int
        1 for Old, 0 for Young.
    probability : ndarray [n]
        Probability of Old.
    title : str
    part : str, default "test"
        Rows that were predicted, in the figure's title.
    """
    from sklearn import metrics

    false_positive_rates, true_positive_rates, _ = metrics.roc_curve(old, probability)
    predicted_old = probability >= 0.5
    false_positive_rate = float(predicted_old[old == 0].mean())
    true_positive_rate = float(predicted_old[old == 1].mean())
    area = metrics.roc_auc_score(old, probability)
    figure, (axis,) = new_figure(f"{title}: area under the ROC curve {area:.3f} ({part})", width=5, height=5.6)
    axis.plot(false_positive_rates, true_positive_rates, color=BLUE, label=f"probabilities, AUC {area:.3f}")
    axis.plot([0, 1], [0, 1], color=GREY, linestyle=":", label="chance, AUC 0.500")
    label = f"threshold 0.5: FPR {false_positive_rate:.2f}, TPR {true_positive_rate:.2f}"
    axis.plot(false_positive_rate, true_positive_rate, "o", color="red", label=label, gid="threshold")
    axis.set(xlabel="false positive rate (Young called Old)", ylabel="true positive rate (Old called Old)")
    legend_below(figure, axis, columns=1)
    return figure


def confusion_matrix(old: np.ndarray, probability: np.ndarray, title: str, part: str = "test") -> Figure:
    """Counts, and shares of each true class, at the threshold 0.5.

    Parameters
    ----------
    old : ndarray [n], int
        1 for Old, 0 for Young.
    probability : ndarray [n]
        Probability of Old.
    title : str
    part : str, default "test"
        Rows that were predicted, in the figure's title.
    """
    from sklearn import metrics

    predicted_old = (probability >= 0.5).astype(int)
    counts = metrics.confusion_matrix(old, predicted_old, labels=[0, 1])  # [true, predicted]
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)  # a file may hold one class only
    accuracy = np.trace(counts) / counts.sum()
    figure, (axis,) = new_figure(f"{title}: {accuracy:.1%} of {part} rows correct", width=5, height=4.5)
    axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for i, j in np.ndindex(2, 2):
        colour = "white" if shares[i, j] > 0.5 else "black"
        axis.text(j, i, f"{counts[i, j]}\n{shares[i, j]:.1%}", ha="center", va="center", color=colour, fontsize=13)
    axis.set(xticks=[0, 1], yticks=[0, 1], xticklabels=CLASS_LABELS, yticklabels=CLASS_LABELS)
    axis.set(xlabel="predicted", ylabel="true (shares are of each row)")
    axis.grid(False)
    return figure


def predicted_actual(rings: np.ndarray, predicted: np.ndarray, title: str, part: str = "test") -> Figure:
    """Predicted against counted rings.

    Parameters
    ----------
    rings, predicted : ndarray [n]
        Counted and predicted number of rings.
    title : str
    part : str, default "test"
        Rows that were predicted, in the figure's title.
    """
    rmse = np.sqrt(np.mean((predicted - rings) ** 2))
    figure, (axis,) = new_figure(f"{title}: RMSE {rmse:.2f} rings ({part})", width=5, height=5)
    axis.scatter(rings, predicted, s=8, alpha=0.3, color=BLUE, linewidths=0)
    ends = [min(rings.min(), predicted.min()), max(rings.max(), predicted.max())]
    axis.plot(ends, ends, color=RED, linestyle="--", label="predicted = counted")
    axis.set(xlabel="counted rings", ylabel="predicted rings")
    legend_below(figure, axis)
    return figure


def residuals(rings: np.ndarray, predicted: np.ndarray, title: str) -> Figure:
    """Errors against predictions, and the distribution of the errors.

    Parameters
    ----------
    rings, predicted : ndarray [n]
        Counted and predicted number of rings.
    title : str
    """
    errors = predicted - rings
    figure, (scatter, histogram) = new_figure(
        f"{title}: mean error {errors.mean():+.2f} rings, sd {errors.std():.2f}", columns=2, width=9
    )
    scatter.scatter(predicted, errors, s=8, alpha=0.3, color=BLUE, linewidths=0)
    scatter.axhline(0, color=RED, linestyle="--")
    scatter.set(xlabel="predicted rings", ylabel="predicted - counted (rings)")
    histogram.hist(errors, bins=40, color=BLUE)
    histogram.axvline(0, color=RED, linestyle="--")
    histogram.set(xlabel="predicted - counted (rings)", ylabel="rows")
    return figure


def reliability_diagram(bins: Mapping[str, np.ndarray], title: str) -> Figure:
    """Share of Old against predicted probability of Old.

    Parameters
    ----------
    bins : mapping of part to ndarray [b, 3]
        Mean probability, share of Old and number of rows of each bin, as ``reliability`` returns them.
    title : str
    """
    figure, (axis,) = new_figure(title, width=5, height=5)
    axis.plot([0, 1], [0, 1], color=GREY, linestyle=":", label="perfect")
    for part, part_bins in bins.items():
        probability, share, rows = part_bins.T
        variance = np.maximum(probability * (1 - probability), 0) / rows
        error = 1.96 * np.sqrt(variance)
        colour = SPLIT_COLOURS.get(part, BLUE)
        axis.errorbar(probability, share, yerr=error, fmt="o-", color=colour, capsize=3, label=part)
    axis.set(xlabel="probability of Old", ylabel="share of Old (bars: 1.96 standard errors)", xlim=(0, 1), ylim=(0, 1))
    legend_below(figure, axis)
    return figure


def importance_bars(rises: Mapping[str, Mapping[str, np.ndarray]], title: str) -> Figure:
    """Mean rise of one or more losses when a column is shuffled, with the standard deviation of the shuffles.

    Parameters
    ----------
    rises : mapping of label to mapping of column to ndarray [R]
        Rise of the loss in each shuffle, as ``permutation_importance`` returns it; one panel per label.
    title : str
    """
    figure, axes = new_figure(title, columns=len(rises), width=9)
    for axis, (label, columns) in zip(axes, rises.items()):
        names = sorted(columns, key=lambda name: columns[name].mean())
        means = [columns[name].mean() for name in names]
        deviations = [columns[name].std() for name in names]
        axis.barh(names, means, xerr=deviations, color=BLUE, capsize=3)
        axis.set(xlabel=label)
    figure.supxlabel(
        "Whiskers: sd of the shuffles. Correlated columns, as sizes and weights are, stand in for\n"
        "one another: each of them alone looks less important than they are together.",
        fontsize="small",
    )
    return figure


def partial_dependence_curves(curves: Mapping[str, tuple[np.ndarray, np.ndarray]], title: str) -> Figure:
    """Mean predicted age along each measurement, the others left as they are.

    Parameters
    ----------
    curves : mapping of measurement to (ndarray [P], ndarray [P])
        Values in the file's unit, and years, as ``partial_dependence`` returns them; up to 8 measurements.
    title : str
    """
    figure, axes = new_figure(title, columns=4, rows=2, width=11, height=5.5)
    for axis, (name, (values, years)) in zip(axes, curves.items()):
        axis.plot(FILE_UNIT * values, years, color=BLUE)
        unit = "g" if "weight" in name else "mm"
        axis.set(xlabel=f"{name} ({unit})")
        axis.sharey(axes[0])
    for axis in axes[::4]:
        axis.set_ylabel("predicted age (years)")
    for axis in axes[len(curves) :]:
        axis.remove()
    return figure

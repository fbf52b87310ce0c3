"""History or predictions in, matplotlib ``Figure`` out. Nothing is written and no global state is touched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from abalone.model.columns import CLASS_LABELS

# Okabe & Ito (2008), Color Universal Design.
BLUE, ORANGE, GREEN, RED, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#999999"
SPLIT_COLOURS = {"train": BLUE, "val": ORANGE, "test": GREEN}
FILE_UNIT = 200  # the data file counts in mm / 200 and g / 200


def new_figure(title: str, columns: int = 1, width: float = 7, height: float = 4, rows: int = 1):
    figure = Figure(figsize=(width, height), dpi=110, layout="constrained")
    figure.suptitle(title, fontsize=11)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes:
        axis.grid(alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes


def training_curves(metrics: Mapping[str, Sequence[float]], best_epoch: int, title: str) -> Figure:
    """Loss, and accuracy or RMSE, of the three splits by epoch; the best epoch is marked."""
    score = "accuracy" if "accuracy/val" in metrics else "rmse"
    loss_unit = "loss (nats)" if score == "accuracy" else "loss (rings²)"
    figure, axes = new_figure(f"{title}: lowest validation loss at epoch {best_epoch}", columns=2, width=9)
    for axis, name, label in zip(
        axes, ("loss", score), (loss_unit, {"accuracy": "accuracy", "rmse": "RMSE (rings)"}[score])
    ):
        for part, colour in SPLIT_COLOURS.items():
            values = metrics[f"{name}/{part}"]
            axis.plot(range(1, len(values) + 1), values, color=colour, label=part)
        axis.axvline(best_epoch, color=RED, linestyle="--", linewidth=1, label="best epoch")
        axis.set(xlabel="epoch", ylabel=label)
        axis.legend()
    return figure


def loss_curves(metrics: Mapping[str, Sequence[float]], title: str) -> Figure:
    """Loss of each split by epoch, as far as it was watched."""
    figure, (axis,) = new_figure(title)
    for part, colour in SPLIT_COLOURS.items():
        if values := metrics.get(f"loss/{part}"):
            axis.plot(range(1, len(values) + 1), values, color=colour, label=part)
    axis.set(xlabel="epoch", ylabel="loss (nats, summed over the thresholds)")
    axis.legend()
    return figure


def roc_curve(old: np.ndarray, probability: np.ndarray, title: str) -> Figure:
    """ROC from probabilities, with the threshold 0.5 as a red point."""
    from sklearn.metrics import roc_auc_score
    from sklearn.metrics import roc_curve as points

    false_rate, true_rate, _ = points(old, probability)
    at_half = [float((probability[old == label] >= 0.5).mean()) for label in (0, 1)]
    area = roc_auc_score(old, probability)
    figure, (axis,) = new_figure(f"{title}: area under the ROC curve {area:.3f} (test)", width=5, height=5)
    axis.plot(false_rate, true_rate, color=BLUE, label=f"probabilities, AUC {area:.3f}")
    axis.plot([0, 1], [0, 1], color=GREY, linestyle=":", label="chance, AUC 0.500")
    label = f"threshold 0.5: FPR {at_half[0]:.2f}, TPR {at_half[1]:.2f}"
    axis.plot(*at_half, "o", color="red", label=label, gid="threshold")
    axis.set(xlabel="false positive rate (Young called Old)", ylabel="true positive rate (Old called Old)")
    axis.legend(loc="lower right")
    return figure


def confusion_matrix(old: np.ndarray, probability: np.ndarray, title: str) -> Figure:
    """Counts, and shares of each true class, at the threshold 0.5."""
    counts = np.zeros((2, 2), dtype=int)
    np.add.at(counts, (old, (probability >= 0.5).astype(int)), 1)
    shares = counts / counts.sum(1, keepdims=True)
    right = np.trace(counts) / counts.sum()
    figure, (axis,) = new_figure(f"{title}: {right:.1%} of test rows right", width=5, height=4.5)
    axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for i, j in np.ndindex(2, 2):
        colour = "white" if shares[i, j] > 0.5 else "black"
        axis.text(j, i, f"{counts[i, j]}\n{shares[i, j]:.1%}", ha="center", va="center", color=colour, fontsize=13)
    axis.set(xticks=[0, 1], yticks=[0, 1], xticklabels=CLASS_LABELS, yticklabels=CLASS_LABELS)
    axis.set(xlabel="predicted", ylabel="true (shares are of each row)")
    axis.grid(False)
    return figure


def predicted_actual(rings: np.ndarray, predicted: np.ndarray, title: str) -> Figure:
    """Predicted against counted rings."""
    rmse = np.sqrt(np.mean((predicted - rings) ** 2))
    figure, (axis,) = new_figure(f"{title}: RMSE {rmse:.2f} rings (test)", width=5, height=5)
    axis.scatter(rings, predicted, s=8, alpha=0.3, color=BLUE, linewidths=0)
    ends = [min(rings.min(), predicted.min()), max(rings.max(), predicted.max())]
    axis.plot(ends, ends, color=RED, linestyle="--", label="predicted = counted")
    axis.set(xlabel="counted rings", ylabel="predicted rings")
    axis.legend()
    return figure


def residuals(rings: np.ndarray, predicted: np.ndarray, title: str) -> Figure:
    """Errors against predictions, and their distribution."""
    errors = predicted - rings
    figure, axes = new_figure(
        f"{title}: mean error {errors.mean():+.2f} rings, sd {errors.std():.2f}", columns=2, width=9
    )
    axes[0].scatter(predicted, errors, s=8, alpha=0.3, color=BLUE, linewidths=0)
    axes[0].axhline(0, color=RED, linestyle="--")
    axes[0].set(xlabel="predicted rings", ylabel="predicted - counted (rings)")
    axes[1].hist(errors, bins=40, color=BLUE)
    axes[1].axvline(0, color=RED, linestyle="--")
    axes[1].set(xlabel="predicted - counted (rings)", ylabel="test rows")
    return figure


def comparison(rows: Sequence[Mapping]) -> Figure:
    """Stages side by side: test accuracy of classifiers, test RMSE of regressors, each with its baseline."""
    tasks = [("accuracy", "accuracy"), ("rmse", "RMSE (rings)")]
    tasks = [task for task in tasks if any(f"{task[0]}/test" in row for row in rows)]
    figure, axes = new_figure("Stages on the test half", columns=len(tasks), width=11)
    for axis, (name, label) in zip(axes, tasks):
        shown = {row["stage"]: row for row in rows if f"{name}/test" in row}  # a stage of both tasks has a row for each
        bars = axis.bar(list(shown), [row[f"{name}/test"] for row in shown.values()], color=BLUE, width=0.6)
        axis.bar_label(bars, fmt="%.3f")
        baseline = next(iter(shown.values()))[f"baseline_{name}/test"]
        line = axis.axhline(baseline, color=RED, linestyle="--", label="baseline")
        axis.set_ylabel(f"{label}, {'higher' if name == 'accuracy' else 'lower'} is better")
        axis.tick_params(axis="x", labelrotation=20)
        axis.margins(y=0.15)
    figure.legend(handles=[line], loc="outside upper right")
    return figure


def reliability_diagram(bins: Mapping[str, np.ndarray], title: str) -> Figure:
    """Share of Old against probability of Old in bins [bins, 3] of mean probability, share and rows, by split."""
    figure, (axis,) = new_figure(title, width=5, height=5)
    axis.plot([0, 1], [0, 1], color=GREY, linestyle=":", label="perfect")
    for part, found in bins.items():
        said, share, rows = found.T
        error = 1.96 * np.sqrt(np.maximum(said * (1 - said), 0) / rows)
        axis.errorbar(said, share, yerr=error, fmt="o-", color=SPLIT_COLOURS[part], capsize=3, label=part)
    axis.set(xlabel="probability of Old", ylabel="share of Old (bars: 95 % of chance)", xlim=(0, 1), ylim=(0, 1))
    axis.legend(loc="upper left")
    return figure


def importance_bars(rises: Mapping[str, Mapping[str, np.ndarray]], title: str) -> Figure:
    """Mean rise of each loss (label to column to [repeats]) when a column is shuffled, with its standard deviation."""
    figure, axes = new_figure(title, columns=len(rises), width=9)
    for axis, (label, columns) in zip(axes, rises.items()):
        names = sorted(columns, key=lambda name: columns[name].mean())
        means, deviations = ([f(columns[name]) for name in names] for f in (np.mean, np.std))
        axis.barh(names, means, xerr=deviations, color=BLUE, capsize=3)
        axis.set(xlabel=label)
    note = "Whiskers: sd of the shuffles. Columns that say nearly the same, as sizes and weights do, stand in for\n"
    note += "one another, so that each looks less important than they are together."
    figure.supxlabel(note, fontsize="small")
    return figure


def partial_dependence_curves(curves: Mapping[str, tuple[np.ndarray, np.ndarray]], title: str) -> Figure:
    """Mean predicted age along each measurement (values, years), the others as they are."""
    figure, axes = new_figure(title, columns=4, rows=2, width=11, height=5.5)
    for axis, (name, (values, years)) in zip(axes, curves.items()):
        axis.plot(FILE_UNIT * values, years, color=BLUE)
        axis.set(xlabel=f"{name} ({'g' if 'weight' in name else 'mm'})")
        axis.sharey(axes[0])
    for axis in axes[::4]:
        axis.set_ylabel("predicted age (years)")
    for axis in axes[len(curves) :]:
        axis.remove()
    return figure

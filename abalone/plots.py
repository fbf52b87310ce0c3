"""History or predictions in, matplotlib ``Figure`` out. Nothing is written and no global state is touched."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from abalone.columns import CLASS_LABELS

# Okabe & Ito (2008), Color Universal Design.
BLUE, ORANGE, GREEN, RED, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#999999"
LOGARITHMIC = ("learning_rate", "weight_decay")  # settings of which the order of magnitude counts
SPLIT_COLOURS = {"train": BLUE, "val": ORANGE, "test": GREEN}
FILE_UNIT = 200  # the data file counts in mm / 200 and g / 200


def training_curves(metrics: Mapping[str, Sequence[float]], best_epoch: int, title: str) -> Figure:
    """Loss, and accuracy or RMSE, of the three splits by epoch; the best epoch is marked."""
    score = "accuracy" if "accuracy/val" in metrics else "rmse"
    loss_unit = "loss (nats)" if score == "accuracy" else "loss (rings²)"
    figure, axes = _figure(f"{title}: lowest validation loss at epoch {best_epoch}", columns=2, width=9)
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


def roc_curve(old: np.ndarray, probability: np.ndarray, title: str) -> Figure:
    """ROC from probabilities, with the threshold 0.5 as a red point."""
    from sklearn.metrics import roc_auc_score
    from sklearn.metrics import roc_curve as points

    false_rate, true_rate, _ = points(old, probability)
    at_half = [float((probability[old == label] >= 0.5).mean()) for label in (0, 1)]
    area = roc_auc_score(old, probability)
    figure, (axis,) = _figure(f"{title}: area under the ROC curve {area:.3f} (test)", width=5, height=5)
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
    figure, (axis,) = _figure(f"{title}: {right:.1%} of test rows right", width=5, height=4.5)
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
    figure, (axis,) = _figure(f"{title}: RMSE {rmse:.2f} rings (test)", width=5, height=5)
    axis.scatter(rings, predicted, s=8, alpha=0.3, color=BLUE, linewidths=0)
    ends = [min(rings.min(), predicted.min()), max(rings.max(), predicted.max())]
    axis.plot(ends, ends, color=RED, linestyle="--", label="predicted = counted")
    axis.set(xlabel="counted rings", ylabel="predicted rings")
    axis.legend()
    return figure


def residuals(rings: np.ndarray, predicted: np.ndarray, title: str) -> Figure:
    """Errors against predictions, and their distribution."""
    errors = predicted - rings
    figure, axes = _figure(f"{title}: mean error {errors.mean():+.2f} rings, sd {errors.std():.2f}", columns=2, width=9)
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
    figure, axes = _figure("Stages on the test half", columns=len(tasks), width=11)
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


def _figure(title: str, columns: int = 1, width: float = 7, height: float = 4, rows: int = 1):
    figure = Figure(figsize=(width, height), dpi=110, layout="constrained")
    figure.suptitle(title, fontsize=11)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes:
        axis.grid(alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes


def seed_values(
    values: np.ndarray,
    interval: tuple[float, float],
    single: tuple[float, float],
    effect: str,
    expected: float,
    title: str,
) -> Figure:
    """One point per seed, their mean, and a line at no difference.

    Parameters
    ----------
    values : ndarray [S]
        Differences to another stage, or to ``expected``, which is not 0 then.
    interval, single : (float, float)
        95 % intervals of the mean, and of one split.
    effect, title : str
        What the values are, with their unit; and what they say.
    expected : float
        What the guide says.
    """
    figure, (axes,) = _figure(title, width=8.5, height=3)
    axes.plot(values, np.linspace(-0.25, 0.25, len(values)), "o", color=GREY, markersize=4, label="one seed")
    for height, ends, colour, label in (
        (0.45, single, ORANGE, "where 95 % of single splits lie"),
        (0.7, interval, BLUE, "mean, 95 % interval of the mean"),
    ):
        axes.plot(ends, [height] * 2, "|-", color=colour, markersize=9, label=label)
    axes.plot(values.mean(), 0.7, "o", color=BLUE)
    zero = f"the guide's {expected:g}" if expected else "no difference"
    axes.axvline(0, color=RED, linestyle="--", label=zero)
    axes.spines["left"].set_visible(False)
    axes.set(yticks=[], ylim=(-0.5, 1), xlabel=f"{effect}, less {zero}" if expected else effect)
    figure.legend(loc="outside lower center", ncols=4, fontsize="small")
    return figure


def curve_bands(curves: Mapping[str, np.ndarray], label: str, title: str, marked: int) -> Figure:
    """Mean curve over the seeds with the band of their middle 80 %, of several stages [S, epochs]; an epoch marked."""
    figure, (axes,) = _figure(title, width=8.5)
    for (name, values), colour in zip(curves.items(), (BLUE, ORANGE, GREEN)):
        epochs = np.arange(1, values.shape[1] + 1)
        low, high = np.percentile(values, [10, 90], axis=0)
        axes.plot(epochs, values.mean(0), color=colour, label=f"{name}, mean")
        axes.fill_between(epochs, low, high, color=colour, alpha=0.15, label=f"{name}, 10 to 90 % of the seeds")
    axes.axvline(marked, color=RED, linestyle="--", linewidth=1, label=f"epoch {marked}")
    axes.set(xlabel="epoch", ylabel=label)
    figure.legend(loc="outside lower center", ncols=3, fontsize="small")
    return figure


def as_address(figure: Figure) -> str:
    """The figure itself as an address, for a page that is to stand on its own."""
    content = io.BytesIO()
    figure.savefig(content, format="png")
    return "data:image/png;base64," + base64.b64encode(content.getvalue()).decode()


def optimisation_history(
    numbers: Sequence[int], values: Sequence[float], complete: Sequence[bool], base: float, name: str, unit: str
) -> Figure:
    """Value of each trial of a study by its number; of a pruned one the best that it had; and the best so far."""
    numbers, values, complete = np.asarray(numbers), np.asarray(values, dtype=float), np.asarray(complete, dtype=bool)
    best = np.fmin.accumulate(np.where(complete, values, np.nan))
    figure, (axis,) = _figure(f"{len(values)} trials, best {name} {best[-1]:.4f}", width=7)
    axis.plot(numbers[~complete], values[~complete], "x", color=GREY, markersize=4, label="pruned trial")
    axis.plot(numbers[complete], values[complete], "o", color=BLUE, markersize=4, label="complete trial")
    axis.step(numbers, best, where="post", color=RED, label="best so far")
    axis.axhline(base, color=GREY, linestyle=":", label="base stage")
    axis.set(xlabel="trial", ylabel=f"{name}, validation ({unit})")
    axis.legend()
    return figure


def parameter_importance(shares: Mapping[str, float]) -> Figure:
    """Share of each searched setting in how the trials' values differ."""
    figure, (axis,) = _figure("What the validation score depends on", width=6)
    names = list(shares)[::-1]
    axis.barh(names, [shares[name] for name in names], color=BLUE)
    axis.set(xlabel="importance (PED-ANOVA, shares of 1)", xlim=(0, 1))
    return figure


def parallel_coordinates(points: Mapping[str, Sequence[float]], values: Sequence[float], name: str) -> Figure:
    """One line per complete trial through its settings; the darker, the better."""
    figure, (axis,) = _figure(f"Settings of the trials; dark: low {name}", width=9)
    order = np.argsort(values)[::-1]  # the best on top
    heights = np.column_stack([_scale(label, raw) for label, raw in points.items()])  # [trials, settings]
    for shade, place in zip(np.linspace(0.1, 1, len(order)), order):
        axis.plot(heights[place], color=str(1 - shade))
    axis.plot(heights[order[-1]], color=RED, linewidth=2, label="best")
    for column, raw in enumerate(points.values()):
        for end in {np.argmin(raw), np.argmax(raw)}:
            axis.annotate(f"{raw[end]:.3g}", (column, heights[end, column]), textcoords="offset points", xytext=(5, 0))
    axis.set(xticks=range(len(points)), xticklabels=list(points), yticks=[])
    axis.legend()
    return figure


def slices(
    points: Mapping[str, Sequence[float]], values: Sequence[float], complete: Sequence[bool], name: str
) -> Figure:
    """Value of each trial against each searched setting; of a pruned one the best that it had."""
    values, complete = np.asarray(values, dtype=float), np.asarray(complete, dtype=bool)
    best = int(np.argmin(np.where(complete, values, np.inf)))
    top = np.quantile(values, 0.9)
    low = values[best] - max(0.1 * (top - values[best]), 0.001)
    figure, axes = _figure(f"{name} (validation) by setting", columns=len(points), width=3 * len(points))
    for axis, (label, raw) in zip(axes, points.items()):
        raw = np.asarray(raw, dtype=float)
        axis.plot(raw[~complete], values[~complete], "x", color=GREY, markersize=4, label="pruned")
        axis.plot(raw[complete], values[complete], "o", color=BLUE, markersize=4, label="complete")
        axis.plot(raw[best], values[best], "o", color=RED, label="best")
        axis.set(xlabel=label, ylim=(low, max(top, 2 * values[best] - low)))
        if label in LOGARITHMIC:
            axis.set_xscale("symlog", linthresh=1e-5) if raw.min() == 0 else axis.set_xscale("log")
            if raw.min() == 0:
                axis.set(xlim=(-1e-5, None), xticks=[0, 1e-5, 1e-3, 1e-1])
    axes[0].set(ylabel=name)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def _scale(label: str, raw: Sequence[float]) -> np.ndarray:
    """0 to 1 from the smallest to the largest, by orders of magnitude where that is how they are searched."""
    heights = np.log10(np.maximum(raw, 1e-6)) if label in LOGARITHMIC else np.asarray(raw, dtype=float)
    return (heights - heights.min()) / (np.ptp(heights) or 1.0)


def loss_curves(metrics: Mapping[str, Sequence[float]], title: str) -> Figure:
    """Loss of each split by epoch, as far as it was watched."""
    figure, (axis,) = _figure(title)
    for part, colour in SPLIT_COLOURS.items():
        if values := metrics.get(f"loss/{part}"):
            axis.plot(range(1, len(values) + 1), values, color=colour, label=part)
    axis.set(xlabel="epoch", ylabel="loss (nats, summed over the thresholds)")
    axis.legend()
    return figure


def reliability_diagram(bins: Mapping[str, np.ndarray], title: str) -> Figure:
    """Share of Old against probability of Old in bins [bins, 3] of mean probability, share and rows, by split."""
    figure, (axis,) = _figure(title, width=5, height=5)
    axis.plot([0, 1], [0, 1], color=GREY, linestyle=":", label="perfect")
    for part, found in bins.items():
        said, share, rows = found.T
        error = 1.96 * np.sqrt(np.maximum(said * (1 - said), 0) / rows)
        axis.errorbar(said, share, yerr=error, fmt="o-", color=SPLIT_COLOURS[part], capsize=3, label=part)
    axis.set(xlabel="probability of Old", ylabel="share of Old (bars: 95 % of chance)", xlim=(0, 1), ylim=(0, 1))
    axis.legend(loc="upper left")
    return figure


def permutation_importance(rises: Mapping[str, Mapping[str, np.ndarray]], title: str) -> Figure:
    """Mean rise of each loss (label to column to [repeats]) when a column is shuffled, with its standard deviation."""
    figure, axes = _figure(title, columns=len(rises), width=9)
    for axis, (label, columns) in zip(axes, rises.items()):
        names = sorted(columns, key=lambda name: columns[name].mean())
        means, deviations = ([f(columns[name]) for name in names] for f in (np.mean, np.std))
        axis.barh(names, means, xerr=deviations, color=BLUE, capsize=3)
        axis.set(xlabel=label)
    note = "Whiskers: sd of the shuffles. Columns that say nearly the same, as sizes and weights do, stand in for\n"
    note += "one another, so that each looks less important than they are together."
    figure.supxlabel(note, fontsize="small")
    return figure


def partial_dependence(curves: Mapping[str, tuple[np.ndarray, np.ndarray]], title: str) -> Figure:
    """Mean predicted age along each measurement (values, years), the others as they are."""
    figure, axes = _figure(title, columns=4, rows=2, width=11, height=5.5)
    for axis, (name, (values, years)) in zip(axes, curves.items()):
        axis.plot(FILE_UNIT * values, years, color=BLUE)
        axis.set(xlabel=f"{name} ({'g' if 'weight' in name else 'mm'})")
        axis.sharey(axes[0])
    for axis in axes[::4]:
        axis.set_ylabel("predicted age (years)")
    for axis in axes[len(curves) :]:
        axis.remove()
    return figure

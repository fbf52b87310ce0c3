"""The stage ``rings`` as a tracked run: one distribution of the number of rings, logged as two models.

One ensemble gives both answers, so the run carries both tasks in its tag ``task``, separated by a comma; promotion
looks for a task within that tag.

Validation scores come from a fit on the training rows. With ``refit``, a second fit with the same settings adds the
validation rows; its models are logged, and scored once on test. The last epoch is reported, not the best one: the
weights are an exponential moving average over the steps, which makes early stopping unnecessary, and the second fit has
no rows left to choose an epoch with. ``best_epoch``, the lowest validation loss of the first fit, is only shown.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from torch import Tensor

from abalone.data.labels import is_old
from abalone.data.loading import LoadedData, load_data
from abalone.evaluation.calibration import calibration_error, coverage, reliability
from abalone.evaluation.distribution_scores import distribution_scores, ring_frequencies
from abalone.evaluation.explanations import partial_dependence, permutation_importance
from abalone.evaluation.figures import importance_bars, loss_curves, partial_dependence_curves, reliability_diagram
from abalone.evaluation.scores import mean_loss, row_losses
from abalone.metrics import METRICS
from abalone.model.networks import RingClassifier, RingDistribution, RingRegressor
from abalone.settings import (
    MODEL_KINDS,
    PREDICTION_COLUMNS,
    RINGS,
    SELECTION,
    TASKS,
    RingsSettings,
    StageSettings,
    read_toml,
)
from abalone.stages.earlier_runs import EarlierRun, find_earlier
from abalone.stages.page_parts import say_how_to_promote
from abalone.stages.recorder import (
    Result,
    TrainedModel,
    Training,
    final_metrics,
    prediction_figures,
    record_training,
    training_run,
)
from abalone.stages.rings_page import RingsFacts, few_rows_text, rings_page
from abalone.tracking.runs import RunOptions, experiment_id_of
from abalone.training.ahead import Wait, begin_rings
from abalone.training.history import Curves
from abalone.training.progress import training_progress
from abalone.training.ring_ensemble import answers, count_probabilities, fit_rings
from abalone.training.ring_schedule import with_schedule

STAGE = "rings"
COMPARED_STAGES = ("encode", "regress")  # of the guide, one for each task
NETWORKS = {"classification": RingClassifier, "regression": RingRegressor}

Answers = Mapping[str, np.ndarray]  # by column of the prediction tables


def run_rings(
    settings: RingsSettings,
    options: RunOptions = RunOptions(),
    say: Callable[[str], None] | None = None,
    begun: Mapping[str, Wait] | None = None,
) -> Result:
    """Train, evaluate and track the distribution of rings.

    Parameters
    ----------
    settings : RingsSettings
        What is trained.
    options : RunOptions
        Where the run is filed.
    say : callable, optional
        Takes a line before each training, where there is no terminal for a bar.
    begun : mapping, optional
        The fits that workers have begun already; see ``begin_rings``.
    """
    began = time.perf_counter()
    both_tasks = ", ".join(TASKS)
    with training_run(STAGE, STAGE, both_tasks, RINGS, options) as run_id:
        data = load_data(settings.data, settings.seed, settings.units, settings.target)
        if say and data.dataset.understood:
            say(data.dataset.understood)
        split = data.split
        # Read before the training, while the tracking server answers.
        experiment_id = experiment_id_of(run_id)
        compared = _find_guide_runs(run_id, settings, split.fingerprint)
        begun = begun or begin_rings(settings)
        validated, curves = _fit(STAGE, settings, data, split.train, split.val, say, begun.get("validation"))
        fitted = split.train
        logged = validated
        if settings.refit:
            fitted = np.concatenate([split.train, split.val])
            logged, _ = _fit(f"{STAGE}, refit", settings, data, fitted, None, say, begun.get("refit"))
        epochs = int(with_schedule(settings, len(split.train)).epochs)
        predicted = {"val": answers(validated, data.x[split.val]), "test": answers(logged, data.x[split.test])}

        shares = {
            "val": count_probabilities(validated, data.x[split.val]),
            "test": count_probabilities(logged, data.x[split.test]),
        }

        models = {}
        for task in TASKS:
            metrics = _final_metrics(task, "val", data, predicted["val"], split.train)
            metrics |= _final_metrics(task, "test", data, predicted["test"], fitted)
            if task == "regression":
                metrics |= _distribution_metrics("val", data, shares["val"], split.train)
                metrics |= _distribution_metrics("test", data, shares["test"], fitted)
            models[task] = _trained_model(task, logged, settings, metrics)
        training = Training(
            stage=STAGE,
            settings=settings,
            data=data,
            curves=curves,
            predicted=predicted,
            fitted=fitted,
            epochs={"best_epoch": 1 + int(np.argmin(curves["loss/val"])), "reported_epoch": epochs},
            models=models,
        )
        warning = few_rows_text(len(fitted))
        if warning and say:
            say(f"{STAGE}: {warning}")
        figures = {"curves.png": loss_curves(curves, f"{STAGE}: loss of the fit on the training rows")}
        figures |= _prediction_figures(data, predicted)
        figures |= _explanation_figures(validated, logged, data)

        def page(model_ids: Mapping[str, str]) -> str:
            return rings_page(
                RingsFacts(
                    settings=settings,
                    metrics=training.metrics,
                    epochs=epochs,
                    fitted_rows=len(fitted),
                    test_rows=len(split.test),
                    experiment_id=experiment_id,
                    run_id=run_id,
                    model_ids=model_ids,
                    understood=data.dataset.understood,
                    compared=compared,
                )
            )

        record_training(training, figures, page)
    say_how_to_promote(settings, say)
    return Result(
        stage=STAGE,
        task=both_tasks,
        seconds=time.perf_counter() - began,
        metrics=training.metrics,
        run_id=run_id,
        test_rows=len(split.test),
    )


def _fit(
    name: str,
    settings: RingsSettings,
    data: LoadedData,
    rows: np.ndarray,
    watched: np.ndarray | None,
    say: Callable[[str], None] | None,
    begun: Wait | None,
) -> tuple[RingDistribution, Curves]:
    """Wait for a fit that a worker has begun, or do it here."""
    epochs = int(with_schedule(settings, len(rows)).epochs)
    with training_progress(name, epochs, len(rows), say) as after_epoch:
        if begun:
            return begun()
        return fit_rings(settings, data.x, data.rings, rows, watched, after_epoch)


def _find_guide_runs(run_id: str, settings: RingsSettings, fingerprint: str) -> list[EarlierRun]:
    """The newest runs of the guide's stages for both tasks, on the same split and with their own default settings."""
    found = []
    for stage in COMPARED_STAGES:
        theirs = StageSettings.from_mapping({**read_toml(stage), "seed": settings.seed})
        earlier = find_earlier(run_id, stage, theirs, fingerprint)
        if earlier:
            found.append(earlier)
    return found


def _final_metrics(task: str, part: str, data: LoadedData, predicted: Answers, fitted: np.ndarray) -> dict[str, float]:
    """Scores and baselines of a task on one part, with the calibration error or the coverage of the intervals."""
    rings = data.rings[data.split.scored()[part]]
    metrics = final_metrics(task, part, data, predicted[PREDICTION_COLUMNS[task]], fitted, predicted["rings_median"])
    if task == "classification":
        metrics[f"{part}/ece"] = calibration_error(is_old(rings), predicted["probability_old"])
    else:
        metrics[f"{part}/coverage80"] = coverage(rings, predicted["rings_low"], predicted["rings_high"])
    return metrics


def _distribution_metrics(part: str, data: LoadedData, shares: np.ndarray, fitted: np.ndarray) -> dict[str, float]:
    """CRPS and log score of P(rings = r) [n, 29], and of the frequencies of the fitted rows as their baseline."""
    rings = data.rings[data.split.scored()[part]]
    frequencies = np.broadcast_to(ring_frequencies(data.rings[fitted]), shares.shape)
    metrics = {f"{part}/{name}": value for name, value in distribution_scores(shares, rings).items()}
    for name, value in distribution_scores(frequencies, rings).items():
        metrics[f"baseline/{part}_{name}"] = value
    return metrics


def _trained_model(
    task: str, distribution: RingDistribution, settings: RingsSettings, metrics: Mapping[str, float]
) -> TrainedModel:
    return TrainedModel(
        module=NETWORKS[task](distribution).eval(),
        config=settings.model_config(task),
        name=f"{STAGE}-{MODEL_KINDS[task]}",
        params={"task": task, **settings.as_text()},
        scores=metrics,
    )


def _prediction_figures(data: LoadedData, predicted: Mapping[str, Answers]) -> dict[str, Any]:
    """The figures of both tasks, and the reliability of the probabilities on both parts."""
    figures: dict[str, Any] = {}
    for task, column in PREDICTION_COLUMNS.items():
        figures |= prediction_figures(task, data.rings[data.split.test], predicted["test"][column], STAGE)
    bins = {}
    errors = {}
    for part, rows in data.split.scored().items():
        old = is_old(data.rings[rows])
        probability = predicted[part]["probability_old"]
        bins[part] = reliability(old, probability)
        errors[part] = calibration_error(old, probability)
    title = f"{STAGE}: expected calibration error {errors['val']:.3f} (val), {errors['test']:.3f} (test)"
    figures["reliability.png"] = reliability_diagram(bins, title)
    return figures


def _explanation_figures(validated: RingDistribution, logged: RingDistribution, data: LoadedData) -> dict[str, Any]:
    """What the predictions for the validation rows depend on.

    Importance is measured on the first fit, which has not seen these rows.
    """
    x = data.x[data.split.val]
    rings = data.rings[data.split.val]

    def losses(rows: Tensor) -> dict[str, float]:
        predicted = answers(validated, rows)
        found = {}
        for task, metric in SELECTION.items():
            label = f"rise of {METRICS[metric].label_with_unit}"
            errors = row_losses(task, rings, predicted[PREDICTION_COLUMNS[task]])
            found[label] = float(mean_loss(task, errors))
        return found

    rises = permutation_importance(losses, x)
    curves = partial_dependence(RingRegressor(logged), x)
    return {
        "importance.png": importance_bars(rises, f"{STAGE}: a column shuffled among the validation rows"),
        "partial_dependence.png": partial_dependence_curves(curves, f"{STAGE}: mean predicted age by one measurement"),
    }

"""The stage ``rings``: one distribution of rings, one tracked run, two models."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from abalone.data.labels import is_old
from abalone.data.loading import LoadedData, load_data
from abalone.evaluation.calibration import calibration_error, coverage, reliability
from abalone.evaluation.explanations import partial_dependence, permutation_importance
from abalone.evaluation.figures import importance_bars, loss_curves, partial_dependence_curves, reliability_diagram
from abalone.evaluation.scores import scores
from abalone.model.networks import RingClassifier, RingDistribution, RingRegressor
from abalone.settings import MODEL_KINDS, PREDICTION_COLUMNS, RINGS, TASKS, RingsSettings
from abalone.stages.pages import rings_card
from abalone.stages.recorder import (
    Result,
    TrainedModel,
    Training,
    final_metrics,
    log_models,
    prediction_figures,
    record_training,
)
from abalone.tracking.runs import RunOptions, tracked_run
from abalone.training.ring_ensemble import answers, fit_rings

STAGE = "rings"
HEADS = {"classification": RingClassifier, "regression": RingRegressor}

Answers = Mapping[str, np.ndarray]


def run_rings(settings: RingsSettings, options: RunOptions = RunOptions()) -> Result:
    """Train, evaluate and track the distribution of rings.

    Validation scores come from a fit on the training rows only. With ``refit``, the models that are logged and scored
    on test come from a second fit with the same settings, on training and validation rows.

    Parameters
    ----------
    settings : RingsSettings
        What is trained.
    options : RunOptions
        Where the run is filed.
    """
    began = time.perf_counter()
    tags = {"stage": STAGE, "task": ", ".join(TASKS), "guide_section": RINGS.guide}
    with tracked_run(STAGE, tags, options) as run_id:
        data = load_data(settings.data, settings.seed)
        split = data.split
        validated, curves = fit_rings(settings, data.x, data.rings, split.train, split.val)
        known = split.train
        logged = validated
        if settings.refit:
            known = np.concatenate([split.train, split.val])
            logged, _ = fit_rings(settings, data.x, data.rings, known)
        predicted = {"val": answers(validated, data.x[split.val]), "test": answers(logged, data.x[split.test])}

        models = {}
        for task in TASKS:
            final = _final_metrics(task, "val", data, predicted["val"], split.train)
            final |= _final_metrics(task, "test", data, predicted["test"], known)
            models[task] = _trained_model(task, logged, settings, final)
        training = Training(
            stage=STAGE,
            settings=settings,
            data=data,
            curves=curves,
            predicted=predicted,
            epochs={"best_epoch": 1 + int(np.argmin(curves["loss/val"])), "reported_epoch": settings.epochs},
            models=models,
        )
        figures = {"curves.png": loss_curves(curves, f"{STAGE}: loss of the fit on the training rows")}
        figures |= _prediction_figures(data, predicted)
        figures |= _explanation_figures(validated, logged, data)

        model_ids = log_models(training)
        uris = {task: f"models:/{model_id}" for task, model_id in model_ids.items()}
        page = rings_card(settings, training.metrics, uris)
        record_training(run_id, training, model_ids, figures, page)
    return Result(STAGE, ", ".join(TASKS), time.perf_counter() - began, training.metrics, run_id)


def _final_metrics(task: str, part: str, data: LoadedData, predicted: Answers, known: np.ndarray) -> dict[str, float]:
    """Scores and baselines of a task on one part, and how far its probabilities or intervals can be believed."""
    rings = data.rings[getattr(data.split, part)]
    found = final_metrics(task, part, rings, predicted[PREDICTION_COLUMNS[task]], data.rings[known])
    if task == "classification":
        found[f"ece/{part}"] = calibration_error(is_old(rings), predicted["probability_old"])
    else:
        found[f"coverage80/{part}"] = coverage(rings, predicted["rings_low"], predicted["rings_high"])
    return found


def _trained_model(
    task: str, distribution: RingDistribution, settings: RingsSettings, final: Mapping[str, float]
) -> TrainedModel:
    config = settings.model_config(task)
    params = {"task": task, **settings.as_text()}
    return TrainedModel(HEADS[task](distribution).eval(), config, MODEL_KINDS[task], params, final)


def _prediction_figures(data: LoadedData, predicted: Mapping[str, Answers]) -> dict[str, Any]:
    figures = {}
    for task, column in PREDICTION_COLUMNS.items():
        figures |= prediction_figures(task, data.rings[data.split.test], predicted["test"][column], STAGE)
    bins = {}
    errors = {}
    for part, answered in predicted.items():
        old = is_old(data.rings[getattr(data.split, part)])
        bins[part] = reliability(old, answered["probability_old"])
        errors[part] = calibration_error(old, answered["probability_old"])
    title = f"{STAGE}: expected calibration error {errors['val']:.3f} (val), {errors['test']:.3f} (test)"
    figures["reliability.png"] = reliability_diagram(bins, title)
    return figures


def _explanation_figures(validated: RingDistribution, logged: RingDistribution, data: LoadedData) -> dict[str, Any]:
    """What the predictions of the validation rows depend on; importance is of the fit that has not seen them."""
    x = data.x[data.split.val]
    rings = data.rings[data.split.val]
    rises = {
        "rise of log loss (nats)": _importance("classification", "log_loss", validated, x, rings),
        "rise of RMSE (rings)": _importance("regression", "rmse", validated, x, rings),
    }
    curves = partial_dependence(RingRegressor(logged), x)
    return {
        "importance.png": importance_bars(rises, f"{STAGE}: a column shuffled among the validation rows"),
        "partial_dependence.png": partial_dependence_curves(curves, f"{STAGE}: mean predicted age by one measurement"),
    }


def _importance(
    task: str, metric: str, distribution: RingDistribution, x: Tensor, rings: np.ndarray
) -> dict[str, np.ndarray]:
    def loss(predicted: np.ndarray) -> float:
        return scores(task, rings, predicted)[metric]

    return permutation_importance(HEADS[task](distribution), x, loss)

"""The stage ``rings``: one ring distribution, one tracked run, two models."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from torch import Tensor

from abalone import plots, tracking
from abalone.cards import TABLE_HEADER, markdown_table, rings_card, stage_rows
from abalone.config import KINDS, RINGS, TASKS, RingsExperiment
from abalone.dataset import is_old, read, split
from abalone.evaluation import calibration_error, coverage, reliability, scores
from abalone.explain import partial_dependence, permutation_importance
from abalone.features import encode
from abalone.models import RingClassifier, RingDistribution, RingRegressor
from abalone.rings import answer, fit_rings
from abalone.selection import PREDICTED
from abalone.stages import Result, command, final_metrics, prediction_figures, prediction_table, to_toml

STAGE = "rings"
MODELS = {"classification": RingClassifier, "regression": RingRegressor}

Answers = Mapping[str, np.ndarray]


def run_rings(experiment: RingsExperiment, **run_options: Any) -> Result:
    """Train, evaluate and track the ring distribution.

    Scores on validation are those of a fit on the training rows only. With ``refit``, the models that are logged and
    scored on test come from a second fit with the same settings, on training and validation rows.

    Parameters
    ----------
    experiment : RingsExperiment
        The settings.
    **run_options
        ``experiment_name``, ``run_name``, ``nested``, as ``tracking.run`` takes them.
    """
    began = time.perf_counter()
    tags = {"stage": STAGE, "task": ", ".join(TASKS), "guide_section": RINGS.guide}
    with tracking.run(STAGE, tags, **run_options) as run_id:
        dataset = read(experiment.data)
        rows = split(dataset, experiment.seed)
        x, rings = encode(dataset.frame), dataset.frame["Rings"].to_numpy()
        validated, curves = fit_rings(experiment, x, rings, rows.train, rows.val)
        known = np.concatenate([rows.train, rows.val]) if experiment.refit else rows.train
        logged = fit_rings(experiment, x, rings, known)[0] if experiment.refit else validated
        truth = {"val": rings[rows.val], "test": rings[rows.test]}
        said = {"val": answer(validated, x[rows.val]), "test": answer(logged, x[rows.test])}
        final = {
            task: _metrics(task, "val", truth["val"], said["val"], rings[rows.train])
            | _metrics(task, "test", truth["test"], said["test"], rings[known])
            for task in TASKS
        }
        epochs = {"best_epoch": 1 + int(np.argmin(curves["loss/val"])), "reported_epoch": experiment.epochs}
        metrics = epochs | final["classification"] | final["regression"]
        params = experiment.as_text()
        ids = {task: _log_model(task, logged, experiment, dataset.frame.iloc[rows.train[:3]]) for task in TASKS}
        tables = {part: prediction_table(dataset.frame, getattr(rows, part), said[part]) for part in said}
        table_tag = tracking.log_files(
            run_id,
            texts={"experiment.toml": to_toml(experiment), "command.txt": command(STAGE, params)},
            figures=_figures(curves, truth, said) | _explanations(validated, logged, x[rows.val], truth["val"]),
            tables={f"predictions/{part}.json": table for part, table in tables.items()},
        )
        tracking.log_dataset(run_id, dataset, {"train": rows.train, "validation": rows.val, "test": rows.test})
        card = rings_card(experiment, metrics, {task: f"models:/{model_id}" for task, model_id in ids.items()})
        tags = {"mlflow.note.content": card, "dataset": dataset.sha256[:12], "split": rows.fingerprint}
        tags |= table_tag | tracking.environment_tags()
        tracking.log_stage(run_id, params=params, curves=curves, final=epochs, tags=tags)
        for task in TASKS:
            tracking.log_scores(run_id, final[task], ids[task])
    return Result(STAGE, ", ".join(TASKS), time.perf_counter() - began, metrics, run_id)


def run_single(experiment: RingsExperiment, say: Callable[[str], None], **run_options: Any) -> Result:
    """Run the stage as a run of its own, and say what came out and where to look."""
    result = run_rings(experiment, **run_options)
    say(f"{markdown_table(TABLE_HEADER, stage_rows([result]))}\n\n{tracking.how_to_browse(result.run_id)}")
    return result


def _metrics(task: str, part: str, rings: np.ndarray, said: Answers, rings_known: np.ndarray) -> dict[str, float]:
    """Scores and baselines of a task on one part, and how far its probabilities can be believed."""
    found = final_metrics(task, part, rings, said[PREDICTED[task]], rings_known)
    if task == "classification":
        return found | {f"ece/{part}": calibration_error(is_old(rings), said["probability_old"])}
    return found | {f"coverage80/{part}": coverage(rings, said["rings_low"], said["rings_high"])}


def _log_model(task: str, distribution: RingDistribution, experiment: RingsExperiment, example: Any) -> str:
    config = {"task": task, "members": experiment.members, "hidden_sizes": list(experiment.hidden_sizes)}
    params = {"task": task} | experiment.as_text()
    return tracking.log_model(MODELS[task](distribution).eval(), config, example, params, KINDS[task])


def _figures(curves: Mapping[str, Any], truth: Answers, said: Mapping[str, Answers]) -> dict[str, Any]:
    figures = {"curves.png": plots.loss_curves(curves, f"{STAGE}: loss of the fit on the training rows")}
    for task, column in PREDICTED.items():
        figures |= prediction_figures(task, truth["test"], said["test"][column], STAGE)
    bins = {part: reliability(is_old(truth[part]), said[part]["probability_old"]) for part in said}
    errors = [calibration_error(is_old(truth[part]), said[part]["probability_old"]) for part in ("val", "test")]
    title = "{}: expected calibration error {:.3f} (val), {:.3f} (test)".format(STAGE, *errors)
    return figures | {"reliability.png": plots.reliability_diagram(bins, title)}


def _explanations(
    validated: RingDistribution, logged: RingDistribution, x: Tensor, rings: np.ndarray
) -> dict[str, Any]:
    """What the predictions of the validation rows depend on; importance is of the fit that has not seen them."""
    shown = {("classification", "log_loss"): "rise of log loss (nats)", ("regression", "rmse"): "rise of RMSE (rings)"}
    rises = {
        label: permutation_importance(MODELS[task](validated), x, lambda p, t=task, m=metric: scores(t, rings, p)[m])
        for (task, metric), label in shown.items()
    }
    curves = partial_dependence(RingRegressor(logged), x)
    return {
        "importance.png": plots.permutation_importance(rises, f"{STAGE}: a column shuffled among the validation rows"),
        "partial_dependence.png": plots.partial_dependence(curves, f"{STAGE}: mean predicted age by one measurement"),
    }

"""The one place that opens the run of a training and writes everything into it, so that no stage can omit a part."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from tempfile import gettempdir
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
from torch import nn

from abalone.data.labels import is_old
from abalone.data.loading import LoadedData
from abalone.data.origin import origin
from abalone.evaluation.figures import confusion_matrix, predicted_actual, residuals, roc_curve
from abalone.evaluation.overfitting import OVERFITTING_STAGES, rise_of_test_loss
from abalone.evaluation.scores import baseline, scores
from abalone.model.columns import CLASS_LABELS
from abalone.settings import STAGES, Settings, Stage
from abalone.stages.experiment_map import describe_new_experiment
from abalone.tracking.flavor import log_model
from abalone.tracking.kept_results import end_with_results
from abalone.tracking.plain_errors import named
from abalone.tracking.run_logging import (
    DESCRIPTION_TAG,
    Scores,
    environment_tags,
    log_dataset,
    log_files,
    log_stage,
)
from abalone.tracking.runs import EXPERIMENT_NAME, RunOptions, tracked_run
from abalone.tracking.views import COLOUR_TAG, RUN_COLOURS


@dataclass(frozen=True)
class Result:
    """Outcome of a stage.

    Parameters
    ----------
    stage : str
        Name of the run.
    task : str
        Its task; both, separated by a comma, for ``rings``.
    seconds : float
        Wall time.
    metrics : mapping
        Final metrics, such as ``test/accuracy``, and ``best_epoch`` and ``reported_epoch``.
    run_id : str
    error : str
        Message of the error, if the stage failed.
    curves : mapping of name to values
        One value per epoch.
    test_rows : int
        Number of test rows.
    """

    stage: str
    task: str
    seconds: float
    metrics: Mapping[str, float] = field(default_factory=dict)
    run_id: str = ""
    error: str = ""
    curves: Mapping[str, Sequence[float]] = field(default_factory=dict)
    test_rows: int = 0


@dataclass(frozen=True)
class TrainedModel:
    """A trained model that is to be logged.

    Parameters
    ----------
    module : nn.Module
        float32 ``[n, 10]`` to logits ``[n, 2]`` or rings ``[n, 1]``.
    config : mapping
        The configuration from which ``networks.build`` makes the same network.
    name : str
        Name of the logged model.
    params : mapping
        Parameters of the logged model.
    scores : mapping
        Final metrics of this model.
    """

    module: nn.Module
    config: Mapping[str, Any]
    name: str
    params: Mapping[str, str]
    scores: Mapping[str, float]


@dataclass(frozen=True)
class Training:
    """A finished training.

    Parameters
    ----------
    stage : str
        Stage whose command repeats the training.
    settings : Settings
    data : LoadedData
    curves : mapping of name to values
        One value per epoch.
    predicted : mapping of part to mapping of column to ndarray
        Predictions for the validation and test rows, by the name of their column in the tables.
    fitted : ndarray, int64
        Numbers of the rows that the logged models were fitted on.
    epochs : mapping
        ``best_epoch`` and ``reported_epoch``.
    models : mapping of task to TrainedModel
    """

    stage: str
    settings: Settings
    data: LoadedData
    curves: Mapping[str, Sequence[float]]
    predicted: Mapping[str, Mapping[str, np.ndarray]]
    fitted: np.ndarray
    epochs: Mapping[str, float]
    models: Mapping[str, TrainedModel]

    @property
    def run_metrics(self) -> dict[str, float]:
        """Metrics of the training itself: the epochs, and the rise of the test loss if there is a curve of it."""
        metrics = dict(self.epochs)
        rise = rise_of_test_loss(self.curves.get("loss/test", ()))
        if rise is not None:
            metrics["overfit/test_rise"] = rise
        return metrics

    @property
    def metrics(self) -> dict[str, float]:
        """Metrics of the training, and the final metrics of all models."""
        metrics = dict(self.run_metrics)
        for model in self.models.values():
            metrics |= model.scores
        return metrics


def training_run(name: str, stage: str, task: str, lesson: Stage, options: RunOptions) -> AbstractContextManager[str]:
    """Open the run of a training, with the tags by which leaderboards, promotion and later stages find it.

    Parameters
    ----------
    name : str
        Name of the run, unless the user gave one.
    stage : str
        Tag ``stage``.
    task : str
        Tag ``task``; both, separated by a comma, for ``rings``.
    lesson : Stage
        What the training teaches.
    options : RunOptions
        Where the run is filed.
    """
    tags = {"stage": stage, "task": task, "guide_section": lesson.guide, "guide_order": _guide_order(stage)}
    if stage in OVERFITTING_STAGES:
        tags["lesson"] = "overfitting"
        tags[COLOUR_TAG] = RUN_COLOURS[stage]
    return tracked_run(name, tags, options)


def _guide_order(stage: str) -> str:
    """Place of a stage in the guide, counted from 1; ``rings`` and the winners of studies come after it."""
    order = [*STAGES, "rings", "tuned"]
    return str(1 + order.index(stage))


def record_training(
    training: Training,
    figures: Mapping[str, Any],
    page: Callable[[Mapping[str, str]], str],
    tags: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Write a training into the active run and end it: models, parameters, curves, final metrics, files, tags and page.

    A tracking server that is away takes nothing; the results are then kept in a folder. So nothing that the page says
    may be read from the server here.

    Parameters
    ----------
    training : Training
    figures : mapping of file name to Figure
    page : callable
        Takes the ids of the logged models by task; returns the description of the run, in Markdown.
    tags : mapping
        More tags.

    Raises
    ------
    ServerAway
        If the results are kept in a folder.
    """

    def write(run_id: str) -> None:
        model_ids = _log_models(training)
        _log_run(run_id, training, model_ids, figures, {**tags, DESCRIPTION_TAG: page(model_ids)})

    end_with_results(write)


def _log_models(training: Training) -> dict[str, str]:
    """Log the models of a training in the active run; return their ids by task."""
    fitted = training.data.dataset.frame.iloc[training.fitted]
    ids = {}
    with named(gettempdir()):  # where a model is saved before it is uploaded
        for task, model in training.models.items():
            ids[task] = log_model(model.module, model.config, fitted, model.params, model.name)
    return ids


def _log_run(
    run_id: str,
    training: Training,
    model_ids: Mapping[str, str],
    figures: Mapping[str, Any],
    tags: Mapping[str, str],
) -> None:
    """Write everything but the models; an experiment that has no description yet gets one."""
    data = training.data
    params = training.settings.as_text()
    tables = {}
    for part, rows in data.split.scored().items():
        tables[f"predictions/{part}.json"] = prediction_table(data.dataset.frame, rows, training.predicted[part])
    texts = {"settings.toml": to_toml(training.settings), "command.txt": repeat_command(training.stage, params)}
    table_tags = log_files(run_id, texts=texts, figures=figures, tables=tables)
    log_dataset(run_id, data.dataset, data.split.parts(), origin(data.dataset))
    data_tags = {"dataset": data.dataset.sha256[:12], "split": data.split.fingerprint}
    all_tags = {**tags, **table_tags, **data_tags, **environment_tags()}
    final = _final_scores(training, model_ids)
    log_stage(run_id, params=params, curves=training.curves, final=final, tags=all_tags)
    describe_new_experiment(run_id)


def _final_scores(training: Training, model_ids: Mapping[str, str]) -> list[Scores]:
    """Final metrics with the model that they belong to; those of the training belong to an only model."""
    owner = None
    if len(model_ids) == 1:
        [owner] = model_ids.values()
    final = [Scores(training.run_metrics, owner)]
    for task, model in training.models.items():
        final.append(Scores(model.scores, model_ids[task]))
    return final


def final_metrics(
    task: str,
    part: str,
    data: LoadedData,
    predicted: np.ndarray,
    fitted: np.ndarray,
    median: np.ndarray | None = None,
) -> dict[str, float]:
    """Scores of a model on one part of the split, and those of the baseline.

    Parameters
    ----------
    task : str
    part : str
        ``val`` or ``test``.
    data : LoadedData
    predicted : ndarray [n]
        Probability of Old, or rings, of the rows of the part.
    fitted : ndarray, int64
        Numbers of the rows that the model was fitted on, and that the baseline knows.
    median : ndarray [n], optional
        As ``scores`` takes it.

    Returns
    -------
    dict
        ``test/accuracy`` and so on, and ``baseline/test_accuracy`` and so on.
    """
    rings = data.rings[data.split.scored()[part]]
    metrics = {}
    for name, value in scores(task, rings, predicted, median).items():
        metrics[f"{part}/{name}"] = value
    for name, value in baseline(task, data.rings[fitted], rings).items():
        metrics[f"baseline/{part}_{name}"] = value
    return metrics


def prediction_figures(task: str, rings: np.ndarray, predicted: np.ndarray, title: str) -> dict[str, Any]:
    """Figures of the predictions for the test rows, by file name."""
    if task == "classification":
        old = is_old(rings)
        return {
            "roc.png": roc_curve(old, predicted, title),
            "confusion.png": confusion_matrix(old, predicted, title),
        }
    return {
        "predicted_actual.png": predicted_actual(rings, predicted, title),
        "residuals.png": residuals(rings, predicted, title),
    }


def prediction_table(frame: pd.DataFrame, rows: np.ndarray, predicted: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Rows of the file with their predictions.

    Parameters
    ----------
    frame : DataFrame
        The whole file.
    rows : ndarray [n], int64
        Row numbers.
    predicted : mapping of str to ndarray [n]
        Predictions by the name of their column.

    Returns
    -------
    DataFrame [n, ...]
        Row number; of a classifier the predicted and the true label, and whether they agree; rings; predictions; the
        other columns of the file.
    """
    table = frame.iloc[rows].rename_axis("row").reset_index()
    first = {"row": table["row"]}
    if "probability_old" in predicted:
        labels = np.array(CLASS_LABELS, dtype=object)
        predicted_old = (predicted["probability_old"] >= 0.5).astype(int)
        old = is_old(table["Rings"].to_numpy())
        first |= {"predicted_label": labels[predicted_old], "true_label": labels[old], "correct": predicted_old == old}
    first["Rings"] = table["Rings"]
    for name, values in predicted.items():
        first[name] = values.round(9)
    others = [name for name in table.columns if name not in first]
    return pd.DataFrame(first).join(table[others])


def to_toml(settings: Settings) -> str:
    """The settings as the text of a file in ``experiments/``."""
    lines = []
    for key, value in asdict(settings).items():
        lines.append(f"{key} = {json.dumps(value, ensure_ascii=False)}\n")
    return "".join(lines)


def repeat_command(stage: str, params: Mapping[str, str]) -> str:
    """The command that repeats a run."""
    options = " ".join(f"-P {key}={shlex.quote(value)}" for key, value in params.items())
    return f"mlflow run . -e {stage} --env-manager local --experiment-name {EXPERIMENT_NAME} {options}\n"

"""What every training leaves in its run, written in one place so that no stage can forget a part of it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from torch import nn

from abalone.data.labels import is_old
from abalone.data.loading import LoadedData
from abalone.evaluation.figures import confusion_matrix, predicted_actual, residuals, roc_curve
from abalone.evaluation.scores import baseline, scores
from abalone.settings import Settings
from abalone.tracking.flavor import log_model
from abalone.tracking.run_logging import Scores, environment_tags, log_dataset, log_files, log_stage
from abalone.tracking.runs import EXPERIMENT_NAME


@dataclass(frozen=True)
class Result:
    """What came out of a stage: final metrics by ``name/split``, wall seconds, run id; an error if it failed."""

    stage: str
    task: str
    seconds: float
    metrics: Mapping[str, float] = field(default_factory=dict)
    run_id: str = ""
    error: str = ""


@dataclass(frozen=True)
class TrainedModel:
    """A model to log.

    Parameters
    ----------
    module : nn.Module
        float32 ``[n, 10]`` to logits ``[n, 2]`` or rings ``[n, 1]``.
    config : mapping
        What ``networks.build`` needs to make the same network.
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
        Its settings.
    data : LoadedData
        The rows.
    curves : mapping of name to values
        One value per epoch.
    predicted : mapping of part to mapping of column to ndarray
        Predictions of the validation and test rows, for the tables.
    epochs : mapping
        ``best_epoch`` and ``reported_epoch``.
    models : mapping of task to TrainedModel
    """

    stage: str
    settings: Settings
    data: LoadedData
    curves: Mapping[str, Sequence[float]]
    predicted: Mapping[str, Mapping[str, np.ndarray]]
    epochs: Mapping[str, float]
    models: Mapping[str, TrainedModel]

    @property
    def metrics(self) -> dict[str, float]:
        """Final metrics of all models, and the epochs."""
        found = dict(self.epochs)
        for model in self.models.values():
            found |= model.scores
        return found


def log_models(training: Training) -> dict[str, str]:
    """Log the models of a training under the active run; return their ids by task."""
    example = training.data.dataset.frame.iloc[training.data.split.train[:3]]
    ids = {}
    for task, model in training.models.items():
        ids[task] = log_model(model.module, model.config, example, model.params, model.name)
    return ids


def record_training(
    run_id: str, training: Training, model_ids: Mapping[str, str], figures: Mapping[str, Any], page: str
) -> None:
    """Write a training into its run: parameters, curves, scores, files, data set, tags and page.

    Parameters
    ----------
    run_id : str
        The run.
    training : Training
    model_ids : mapping of task to id
        As ``log_models`` returns them.
    figures : mapping of file name to Figure
    page : str
        Description of the run, in Markdown.
    """
    data = training.data
    params = training.settings.as_text()
    tables = {}
    for part, columns in training.predicted.items():
        rows = getattr(data.split, part)
        tables[f"predictions/{part}.json"] = prediction_table(data.dataset.frame, rows, columns)
    texts = {"settings.toml": to_toml(training.settings), "command.txt": repeat_command(training.stage, params)}
    tags = log_files(run_id, texts=texts, figures=figures, tables=tables)
    log_dataset(run_id, data.dataset, data.split.parts())
    tags |= {"mlflow.note.content": page, "dataset": data.dataset.sha256[:12], "split": data.split.fingerprint}
    tags |= environment_tags()
    final = [Scores(training.epochs)]
    for task, model in training.models.items():
        final.append(Scores(model.scores, model_ids[task]))
    log_stage(run_id, params=params, curves=training.curves, final=final, tags=tags)


def final_metrics(
    task: str, part: str, rings: np.ndarray, predicted: np.ndarray, rings_known: np.ndarray
) -> dict[str, float]:
    """Scores of a part of the split and, as ``baseline_...``, those of knowing nothing but ``rings_known``."""
    found = {}
    for name, value in scores(task, rings, predicted).items():
        found[f"{name}/{part}"] = value
    for name, value in baseline(task, rings_known, rings).items():
        found[f"baseline_{name}/{part}"] = value
    return found


def prediction_figures(task: str, rings: np.ndarray, predicted: np.ndarray, title: str) -> dict[str, Any]:
    """The figures of a task's predictions of the test rows, by file name."""
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
    """Numbers and rings of ``rows``, named predictions beside them, and the rest of their data."""
    columns = {name: values.round(9) for name, values in predicted.items()}
    table = frame.iloc[rows].assign(**columns).rename_axis("row").reset_index()
    first = ["row", "Rings", *columns]
    return table[[*first, *table.columns.difference(first, sort=False)]]


def to_toml(settings: Settings) -> str:
    """The settings as a TOML file that ``load_settings`` can read."""
    lines = []
    for key, value in asdict(settings).items():
        lines.append(f"{key} = {json.dumps(value, ensure_ascii=False)}\n")
    return "".join(lines)


def repeat_command(stage: str, params: Mapping[str, str]) -> str:
    """The command that repeats a run."""
    options = " ".join(f"-P {key}={shlex.quote(value)}" for key, value in params.items())
    return f"mlflow run . -e {stage} --env-manager local --experiment-name {EXPERIMENT_NAME} {options}\n"

"""A stage of the guide from data to tracked model."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np
import pandas as pd

from abalone import plots, tracking
from abalone.cards import TABLE_HEADER, markdown_table, run_card, stage_rows
from abalone.config import STAGES, TUNED, BadValue, Experiment, Settings
from abalone.dataset import Split, is_old, read, split
from abalone.evaluation import baseline, predict, scores
from abalone.features import encode
from abalone.selection import PREDICTED
from abalone.training import fit


@dataclass(frozen=True)
class Result:
    """What came out of a stage: final metrics by ``name/split``, wall seconds, run id; an error if it failed."""

    stage: str
    task: str
    seconds: float
    metrics: Mapping[str, float] = field(default_factory=dict)
    run_id: str = ""
    error: str = ""


def run_stage(stage: str, experiment: Experiment, base: str | None = None, **run_options: Any) -> Result:
    """Train, evaluate and track one stage.

    Parameters
    ----------
    stage : str
        Name of the stage, for the lesson and the tags.
    experiment : Experiment
        Its settings.
    base : str, optional
        Of what is not a stage of the guide, but the winner of a study: the stage that it was tuned from.
    **run_options
        ``experiment_name``, ``run_name``, ``nested``, as ``tracking.run`` takes them.
    """
    began = time.perf_counter()
    tags = {"stage": stage, "task": experiment.task, "guide_section": STAGES.get(stage, TUNED).guide}
    name = f"{stage} {base}" if base else stage
    with tracking.run(name, tags, **run_options) as run_id:
        dataset = read(experiment.data)
        rows = split(dataset, experiment.seed)
        x, rings = encode(dataset.frame), dataset.frame["Rings"].to_numpy()
        model, history = fit(experiment, x, rings, rows)
        parts = {part: getattr(rows, part) for part in ("val", "test")}
        predicted = {part: predict(model, x[index]) for part, index in parts.items()}
        final = {"best_epoch": history.best_epoch, "reported_epoch": history.reported_epoch}
        for part, index in parts.items():
            final |= final_metrics(experiment.task, part, rings[index], predicted[part], rings[rows.train])
        params, config, column = experiment.as_text(), _model_config(experiment), PREDICTED[experiment.task]
        model_id = tracking.log_model(model, config, dataset.frame.iloc[rows.train[:3]], params)
        table_tag = tracking.log_files(
            run_id,
            texts={"experiment.toml": to_toml(experiment), "command.txt": command(base or stage, params)},
            figures={"curves.png": plots.training_curves(history.metrics, history.best_epoch, stage)}
            | prediction_figures(experiment.task, rings[rows.test], predicted["test"], stage),
            tables={
                f"predictions/{part}.json": prediction_table(dataset.frame, index, {column: predicted[part]})
                for part, index in parts.items()
            },
        )
        tracking.log_dataset(run_id, dataset, {"train": rows.train, "validation": rows.val, "test": rows.test})
        previous = _previous(run_id, stage, base, experiment, rows)
        card = run_card(stage, experiment, final, f"models:/{model_id}", previous)
        tags = {"mlflow.note.content": card, "dataset": dataset.sha256[:12], "split": rows.fingerprint}
        tags |= table_tag | tracking.environment_tags()
        tracking.log_stage(run_id, params=params, curves=history.metrics, final=final, tags=tags, model_id=model_id)
    return Result(name, experiment.task, time.perf_counter() - began, final, run_id)


def run_single(stage: str, experiment: Experiment, say: Callable[[str], None], **run_options: Any) -> Result:
    """Run one stage as a run of its own, and say what came out and where to look."""
    result = run_stage(stage, experiment, **run_options)
    table = markdown_table(TABLE_HEADER, stage_rows([result]))
    say(f"{table}\n\n{tracking.how_to_browse(result.run_id)}")
    return result


def to_toml(experiment: Settings) -> str:
    """The settings as a TOML file that ``config.load`` reads back."""
    return "".join(f"{key} = {json.dumps(value, ensure_ascii=False)}\n" for key, value in asdict(experiment).items())


def final_metrics(
    task: str, part: str, rings: np.ndarray, predicted: np.ndarray, rings_known: np.ndarray
) -> dict[str, float]:
    """Scores of a part of the split and, as ``baseline_...``, those of knowing nothing but ``rings_known``."""
    plain = baseline(task, rings_known, rings)
    found = {f"{name}/{part}": value for name, value in scores(task, rings, predicted).items()}
    return found | {f"baseline_{name}/{part}": value for name, value in plain.items()}


def prediction_figures(task: str, rings: np.ndarray, predicted: np.ndarray, title: str) -> dict[str, Any]:
    """The figures of a task's predictions of the test rows, by file name."""
    if task == "classification":
        old = is_old(rings)
        roc, confusion = plots.roc_curve(old, predicted, title), plots.confusion_matrix(old, predicted, title)
        return {"roc.png": roc, "confusion.png": confusion}
    scatter, residuals = plots.predicted_actual(rings, predicted, title), plots.residuals(rings, predicted, title)
    return {"predicted_actual.png": scatter, "residuals.png": residuals}


def prediction_table(frame: pd.DataFrame, rows: np.ndarray, predicted: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Numbers and rings of ``rows``, named predictions beside them, and the rest of their data."""
    columns = {name: values.round(9) for name, values in predicted.items()}
    table = frame.iloc[rows].assign(**columns).rename_axis("row").reset_index()
    first = ["row", "Rings", *columns]
    return table[[*first, *table.columns.difference(first, sort=False)]]


def _model_config(experiment: Experiment) -> dict[str, Any]:
    keys = ("task", "features", "hidden_sizes", "dropout", "clip")
    return {k: list(v) if isinstance(v := getattr(experiment, k), tuple) else v for k in keys}


def command(stage: str, params: Mapping[str, str]) -> str:
    """The command that repeats a run."""
    options = " ".join(f"-P {key}={shlex.quote(value)}" for key, value in params.items())
    return f"mlflow run . -e {stage} --env-manager local --experiment-name {tracking.EXPERIMENT} {options}\n"


def _previous(run_id: str, stage: str, base: str | None, experiment: Experiment, rows: Split):
    """Run id and metrics of the stage before, on the same rows and with the same settings but for those taught here."""
    names = list(STAGES)
    before = base or (names[names.index(stage) - 1] if names.index(stage) else None)
    if before is None:
        return None
    free = {"data", "device"} | ({f.name for f in fields(Experiment)} if base else set(STAGES[stage].taught))
    for run in tracking.find_stage(run_id, before, rows.fingerprint):
        with suppress(BadValue):  # a run of another version of this program
            theirs = Experiment.from_mapping(run.data.params)
            alike = all(value == getattr(experiment, key) for key, value in vars(theirs).items() if key not in free)
            if alike and theirs.task == experiment.task:
                return run.info.run_id, run.data.metrics
    return None

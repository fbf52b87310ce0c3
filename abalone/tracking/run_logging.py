"""Write parameters, metrics, tags, files and data sets of a run, in as few calls to the tracking store as possible."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Dataset as DatasetEntity
from mlflow.entities import DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from abalone.model.columns import RAW_COLUMNS
from abalone.tracking.drawing import draw
from abalone.tracking.experiments import tag_experiment
from abalone.tracking.known_runs import experiment_id_of, known_run, logged_params, remember_params
from abalone.tracking.logged_tables import write_table
from abalone.tracking.plain_errors import named

PACKAGES = ("torch", "mlflow", "pandas", "scikit-learn", "numpy")  # versions to record
METRICS_PER_CALL = 1000  # MLflow's limit
DESCRIPTION_TAG = "mlflow.note.content"


@dataclass(frozen=True)
class Scores:
    """Final scores of a run.

    Parameters
    ----------
    values : mapping of name to value
    model_id : str, optional
        Logged model that the scores belong to.
    """

    values: Mapping[str, float]
    model_id: str | None = None


def log_stage(
    run_id: str,
    *,
    params: Mapping[str, str],
    curves: Mapping[str, Sequence[float]],
    final: Sequence[Scores],
    tags: Mapping[str, str],
) -> None:
    """Write parameters, curves, final scores and tags of a run.

    Parameters
    ----------
    run_id : str
        The run.
    params : mapping
        Resolved settings. Those that ``mlflow run`` has already logged keep the text that the user typed.
    curves : mapping of name to values
        One value per epoch, the first at step 1.
    final : sequence of Scores
        Scores of the reported models, at step 0. Their names (``test/accuracy``) are never those of a curve
        (``accuracy/test``): MLflow's tables show the last value of a metric, and its charts draw all of them.
    tags : mapping
        More tags.
    """
    log_batch(run_id, _not_logged_yet(run_id, params), curves, final, tags)


def log_batch(
    run_id: str,
    params: Mapping[str, str] | None = None,
    curves: Mapping[str, Sequence[float]] | None = None,
    final: Sequence[Scores] = (),
    tags: Mapping[str, str] | None = None,
) -> None:
    """Write to a run in one call, or in as few as MLflow's limit on metrics allows.

    The parameters are those of ``log_stage``, but ``params`` must not have been logged with another value.
    """
    metrics = _metrics(curves or {}, final)
    MlflowClient().log_batch(
        run_id,
        metrics=metrics[:METRICS_PER_CALL],
        params=[Param(key, value) for key, value in (params or {}).items()],
        tags=[RunTag(key, value) for key, value in (tags or {}).items()],
    )
    remember_params(run_id, params or {})
    log_metrics(run_id, metrics[METRICS_PER_CALL:])


def log_metrics(run_id: str, metrics: Sequence[Metric]) -> None:
    """Write metrics to a run, in as few calls as MLflow's limit allows."""
    for start in range(0, len(metrics), METRICS_PER_CALL):
        MlflowClient().log_batch(run_id, metrics=metrics[start : start + METRICS_PER_CALL])


def _metrics(curves: Mapping[str, Sequence[float]], final: Sequence[Scores]) -> list[Metric]:
    """Curves by epoch, and the final scores at step 0."""
    now = int(time.time() * 1000)
    metrics = []
    for name, values in curves.items():
        for step, value in enumerate(values, 1):
            metrics.append(Metric(name, value, now, step))
    for scores in final:
        for name, value in scores.values.items():
            metrics.append(Metric(name, value, now, 0, model_id=scores.model_id))
    return metrics


def log_dataset(run_id: str, dataset: Any, parts: Mapping[str, Any], origin: tuple[str, Mapping[str, str]]) -> None:
    """Log a data set as an input of a run, once for each part of its split.

    Parameters
    ----------
    run_id : str
        The run.
    dataset : Dataset
        A checked file, see ``abalone.data.reading``.
    parts : mapping of str to ndarray, int64
        Row numbers by the use of the part. Each part has a digest of its own.
    origin : pair of str and mapping
        MLflow's type of the source and its address, see ``abalone.data.origin``.
    """
    columns = (*RAW_COLUMNS, "Rings")
    schema = [{"type": _column_type(name), "name": name, "required": True} for name in columns]
    source_type, address = origin
    inputs = []
    for context, rows in parts.items():
        entity = DatasetEntity(
            name=dataset.name,
            digest=hashlib.sha256(dataset.sha256.encode() + rows.tobytes()).hexdigest()[:12],
            source_type=source_type,
            source=json.dumps(address, ensure_ascii=False),
            schema=json.dumps({"mlflow_colspec": schema}),
            profile=json.dumps({"num_rows": len(rows)}),
        )
        inputs.append(DatasetInput(entity, [InputTag("mlflow.data.context", context)]))
    MlflowClient().log_inputs(run_id, inputs)


def _column_type(name: str) -> str:
    """MLflow's name for the type of a column."""
    if name == "Sex":
        return "string"
    if name == "Rings":
        return "long"
    return "double"


def log_input(run_id: str, *, name: str, digest: str, source: str, rows: int) -> None:
    """Log a table that was scored as an input of a run.

    Parameters
    ----------
    run_id : str
        The run.
    name, digest : str
        Of the data set.
    source : str
        Absolute path, or ``stdin``.
    rows : int
        Number of rows.
    """
    entity = DatasetEntity(
        name=name,
        digest=digest,
        source_type="local",
        source=json.dumps({"uri": source}),
        profile=json.dumps({"num_rows": rows}),
    )
    context = InputTag("mlflow.data.context", "scored")
    MlflowClient().log_inputs(run_id, [DatasetInput(entity, [context])])


def log_files(
    run_id: str,
    *,
    texts: Mapping[str, str],
    figures: Mapping[str, Any],
    tables: Mapping[str, Any],
    images: Mapping[str, bytes] = MappingProxyType({}),
    files: Mapping[str, Path] = MappingProxyType({}),
) -> dict[str, str]:
    """Store texts, figures, tables and copies of files as artifacts of a run in one upload.

    Parameters
    ----------
    run_id : str
        The run.
    texts : mapping of path to str
    figures : mapping of path (``.png``) to Figure
    tables : mapping of path (``.json``) to DataFrame
        Written as ``logged_tables`` says.
    images : mapping of path (``.png``) to bytes
        As ``draw`` returns them.
    files : mapping of path to Path
        Files to copy.

    Returns
    -------
    dict
        A tag for the run, with which the UI shows the tables as tables.
    """
    with TemporaryDirectory() as folder, named(folder):
        for name in (*texts, *figures, *images, *tables):
            Path(folder, name).parent.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            Path(folder, name).write_text(text, encoding="utf-8")
        for name, image in {**draw(figures), **images}.items():
            Path(folder, name).write_bytes(image)
        for name, frame in tables.items():
            write_table(frame, Path(folder, name))
        for name, file in files.items():
            shutil.copyfile(file, Path(folder, name))
        # The client would ask for the run first.
        get_artifact_repository(known_run(run_id).address).log_artifacts(folder)
    return {"mlflow.loggedArtifacts": json.dumps([{"path": name, "type": "table"} for name in tables])}


def environment_tags() -> dict[str, str]:
    """Run tags that record package versions, and whether the work tree had uncommitted changes.

    Returns
    -------
    dict
        ``packages``, and ``dirty``: true, false or unknown.
    """
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    return {"packages": packages, "dirty": _is_dirty()}


def _is_dirty() -> str:
    git = ["git", "-C", str(Path(__file__).parent), "status", "--porcelain"]
    try:
        status = subprocess.run(git, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    if status.returncode != 0:
        return "unknown"
    return "true" if status.stdout.strip() else "false"


def log_tags(run_id: str, tags: Mapping[str, str]) -> None:
    """Set several tags of a run in one call."""
    MlflowClient().log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])


def log_params(run_id: str, params: Mapping[str, Any]) -> None:
    """Log parameters of a run, except those that ``mlflow run`` has already logged."""
    log_batch(run_id, _not_logged_yet(run_id, params))


def _not_logged_yet(run_id: str, params: Mapping[str, Any]) -> dict[str, str]:
    """Parameters that the run does not have: MLflow refuses a second value, even the same one written differently."""
    logged = logged_params(run_id)
    return {key: str(value) for key, value in params.items() if key not in logged}


def describe_experiment(run_id: str, text: str) -> None:
    """Set the description of the experiment that a run belongs to."""
    tag_experiment(experiment_id_of(run_id), DESCRIPTION_TAG, text)


def experiment_description(run_id: str) -> str:
    """Get the description of the experiment that a run belongs to; "" if it has none."""
    return MlflowClient().get_experiment(experiment_id_of(run_id)).tags.get(DESCRIPTION_TAG, "")


def add_note(run_id: str, text: str) -> None:
    """Append a paragraph to the description of a run."""
    description = MlflowClient().get_run(run_id).data.tags.get(DESCRIPTION_TAG, "")
    log_tags(run_id, {DESCRIPTION_TAG: f"{description}\n\n{text}".strip()})

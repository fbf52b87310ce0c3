"""TODO tracking.logging"""

from __future__ import annotations

import hashlib
import json
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Dataset as DatasetEntity
from mlflow.entities import DatasetInput, InputTag, Metric, Param, RunTag

from abalone.model.columns import RAW_COLUMNS

PACKAGES = ("torch", "mlflow", "pandas", "scikit-learn", "numpy")
METRICS_PER_CALL = 1000


@dataclass(frozen=True)
class Scores:
    """Final scores, and the logged model that they belong to, if any."""

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
        Resolved settings; those that ``mlflow run`` wrote already are left as they are.
    curves : mapping of name to values
        One value per epoch, the first at step 1.
    final : sequence of Scores
        Scores of the reported models. They stand one step after the last epoch, because MLflow's tables show a
        metric's last value and some names (``accuracy/test``) are curves too.
    tags : mapping
        More tags.
    """
    log_batch(run_id, _unknown(run_id, params), curves, final, tags)


def log_batch(
    run_id: str,
    params: Mapping[str, str] | None = None,
    curves: Mapping[str, Sequence[float]] | None = None,
    final: Sequence[Scores] = (),
    tags: Mapping[str, str] | None = None,
) -> None:
    """Write what ``log_stage`` takes, in one call, or in as few as MLflow's limit allows."""
    metrics = _metrics(curves or {}, final)
    client = MlflowClient()
    client.log_batch(
        run_id,
        metrics[:METRICS_PER_CALL],
        [Param(key, value) for key, value in (params or {}).items()],
        [RunTag(key, value) for key, value in (tags or {}).items()],
    )
    for start in range(METRICS_PER_CALL, len(metrics), METRICS_PER_CALL):
        client.log_batch(run_id, metrics[start : start + METRICS_PER_CALL])


def _metrics(curves: Mapping[str, Sequence[float]], final: Sequence[Scores]) -> list[Metric]:
    now = int(time.time() * 1000)
    epochs = 0
    metrics = []
    for name, values in curves.items():
        epochs = max(epochs, len(values))
        for step, value in enumerate(values, 1):
            metrics.append(Metric(name, value, now, step))
    for scores in final:
        for name, value in scores.values.items():
            metrics.append(Metric(name, value, now, epochs + 1, model_id=scores.model_id))
    return metrics


def log_dataset(run_id: str, dataset: Any, parts: Mapping[str, Sequence[int]]) -> None:
    """Name the data set as an input of the run, once for each part of the split (a digest of its own each)."""
    schema = {"mlflow_colspec": [
        {"type": "string" if name == "Sex" else "long" if name == "Rings" else "double", "name": name, "required": True}
        for name in (*RAW_COLUMNS, "Rings")
    ]}  # fmt: skip
    inputs = [
        DatasetInput(
            DatasetEntity(
                name=dataset.name,
                digest=hashlib.sha256(dataset.sha256.encode() + rows.tobytes()).hexdigest()[:12],
                source_type="local",
                source=json.dumps({"uri": str(dataset.path)}),
                schema=json.dumps(schema),
                profile=json.dumps({"num_rows": len(rows)}),
            ),
            [InputTag("mlflow.data.context", context)],
        )
        for context, rows in parts.items()
    ]
    MlflowClient().log_inputs(run_id, inputs)


def log_files(run_id: str, *, texts: Mapping[str, str], figures: Mapping[str, Any], tables: Mapping[str, Any]) -> dict:
    """Store texts, figures (``.png``) and data frames (``.json``) in one upload.

    Returns
    -------
    dict
        The tag that makes the UI show the data frames as tables.
    """
    with TemporaryDirectory() as folder:
        for name in (*texts, *figures, *tables):
            Path(folder, name).parent.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            Path(folder, name).write_text(text, encoding="utf-8")
        for name, figure in figures.items():
            figure.savefig(Path(folder, name))
        for name, frame in tables.items():
            frame.to_json(Path(folder, name), orient="split", index=False)
        MlflowClient().log_artifacts(run_id, folder)
    return {"mlflow.loggedArtifacts": json.dumps([{"path": name, "type": "table"} for name in tables])}


def environment_tags() -> dict[str, str]:
    """Versions of what computes, and whether the work tree held uncommitted changes."""
    git = ["git", "-C", str(Path(__file__).parent), "status", "--porcelain"]
    try:
        status = subprocess.run(git, capture_output=True, text=True, timeout=10)
        dirty = str(bool(status.stdout.strip())).lower() if status.returncode == 0 else "unknown"
    except (OSError, subprocess.TimeoutExpired):
        dirty = "unknown"
    return {"packages": ", ".join(f"{name} {version(name)}" for name in PACKAGES), "dirty": dirty}


def log_tags(run_id: str, tags: Mapping[str, str]) -> None:
    """Set several tags in one call."""
    MlflowClient().log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])


def log_params(run_id: str, params: Mapping[str, Any]) -> None:
    """Parameters of a run; those that ``mlflow run`` wrote already are left as they are."""
    log_batch(run_id, _unknown(run_id, params))


def _unknown(run_id: str, params: Mapping[str, Any]) -> dict[str, str]:
    known = MlflowClient().get_run(run_id).data.params
    return {key: str(value) for key, value in params.items() if key not in known}


def describe_experiment(run_id: str, text: str) -> None:
    """Set the description of the experiment that a run is filed in."""
    client = MlflowClient()
    client.set_experiment_tag(client.get_run(run_id).info.experiment_id, "mlflow.note.content", text)


def add_note(run_id: str, text: str) -> None:
    """Continue the description of a run."""
    note = MlflowClient().get_run(run_id).data.tags.get("mlflow.note.content", "")
    log_tags(run_id, {"mlflow.note.content": f"{note}\n\n{text}".strip()})

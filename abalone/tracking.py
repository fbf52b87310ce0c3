"""Everything said to MLflow about a run, in as few calls as it takes."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Dataset as DatasetEntity
from mlflow.entities import DatasetInput, InputTag, Metric, Param, RunTag

from abalone import serving
from abalone.columns import RAW_COLUMNS
from abalone.config import KINDS
from abalone.processes import close_orphans, process_tags
from abalone.signals import signals_held
from abalone.views import NAMES, leaderboards

EXPERIMENT = "abalone"
REGISTERED = {task: f"abalone-{kind}" for task, kind in KINDS.items()}
PACKAGES = ("torch", "mlflow", "pandas", "scikit-learn", "numpy")
METRICS_PER_CALL = 1000


@contextmanager
def run(
    name: str,
    tags: Mapping[str, str] | None = None,
    *,
    experiment_name: str | None = None,
    run_name: str | None = None,
    nested: bool = False,
) -> Iterator[str]:
    """Open a run, or resume the one that ``mlflow run`` opened; close it with the truth.

    An interruption ends it KILLED, any other exception FAILED, with the message as the tag ``error``.

    Parameters
    ----------
    name : str
        Name of a run that the user gave none.
    tags : mapping, optional
        Tags to set at once, so that a run is known even if it ends badly.
    experiment_name, run_name : str, optional
        What the user asked for.
    nested : bool
        Whether the run is a child of the active one.

    Yields
    ------
    str
        The run's id.
    """
    prepare_database()
    resumed = not nested and "MLFLOW_RUN_ID" in os.environ
    experiment = None if resumed else _experiment_of_parent() if nested else _experiment_id(experiment_name)
    tags = {**process_tags(), **(tags or {})}
    if resumed and (run_name or _is_unnamed(os.environ["MLFLOW_RUN_ID"])):
        tags["mlflow.runName"] = run_name or name
    names = {} if resumed else {"run_name": run_name or name, "experiment_id": experiment}
    with mlflow.start_run(**names, nested=nested, tags=tags) as active:
        run_id = active.info.run_id
        try:
            if not nested:
                close_orphans(active.info.experiment_id, run_id)
                for key, view in leaderboards(int(time.time() * 1000)).items():
                    MlflowClient().set_experiment_tag(active.info.experiment_id, key, view)
            yield run_id
        except (KeyboardInterrupt, SystemExit):
            with signals_held():
                mlflow.end_run("KILLED")
            raise
        except BaseException as error:
            with signals_held():
                mlflow.set_tag("error", f"{type(error).__name__}: {error}"[:5000])
            raise


def prepare_database() -> None:
    """Make the SQLite tracking database whole or not at all, so that several first starts at once do no harm.

    MLflow makes it table by table, and of two processes that do so at once one fails.
    """
    scheme, _, path = mlflow.get_tracking_uri().partition("sqlite:///")
    if scheme or not path or set("?:") & set(path) or Path(path).exists():  # options, or in memory: left to MLflow
        return
    draft = Path(f"{path}.{os.getpid()}")
    try:
        MlflowClient(f"sqlite:///{draft}").search_experiments()
        with suppress(FileExistsError):
            os.link(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def log_stage(
    run_id: str,
    *,
    params: Mapping[str, str],
    curves: Mapping[str, Sequence[float]],
    final: Mapping[str, float],
    tags: Mapping[str, str],
    model_id: str | None = None,
) -> None:
    """Write parameters, tags, curves and final scores of a run.

    Parameters
    ----------
    run_id : str
        The run.
    params : mapping
        Resolved settings; those that ``mlflow run`` wrote already are left as they are.
    curves : mapping of name to values
        One value per epoch, the first at step 1.
    final : mapping of name to value
        Scores of the reported model. They stand one step after the last epoch, because MLflow's tables show a
        metric's last value and some names (``accuracy/test``) are curves too.
    tags : mapping
        More tags.
    model_id : str, optional
        The logged model that the final scores belong to.
    """
    missing = _unknown(run_id, params)
    log_batch(run_id, missing, curves, final, tags, model_id)


def log_scores(run_id: str, scores: Mapping[str, float], model_id: str) -> None:
    """Write scores of one of a run's models."""
    log_batch(run_id, final=scores, model_id=model_id)


def log_batch(
    run_id: str,
    params: Mapping[str, str] | None = None,
    curves: Mapping[str, Sequence[float]] | None = None,
    final: Mapping[str, float] | None = None,
    tags: Mapping[str, str] | None = None,
    model_id: str | None = None,
) -> None:
    """Write what ``log_stage`` takes, in one call, or in as few as MLflow's limit allows."""
    params, curves, final, tags = params or {}, curves or {}, final or {}, tags or {}
    now, epochs = int(time.time() * 1000), max((len(values) for values in curves.values()), default=0)
    metrics = [Metric(k, v, now, step) for k, values in curves.items() for step, v in enumerate(values, 1)]
    metrics += [Metric(k, v, now, epochs + 1, model_id=model_id) for k, v in final.items()]
    chunks = [metrics[i : i + METRICS_PER_CALL] for i in range(0, len(metrics), METRICS_PER_CALL)] or [[]]
    texts = [Param(k, v) for k, v in params.items()], [RunTag(k, v) for k, v in tags.items()]
    MlflowClient().log_batch(run_id, chunks[0], *texts)
    for chunk in chunks[1:]:
        MlflowClient().log_batch(run_id, chunk)


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


def log_model(
    model: Any, config: Mapping[str, Any], example: Any, params: Mapping[str, str], name: str = "model"
) -> str:
    """Log ``model`` with both flavors under the active run; return its id."""
    from mlflow.models import Model

    info = Model.log(
        artifact_path=None,
        name=name,
        flavor=serving,
        model=model,
        config=config,
        example=example,
        params=dict(params),
        metadata={"config": dict(config), "input": "float32 [n, 10], raw units"},
        validate_serving_input=False,
    )
    return info.model_id


def environment_tags() -> dict[str, str]:
    """Versions of what computes, and whether the work tree held uncommitted changes."""
    git = ["git", "-C", str(Path(__file__).parent), "status", "--porcelain"]
    try:
        status = subprocess.run(git, capture_output=True, text=True, timeout=10)
        dirty = str(bool(status.stdout.strip())).lower() if status.returncode == 0 else "unknown"
    except (OSError, subprocess.TimeoutExpired):
        dirty = "unknown"
    return {"packages": ", ".join(f"{name} {version(name)}" for name in PACKAGES), "dirty": dirty}


def find_stage(run_id: str, stage: str, split: str) -> list[Any]:
    """The newest 20 finished runs of ``stage`` on the same split, in the experiment of ``run_id``; last one first."""
    client = MlflowClient()
    experiment = client.get_run(run_id).info.experiment_id
    query = f"tags.stage = '{stage}' and tags.split = '{split}' and attributes.status = 'FINISHED'"
    return client.search_runs([experiment], query, max_results=20, order_by=["attributes.start_time DESC"])


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


def how_to_browse(run_id: str) -> str:
    """The command that opens the UI on the store in use, and the addresses of a run and of the leaderboards there."""
    uri, mlflow_command = mlflow.get_tracking_uri(), Path(sys.executable).with_name("mlflow")
    served = uri.startswith(("http://", "https://"))
    if uri.startswith("sqlite:///") and not uri.startswith("sqlite:////"):
        uri = f"sqlite:///{Path(uri.removeprefix('sqlite:///')).resolve()}"
    command = "" if served else f"  {mlflow_command} ui --backend-store-uri {uri}\n"
    runs = f"{uri if served else 'http://127.0.0.1:5000'}/#/experiments/"
    runs += f"{MlflowClient().get_run(run_id).info.experiment_id}/runs"
    mode = "?workflowType=machine_learning"
    boards = "\n".join(f"  {runs}{mode}&viewStateShareKey={name}" for name in NAMES.values())
    return f"Browse:\n{command}This run:\n  {runs}/{run_id}{mode}\nAll runs, the best first:\n{boards}"


def _experiment_of_parent() -> str:
    """Of the active run, which there must be. Left to itself, MLflow files a nested run by the environment."""
    return mlflow.active_run().info.experiment_id


def _experiment_id(name: str | None) -> str:
    if not name and "MLFLOW_EXPERIMENT_ID" in os.environ:
        return os.environ["MLFLOW_EXPERIMENT_ID"]
    # The returned id is used, never the active experiment: several first starts at once race over the latter.
    return mlflow.set_experiment(name or os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT).experiment_id


def _is_unnamed(run_id: str) -> bool:
    """Whether MLflow made up the run's name (like ``gaudy-dolphin-797``), so that it is nobody's wish."""
    from mlflow.utils.name_utils import _GENERATOR_NOUNS, _GENERATOR_PREDICATES

    words = MlflowClient().get_run(run_id).info.run_name.split("-")
    return len(words) == 3 and words[0] in _GENERATOR_PREDICATES and words[1] in _GENERATOR_NOUNS

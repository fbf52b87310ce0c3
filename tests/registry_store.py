"""Shared by the tests of the registry: planted candidates, short forms of commands, and damage to stored models."""

from __future__ import annotations

import re
import shutil
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlparse
from urllib.request import url2pathname

import mlflow
import numpy as np
from mlflow import MlflowClient
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

from abalone.data.labels import is_old
from abalone.data.reading import read
from abalone.data.splitting import Split, split
from abalone.evaluation.scores import score
from abalone.model.networks import build
from abalone.registry.decision import Decision
from abalone.registry.promotion import promote
from abalone.registry.versions import versions
from abalone.settings import PREDICTION_COLUMNS, REGISTERED_MODELS, SELECTION, TASKS, load_settings
from abalone.tracking.file_sums import FILES_TAG, file_sums
from abalone.tracking.flavor import log_model
from abalone.tracking.run_logging import Scores, log_batch, log_files
from abalone.tracking.runs import RunOptions, tracked_run

CLASSIFIER = REGISTERED_MODELS["classification"]
PROMOTION_PAGE = "#/experiments/1/runs/promotion"  # of a promotion that left no run
STAGE_OF_TASK = {"classification": "encode", "regression": "regress"}
shipped = cache(read)  # the shipped file


@cache
def shipped_parts(seed: int) -> Split:
    return split(shipped(), seed)


def candidate(
    name: str,
    skill: float,
    *,
    task: str = "classification",
    experiment: str = "abalone",
    seed: int = 0,
    noise: float = 0.0,
    draw: int = 0,
    test: float = 0.5,
    metrics: dict[str, float | None] | None = None,
    tags: dict[str, str] | None = None,
    has_model: bool = True,
) -> str:
    """Leave a finished run as a stage does, with planted validation predictions, and return its id.

    Parameters
    ----------
    name, experiment : str
        Name of the run, and of the experiment that it is filed in.
    skill : float
        0 predicts the baseline, 1 the truth.
    noise, draw : float, int
        Standard deviation and seed of noise on the predictions.
    test : float
        Score on test.
    metrics, tags : dict
        More metrics and tags, or others; a metric that is None is not logged.
    has_model : bool
        Whether to log an untrained model.
    """
    dataset = shipped()
    parts = shipped_parts(seed)
    frame = dataset.frame.iloc[parts.val]
    rings = frame["Rings"].to_numpy()
    predicted, baseline = _plant_predictions(task, rings, skill, noise, draw)
    metric = SELECTION[task]
    final = {
        f"val/{metric}": score(metric, rings, predicted),
        f"baseline/val_{metric}": score(metric, rings, np.full(len(rings), baseline)),
        f"test/{metric}": test,
    }
    final |= metrics or {}
    logged = {name: value for name, value in final.items() if value is not None}
    with tracked_run(name, {"stage": name, "task": task}, RunOptions(experiment_name=experiment)) as run_id:
        if has_model:
            config = load_settings(STAGE_OF_TASK[task], {"hidden_sizes": "4"}).model_config()
            settings = {"task": task, "data": "uci", "seed": str(seed)}
            log_model(build(config).eval(), config, dataset.frame.iloc[parts.train], settings, name="model")
        columns = {PREDICTION_COLUMNS[task]: predicted.round(9)}
        table = frame.assign(**columns).rename_axis("row").reset_index()
        log_files(run_id, texts={}, figures={}, tables={"predictions/val.json": table})
        params = {"data": "uci", "seed": str(seed)}
        all_tags = {"dataset": dataset.sha256[:12], "split": parts.fingerprint} | (tags or {})
        log_batch(run_id, params, final=[Scores(logged)], tags=all_tags)
    return run_id


def _plant_predictions(task: str, rings: np.ndarray, skill: float, noise: float, draw: int) -> tuple[np.ndarray, float]:
    """Return predictions of the rows, and the constant that the baseline predicts."""
    drawn = noise * np.random.default_rng(draw).normal(size=len(rings))
    if task == "classification":
        baseline = 0.5
        truth = is_old(rings)
        return (baseline + skill * (truth - baseline) + drawn).clip(0.01, 0.99), baseline
    baseline = rings.mean()
    return baseline + skill * (rings - baseline) + drawn, baseline


def say_nothing(text: str) -> None:
    """Take the place of a command's output."""


def promote_one(task: str = "classification", **options: Any) -> Decision:
    """Promote for one task."""
    [decision] = promote((task,), say_nothing, **options)
    return decision


def replace_champion() -> None:
    """Promote a candidate, ``first``, and then a better one, ``second``."""
    for name, skill in (("first", 0.4), ("second", 0.6)):
        candidate(name, skill)
        promote_one()


def version_with(alias: str, task: str = "classification") -> Any:
    """Return the version that holds an alias; MLflow raises if there is none."""
    return MlflowClient().get_model_version_by_alias(REGISTERED_MODELS[task], alias)


def refusals(decision: Decision) -> dict[str, str]:
    """Map each candidate's name to the reason of its refusal."""
    return {candidate.name: candidate.refusal for candidate in decision.candidates}


def register_by_hand(run_id: str, task: str = "classification") -> Any:
    """Register the model of a run and make it champion as a person does in the UI, without any of our tags."""
    client = MlflowClient()
    name = REGISTERED_MODELS[task]
    version = mlflow.register_model(f"models:/{model_id_of(run_id)}", name)
    client.set_registered_model_alias(name, "champion", version.version)
    return version


def delete_for_good(run_id: str) -> None:
    """Delete a run as ``mlflow gc`` does: its artifacts too, but not its logged model."""
    run = MlflowClient().get_run(run_id)
    MlflowClient().delete_run(run_id)
    shutil.rmtree(url2pathname(urlparse(run.info.artifact_uri).path))
    SqlAlchemyStore(mlflow.get_tracking_uri(), "unused")._hard_delete_run(run_id)


def split_of(run_id: str) -> str:
    """Return the fingerprint of a run's split."""
    return MlflowClient().get_run(run_id).data.tags["split"]


def experiment_id(name: str = "abalone") -> str:
    return MlflowClient().get_experiment_by_name(name).experiment_id


def runs_of(stage: str, experiment: str = "abalone") -> list[Any]:
    """Return the runs of a stage."""
    return MlflowClient().search_runs([experiment_id(experiment)], f"tags.stage = '{stage}'")


def model_id_of(run_id: str) -> str:
    """Return the id of the only model that a run logged."""
    experiment = MlflowClient().get_run(run_id).info.experiment_id
    [model] = [m for m in MlflowClient().search_logged_models([experiment]) if m.source_run_id == run_id]
    return model.model_id


def model_folder(model_id: str) -> Path:
    """Return the folder in the store that holds a logged model."""
    location = MlflowClient().get_logged_model(model_id).artifact_location  # a path or a file URI
    return Path(url2pathname(urlparse(location).path))


def forget_file_sums(model_id: str) -> None:
    """Make a model and its versions look as those of a version of the project that recorded no sums of files."""
    client = MlflowClient()
    if FILES_TAG in client.get_logged_model(model_id).tags:
        client.delete_logged_model_tag(model_id, FILES_TAG)
    for task in TASKS:
        for version in versions(task):
            if version.source == f"models:/{model_id}" and FILES_TAG in version.tags:
                client.delete_model_version_tag(version.name, version.version, FILES_TAG)


def update_file_sums(folder: Path) -> None:
    """Record the sums of the files that a model has now, wherever sums of them were recorded."""
    client = MlflowClient()
    model_id = folder.parent.name
    if FILES_TAG in client.get_logged_model(model_id).tags:
        client.set_logged_model_tags(model_id, {FILES_TAG: file_sums(folder)})
    for task in TASKS:
        for version in versions(task):
            if version.source == f"models:/{model_id}" and FILES_TAG in version.tags:
                client.set_model_version_tag(version.name, version.version, FILES_TAG, file_sums(folder))


def package_of(folder: Path) -> Path:
    """Return the sealed package in a logged model's folder, unpacked as earlier versions of the project wrote it."""
    [package] = Path(folder, "code").iterdir()
    if package.suffix != ".zip":
        return package
    shutil.unpack_archive(package, folder / "code")
    package.unlink()
    replace_in(folder / "MLmodel", r"code: code/.*\.zip", "code: code")
    update_file_sums(folder)
    return package.with_suffix("")


def rename_package(folder: Path, name: str) -> Path:
    """Rename a model's sealed package, so that this process has not imported it yet; return its folder.

    As the files of the package are then changed, nothing may remember their sums.
    """
    forget_file_sums(folder.parent.name)
    old = package_of(folder)
    new = old.with_name(name)
    old.rename(new)
    replace_in(folder / "MLmodel", old.name, name)
    return new


def make_unsealed(folder: Path) -> None:
    """Make a model look as one that a version of the project without sealing logged."""
    forget_file_sums(folder.parent.name)
    package_of(folder).rename(folder / "code" / "abalone")
    replace_in(folder / "MLmodel", r"loader_module: \S+", "loader_module: abalone.serving")


def replace_in(path: Path, pattern: str, text: str) -> None:
    """Replace a pattern, which must occur, in a file."""
    changed, count = re.subn(pattern, text, path.read_text())
    assert count, f"{pattern} is not in {path}"
    path.write_text(changed)

"""File results that were kept in a folder while the tracking server was away: see ``kept_results``.

Each part is written only if the server does not have it yet, and the run is ended last. So a filing that was
interrupted is completed by the next one, and the filing of a run that is FINISHED does nothing.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import mlflow
from mlflow import MlflowClient
from mlflow.entities import LoggedModel, LoggedModelOutput, LoggedModelStatus, Metric, Param, Run, RunTag
from mlflow.models import Model

from abalone.settings import UserError
from abalone.tracking.database import sqlite_uri
from abalone.tracking.file_sums import FILES_TAG, file_sums
from abalone.tracking.kept_results import DATABASE, RUN_TAG, SERVER_TAG
from abalone.tracking.known_runs import find_run
from abalone.tracking.lookup import PARENT_TAG
from abalone.tracking.reachable import without_login
from abalone.tracking.run_logging import log_metrics

OWN_TAGS = {RUN_TAG, SERVER_TAG, PARENT_TAG}  # of a run in the folder, which do not belong on the server


@dataclass(frozen=True)
class Kept:
    """A run in a folder, and what it consists of.

    Parameters
    ----------
    folder : Path
    client : MlflowClient
        Of the database in the folder.
    run : Run
    models : list of LoggedModel
    """

    folder: Path
    client: MlflowClient
    run: Run
    models: list[LoggedModel]

    def files_of(self, owner: str) -> Path:
        """Folder of the files of a run or a model; looked for, because the folder may have been moved."""
        return next(self.folder.glob(f"mlruns/**/{owner}/artifacts"))


def file_results(folder: Path, say: Callable[[str], None]) -> None:
    """File kept results on the tracking server; those that are filed already are left alone.

    Parameters
    ----------
    folder : Path
        A folder of kept results, or a folder of such folders.
    say : callable
        Gets a line for each result.

    Raises
    ------
    UserError
        If there is nothing in the folder, or the server does not have the run that was begun there.
    """
    folders = [database.parent for database in (folder / DATABASE, *sorted(folder.glob(f"*/{DATABASE}")))]
    folders = [kept for kept in folders if (kept / DATABASE).exists()]
    if not folders:
        raise UserError(f"there are no kept results in {folder.absolute()}; name the folder that the stage has named")
    for one in folders:
        say(_file(_read(one)))


def _read(folder: Path) -> Kept:
    client = MlflowClient(sqlite_uri((folder / DATABASE).absolute()))
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    [run] = client.search_runs(experiments, f"tags.`{RUN_TAG}` LIKE '%'")
    models = [client.get_logged_model(model_id) for model_id in _outputs(run)]
    return Kept(folder, client, run, models)


def _file(kept: Kept) -> str:
    """File one result, and say what was done."""
    run = _run_on_server(kept)
    run_id = run.info.run_id
    name = f"{run.info.run_name} (run {run_id})"
    if run.info.status == "FINISHED":
        return f"{name} is filed already; {kept.folder} can be deleted."
    client = MlflowClient()
    model_ids = dict(_file_models(client, kept, run))
    client.log_artifacts(run_id, str(kept.files_of(kept.run.info.run_id)))
    client.log_inputs(run_id, kept.run.inputs.dataset_inputs if kept.run.inputs else [])
    params = [Param(key, value) for key, value in kept.run.data.params.items() if key not in run.data.params]
    tags = _tags(kept, run, model_ids)
    metrics = _metrics(client, kept, run, model_ids)
    client.log_batch(run_id, params=params, tags=tags)
    log_metrics(run_id, metrics)
    if "error" in run.data.tags:  # written by the stage, or by a later run that found its process gone
        client.delete_tag(run_id, "error")
    client.set_terminated(run_id, end_time=kept.run.info.end_time)
    return f"{name} is filed; {kept.folder} can be deleted."


def _run_on_server(kept: Kept) -> Run:
    """The run that the stage began on the server."""
    run_id = kept.run.data.tags[RUN_TAG]
    run = find_run(run_id)
    if run is None:
        raise UserError(
            f"run {run_id} of {kept.folder} was begun on {kept.run.data.tags[SERVER_TAG]} and is not in "
            f"{without_login(mlflow.get_tracking_uri())}; set MLFLOW_TRACKING_URI to the server that has it"
        )
    if run.info.lifecycle_stage != "active":
        raise UserError(f"run {run_id} of {kept.folder} was deleted; `mlflow runs restore --run-id {run_id}` first")
    return run


def _file_models(client: MlflowClient, kept: Kept, run: Run) -> Iterator[tuple[str, str]]:
    """Log the models that the server does not have; yields the id of each in the folder and on the server."""
    query = f"source_run_id = '{run.info.run_id}'"
    known = {model.name: model for model in client.search_logged_models([run.info.experiment_id], query)}
    outputs = _outputs(run)
    for model in kept.models:
        filed = known.get(model.name) or client.create_logged_model(
            run.info.experiment_id, model.name, run.info.run_id, tags=model.tags, params=model.params
        )
        if filed.model_id not in outputs:
            client.log_outputs(run.info.run_id, [LoggedModelOutput(filed.model_id, step=0)])
        if filed.status != LoggedModelStatus.READY:
            _upload(client, kept.files_of(model.model_id), filed, run.info.run_id)
            client.finalize_logged_model(filed.model_id, LoggedModelStatus.READY)
        yield model.model_id, filed.model_id


def _outputs(run: Run) -> list[str]:
    """Ids of the models of a run."""
    return [output.model_id for output in run.outputs.model_outputs] if run.outputs else []


def _upload(client: MlflowClient, files: Path, model: LoggedModel, run_id: str) -> None:
    """Upload the files of a model, which names itself in one of them."""
    with TemporaryDirectory() as folder:
        shutil.copytree(files, folder, dirs_exist_ok=True)
        description = Model.load(folder)
        description.model_id = model.model_id
        description.model_uuid = model.model_id
        description.run_id = run_id
        description.artifact_path = model.artifact_location
        description.save(str(Path(folder, "MLmodel")))
        client.set_logged_model_tags(model.model_id, {FILES_TAG: file_sums(Path(folder))})
        client.log_model_artifacts(model.model_id, folder)


def _tags(kept: Kept, run: Run, model_ids: Mapping[str, str]) -> list[RunTag]:
    """The tags that the run lacks; its page names the models."""
    tags = []
    for key, value in kept.run.data.tags.items():
        if key in run.data.tags or key in OWN_TAGS:
            continue
        for kept_id, filed_id in model_ids.items():
            value = value.replace(kept_id, filed_id)
        tags.append(RunTag(key, value))
    return tags


def _metrics(client: MlflowClient, kept: Kept, run: Run, model_ids: Mapping[str, str]) -> list[Metric]:
    """All points, each with the model it belongs to.

    A point that is on the server already gets the time that it has there: MLflow drops a point that it has.
    """
    owners = {}
    for model in kept.models:
        for metric in model.metrics or ():
            owners[metric.key, metric.step] = model_ids[model.model_id]
    times = {(metric.key, metric.step): metric.timestamp for metric in _points(client, run)}
    points = []
    for metric in _points(kept.client, kept.run):
        point = (metric.key, metric.step)
        time = times.get(point, metric.timestamp)
        points.append(Metric(metric.key, metric.value, time, metric.step, model_id=owners.get(point)))
    return points


def _points(client: MlflowClient, run: Run) -> list[Metric]:
    """Every point of every curve of a run."""
    points = []
    for name in run.data.metrics:
        points += client.get_metric_history(run.info.run_id, name)
    return points

"""SQL that is compiled once. SQLAlchemy keeps compiled statements by engine, and each store of a test has its own."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any


@cache
def share_statements() -> None:
    """Have the SQLite stores of this process, and of those forked from it, share their compiled statements."""
    from mlflow.store.db import utils

    create = utils.create_sqlalchemy_engine
    first = create("sqlite://")
    with first.connect():  # which completes its dialect, a part of the keys
        pass

    def create_alike(uri: str) -> Any:
        engine = create(uri)
        if engine.dialect.name == "sqlite":
            engine.dialect = first.dialect
            engine._compiled_cache = first._compiled_cache
        return engine

    utils.create_sqlalchemy_engine = create_alike
    utils._get_latest_schema_revision = cache(utils._get_latest_schema_revision)  # out of all of MLflow's migrations


def compile_statements() -> None:
    """Do in a store of no further use what most commands do in theirs."""
    import mlflow
    from mlflow import MlflowClient
    from mlflow.entities import Dataset, DatasetInput, InputTag, LoggedModelOutput, Metric, Param, RunTag

    with TemporaryDirectory() as folder:
        mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
        client = MlflowClient()
        client.search_experiments(max_results=1)
        client.create_experiment("name", Path(folder).as_uri())
        experiment = client.get_experiment_by_name("name").experiment_id
        client.set_experiment_tag(experiment, "key", "value")
        run_id = client.create_run(experiment, tags={"stage": "encode"}, run_name="name").info.run_id
        client.search_runs([experiment], "attributes.status = 'RUNNING' and tags.process LIKE 'host %'")
        client.search_runs([experiment], "tags.stage = 'a' and tags.split = 'b' and attributes.status = 'FINISHED'")
        client.search_runs([experiment], "tags.task LIKE '%a%'", order_by=["attributes.start_time DESC"])
        client.search_logged_models([experiment], max_results=20)
        client.search_logged_models([experiment], "params.task = 'regression'")
        model = client.create_logged_model(experiment, "name", run_id, {"key": "value"}, {"task": "regression"})
        client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
        client.set_logged_model_tags(model.model_id, {"key": "value"})
        client.finalize_logged_model(model.model_id, "READY")
        data = Dataset(name="a", digest="1", source_type="local", source="{}", schema="{}", profile="{}")
        client.log_inputs(run_id, [DatasetInput(data, [InputTag("mlflow.data.context", "train")])])
        metrics = [Metric("a", 1.0, 0, 1), Metric("b", 1.0, 0, 0, model_id=model.model_id)]
        client.log_batch(run_id, metrics, [Param("a", "1")], [RunTag("a", "1")])
        client.get_run(run_id)
        client.get_metric_history(run_id, "a")
        client.create_registered_model("name")
        client.create_model_version("name", f"models:/{model.model_id}", run_id, model_id=model.model_id)
        client.set_registered_model_alias("name", "champion", "1")
        client.update_registered_model("name", "description")
        client.search_registered_models("name = 'name'")
        client.search_model_versions("name = 'name'", max_results=100)
        client.get_model_version("name", "1")
        client.get_model_version_by_alias("name", "champion")
        client.set_terminated(run_id)
    mlflow.set_tracking_uri(None)

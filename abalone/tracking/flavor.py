"""Write a model in two MLflow flavors: an ``nn.Module`` for PyTorch, and raw rows to named columns for pyfunc.

The PyTorch flavor is a pickled module. The pyfunc flavor is rebuilt from a configuration and a ``state_dict``, so it
works where unpickling is forbidden. Both use the copy of ``abalone.model`` in the model's ``code`` folder and never the
project itself; see ``sealing``.

The signature names inputs and outputs: Unity Catalog refuses a model without inputs, and ``spark_udf``, the UI and
MLflow's clients read them. So MLflow enforces it and refuses some rows in its own words (a missing column, text in a
column of numbers) before the model's own ``check`` sees them; ``docs/champions.md`` lists which.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from copy import deepcopy
from functools import cache
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import mlflow
import mlflow.pyfunc
import mlflow.pytorch
import pandas as pd
import torch
from mlflow import MlflowClient
from mlflow.entities import LoggedModel, LoggedModelOutput
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema, TensorSpec
from mlflow.utils import requirements_utils
from torch import nn

from abalone.model.columns import PARAMS, RAW_COLUMNS, TEXT_COLUMNS, knows_distribution, outputs
from abalone.model.features import encode
from abalone.model.scorer import WEIGHTS
from abalone.model.training_range import TrainingRange
from abalone.tracking.file_sums import FILES_TAG, file_sums
from abalone.tracking.reachable import no_http_retries
from abalone.tracking.sealing import sealed_module, sealed_name, write_sealed_package

REQUIREMENTS = ("mlflow", "torch", "pandas")
EXAMPLE_ROWS = 3


def log_model(
    model: nn.Module, config: Mapping[str, Any], fitted: pd.DataFrame, params: Mapping[str, str], name: str
) -> str:
    """Log a model with both flavors under the active run.

    ``mlflow.models.Model.log`` does the same with five more requests to a server: it reads the run twice and the model
    once, and the history of every metric that the run has.

    Parameters
    ----------
    model : nn.Module
        float32 ``[n, 10]`` to logits ``[n, 2]`` or rings ``[n, 1]``.
    config : mapping
        Configuration from which ``abalone.model.networks.build`` builds the same network.
    fitted : DataFrame [m, at least 9]
        The rows that the model was fitted on, with ``Rings``. The model keeps their range, quantiles, digests and
        rings; the first few are its input example.
    params : mapping
        Parameters of the logged model.
    name : str
        Name of the logged model.

    Returns
    -------
    str
        Id of the logged model.
    """
    run = mlflow.active_run()
    assert run is not None, "a model is logged under an active run"
    client = MlflowClient()
    tags = {key: value for key, value in run.data.tags.items() if key.startswith(("mlflow.user", "mlflow.source."))}
    logged = client.create_logged_model(run.info.experiment_id, name, run.info.run_id, tags, dict(params))
    try:
        client.log_outputs(run.info.run_id, [LoggedModelOutput(logged.model_id, step=0)])
        with TemporaryDirectory() as folder:
            path = str(Path(folder, "model"))
            save_model(path, _describe(logged, config, fitted), model, config, fitted)
            get_artifact_repository(logged.artifact_location).log_artifacts(path)
    except BaseException:
        with no_http_retries(), suppress(MlflowException):  # the store is away: a later command ends the model
            client.finalize_logged_model(logged.model_id, "FAILED")
        raise
    client.finalize_logged_model(logged.model_id, "READY")
    return logged.model_id


def _describe(logged: LoggedModel, config: Mapping[str, Any], fitted: pd.DataFrame) -> Model:
    """MLflow's description of a model, which the flavors are added to."""
    return Model(
        artifact_path=logged.artifact_location,
        run_id=logged.source_run_id,
        model_uuid=logged.model_id,
        model_id=logged.model_id,
        metadata={
            "config": dict(config),
            "input": "float32 [n, 10], raw units",
            "training_rows": len(fitted),
            "training_range": TrainingRange.of(fitted).summary(),
        },
    )


def signature(config: Mapping[str, Any]) -> ModelSignature:
    """Signature of a model: the eight raw columns in, the named columns of its predictions out, and its parameters.

    Parameters
    ----------
    config : mapping
        As for ``log_model``.
    """
    params = _params_schema() if knows_distribution(config) else None
    return ModelSignature(
        inputs=_schema(RAW_COLUMNS),
        outputs=_schema(outputs(config)),
        params=params,  # type: ignore[arg-type]  # its default is None, which MLflow's annotation leaves out
    )


def _schema(names: tuple[str, ...]) -> Schema:
    columns: list[ColSpec | TensorSpec] = []
    for name in names:
        kind = DataType.string if name in TEXT_COLUMNS else DataType.double
        columns.append(ColSpec(kind, name))
    return Schema(columns)


def _params_schema() -> ParamSchema:
    """The parameters of ``Scorer.predict``, by which MLflow checks them."""
    kinds = {float: DataType.double, bool: DataType.boolean}
    return ParamSchema([ParamSpec(name, kinds[type(default)], default) for name, default in PARAMS.items()])


def save_model(
    path: str,
    mlflow_model: Model,
    model: nn.Module,
    config: Mapping[str, Any],
    fitted: pd.DataFrame,
) -> None:
    """Write both flavors into a folder.

    The sums of the files become a tag of the logged model, so that a promotion finds what was changed since.

    Parameters
    ----------
    path : str
        Folder to write.
    mlflow_model : mlflow.models.Model
        Description of the model, begun by MLflow.
    model, config, fitted
        As for ``log_model``.

    Raises
    ------
    ValueError
        If a weight is not float32.
    RuntimeError
        If the sealed copy of the code computes other outputs than ``model``.
    """
    example = fitted.head(EXAMPLE_ROWS)
    sealed = _seal(model, config, example)
    with TemporaryDirectory() as folder, _without_pickle_warning(), _without_list_of_packages():
        package = write_sealed_package(Path(folder))
        mlflow.pytorch.save_model(
            sealed,
            path,
            mlflow_model=mlflow_model,
            code_paths=[str(package)],
            signature=signature(config),
            input_example=example[list(RAW_COLUMNS)],
            pip_requirements=requirements(),
            serialization_format="pickle",
        )
    sealed_module("scorer").save_weights(Path(path, WEIGHTS), sealed, config, fitted)
    code = f"code/{package.name}"
    mlflow_model.flavors[mlflow.pytorch.FLAVOR_NAME]["code"] = code  # the archive, not its folder
    # The pyfunc flavor that MLflow adds converts a table to float32, which cannot hold the sex as text.
    del mlflow_model.flavors[mlflow.pyfunc.FLAVOR_NAME]
    mlflow.pyfunc.add_to_model(
        mlflow_model,
        loader_module=f"{sealed_name()}.scorer",
        data=WEIGHTS,
        code=code,
        conda_env="conda.yaml",
        python_env="python_env.yaml",
    )
    mlflow_model.save(str(Path(path, "MLmodel")))
    if mlflow_model.model_id:  # None for a model that is saved without a store
        MlflowClient().set_logged_model_tags(mlflow_model.model_id, {FILES_TAG: file_sums(Path(path))})


def requirements() -> list[str]:
    """Packages that a logged model needs to load and predict, pinned to the installed versions."""
    return [_pin(name) for name in REQUIREMENTS]


@cache
def _pin(name: str) -> str:
    release = version(name).split("+")[0]
    return f"{name}=={release}"


def _seal(model: nn.Module, config: Mapping[str, Any], example: pd.DataFrame) -> nn.Module:
    """Rebuild ``model`` from the classes of the sealed package, in eval mode, and check that it is the same."""
    for name, values in model.state_dict().items():
        if values.is_floating_point() and values.dtype != torch.float32:
            raise ValueError(f"{name} is {values.dtype}, expected torch.float32; convert the model with .float()")
    sealed = sealed_module("networks").build(config)
    sealed.load_state_dict(model.state_dict())
    sealed.eval()
    original = deepcopy(model).cpu().eval()
    with torch.inference_mode():
        expected = original(encode(example))
        computed = sealed(sealed_module("features").encode(example))
    # The same weights elsewhere in memory may round differently, so the last digits are not compared.
    if not torch.allclose(computed, expected, rtol=1e-4, atol=1e-5, equal_nan=True):
        raise RuntimeError(
            f"{sealed_name()} computes other outputs than the trained model: "
            "config describes another model, or a file of abalone/model was edited during the run; train it again"
        )
    return sealed


@contextmanager
def _without_pickle_warning() -> Iterator[None]:
    """Silence MLflow's warning about pickle; the pyfunc flavor, which is the one for serving, does not use it."""
    logger = logging.getLogger("mlflow.pytorch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


@contextmanager
def _without_list_of_packages() -> Iterator[None]:
    """Keep MLflow from listing every installed package, which takes a CPU second, to check the three pins.

    It does so once in a process, to find the packages of modules; those of the pins have the modules' names.
    """
    name = "_MODULES_TO_PACKAGES"
    before = getattr(requirements_utils, name, None)
    setattr(requirements_utils, name, before or {})
    try:
        yield
    finally:
        setattr(requirements_utils, name, before)

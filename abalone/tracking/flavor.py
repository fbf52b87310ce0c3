"""The MLflow flavor of the models: an ``nn.Module`` for PyTorch, raw rows in and named answers out for pyfunc.

The PyTorch flavor is a pickled module, the pyfunc flavor is built from a configuration and a ``state_dict`` that is
read with ``weights_only``, so it works where unpickling is forbidden. Both use the sealed copy of ``abalone.model``
that travels in the model's ``code/`` folder; see ``sealing``.

The signature names inputs and outputs. MLflow therefore refuses a missing column, and text in a column of numbers,
before our own check sees the rows; everything else reaches the check. ``docs/champions.md`` lists what says what.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import mlflow.pyfunc
import mlflow.pytorch
import pandas as pd
import torch
from mlflow.models import Model, ModelSignature
from mlflow.types import ColSpec, DataType, Schema
from torch import nn

from abalone.model.columns import RAW_COLUMNS, TEXT_COLUMNS, outputs
from abalone.model.scorer import WEIGHTS
from abalone.tracking.sealing import sealed_module, sealed_name, write_sealed_package

REQUIREMENTS = ("mlflow", "torch", "pandas")


def log_model(
    model: nn.Module, config: Mapping[str, Any], example: pd.DataFrame, params: Mapping[str, str], name: str
) -> str:
    """Log ``model`` with both flavors under the active run.

    Parameters
    ----------
    model : nn.Module
        float32 ``[n, 10]`` to logits ``[n, 2]`` or rings ``[n, 1]``.
    config : mapping
        What ``abalone.model.networks.build`` needs to make the same network.
    example : DataFrame
        A few raw rows.
    params : mapping
        Parameters of the logged model.
    name : str
        Name of the logged model.

    Returns
    -------
    str
        Id of the logged model.
    """
    info = Model.log(
        artifact_path=None,
        name=name,
        flavor=sys.modules[__name__],  # Model.log calls its save_model
        model=model,
        config=config,
        example=example,
        params=dict(params),
        metadata={"config": dict(config), "input": "float32 [n, 10], raw units"},
        validate_serving_input=False,
    )
    return info.model_id


def signature(config: Mapping[str, Any]) -> ModelSignature:
    """MLflow signature: the eight raw columns in, the named columns of the answer out."""
    return ModelSignature(inputs=_schema(RAW_COLUMNS), outputs=_schema(outputs(config)))


def _schema(names: tuple[str, ...]) -> Schema:
    columns = []
    for name in names:
        kind = DataType.string if name in TEXT_COLUMNS else DataType.double
        columns.append(ColSpec(kind, name))
    return Schema(columns)


def save_model(
    path: str,
    mlflow_model: Model,
    model: nn.Module,
    config: Mapping[str, Any],
    example: pd.DataFrame,
    validate_serving_input: bool = False,
) -> None:
    """Write both flavors into ``path``; called by ``mlflow.models.Model.log``.

    Parameters
    ----------
    path : str
        Folder to write.
    mlflow_model : mlflow.models.Model
        Description that MLflow has begun.
    model, config, example
        As for ``log_model``.
    validate_serving_input : bool
        Read by ``Model.log``: False saves the loading of the model just saved.
    """
    sealed = sealed_module("networks").build(config)
    sealed.load_state_dict(model.state_dict())
    with TemporaryDirectory() as folder, _without_pickle_warning():
        mlflow.pytorch.save_model(
            sealed.eval(),
            path,
            mlflow_model=mlflow_model,
            code_paths=[str(write_sealed_package(Path(folder)))],
            signature=signature(config),
            input_example=example[list(RAW_COLUMNS)],
            pip_requirements=requirements(),
            serialization_format="pickle",
        )
    torch.save({"config": dict(config), "state": model.state_dict()}, Path(path, WEIGHTS))
    # MLflow's own pyfunc side of a PyTorch model turns a frame into float32, which cannot hold the sex as text.
    del mlflow_model.flavors[mlflow.pyfunc.FLAVOR_NAME]
    mlflow.pyfunc.add_to_model(
        mlflow_model,
        loader_module=f"{sealed_name()}.scorer",
        data=WEIGHTS,
        code="code",
        conda_env="conda.yaml",
        python_env="python_env.yaml",
    )
    mlflow_model.save(str(Path(path, "MLmodel")))


def requirements() -> list[str]:
    """Packages that a logged model needs to load and predict, at the versions that trained it."""
    pins = []
    for name in REQUIREMENTS:
        release = version(name).split("+")[0]
        pins.append(f"{name}=={release}")
    return pins


@contextmanager
def _without_pickle_warning() -> Iterator[None]:
    """Silence MLflow's warning about pickle: the pyfunc side, which serves strangers, does without."""
    logger = logging.getLogger("mlflow.pytorch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)

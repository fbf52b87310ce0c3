"""One saved model, two flavors: an ``nn.Module`` for PyTorch, and raw rows in, named predictions out, for pyfunc.

The pyfunc side is rebuilt from a JSON-like configuration and a ``state_dict`` read with ``weights_only``, so it
works where unpickling is forbidden. This file and the ones it imports travel inside each model (``code/``), so
both flavors load without the project.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
import torch
from torch import nn

from abalone.columns import CLASS_LABELS, MEASUREMENTS, RAW_COLUMNS, YEARS_BEFORE_FIRST_RING
from abalone.features import encode
from abalone.models import build

WEIGHTS = "weights.pt"
SHIPPED = ("__init__.py", "columns.py", "features.py", "models.py", "serving.py")


class Scorer:
    """The python_function side of a model.

    Parameters
    ----------
    weights : Path
        File that ``save_model`` wrote: configuration and ``state_dict``.
    """

    def __init__(self, weights: Path):
        saved = torch.load(weights, weights_only=True)
        self.model = build(saved["config"])
        self.model.load_state_dict(saved["state"])
        self.model.eval()
        self.task = saved["config"]["task"]

    def predict(self, rows: pd.DataFrame, params: Mapping[str, Any] | None = None) -> pd.DataFrame:
        """Score raw rows.

        Parameters
        ----------
        rows : DataFrame [n, 8]
            ``Sex`` as text and seven measurements in the units of the data file.

        Returns
        -------
        DataFrame [n, 2]
            ``label`` and ``probability_old``, or ``rings`` and ``age_years``.
        """
        with torch.inference_mode():
            output = self.model(encode(rows)).double()
        if self.task == "regression":
            rings = output[:, 0].numpy()
            return pd.DataFrame({"rings": rings, "age_years": rings + YEARS_BEFORE_FIRST_RING}, index=rows.index)
        old = output.softmax(1)[:, 1].numpy()
        labels = [CLASS_LABELS[int(p >= 0.5)] for p in old]
        return pd.DataFrame({"label": labels, "probability_old": old}, index=rows.index)


def _load_pyfunc(path: str, model_config: Mapping[str, Any] | None = None) -> Scorer:
    """Entry point of MLflow for ``loader_module``."""
    return Scorer(Path(path))


def signature(task: str):
    """MLflow signature of the raw rows that go in and the named columns that come out."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema

    outputs = {"classification": ("label", "probability_old"), "regression": ("rings", "age_years")}[task]
    return ModelSignature(
        inputs=Schema([ColSpec(DataType.string, "Sex"), *(ColSpec(DataType.double, name) for name in MEASUREMENTS)]),
        outputs=Schema([ColSpec(DataType.string if n == "label" else DataType.double, n) for n in outputs]),
    )


def save_model(
    path: str,
    mlflow_model: Any,
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
    model : nn.Module
        float32 ``[n, 10]`` to logits ``[n, 2]`` or rings ``[n, 1]``.
    config : mapping
        What ``abalone.models.build`` needs to make the same network.
    example : DataFrame
        A few raw rows.
    validate_serving_input : bool
        Read by ``Model.log``, which passes it on: False saves the loading of the model just saved.
    """
    import mlflow.pyfunc
    import mlflow.pytorch

    with TemporaryDirectory() as folder, _quiet("mlflow.pytorch"):
        package = Path(folder, "abalone")
        package.mkdir()
        for name in SHIPPED:
            shutil.copy(Path(__file__).parent / name, package)
        mlflow.pytorch.save_model(
            model,
            path,
            mlflow_model=mlflow_model,
            code_paths=[str(package)],
            signature=signature(config["task"]),
            input_example=example[list(RAW_COLUMNS)],
            pip_requirements=requirements(),
            serialization_format="pickle",
        )
    torch.save({"config": dict(config), "state": model.state_dict()}, Path(path, WEIGHTS))
    del mlflow_model.flavors[mlflow.pyfunc.FLAVOR_NAME]
    environments = {"conda": "conda.yaml", "virtualenv": "python_env.yaml"}
    mlflow.pyfunc.add_to_model(
        mlflow_model, loader_module=__name__, data=WEIGHTS, code="code", conda_env=environments["conda"],
        python_env=environments["virtualenv"],
    )  # fmt: skip
    mlflow_model.save(str(Path(path, "MLmodel")))


def requirements() -> list[str]:
    """What a model needs to load and predict, at the versions that trained it."""
    from importlib.metadata import version

    return [f"{name}=={version(name).split('+')[0]}" for name in ("mlflow", "torch", "pandas")]


@contextmanager
def _quiet(logger: str):
    """Hold back MLflow's advice against pickle: the pyfunc side, which serves strangers, does without."""
    import logging

    log = logging.getLogger(logger)
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)

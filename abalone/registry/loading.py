"""Load champions and candidates: fetch a model's files, then import the code that the model carries.

Every model that this package uses is loaded here, so that each failure is reported in the same way. The two steps fail
for different reasons. If the files cannot be fetched, the store is at fault and the model may be fine
(``UnreachableModel``). A model that was fetched but cannot be loaded, or fails on valid rows, is of no use to anyone
(``UnusableModel``): it was logged by an older version of the project, or its files are damaged.

The files are copied to a temporary folder even if the store is a local one. A read error then belongs to the fetch,
and Python writes no bytecode into the store. The folder is deleted as soon as the model is in memory. What is checked
(see ``tracking/file_sums.py``) is this copy, before anything in it is read, and nothing in it is ever unpickled.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from zipfile import is_zipfile

import mlflow
import numpy as np
import pandas as pd
from mlflow import MlflowClient
from mlflow.environment_variables import MLFLOW_ALLOW_PICKLE_DESERIALIZATION
from mlflow.exceptions import MlflowException
from mlflow.utils.yaml_utils import read_yaml

from abalone.model.columns import MEASUREMENTS, RAW_COLUMNS
from abalone.model.rows import BadRows
from abalone.registry.versions import CHAMPION, holder
from abalone.settings import REGISTERED_MODELS, UserError
from abalone.tracking.database import settle_store
from abalone.tracking.fetching import fetch_file, fetch_folder
from abalone.tracking.file_sums import (
    FILES_TAG,
    changed_files,
    file_names,
    file_sums,
    part_of_pyfunc,
    remove_caches,
)
from abalone.tracking.relocation import missing_folder

PROJECT = "abalone"  # top-level package of the project, and the beginning of every sealed package's name
LONGEST_REASON = 200  # characters


class UnreachableModel(UserError):
    """A model whose files cannot be fetched.

    Parameters
    ----------
    uri : str
        Address of the model.
    reason : str
        What the store answered.
    """

    def __init__(self, uri: str, reason: str):
        self.problem = f"cannot be fetched ({reason})"
        where = mlflow.get_tracking_uri()
        super().__init__(f"{uri} {self.problem}; check that the artifact store behind {where} is available")


class UnusableModel(UserError):
    """A model that was fetched but has other files than were recorded, cannot be loaded, or fails on valid rows.

    Parameters
    ----------
    uri : str
        Address of the model.
    problem : str
        What does not work, and why.
    """

    def __init__(self, uri: str, problem: str):
        self.problem = problem
        super().__init__(f"{uri} {problem}; train and promote again")


@dataclass(frozen=True)
class LoadedModel:
    """A model that scores raw rows with its own code.

    Parameters
    ----------
    uri : str
        Address that it was loaded from.
    columns : tuple of str
        Columns of its answer.
    pyfunc : mlflow.pyfunc.PyFuncModel
        The model.
    files : str, default ""
        The sums of its files, as ``file_sums`` returns them.
    is_checked : bool, default False
        Whether they are those that were recorded; False if none were.
    """

    uri: str
    columns: tuple[str, ...]
    pyfunc: Any
    files: str = ""
    is_checked: bool = False

    @property
    def version(self) -> str:
        """Version of the registered model that it was loaded from."""
        return self.uri.rpartition("/")[2]

    @property
    def knows_distribution(self) -> bool:
        """Whether the model takes the parameters ``interval`` and ``distribution``."""
        schema = self.pyfunc.metadata.get_params_schema()
        return schema is not None and "distribution" in [param.name for param in schema]

    def predict(self, rows: pd.DataFrame, params: Mapping[str, Any] | None = None) -> pd.DataFrame:
        """Score raw rows.

        Parameters
        ----------
        rows : DataFrame [n, at least 8]
            The columns of ``RAW_COLUMNS``; the measurements as numbers, or as text that is a number.
        params : mapping, optional
            Only for a model that ``knows_distribution``.

        Returns
        -------
        DataFrame [n, len(columns)]
            With ``distribution`` also P(rings = r), see ``columns.DISTRIBUTION_OUTPUTS``.

        Raises
        ------
        BadRows
            If the model refuses a row, in the words of the model's own version.
        UnusableModel
            If the model fails in any other way.
        """
        table = _as_signature(rows)
        try:
            return self.pyfunc.predict(table, params=dict(params) if params else None)
        except Exception as error:
            # The model raises the BadRows of its sealed package, which is not the class imported here.
            if isinstance(error, MlflowException) and error.error_code == "INVALID_PARAMETER_VALUE":
                raise BadRows(error.message) from None
            raise UnusableModel(self.uri, f"cannot score rows ({describe(error)})") from error


def _as_signature(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the eight columns, the measurements as float64.

    MLflow refuses a column of int64 or of text where the signature says double.
    """
    table = rows[list(RAW_COLUMNS)]
    for name in MEASUREMENTS:
        if table[name].dtype != np.float64:  # most columns are, and DataFrame.astype is slow
            table = table.assign(**{name: table[name].astype(np.float64)})
    return table


def load_champion(task: str) -> LoadedModel:
    """Load the champion of a task.

    Raises
    ------
    UserError
        If there is none, or the registry cannot be read.
    UnreachableModel, UnusableModel
        As for ``load_model``.
    """
    settle_store()
    name = REGISTERED_MODELS[task]
    registry = mlflow.get_registry_uri()
    try:
        version = holder(task, CHAMPION)
    except (MlflowException, OSError) as error:
        raise UserError(f"the model registry {registry} cannot be read ({describe(error)})") from error
    if version is None:
        raise UserError(
            f"{name} has no version with the alias {CHAMPION} in {registry}; "
            "make one with: mlflow run . -e promote -P experiment=NAME"
        )
    return load_model(f"models:/{name}/{version.version}", version.tags.get(FILES_TAG, ""))


def load_model(uri: str, recorded: str = "", address: str = "") -> LoadedModel:
    """Load a model with the code that was logged with it.

    Parameters
    ----------
    uri : str
        ``models:/NAME/VERSION`` or ``models:/ID``.
    recorded : str
        The sums that were recorded of its files; "" if there are none, and it is loaded unchecked.
    address : str
        Where its files are; "" to ask the store.

    Raises
    ------
    UnreachableModel
        If its files cannot be fetched.
    UnusableModel
        If they were fetched but are not those that were recorded, or cannot be loaded.
    """
    with _checked_copy(uri, part_of_pyfunc(recorded), recorded, address) as folder:
        files = recorded or file_sums(folder)
        try:
            with _undo_imports_on_failure(_own_package(folder)), _pickles_refused():
                pyfunc = mlflow.pyfunc.load_model(str(folder), suppress_warnings=True)
            columns = _answer_columns(pyfunc)
        except Exception as error:  # damaged files raise errors of any kind
            raise UnusableModel(uri, f"cannot be loaded ({describe(error)})") from error
    return LoadedModel(uri=uri, columns=columns, pyfunc=pyfunc, files=files, is_checked=bool(recorded))


def check_files(uri: str, recorded: str) -> None:
    """Check all files of a model, also those that nobody has recorded, without loading it.

    Parameters
    ----------
    uri, recorded
        As for ``load_model``; without sums there is nothing to check.

    Raises
    ------
    UnreachableModel, UnusableModel
        As for ``load_model``.
    """
    if recorded:
        with _checked_copy(uri, "", recorded):
            pass


@contextmanager
def _checked_copy(uri: str, wanted: str, recorded: str, address: str = "") -> Iterator[Path]:
    """Copy files of a model into a temporary folder, and compare them with the sums that were recorded, if any.

    To a server, every file is a request, so only those with the sums ``wanted`` are copied: a file that nobody has
    recorded is not fetched. All are copied where ``wanted`` is empty, or one of them cannot be had.
    """
    with TemporaryDirectory(prefix="abalone-model-") as name:
        folder = Path(name)
        _fetch(uri, address, file_names(wanted), folder)
        remove_caches(folder)
        found = file_sums(folder)
        expected = wanted if file_names(found) == file_names(wanted) else recorded
        changes = changed_files(expected, found) if expected else ""
        if changes:
            raise UnusableModel(uri, f"has other files than were recorded ({changes}), so it was not loaded")
        yield folder


@contextmanager
def _pickles_refused() -> Iterator[None]:
    """Let MLflow refuse every flavor that is a pickle."""
    before = MLFLOW_ALLOW_PICKLE_DESERIALIZATION.get_raw()
    MLFLOW_ALLOW_PICKLE_DESERIALIZATION.set("false")
    try:
        yield
    finally:
        MLFLOW_ALLOW_PICKLE_DESERIALIZATION.unset()
        if before is not None:
            MLFLOW_ALLOW_PICKLE_DESERIALIZATION.set(before)


def describe(error: Exception) -> str:
    """Return the kind of an error and the first line of its message, shortened."""
    lines = str(error).splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"[:LONGEST_REASON]


def _fetch(uri: str, address: str, names: Sequence[str], folder: Path) -> None:
    """Copy some files of a model into a folder, or all if none are named or one is not there."""
    try:
        address = address or _address(uri)
        if not _fetch_files(address, names, folder):
            fetch_folder(address, "", folder)
    except Exception as error:  # each kind of store has errors of its own
        raise UnreachableModel(uri, missing_folder(address) or describe(error)) from error
    if not Path(folder, "MLmodel").is_file():  # a store that lost the folder, or is not mounted, lists no files
        raise UnreachableModel(uri, missing_folder(address) or "there is no file MLmodel")


def _fetch_files(address: str, names: Sequence[str], folder: Path) -> bool:
    with suppress(Exception):
        for name in names:
            fetch_file(address, name, folder)
        return bool(names)
    return False


def _address(uri: str) -> str:
    """Where the store says that the files of a model are."""
    client = MlflowClient()
    parts = uri.removeprefix("models:/").split("/")
    if len(parts) == 1:
        return client.get_logged_model(parts[0]).artifact_location
    return client.get_model_version_download_uri(*parts)


def _own_package(folder: Path) -> str:
    """Return the package that loads the model, after checking that it is the model's own.

    Without the check, Python would take a package that this process has imported already: the project's own code for a
    model logged before models were sealed, or the code of another model for one whose own is lost.
    """
    flavor = read_yaml(str(folder), "MLmodel")["flavors"].get("python_function", {})
    package = flavor.get("loader_module", "").partition(".")[0]
    if package == PROJECT:
        raise ImportError("it was logged by an older version of the project, which did not seal its code")
    code = Path(folder, flavor.get("code") or "code")
    has_package = Path(code, package).is_dir() or (code.stem == package and is_zipfile(code))
    if package.startswith(PROJECT) and not has_package:
        raise ImportError(f"its code has no package {package}")
    return package


def _answer_columns(pyfunc: Any) -> tuple[str, ...]:
    schema = pyfunc.metadata.get_output_schema()
    if schema is None:
        raise ValueError("its signature names no outputs")
    return tuple(schema.input_names())


@contextmanager
def _undo_imports_on_failure(package: str) -> Iterator[None]:
    """Forget a package that was imported in part, and in any case the folder on Python's path, which is deleted next.

    Models of one version share the package's name. A damaged copy left in ``sys.modules`` would be used for the next
    model too.
    """
    modules_before = set(sys.modules)
    path_before = list(sys.path)
    try:
        yield
    except BaseException:
        for name in set(sys.modules) - modules_before:
            if name.partition(".")[0] == package:
                del sys.modules[name]
        raise
    finally:
        sys.path[:] = path_before

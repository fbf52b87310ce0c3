"""Where the files of an experiment are, and what to do when the database and ``mlruns`` were moved or copied.

MLflow records the folder of every experiment, run and logged model as an absolute path. After a move these paths lead
nowhere, and MLflow would make the old folder again for the next run. So a run is refused until ``relocate`` has
written the new paths, which it does for everything in one transaction.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Experiment, ViewType
from mlflow.utils.file_utils import local_file_uri_to_path
from mlflow.utils.uri import is_local_uri

from abalone.settings import UserError
from abalone.tracking.database import ARTIFACTS, artifact_folder, database_path

LOCK_SECONDS = 20  # to wait for another process that writes, as MLflow does
COMMAND = "python -m abalone relocate"
HAS_FILES = "tags.`mlflow.loggedArtifacts` LIKE '%'"  # the project's own runs have this tag together with files
# Table and column of each address of files in MLflow's database, and whether there are certainly files, in SQL.
LOGGED_FILES = "run_uuid IN (SELECT run_uuid FROM tags WHERE key = 'mlflow.loggedArtifacts')"
COLUMNS = (
    ("experiments", "artifact_location", "0"),
    ("runs", "artifact_uri", LOGGED_FILES),
    ("logged_models", "artifact_location", "lifecycle_stage = 'active'"),
    ("model_versions", "storage_location", "0"),
    ("model_versions", "source", "0"),
)


@dataclass(frozen=True)
class Address:
    """A folder of files as the database has it, and the same folder below the ``mlruns`` beside the database."""

    table: str
    column: str
    row: int
    old: Path
    new: Path
    has_files: bool

    @property
    def old_root(self) -> Path:
        """The folder ``mlruns`` that the database names."""
        return Path(*self.old.parts[: _last_index(self.old) + 1])

    @property
    def is_same(self) -> bool:
        """Whether both are the same folder, perhaps by way of a link."""
        return self.old.resolve() == self.new.resolve()


def local_folder(uri: str | None) -> Path | None:
    """The folder of an artifact URI as MLflow understands it; None if it is not on this machine."""
    if not uri or not is_local_uri(uri):
        return None
    return Path(local_file_uri_to_path(uri))


def missing_folder(uri: str | None) -> str:
    """Say that a folder of files is not there, and what to do; "" if it is there, or not on this machine."""
    folder = local_folder(uri)
    if folder is None or folder.exists():
        return ""
    return f"there is no folder {folder}; if the database and {ARTIFACTS} were moved: {COMMAND}"


def is_moved(experiment: Experiment) -> bool:
    """Whether the files of an experiment are beside the database although it names another folder."""
    path = database_path()
    folder = local_folder(experiment.artifact_location)
    if path is None or folder is None:
        return False
    beside = artifact_folder(path) / experiment.experiment_id
    if folder.resolve() == beside.resolve() or not beside.is_dir():
        return False
    runs = MlflowClient().search_runs([experiment.experiment_id], run_view_type=ViewType.ALL, max_results=1000)
    return any((beside / run.info.run_id).exists() for run in runs)


def check_artifacts(experiment: Experiment) -> None:
    """Refuse to file a run where its files would be written to a place that the user did not choose.

    An experiment that ``mlflow run`` has just made, with the folder in which it was typed, gets the folder beside the
    database.

    Raises
    ------
    UserError
        If the database was moved or copied, or the folder of the experiment's files is not there.
    """
    path = database_path()
    folder = local_folder(experiment.artifact_location)
    if path is None or folder is None:
        return
    beside = artifact_folder(path) / experiment.experiment_id
    name = f"the experiment {experiment.name!r} keeps its files in {folder}"
    if is_moved(experiment):
        raise UserError(
            f"{name}, but {path} was moved or copied together with its files, which are in {beside}: "
            f"`{COMMAND}` makes that their place"
        )
    if folder.exists() or folder.resolve() == beside.resolve():
        return
    if MlflowClient().search_runs([experiment.experiment_id], HAS_FILES, max_results=1):
        raise UserError(
            f"{name}, which does not exist: put that folder back, or move it to {beside} and run `{COMMAND}`"
        )
    if folder.parts[-2:] == (ARTIFACTS, experiment.experiment_id):
        _take_beside(path, folder)


def _take_beside(path: Path, folder: Path) -> None:
    """Give an experiment without files, and its runs, the folder beside the database."""
    with closing(sqlite3.connect(path, timeout=LOCK_SECONDS)) as database, database:
        for address in _addresses(database, artifact_folder(path)):
            if address.old == folder or folder in address.old.parents:
                _write(database, address)


def relocate() -> str:
    """Make the folder ``mlruns`` beside the database the place of all files that are there.

    Returns
    -------
    str
        What was done, in one line per folder.

    Raises
    ------
    UserError
        If the store is no SQLite database, or files are neither where the database says nor beside it.
    """
    path = database_path()
    if path is None or not path.exists():
        raise UserError(f"{mlflow.get_tracking_uri()} is not an SQLite database in a file, which could be moved")
    root = artifact_folder(path)
    lines = []
    with closing(sqlite3.connect(path, timeout=LOCK_SECONDS, isolation_level=None)) as database, database:
        database.execute("BEGIN IMMEDIATE")
        addresses = [address for address in _addresses(database, root) if not address.is_same]
        for old_root in _roots(addresses):
            here = [address for address in addresses if address.old_root == old_root]
            if not any(_proves_move(address) for address in here):
                raise UserError(
                    f"{old_root} does not exist, and its files are not in {root} either: put that folder back, or move "
                    f"it to {root} and run `{COMMAND}` again; nothing was changed"
                )
            moved = [address for address in here if address.new.exists() or not address.old.exists()]
            for address in moved:
                _write(database, address)
            lines.append(f"{old_root} -> {root}: {_counts(moved)}")
    return "\n".join(lines) or f"{path}: all files are where the database says; nothing to do"


def _roots(addresses: list[Address]) -> list[Path]:
    """The folders ``mlruns`` whose files were moved or copied, or are lost."""
    roots = set()
    for address in addresses:
        is_lost = address.has_files and not address.old.exists()
        if is_lost or _proves_move(address):
            roots.add(address.old_root)
    return sorted(roots)


def _proves_move(address: Address) -> bool:
    """Whether files are at the new place. A folder ``mlruns/1`` proves nothing: every store has an experiment 1."""
    return address.table != "experiments" and address.new.exists()


def _counts(moved: list[Address]) -> str:
    """How many rows of each table have a new address, and whether files are missing."""
    counts = []
    for table in ("experiments", "runs", "logged_models"):
        rows = [address for address in moved if address.table == table]
        counts.append(f"{table.replace('_', ' ')} {len(rows)}")
    missing = [address for address in moved if address.has_files and not address.new.exists()]
    if missing:
        counts.append(f"without their files {len(missing)}, such as {missing[0].new}")
    return ", ".join(counts)


def _addresses(database: sqlite3.Connection, root: Path) -> list[Address]:
    """Every address of files on this machine that is below a folder ``mlruns``."""
    found = []
    for table, column, has_files in COLUMNS:
        for row, uri, certain in database.execute(f"SELECT rowid, {column}, {has_files} FROM {table}"):
            old = local_folder(uri)
            if old is not None and ARTIFACTS in old.parts:
                new = root.joinpath(*old.parts[_last_index(old) + 1 :])
                found.append(Address(table, column, row, old, new, bool(certain)))
    return found


def _last_index(folder: Path) -> int:
    """Place of the last ``mlruns`` among the parts of a path."""
    return max(i for i, part in enumerate(folder.parts) if part == ARTIFACTS)


def _write(database: sqlite3.Connection, address: Address) -> None:
    statement = f"UPDATE {address.table} SET {address.column} = ? WHERE rowid = ?"
    database.execute(statement, (address.new.as_uri(), address.row))

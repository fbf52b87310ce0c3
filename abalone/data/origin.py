"""Where the rows of a data set came from, as MLflow records the source of a run's input."""

from __future__ import annotations

import subprocess
from pathlib import Path
from tempfile import gettempdir

from abalone.data.reading import SHIPPED_FILE, Dataset

UCI_FILE = "https://archive.ics.uci.edu/ml/machine-learning-databases/abalone/abalone.data"
PROJECT = Path(__file__).resolve().parents[2]


def origin(dataset: Dataset, project: Path = PROJECT) -> tuple[str, dict[str, str]]:
    """Where a data set came from, for whoever reads it later and elsewhere.

    The shipped file has its public address. Another file of a project that ``mlflow run`` has cloned has the address
    of the repository, because the clone is a temporary folder. Any other file has its absolute path.

    Parameters
    ----------
    dataset : Dataset
        A checked file.
    project : Path
        Folder of the project.

    Returns
    -------
    kind : str
        MLflow's type of the source: ``http``, ``git`` or ``local``.
    address : dict of str to str
        ``url`` for ``http``, otherwise ``uri``.
    """
    if dataset.path == SHIPPED_FILE.resolve():
        return "http", {"url": UCI_FILE}
    is_temporary = project.is_relative_to(Path(gettempdir()).resolve())
    if is_temporary and dataset.path.is_relative_to(project):
        repository = _git(project, "config", "remote.origin.url")
        if repository:
            commit = _git(project, "rev-parse", "HEAD")
            return "git", {"uri": f"{repository}@{commit}#{dataset.path.relative_to(project)}"}
    return "local", {"uri": str(dataset.path)}


def _git(folder: Path, *arguments: str) -> str:
    """What git prints for a folder; "" without git, or where there is no repository."""
    try:
        done = subprocess.run(["git", "-C", folder, *arguments], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()

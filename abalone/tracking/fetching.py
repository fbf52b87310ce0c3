"""Fetch single files of a run or of a model, each with one request to a server.

MLflow's own functions first ask where the files are, and then whether the path is a folder, by listing it.
"""

from __future__ import annotations

from pathlib import Path

from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository


def fetch_file(address: str, name: str, folder: Path) -> Path:
    """Copy a file into a folder.

    Parameters
    ----------
    address : str
        Address of the artifacts of a run or of a model, such as ``mlflow-artifacts:/1/models/m-1/artifacts``.
    name : str
        Path of the file among them.
    folder : Path
        Folder that gets the copy, under the same path.

    Returns
    -------
    Path
        The copy.
    """
    copy = folder / name
    copy.parent.mkdir(parents=True, exist_ok=True)
    get_artifact_repository(address)._download_file(name, str(copy))  # what every kind of store implements
    return copy


def fetch_folder(address: str, name: str, folder: Path) -> None:
    """Copy a folder and everything in it, which takes a request for each folder and file; "" copies all there is."""
    get_artifact_repository(address).download_artifacts(name, dst_path=str(folder))

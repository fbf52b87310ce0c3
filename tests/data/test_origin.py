"""Where a data set came from: an address that outlives the folder in which it was read."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from data_files import GOOD, write_rows

from abalone.data.origin import UCI_FILE, origin
from abalone.data.reading import read


@pytest.fixture
def project(own_folder) -> Path:
    """A temporary folder, such as the one that ``mlflow run`` clones a repository into."""
    folder = own_folder / "project"
    folder.mkdir()
    write_rows(GOOD, "project/rows.csv")
    return folder


def test_the_shipped_file_has_its_public_address(project):
    assert origin(read("uci"), project) == ("http", {"url": UCI_FILE})


def test_a_file_of_a_cloned_project_has_the_address_of_the_repository(project):
    for command in (
        ["init", "--quiet"],
        ["remote", "add", "origin", "https://example.org/abalone.git"],
        ["add", "."],
        ["-c", "user.name=me", "-c", "user.email=me@example.org", "commit", "--quiet", "-m", "rows"],
    ):
        subprocess.run(["git", "-C", project, *command], check=True)
    commit = subprocess.check_output(["git", "-C", project, "rev-parse", "HEAD"], text=True).strip()
    address = {"uri": f"https://example.org/abalone.git@{commit}#rows.csv"}
    assert origin(read("project/rows.csv"), project) == ("git", address)


def test_any_other_file_has_its_absolute_path(project, own_folder):
    write_rows(GOOD, "mine.csv")
    for name in ("mine.csv", "project/rows.csv"):
        assert origin(read(name), project) == ("local", {"uri": str(own_folder / name)})

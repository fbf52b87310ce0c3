"""The sums of a model's files: what counts, and how a change is named."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from abalone.tracking.file_sums import changed_files, file_sums, remove_caches


@pytest.fixture
def folder(own_folder) -> Path:
    """A folder with a file and a package."""
    package = own_folder / "model" / "code" / "package"
    package.mkdir(parents=True)
    (package / "rows.py").write_text("ROWS = 1")
    (own_folder / "model" / "MLmodel").write_text("flavors:")
    return own_folder / "model"


def change(folder: Path) -> None:
    (folder / "code" / "package" / "rows.py").write_text("ROWS = 2")


def add(folder: Path) -> None:
    (folder / "code" / "torch.py").write_text("")


def remove(folder: Path) -> None:
    (folder / "MLmodel").unlink()


def move(folder: Path) -> None:
    (folder / "MLmodel").rename(folder / "code" / "MLmodel")


def add_many(folder: Path) -> None:
    for number in range(5):
        (folder / f"{number}.py").write_text("")


@pytest.mark.parametrize(
    "damage, named",
    [
        (change, "changed code/package/rows.py"),
        (add, "added code/torch.py"),
        (remove, "removed MLmodel"),
        (move, "added code/MLmodel; removed MLmodel"),
        (add_many, "added 0.py, 1.py, 2.py and 2 more"),
    ],
)
def test_what_was_changed_added_or_removed_is_named(folder, damage: Callable[[Path], None], named):
    before = file_sums(folder)
    damage(folder)
    assert changed_files(before, file_sums(folder)) == named


def test_the_sums_are_those_of_sha256sum(folder):
    done = subprocess.run(["sha256sum", "--check"], input=file_sums(folder), cwd=folder, text=True, capture_output=True)
    assert done.returncode == 0 and done.stdout == "MLmodel: OK\ncode/package/rows.py: OK\n"


def test_what_python_and_mlflow_add_to_a_copy_is_no_change_and_caches_are_removed(folder):
    before = file_sums(folder)
    cache = folder / "code" / "package" / "__pycache__"
    cache.mkdir()
    (cache / "rows.cpython-311.pyc").write_bytes(b"x")
    (folder / "registered_model_meta").write_text("model_name: abalone-classifier")
    assert file_sums(folder) == before
    remove_caches(folder)
    assert not cache.exists()

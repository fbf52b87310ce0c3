"""``abalone.model`` stands alone: a copy of it works under any name and without the project."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from project_copies import imported_copy
from sample_models import ensemble_config, mlp_config, untrained_model

import abalone.model
from abalone.data.reading import read
from abalone.model.scorer import Scorer, save_weights

FOLDER = Path(abalone.model.__file__).parent
FILES = sorted(FOLDER.glob("*.py"))
THIRD_PARTY = {"numpy", "pandas", "torch", "mlflow"}
NAME = "a_model_by_another_name"


def imports(path: Path) -> tuple[set[str], set[int]]:
    """Top-level packages that a file imports absolutely, and the levels of its relative imports."""
    packages = set()
    levels = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            packages |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            packages.add(node.module.split(".")[0])
        elif isinstance(node, ast.ImportFrom):
            levels.add(node.level)
    return packages, levels


def test_the_folder_holds_python_files_and_nothing_else():
    assert {path.name for path in FOLDER.iterdir()} - {"__pycache__"} == {path.name for path in FILES}
    assert {"__init__.py", "columns.py", "features.py", "networks.py", "rows.py", "scorer.py", "training_range.py"} <= {
        path.name for path in FILES
    }


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_module_imports_others_of_the_package_relatively_and_nothing_else_of_the_project(path):
    packages, levels = imports(path)
    assert packages - set(sys.stdlib_module_names) <= THIRD_PARTY
    assert levels <= {1}


@pytest.fixture
def renamed(tmp_path):
    """A function that imports a module of a copy of the package under another name."""
    with imported_copy(tmp_path, NAME) as import_module:
        yield import_module


@pytest.mark.parametrize(
    "config", [mlp_config("classification"), ensemble_config("regression")], ids=["mlp", "ensemble"]
)
def test_a_copy_under_another_name_gives_the_same_numbers(renamed, tmp_path, config):
    model = untrained_model(config)
    frame = read().frame
    save_weights(tmp_path / "weights.pt", model, config, frame)
    x = renamed("features").encode(frame)
    network = renamed("networks").build(config)
    network.load_state_dict(model.state_dict())
    with torch.no_grad():
        assert torch.equal(network.eval()(x), model(x))
    scorer = renamed("scorer").Scorer(tmp_path / "weights.pt")
    assert type(scorer).__module__ == f"{NAME}.scorer" and type(scorer.model).__module__ == f"{NAME}.networks"
    expected = Scorer(tmp_path / "weights.pt").predict(frame)
    pd.testing.assert_frame_equal(scorer.predict(frame), expected, check_exact=True)

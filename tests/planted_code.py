"""Code that leaves a file behind if it is ever executed, for tests of models that somebody has changed."""

from __future__ import annotations

import importlib
import importlib._bootstrap_external as bytecode
import sys
from pathlib import Path

import torch
from registry_store import package_of

EXECUTED = "executed"  # file in the working folder


def planted(folder: Path) -> str:
    """A statement that writes the file into a folder."""
    return f"open({str(folder / EXECUTED)!r}, 'a').close()\n"


class Bomb:
    """An object that executes the statement when it is unpickled."""

    def __init__(self, folder: Path):
        self.statement = planted(folder)

    def __reduce__(self) -> tuple:
        return exec, (self.statement,)


def forget_imports() -> None:
    """Let Python import the packages of models again, as a new process does."""
    for name in list(sys.modules):
        if name.startswith("abalone_model_"):
            del sys.modules[name]
    importlib.invalidate_caches()


def change_module(folder: Path) -> None:
    """Add the statement to the code of a model."""
    path = package_of(folder) / "scorer.py"
    path.write_text(path.read_text() + planted(Path.cwd()))


def add_module(folder: Path) -> None:
    """Add a module that Python would find before the real one."""
    package_of(folder).with_name("torch.py").write_text(planted(Path.cwd()))


def change_loader(folder: Path) -> None:
    """Let another module load a model."""
    package_of(folder).with_name("abalone_loader.py").write_text(planted(Path.cwd()))
    path = folder / "MLmodel"
    path.write_text(path.read_text().replace("loader_module: ", "loader_module: abalone_loader #"))


def add_bytecode(folder: Path) -> None:
    """Add a cache that claims to need no comparison with the source, so that Python takes it."""
    cache = package_of(folder) / "__pycache__"
    cache.mkdir()
    code = compile(planted(Path.cwd()), "scorer.py", "exec")
    (cache / "scorer.cpython-311.pyc").write_bytes(bytecode._code_to_hash_pyc(code, b"12345678", False))


def plant_bomb(folder: Path, where: Path | None = None) -> None:
    """Put a bomb in place of the pickled module of a model."""
    torch.save(Bomb(where or Path.cwd()), folder / "data" / "model.pth")


def plant_bomb_in_weights(folder: Path) -> None:
    """Put a bomb in place of the weights of a model."""
    torch.save(Bomb(Path.cwd()), folder / "weights.pt")


def let_pytorch_load(folder: Path) -> None:
    """Let MLflow's own loader, which unpickles, load a model with a bomb."""
    plant_bomb(folder)
    path = folder / "MLmodel"
    changed = path.read_text().replace("loader_module: ", "loader_module: mlflow.pytorch #")
    path.write_text(changed.replace("data: weights.pt", "data: data"))

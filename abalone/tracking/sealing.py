"""Copy ``abalone.model`` under a name made from its content, so that a logged model keeps its own code.

A process that has imported the project would load a model with the project's own classes, whatever they have become
since: Python looks into ``sys.modules`` before it looks into the model's ``code/``. A name that holds a digest of the
sources belongs to one version only. Versions live side by side, and no later change of the project reaches them.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType

import abalone.model


@cache
def sources() -> Mapping[str, bytes]:
    """The files of ``abalone.model`` by name, read once per process."""
    folder = Path(abalone.model.__file__).parent
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.py"))}


def sealed_name() -> str:
    """Name of the copy, such as ``abalone_model_1f3a9c7e``."""
    digest = hashlib.sha256()
    for name, content in sources().items():
        digest.update(f"{name} {len(content)}\n".encode())
        digest.update(content)
    return f"abalone_model_{digest.hexdigest()[:8]}"


def write_sealed_package(folder: Path) -> Path:
    """Write the copy below ``folder`` and return its own folder."""
    package = folder / sealed_name()
    package.mkdir()
    for name, content in sources().items():
        (package / name).write_bytes(content)
    return package


def sealed_module(name: str) -> ModuleType:
    """Import a module of the copy, such as ``networks``."""
    if sealed_name() not in sys.modules:
        with TemporaryDirectory() as folder:
            _import_all(write_sealed_package(Path(folder)))
    return importlib.import_module(f"{sealed_name()}.{name}")


def _import_all(package: Path) -> None:
    """Import the package and all of its modules, since its folder does not stay."""
    spec = importlib.util.spec_from_file_location(
        package.name, package / "__init__.py", submodule_search_locations=[str(package)]
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules[package.name] = module
    spec.loader.exec_module(module)
    for path in package.glob("*.py"):
        if path.stem != "__init__":
            importlib.import_module(f"{package.name}.{path.stem}")

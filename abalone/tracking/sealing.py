"""Copy ``abalone.model`` under a name made from its content, so that every logged model keeps its own code.

MLflow puts the code of a model on ``sys.path``, but Python uses a module that is already imported before it
looks there. A package with a fixed name would therefore be the one that was imported first: the project's, or that of
the first model that was loaded. A name that ends in a digest of the files belongs to one version of the code. Versions
can be loaded side by side in one process, and no later change of the project affects a logged model.

The files are read when this module is imported. A run may take hours, and what it logs must be the code that trained.
"""

from __future__ import annotations

import hashlib
import importlib
import sys
from functools import cache
from importlib.abc import InspectLoader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_loader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any
from zipfile import ZipFile, ZipInfo

import abalone.model

_FOLDER = Path(abalone.model.__file__).parent
_SOURCES = {path.name: path.read_bytes() for path in sorted(_FOLDER.glob("*.py"))}


@cache
def sealed_name() -> str:
    """Name of the copy, such as ``abalone_model_1f3a9c7e``."""
    digest = hashlib.sha256()
    for name, content in _SOURCES.items():
        digest.update(f"{name} {len(content)}\n".encode())
        digest.update(content)
    return f"abalone_model_{digest.hexdigest()[:8]}"


def write_sealed_package(folder: Path) -> Path:
    """Write the copy into a folder, as one archive that Python imports from: to a server, each file is a request.

    Parameters
    ----------
    folder : Path
        Folder in which to create the archive.

    Returns
    -------
    Path
        The archive, with the same bytes whenever it is written.
    """
    archive = folder / f"{sealed_name()}.zip"
    with ZipFile(archive, "w") as package:
        for name, content in _SOURCES.items():
            package.writestr(ZipInfo(f"{sealed_name()}/{name}"), content)  # dated 1980
    return archive


def sealed_module(name: str) -> ModuleType:
    """Import a module of the copy.

    Parameters
    ----------
    name : str
        Name of the module inside the package, such as ``networks``.
    """
    if _IMPORTER not in sys.meta_path:
        sys.meta_path.append(_IMPORTER)
    return importlib.import_module(f"{sealed_name()}.{name}")


class _SealedImporter(MetaPathFinder, InspectLoader):
    """Import the copy from memory, so that it needs no folder that lasts as long as the process."""

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if _file_name(fullname) not in _SOURCES:
            return None
        return spec_from_loader(fullname, self)

    def is_package(self, fullname: str) -> bool:
        return fullname == sealed_name()

    def get_source(self, fullname: str) -> str:
        return _SOURCES[_file_name(fullname)].decode()

    def get_code(self, fullname: str) -> CodeType:
        return compile(self.get_source(fullname), f"<{fullname}>", "exec", dont_inherit=True)


def _file_name(fullname: str) -> str:
    """File of a module of the copy, or an empty text for any other module."""
    if fullname == sealed_name():
        return "__init__.py"
    package, _, module = fullname.rpartition(".")
    if package == sealed_name():
        return f"{module}.py"
    return ""


_IMPORTER = _SealedImporter()

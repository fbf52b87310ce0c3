"""Copies of the project and of its model code, unchanged or as a later version would have them."""

from __future__ import annotations

import importlib
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from helpers import ROOT


@dataclass(frozen=True)
class Change:
    """Text of a file in ``abalone/model`` to replace; it must appear there exactly once."""

    file: str
    old: str
    new: str

    def apply(self, package: Path) -> None:
        """Change the file in a copy of ``abalone/model``."""
        path = package / self.file
        source = path.read_text()
        assert source.count(self.old) == 1, f"{self.file} does not hold {self.old!r} once"
        path.write_text(source.replace(self.old, self.new))


# Each of these alone changes predictions.
PREPARE = Change("features.py", "return z.clamp(-self.limit, self.limit)", "return 0.5 * z.clamp(-1, 1)")
DERIVE = Change("features.py", "z.clamp(-DERIVED_CLIP, DERIVED_CLIP)], 1)", "0.5 * z], 1)")
ENCODE = Change("features.py", "to_numpy(dtype=np.float32) for", "to_numpy(dtype=np.float32) / 2 for")
CLASSES = Change("scorer.py", "output.softmax(1)[:, 1].numpy()", "output.softmax(1)[:, 0].numpy()")
RINGS = Change("scorer.py", '{"rings": rings.numpy(),', '{"rings": rings.numpy() + 1,')
ALL_CHANGES = (PREPARE, DERIVE, ENCODE, CLASSES, RINGS)


def copy_project(folder: Path, changes: Sequence[Change] = ()) -> Path:
    """Copy what runs of the project, with changes in ``abalone/model``.

    Processes whose working folder is the copy import it as ``abalone``.
    """
    for name in ("abalone", "experiments"):
        shutil.copytree(ROOT / name, folder / name)
    for change in changes:
        change.apply(folder / "abalone" / "model")
    return folder


@contextmanager
def imported_copy(folder: Path, name: str, changes: Sequence[Change] = ()) -> Iterator[Callable[[str], ModuleType]]:
    """Copy ``abalone/model`` into a folder under another name, and forget it at the end.

    Yields
    ------
    callable
        Imports a module of the copy, such as ``networks``.
    """
    shutil.copytree(ROOT / "abalone" / "model", folder / name)
    for change in changes:
        change.apply(folder / name)
    sys.path.insert(0, str(folder))
    try:
        yield lambda module: importlib.import_module(f"{name}.{module}")
    finally:
        sys.path.remove(str(folder))
        for imported in list(sys.modules):
            if imported.partition(".")[0] == name:
                del sys.modules[imported]

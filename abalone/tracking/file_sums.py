"""SHA-256 sums of a model's files, by which a file that was changed, added or removed is found before it is loaded.

A run records them on the model that it logs, and a promotion on the version that it registers: in the database, which
whoever can write into the artifact store may not be able to change.
"""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

FILES_TAG = "files.sha256"  # of a logged model and of a version: lines as ``sha256sum`` writes them
ADDED_BY_MLFLOW = "registered_model_meta"  # to its copy of a version
SHOWN_FILES = 3


def file_sums(folder: Path) -> str:
    """Return a line for each file in a folder, sorted by path: its SHA-256 and its path, as ``sha256sum`` writes them.

    Caches of bytecode do not count (see ``remove_caches``), nor does the file that MLflow adds to a copy of a version.
    """
    lines = []
    for name, path in sorted((path.relative_to(folder).as_posix(), path) for path in folder.rglob("*")):
        if path.is_file() and name != ADDED_BY_MLFLOW and path.parent.name != "__pycache__":
            lines.append(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {name}")
    return "\n".join(lines)


def changed_files(recorded: str, found: str) -> str:
    """Name the files that differ between two texts of ``file_sums``; "" if none does."""
    before = _by_name(recorded)
    now = _by_name(found)
    differences = {
        "changed": [name for name in before if name in now and now[name] != before[name]],
        "added": [name for name in now if name not in before],
        "removed": [name for name in before if name not in now],
    }
    parts = []
    for what, names in differences.items():
        if names:
            more = f" and {len(names) - SHOWN_FILES} more" if len(names) > SHOWN_FILES else ""
            parts.append(f"{what} {', '.join(names[:SHOWN_FILES])}{more}")
    return "; ".join(parts)


def file_names(sums: str) -> list[str]:
    """Paths of the files in a text of ``file_sums``."""
    return list(_by_name(sums))


def part_of_pyfunc(sums: str) -> str:
    """The lines of the files that the pyfunc flavor is loaded from: its description, weights and archive of code.

    Empty if the code is a folder, as in models of earlier versions of the project.
    """
    lines = [line for line in sums.splitlines() if line.endswith(("  MLmodel", "  weights.pt")) or "  code/" in line]
    if lines and any(line.endswith(".zip") for line in lines):
        return "\n".join(lines)
    return ""


def _by_name(sums: str) -> dict[str, str]:
    found = {}
    for line in sums.splitlines():
        digest, _, name = line.partition("  ")
        found[name] = digest
    return found


def remove_caches(folder: Path) -> None:
    """Remove the bytecode from a copy of a model's files.

    Python writes it into the store where a model is loaded in place, and would prefer it to the source beside it.
    """
    for cache in list(folder.rglob("__pycache__")):
        shutil.rmtree(cache)


def unchecked_text(uri: str) -> str:
    """Say that the files of a version could not be checked."""
    return (
        f"{uri} was registered by hand, or by a version of the project that did not record the sums of its files, so "
        "they were not checked."
    )

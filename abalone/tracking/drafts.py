"""Files that are written under another name and then put in place whole; those of killed processes are removed."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path

from abalone.tracking.processes import exists


def draft_of(path: Path) -> Path:
    """Where this process writes what becomes the file ``path``: beside it, under the name of machine and process."""
    return path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}.part")


def remove_dead_drafts(path: Path) -> None:
    """Remove the drafts of a file whose process on this machine has ended, and what SQLite has left beside them.

    Earlier versions called them ``mlflow.db.PID`` and ``.scored.csv.PID.part``.
    """
    name = re.escape(path.name)
    host = re.escape(socket.gethostname())
    draft = re.compile(rf"\.?{name}\.({host}\.)?(?P<pid>\d{{1,9}})(\.part)?(-journal)?")
    for other in path.parent.iterdir():
        found = draft.fullmatch(other.name)
        if found and not exists(int(found["pid"])):
            other.unlink(missing_ok=True)

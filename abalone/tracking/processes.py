"""Which process works on a run: MLflow has no heartbeat, so tags tell, and whoever comes later looks if it lives."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from pathlib import Path

from mlflow import MlflowClient


def process_tags() -> dict[str, str]:
    """Which process this is, for the tags of a run."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    return {
        "process.host": socket.gethostname(),
        "process.boot": boot.read_text().strip() if boot.exists() else "unknown",
        "process.pid": str(os.getpid()),
        "process.started": _started(os.getpid()),
    }


def close_orphans(experiment: str, own: str) -> None:
    """Mark as FAILED the runs that a process of this machine left RUNNING when it was killed outright."""
    client = MlflowClient()
    query = f"attributes.status = 'RUNNING' and tags.`process.host` = '{socket.gethostname()}'"
    for found in client.search_runs([experiment], query):
        if found.info.run_id != own and not may_live(found.data.tags):
            client.set_tag(found.info.run_id, "error", "the process was killed; marked by a later run")
            client.set_terminated(found.info.run_id, "FAILED")


def may_live(tags: Mapping[str, str]) -> bool:
    """Whether the process of these tags still runs, or is of another machine, where nobody can look from here."""
    here = process_tags()
    if tags.get("process.host") != here["process.host"]:
        return True
    pid, same_boot = int(tags["process.pid"]), tags.get("process.boot") == here["process.boot"]
    return same_boot and _alive(pid) and _started(pid) in (tags.get("process.started", "unknown"), "unknown")


def _started(pid: int) -> str:
    """When a process began, in ticks since the boot: numbers of processes come again, in containers soon."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:  # no such file system, or a process that is hidden from this user
        return "unknown"


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True

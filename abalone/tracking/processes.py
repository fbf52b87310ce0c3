"""Find runs whose process is gone.

MLflow has no heartbeat, so a run whose process was killed outright stays RUNNING. Each run therefore has a tag that
identifies its process, and the next run on the same machine marks as FAILED those whose process no longer exists, with
the models that it was logging.

A PID alone does not identify a process: PIDs are reused, quickly so in containers. The tag also holds the host, the
boot and the time at which the process started.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import LoggedModelStatus

UNKNOWN = "unknown"
PROCESS_TAG = "process"
NEWEST_MODELS = 20  # of an experiment, among which are those that the last command was logging


def process_tags() -> dict[str, str]:
    """Run tag that identifies the current process.

    Returns
    -------
    dict
        ``process``: host, boot, PID and start time, separated by spaces.
    """
    boot = Path("/proc/sys/kernel/random/boot_id")
    boot_id = boot.read_text().strip() if boot.exists() else UNKNOWN
    pid = os.getpid()
    return {PROCESS_TAG: f"{socket.gethostname()} {boot_id} {pid} {_start_time(pid)}"}


def close_orphans(experiment_id: str, own_run_id: str) -> None:
    """Mark as FAILED the runs that a killed process of this machine left RUNNING, and the models that it left PENDING.

    Parameters
    ----------
    experiment_id : str
        Experiment to search.
    own_run_id : str
        Run of the caller, which is left alone.
    """
    client = MlflowClient()
    query = f"attributes.status = 'RUNNING' and tags.{PROCESS_TAG} LIKE '{socket.gethostname()} %'"
    for run in client.search_runs([experiment_id], query):
        if run.info.run_id != own_run_id and not may_live(run.data.tags):
            client.set_tag(run.info.run_id, "error", "the process was killed; marked by a later run")
            client.set_terminated(run.info.run_id, "FAILED")
    _fail_pending_models(client, experiment_id)


def _fail_pending_models(client: MlflowClient, experiment_id: str) -> None:
    """Mark as FAILED the models that nobody logs any more, because the run that began them has ended."""
    # Not by a filter: that on the status fails on PostgreSQL, where MLflow compares its number with a text.
    for model in client.search_logged_models([experiment_id], max_results=NEWEST_MODELS):
        if model.status != LoggedModelStatus.PENDING or not model.source_run_id:
            continue
        run = client.get_run(model.source_run_id)
        if run.info.status != "RUNNING" and on_this_machine(run.data.tags):
            client.finalize_logged_model(model.model_id, LoggedModelStatus.FAILED)


def may_live(tags: Mapping[str, str]) -> bool:
    """Whether a process may still be running.

    Parameters
    ----------
    tags : mapping
        Tags of a run or trial, as ``process_tags`` wrote them.

    Returns
    -------
    bool
        False only for a process of this machine that no longer exists; processes of other machines cannot be checked.
    """
    if not on_this_machine(tags):
        return True
    _, boot_id, pid, started = tags[PROCESS_TAG].split()
    boot_id_here = process_tags()[PROCESS_TAG].split()[1]
    if boot_id != boot_id_here:
        return False
    if not exists(int(pid)):
        return False
    return _start_time(int(pid)) in (started, UNKNOWN)


def on_this_machine(tags: Mapping[str, str]) -> bool:
    """Whether a process is, or was, one of this machine; takes the tags that ``may_live`` takes."""
    return tags.get(PROCESS_TAG, "? ").split()[0] == socket.gethostname()


def _start_time(pid: int) -> str:
    """Start time of a process in clock ticks since boot, or ``unknown``."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:  # no /proc on this system, or a process that is hidden from this user
        return UNKNOWN
    return fields[19]  # field 22 of proc(5); these begin with field 3


def exists(pid: int) -> bool:
    """Whether there is a process of this id on this machine."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # a process of another user
        return True
    return True

"""A database that another program locks for long, when commands start and in the middle of them.

Run ``python -m benchmarks.soak.locks --seconds 30 90``: one table, and an error if a command fails, or a trial is lost.
The commands of a row run at the same time, so that the lock is held only once for all of them.
"""

from __future__ import annotations

import argparse
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.soak.commands import run, start, table, use

TRIALS = 32
LONG = {  # they train long enough for a lock in the middle
    "classify": ("classify", "--epochs", "300"),
    "rings": ("rings", "--epochs", "40", "--members", "4"),
    "tune": ("tune", "--epochs", "100", "--trials", str(TRIALS), "--study", "{study}"),
}
SHORT = {"status": ("status",), "promote": ("promote", "--task", "classification")}
WAITING = "another process has locked it"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock the database within the block."""
    database = sqlite3.connect(folder / "mlflow.db", isolation_level=None, timeout=60)
    database.execute("BEGIN EXCLUSIVE")
    yield
    database.execute("COMMIT")
    database.close()


def lock_once(folder: Path, seconds: float, is_in_the_middle: bool) -> list[list[Any]]:
    """Lock the database once; a row for each command that ran meanwhile."""
    when = "in the middle" if is_in_the_middle else "at the start"
    study = f"{when} {seconds:g}"
    began = time.time() * 1000
    if is_in_the_middle:
        commands = start_all(folder, LONG, study)
        wait_for_runs(folder, set(LONG), began)
        with locked(folder):
            time.sleep(seconds)
    else:
        with locked(folder):
            commands = start_all(folder, LONG | SHORT, study)
            time.sleep(seconds)
    rows = []
    for name, command in commands.items():
        status = command.finish()
        text = command.text()
        lines = text.count(WAITING)
        if status:
            print(text)
        command.close()
        rows.append([f"{when}, {seconds:g} s", name, status, lines, *trials(folder, study, name)])
    return rows


def start_all(folder: Path, chosen: dict[str, tuple[str, ...]], study: str) -> dict[str, Any]:
    """Start commands at once."""
    return {name: start(folder, *[word.format(study=study) for word in words]) for name, words in chosen.items()}


def wait_for_runs(folder: Path, stages: set[str], since: float) -> None:
    """Wait until a run of each of these stages has begun."""
    from mlflow import MlflowClient

    client = MlflowClient(use(folder))
    begun: set[str] = set()
    while not stages <= begun:
        time.sleep(0.2)
        runs = client.search_runs(["1"], f"attributes.start_time > {since:.0f}")
        begun = {run.data.tags.get("stage", "") for run in runs}


def trials(folder: Path, study: str, name: str) -> list[Any]:
    """How many trials of a study ended how."""
    from mlflow import MlflowClient

    if name != "tune":
        return [""]
    runs = MlflowClient(use(folder)).search_runs(["1"], f"tags.stage = 'trial' and tags.study = '{study}'")
    states = [run.info.status for run in runs]
    return [", ".join(f"{states.count(state)} {state}" for state in sorted(set(states)))]


def main() -> None:
    """Lock the database for each length, at the start and in the middle, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, nargs="+", default=[30.0, 90.0])
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run(folder, "classify", "--epochs", "1")
        for seconds in parser.parse_args().seconds:
            for is_in_the_middle in (False, True):
                rows += lock_once(folder, seconds, is_in_the_middle)
                print(table([""] * 5, rows[-5:]), flush=True)
    print(table(["lock", "command", "exit status", "lines about waiting", "runs of trials"], rows))
    assert not any(row[2] for row in rows), "a command has failed"
    assert not any("FAILED" in row[4] for row in rows), "a trial was lost"


if __name__ == "__main__":
    main()

"""A database that another program locks for long, when commands start and in the middle of them.

Run ``python -m benchmarks.soak.locks --seconds 30 90``: one table, and an error if a command fails, or a trial is lost.
The commands of a row run at the same time, so that the lock is held only once for all of them.
"""

from __future__ import annotations

import argparse
import sqlite3
import tempfile
import time
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


def hold(folder: Path, seconds: float) -> None:
    """Lock the database for so many seconds."""
    database = sqlite3.connect(folder / "mlflow.db", isolation_level=None, timeout=60)
    database.execute("BEGIN EXCLUSIVE")
    time.sleep(seconds)
    database.execute("COMMIT")
    database.close()


def lock_once(folder: Path, seconds: float, is_in_the_middle: bool) -> list[list[Any]]:
    """Lock the database once; a row for each command that ran meanwhile."""
    when = "in the middle" if is_in_the_middle else "at the start"
    chosen = LONG if is_in_the_middle else LONG | SHORT
    study = f"{when} {seconds:g}"
    began = time.time() * 1000
    if is_in_the_middle:
        commands = start_all(folder, chosen, study)
        wait_for_runs(folder, len(chosen), began)
        hold(folder, seconds)
    else:
        database = sqlite3.connect(folder / "mlflow.db", isolation_level=None, timeout=60)
        database.execute("BEGIN EXCLUSIVE")
        commands = start_all(folder, chosen, study)
        time.sleep(seconds)
        database.execute("COMMIT")
        database.close()
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


def wait_for_runs(folder: Path, number: int, since: float) -> None:
    """Wait until so many runs have begun."""
    from mlflow import MlflowClient

    client = MlflowClient(use(folder))
    query = f"attributes.status = 'RUNNING' and attributes.start_time > {since:.0f}"
    while len(client.search_runs(["1"], query)) < number:
        time.sleep(0.2)


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

"""Commands on a disk that has too little room, each time another amount of it, so that every writing step is met.

Run ``python -m benchmarks.soak.full_disk --rounds 30`` as root: it mounts a small file system in memory. It prints a
table, and ends with an error if a command fails without the one sentence that the disk is full and where, or leaves
something that the next command cannot mend.
"""

from __future__ import annotations

import argparse
import random
import re
import shutil
import sqlite3
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from benchmarks.soak.commands import run, start, table
from benchmarks.soak.kills import COMMANDS, TRIALS, arguments_of, check_champions, left, prepared_folder

SIZE = 24_000_000  # bytes
MOST = 900_000  # bytes that a command is left at most
SENTENCE = re.compile(r"the disk is full: (\S+) could not be written|(\S+) could not be read or written")


@contextmanager
def small_disk() -> Iterator[Path]:
    """A file system in memory, with what ``prepared_folder`` holds."""
    with tempfile.TemporaryDirectory() as mounted, prepared_folder() as prepared:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", mounted], check=True)
        try:
            folder = Path(mounted, "project")
            shutil.copytree(prepared, folder)
            run(folder, "relocate")
            yield folder
        finally:
            subprocess.run(["umount", "--lazy", mounted], check=True)


def fill(disk: Path, room: int) -> Path:
    """Write a file that leaves so many bytes free."""
    ballast = disk.parent / "ballast"
    free = shutil.disk_usage(disk).free
    with ballast.open("wb") as file:
        file.write(b"0" * max(0, free - room))
    return ballast


def fill_once(folder: Path, name: str, room: int, number: int) -> str:
    """Run a command with little room; how it ended, and an error if that is not as it should be."""
    ballast = fill(folder, room)
    try:
        command = start(folder, *arguments_of(name, TRIALS * (2 + number)))
        status = command.finish()
    finally:
        ballast.unlink()
    text = command.text()
    command.close()
    with closing(sqlite3.connect(folder / "mlflow.db")) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    check_champions(folder)
    run(folder, *(arguments_of(name, TRIALS * (2 + number)) if name in ("tune", "predict") else COMMANDS["classify"]))
    remaining = left(folder)
    assert not any(remaining.values()), remaining
    if status == 0:
        return "enough room"
    found = SENTENCE.search(text)
    assert found and "Traceback" not in text and "sqlalche.me" not in text, text
    place = found[1] or found[2]
    return re.sub(r"[0-9a-f]{32}|\d+", "N", place.replace(str(folder), ".").replace(tempfile.gettempdir(), "TMP"))


def measure(rounds: int, seed: int = 0) -> list[list[Any]]:
    """Run each command in turn; one row for each, with the places that could not be written."""
    draw = random.Random(seed)
    names = ["classify", "rings", "tune", "promote", "predict", "main"]
    ends: dict[str, Counter[str]] = {name: Counter() for name in names}
    with small_disk() as folder:
        for number in range(rounds):
            name = names[number % len(names)]
            room = int(MOST * draw.random() ** 2)
            end = fill_once(folder, name, room, number)
            ends[name][end] += 1
            print(f"{number}: {name} with {room} bytes: {end}", flush=True)
    rows = []
    for name, counted in ends.items():
        rows.append([name, counted.total(), "; ".join(f"{count} x {end}" for end, count in counted.items())])
    return rows


def main() -> None:
    """Fill the disk again and again, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(table(["command", "rounds", "how it ended"], measure(options.rounds, options.seed)))


if __name__ == "__main__":
    main()

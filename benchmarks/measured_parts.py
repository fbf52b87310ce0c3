"""The results of a long benchmark, part by part in a file, so that an interrupted one goes on where it stopped."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Record = dict[str, Any]


def measure_parts(parts: Mapping[str, Callable[[], list[Record]]], path: Path) -> dict[str, list[Record]]:
    """Measure every part that the file does not hold, and append each to the file as soon as it is measured.

    Parameters
    ----------
    parts : mapping of name to callable
        What measures a part; its records must be writable as JSON.
    path : Path
        File of one line per part; created if it does not exist. The caller deletes it when it has used the results.

    Returns
    -------
    dict of name to list of dict
        The records of all parts, in the order of ``parts``.
    """
    measured = _read(path)
    for name, measure in parts.items():
        if name in measured:
            continue
        measured[name] = measure()
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"part": name, "records": measured[name]}) + "\n")
        print(f"{name} done", flush=True)
    return {name: measured[name] for name in parts}


def _read(path: Path) -> dict[str, list[Record]]:
    """The parts in the file; a last line that an interruption cut off is left out, and removed."""
    if not path.exists():
        return {}
    whole, _, cut_off = path.read_text(encoding="utf-8").rpartition("\n")
    if cut_off:
        path.write_text(f"{whole}\n" if whole else "", encoding="utf-8")
    lines = [json.loads(line) for line in whole.splitlines()]
    return {line["part"]: line["records"] for line in lines}

"""Promotions, rollbacks and deletions at the same time, and what the registry is afterwards.

Run ``python -m benchmarks.soak.registry_races --rounds 50``: one table, and an error if after any round there is not
exactly one champion that can be loaded, if the previous champion is the same version, or if several promotions of one
run leave more than one version.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.soak.commands import Command, call, run, start, table, use

MODEL = "abalone-classifier"
RUNS = {  # by the name of the experiment, each better than the one before
    "weak": ("classify", "--epochs", "1"),
    "middle": ("classify", "--epochs", "3"),
    "good": ("encode", "--epochs", "8"),
}
RACES = ("two promotions", "promotion and rollback", "promotion and deleted champion", "promotion and deleted run")
SIX = "six promotions of one run"
LATEST = 3.0  # seconds after which the second process of a race begins


def promote(experiment: str) -> tuple[str, ...]:
    """Command line of a promotion."""
    return "promote", "--task", "classification", "--experiment", experiment


def prepare(folder: Path) -> None:
    """Train one run in each experiment."""
    for name, words in RUNS.items():
        run(folder, *words, "--experiment-name", name)


def reset(folder: Path, champions: tuple[str, ...]) -> None:
    """Empty the registry, restore what was deleted, and promote these experiments one after the other."""
    from mlflow import MlflowClient

    import abalone

    client = MlflowClient(use(folder))
    if client.search_registered_models(f"name = '{MODEL}'"):
        client.delete_registered_model(MODEL)
    for name in RUNS:
        experiment = client.get_experiment_by_name(name).experiment_id
        for deleted in client.search_runs([experiment], run_view_type=2):
            client.restore_run(deleted.info.run_id)
    for name in champions:
        abalone.promote(["classification"], experiment=name)


def delete_champion() -> None:
    """Delete the second version."""
    from mlflow import MlflowClient

    MlflowClient().delete_model_version(MODEL, "2")


def delete_run() -> None:
    """Delete the run that is being promoted."""
    from mlflow import MlflowClient

    client = MlflowClient()
    [found] = client.search_runs([client.get_experiment_by_name("good").experiment_id], "tags.task = 'classification'")
    client.delete_run(found.info.run_id)


def race(folder: Path, kind: str, draw: random.Random) -> list[Command]:
    """Start the processes of a race, the later ones after a random pause."""
    first = start(folder, *promote("good"))
    if kind == SIX:
        return [first, *(start(folder, *promote("good")) for _ in range(5))]
    time.sleep(draw.uniform(0.0, LATEST))
    if kind == "two promotions":
        return [first, start(folder, *promote("middle"))]
    if kind == "promotion and rollback":
        return [first, start(folder, "rollback", "--task", "classification")]
    return [first, call(folder, delete_champion if kind.endswith("champion") else delete_run)]


def problems(folder: Path, kind: str) -> list[str]:
    """What is wrong with the registry."""
    from mlflow import MlflowClient

    from abalone import load_champion, load_data

    client = MlflowClient(use(folder))
    found = []
    aliases = client.get_registered_model(MODEL).aliases
    if "champion" not in aliases:
        return ["no champion"]
    if aliases.get("previous") == aliases["champion"]:
        found.append("previous is the champion")
    versions = {version.version: version for version in client.search_model_versions(f"name = '{MODEL}'")}
    for alias, version in aliases.items():
        if int(version) not in {int(known) for known in versions}:
            found.append(f"{alias} is version {version}, which does not exist")
    if any("champion" in version.aliases and "rolled_back" in version.tags for version in versions.values()):
        found.append("the champion is marked as rolled back")
    copies = Counter(version.run_id for version in versions.values())
    if max(copies.values()) > 1:
        found.append(f"{max(copies.values())} versions of one run")
    try:
        load_champion("classification").predict(load_data().dataset.frame.head(3))
    except Exception as error:
        found.append(f"the champion cannot be loaded: {error}")
    return found


def measure(rounds: int, seed: int = 0) -> list[list[Any]]:
    """Let each kind of race run so many times; one row for each."""
    draw = random.Random(seed)
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder)
        for kind in (*RACES, SIX):
            ends: Counter[str] = Counter()
            wrong: Counter[str] = Counter()
            refused: Counter[str] = Counter()
            for number in range(rounds):
                reset(folder, ("weak",) if kind in ("two promotions", SIX) else ("weak", "middle"))
                for command in race(folder, kind, draw):
                    if command.finish() != 0:
                        refused[command.text().strip().splitlines()[-1][:300]] += 1
                    command.close()
                found = problems(folder, kind)
                wrong.update(found)
                ends[aliases_text(folder)] += 1
                if found:
                    print(f"{number}: {kind}: {'; '.join(found)}", flush=True)
            rows.append([kind, rounds, dict(ends), dict(refused), dict(wrong)])
            print(rows[-1], flush=True)
    return rows


def aliases_text(folder: Path) -> str:
    """Champion and previous champion, such as ``3 (2)``."""
    from mlflow import MlflowClient

    aliases = MlflowClient(use(folder)).get_registered_model(MODEL).aliases
    return f"{aliases.get('champion', '-')} ({aliases.get('previous', '-')})"


def main() -> None:
    """Run all races, print the table, and fail if anything was wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rows = measure(options.rounds, options.seed)
    print(table(["at the same time", "rounds", "champion (previous)", "refused", "wrong"], rows))
    assert not any(row[-1] for row in rows)


if __name__ == "__main__":
    main()

"""Commands that are killed at random moments, and what the next command makes of what they leave.

Run ``python -m benchmarks.soak.kills --rounds 40``: one table, and an error if the champion cannot be loaded or the
next command leaves anything. All is small (few epochs and trials) and in a temporary folder.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.soak.commands import run, start, table, use

STAGE = ("classify", "--epochs", "2")
COMMANDS = {
    "first start": STAGE,
    "classify": STAGE,
    "rings": ("rings", "--epochs", "2", "--members", "2"),
    "tune": ("tune", "--epochs", "2", "--trials", "{trials}", "--study", "soak"),
    "promote": ("promote", "--task", "classification"),
    "rollback": ("rollback", "--task", "classification"),
    "predict": ("predict", "--input", "{rows}", "--output", "scored.csv"),
    "main": ("main", "--epochs", "2", "--trials", "2", "--seeds", "0"),
}
TRIALS = 4  # of one call of ``tune``
KINDS = ("runs RUNNING", "models PENDING", "trials RUNNING", "drafts")


@contextmanager
def prepared_folder() -> Iterator[Path]:
    """A folder with two candidates, the worse of them champion of its task, and a champion of the other task."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run(folder, "classify", "--epochs", "1")
        run(folder, "promote", "--task", "classification")
        run(folder, "regress", "--epochs", "8")
        run(folder, "promote", "--task", "regression")
        run(folder, "encode", "--epochs", "6")
        yield folder


def reset_champion(folder: Path) -> None:
    """Make the first version champion and the only one, so that the next promotion has something to do."""
    from mlflow import MlflowClient

    client = MlflowClient(use(folder))
    client.set_registered_model_alias("abalone-classifier", "champion", "1")
    for version in client.search_model_versions("name = 'abalone-classifier'"):
        if int(version.version) > 1:
            client.delete_model_version("abalone-classifier", version.version)


def left(folder: Path) -> dict[str, int]:
    """What dead processes have left in a folder; nothing may be running there."""
    import optuna
    from mlflow import MlflowClient

    drafts = [path for path in folder.iterdir() if ".part" in path.name]
    found = dict.fromkeys(KINDS, 0) | {"drafts": len(drafts)}
    if not (folder / "mlflow.db").exists():
        return found
    client = MlflowClient(use(folder))
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    found["runs RUNNING"] = len(client.search_runs(experiments, "attributes.status = 'RUNNING'"))
    models = [model for page in experiments for model in client.search_logged_models([page])]
    found["models PENDING"] = sum(str(model.status) == "PENDING" for model in models)
    journal = folder / "studies.journal"
    if journal.exists():
        backend = optuna.storages.journal.JournalFileBackend(str(journal))
        for study in optuna.study.get_all_study_names(optuna.storages.JournalStorage(backend)):
            known = optuna.load_study(study_name=study, storage=optuna.storages.JournalStorage(backend))
            found["trials RUNNING"] += len(known.get_trials(states=(optuna.trial.TrialState.RUNNING,)))
    return found


def check_champions(folder: Path) -> None:
    """Load both champions and let them score a few rows."""
    from abalone import load_champion, load_data

    use(folder)
    rows = load_data().dataset.frame.head(3)
    for task in ("classification", "regression"):
        assert len(load_champion(task).predict(rows)) == 3


def new_folder(folder: Path, name: str) -> Path:
    """An empty folder in another."""
    place = folder / f"first-{name}"
    place.mkdir()
    return place


def arguments_of(name: str, trials: int) -> list[str]:
    """The command line of a command; a study gets so many trials in all."""
    rows = Path(__file__).parents[2] / "abalone" / "data" / "abalone.data"
    return [word.format(trials=trials, rows=rows) for word in COMMANDS[name]]


def kill_once(folder: Path, name: str, seconds: float, trials: int) -> tuple[dict[str, int], dict[str, int]]:
    """Kill a command after so many seconds; what it left, and what was still left after the next command."""
    arguments = arguments_of(name, trials)
    command = start(folder, *arguments)
    time.sleep(seconds)
    command.kill()
    command.close()
    before = left(folder)
    if name != "first start":
        check_champions(folder)
    if name in ("tune", "predict"):  # what they leave is found by the next command on the same study or file
        run(folder, *arguments)
    else:
        run(folder, "classify", "--epochs", "1")
    return before, left(folder)


def measure(rounds: int, seed: int = 0) -> list[list[object]]:
    """Kill each command in turn; one row for each, with sums over its rounds."""
    draw = random.Random(seed)
    names = list(COMMANDS)
    sums = {name: [0, dict.fromkeys(KINDS, 0), dict.fromkeys(KINDS, 0)] for name in names}
    with prepared_folder() as folder:
        lengths = {}
        for name in names:
            place = new_folder(folder, "whole") if name == "first start" else folder
            lengths[name] = run(place, *arguments_of(name, TRIALS))
        for number in range(rounds):
            name = names[number % len(names)]
            place = folder
            if name == "first start":
                place = new_folder(folder, str(number))
            elif name in ("promote", "rollback"):
                reset_champion(folder)
                if name == "rollback":
                    run(folder, *COMMANDS["promote"])
            seconds = draw.uniform(0.0, lengths[name])
            before, after = kill_once(place, name, seconds, TRIALS * (2 + number))
            row = sums[name]
            row[0] += 1
            for kind in KINDS:
                row[1][kind] += before[kind]
                row[2][kind] += after[kind]
            print(f"{number}: {name} after {seconds:.1f} s, left {before}, then {after}", flush=True)
    return [[name, count, *before.values(), sum(after.values())] for name, (count, before, after) in sums.items()]


def main() -> None:
    """Kill commands, print the table, and fail if anything was left in the end."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rows = measure(options.rounds, options.seed)
    print(table(["killed command", "rounds", *KINDS, "left after the next command"], rows))
    assert not any(row[-1] for row in rows), "something was left"
    print("After every kill, both champions could be loaded and scored rows.")


if __name__ == "__main__":
    main()

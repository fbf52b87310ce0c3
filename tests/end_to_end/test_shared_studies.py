"""Studies that several processes share on a real PostgreSQL: killed workers, and a database that restarts."""

from __future__ import annotations

import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import optuna
import pytest
from helpers import free_port
from tuning_helpers import BATCH, SMALL_BATCHES, search_runs
from warm_processes import PYTHON, warm_environment

from abalone.tracking.postgres import Postgres

pytestmark = pytest.mark.slow
TRIALS = 3 * BATCH
SECONDS = 300  # at most, for what takes some ten
# Warm, the process that trains is not the one that is started, so it says who it is.
ABALONE = f"import os; print(os.getpid(), flush=True)\n{SMALL_BATCHES}"


@pytest.fixture
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL server with an empty database ``optuna``.

    Its folder is not pytest's, which only its owner may enter: under root, PostgreSQL runs as another user.
    """
    with TemporaryDirectory() as folder:
        server = Postgres(Path(folder, "server"), free_port())
        server.start(databases=["optuna"])
        yield server
        server.stop("immediate")


@pytest.fixture
def study(store: str, postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> Callable[[], optuna.Study]:
    """Opens the study ``s``, which the commands of this test keep in the database."""
    monkeypatch.setenv("ABALONE_STORAGE", postgres.url("optuna"))
    return lambda: optuna.load_study(study_name="s", storage=postgres.url("optuna"))


def start() -> tuple[subprocess.Popen, str]:
    """Start a command of the study; its process, and the id by which trials name it."""
    command = [PYTHON, "-c", ABALONE, "tune", "--study", "s", "--trials", str(TRIALS), "--epochs", "5"]
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=warm_environment())
    return process, process.stdout.readline().strip()


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def count_held(study: Callable[[], optuna.Study], pid: str) -> int:
    """Number of trials that a process is training; 0 before the study exists."""
    try:
        trials = study().get_trials(deepcopy=False, states=[optuna.trial.TrialState.RUNNING])
    except (KeyError, optuna.exceptions.StorageInternalError):
        return 0
    names = [trial.user_attrs.get("process", {}).get("process", "") for trial in trials]
    return sum(f" {pid} " in name for name in names)


def assert_one_whole_study(study: optuna.Study) -> None:
    """All trials, one run with all of them below it, one winner, and nothing left running."""
    states = Counter(trial.state.name for trial in study.trials)
    assert states["COMPLETE"] + states["PRUNED"] == TRIALS and not states["RUNNING"] + states["WAITING"]
    [run] = search_runs("tags.stage = 'tune'")
    assert run.info.status == "FINISHED" and run.data.metrics["trials/complete"] == states["COMPLETE"]
    [winner] = search_runs("tags.stage = 'tuned'")
    assert run.data.tags["winner.run_id"] == winner.info.run_id
    runs = Counter(trial.info.status for trial in search_runs("tags.stage = 'trial'"))
    assert runs["FINISHED"] + runs["KILLED"] == TRIALS and not runs["RUNNING"]


def test_the_living_make_up_for_a_worker_that_is_killed_and_one_of_them_closes_the_study(study):
    first, _ = start()
    victim, pid = start()
    last, _ = start()
    wait_until(lambda: count_held(study, pid) > 0)
    victim.kill()
    victim.communicate()
    for process in (first, last):
        out, err = process.communicate(timeout=SECONDS)
        assert process.returncode == 0, out + err
    assert_one_whole_study(study())


def test_a_study_goes_on_when_its_database_restarts(study, postgres):
    first, pid = start()
    last, _ = start()
    wait_until(lambda: count_held(study, pid) > 0)
    postgres.stop("immediate")
    postgres.start()
    errors = ""
    for process in (first, last):
        out, err = process.communicate(timeout=SECONDS)
        assert process.returncode == 0, out + err
        errors += err
    assert "Traceback" not in errors
    assert_one_whole_study(study())

"""How many requests a command sends to a tracking server; each costs the server time, and with logins half a second."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest
from warm_processes import start_servers_warm

from abalone.tuning.batches import BATCH
from benchmarks.bench_requests import COMMANDS, FILE, measure, tracking_server

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def sent(empty_database: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """The requests of every command of the benchmark."""
    folder = tmp_path_factory.mktemp("server")
    shutil.copy(empty_database, folder / "mlflow.db")
    with pytest.MonkeyPatch.context() as patch:
        start_servers_warm(patch)
        patch.chdir(folder)
        with tracking_server(folder):
            return measure(COMMANDS)


MOST = {
    "stage": (15, 17),
    "rings": (20, 32),
    "first promotion": (19, 7),
    "promotion that changes nothing": (13, 6),
    "promotion of a better model": (20, 11),
}


@pytest.mark.parametrize("command", MOST)
def test_a_command_sends_no_more_requests_than_it_needs(sent, command):
    files = sent[command].count(FILE)
    others = Counter(sent[command]) - Counter({FILE: files})
    assert (others.total(), files) == MOST[command], others


def test_nothing_is_asked_twice(sent):
    for command in ("stage", "first promotion", "promotion of a better model"):
        assert not {"runs/get", "experiments/get"} & set(sent[command]), command


def test_a_trial_takes_three_requests(sent):
    batch = Counter(sent["study of two batches"]) - Counter(sent["study of one batch"])
    of_trials = {"runs/create": BATCH, "runs/log-batch": BATCH + 1, "runs/update": BATCH}  # one more for the batch
    assert batch & Counter(of_trials) == of_trials
    assert (batch - Counter(of_trials)).total() <= 2, "to go on with a study that there is"

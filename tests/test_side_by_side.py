"""Worker processes: the same results whatever their number, and a clean end however they or their parent end."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from multiprocessing import active_children
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import ROOT
from ring_fits import SHORT
from warm_processes import PYTHON, start_workers_warm, warm_environment

from abalone.claims.claims import measure_stages, train_stages
from abalone.data.loading import load_data
from abalone.data.reading import read
from abalone.settings import BadValue, UserError, load_settings
from abalone.side_by_side import begin, count_workers, has_workers, run_all, worker_processes
from abalone.training.ahead import begin_rings, begin_stage
from abalone.training.fit import fit
from abalone.training.population import fit_many
from abalone.training.ring_ensemble import fit_rings

pytestmark = pytest.mark.slow
DEEPEN = load_settings("deepen", {"device": "cpu", "epochs": 3})
SHORT_RINGS = load_settings("rings", {**SHORT, "device": "cpu"})


@pytest.fixture(autouse=True)
def warm(monkeypatch: pytest.MonkeyPatch) -> None:
    start_workers_warm(monkeypatch)


@pytest.fixture
def two_workers() -> Iterator[None]:
    with worker_processes(2):
        yield


def weights(model: torch.nn.Module) -> list[list[float]]:
    return [p.flatten().tolist() for p in model.parameters()]


def test_a_population_is_the_same_bit_for_bit_whatever_the_number_of_workers():
    data = load_data("uci", 0)
    shapes = [DEEPEN, replace(DEEPEN, hidden_sizes=(8,)), replace(DEEPEN, dropout=0.2)]
    settings = [replace(shape, seed=seed) for shape in shapes for seed in range(3)]

    def trained(workers: int, stop=None) -> list[tuple]:
        with worker_processes(workers):
            results = fit_many(settings, data.x, data.rings, data.split, stop=stop)
        return [(weights(model), history) for model, history in results]

    alone = trained(1)
    assert trained(2) == alone
    assert trained(5) == alone

    def prune(epoch: int, losses: np.ndarray) -> list[int]:
        return [int(np.nanargmax(losses))]

    pruned = trained(1, prune)
    assert pruned != alone
    assert trained(2, prune) == pruned


def test_a_training_that_was_begun_ahead_is_the_same_bit_for_bit(two_workers):
    data = load_data("uci", 0)
    wait = begin_stage(DEEPEN)
    waits = begin_rings(SHORT_RINGS)
    model, history = fit(DEEPEN, data.x, data.rings, data.split)
    begun_model, begun_history = wait()
    assert weights(begun_model) == weights(model) and begun_history == history

    split = data.split
    rows = {"validation": (split.train, split.val), "refit": (np.concatenate([split.train, split.val]),)}
    for name, parts in rows.items():
        ensemble, curves = fit_rings(SHORT_RINGS, data.x, data.rings, *parts)
        begun_ensemble, begun_curves = waits[name]()
        assert weights(begun_ensemble) == weights(ensemble) and begun_curves == curves, name


def test_the_scores_of_the_report_are_the_same_whatever_the_number_of_workers():
    stages = {name: load_settings(name, {"device": "cpu", "epochs": 2}) for name in ("encode", "regress")}

    def measured(workers: int) -> dict[str, dict[str, list]]:
        with worker_processes(workers):
            found = measure_stages(stages, read(), train_stages(stages, read(), 2))
        return {stage: {name: of.tolist() for name, of in values.items()} for stage, values in found.items()}

    assert measured(2) == measured(1)


def test_workers_are_other_processes_and_only_within_the_block():
    assert not has_workers() and begin(os.getpid)() == os.getpid()
    with worker_processes(2):
        pids = run_all(os.getpid, [()] * 8)
        assert os.getpid() not in pids and begin(os.getpid)() != os.getpid()
        assert {process.pid for process in active_children()} >= set(pids)
    assert not has_workers() and not active_children()
    with worker_processes(1):
        assert not has_workers() and run_all(os.getpid, [(), ()]) == [os.getpid()] * 2


def test_without_workers_a_training_is_not_begun_ahead():
    assert begin_stage(DEEPEN) is None and begin_rings(SHORT_RINGS) == {}


def test_what_is_urgent_overtakes_what_was_begun_ahead(two_workers, tmp_path):
    run_all(os.getpid, [(), ()])
    ahead = [begin(time.sleep, 0.2) for _ in range(20)]
    began = time.monotonic()
    run_all(os.getpid, [(), ()])
    assert time.monotonic() - began < 10 * 0.2 / 2, "behind at most the two calls that had started"
    assert len(ahead) == 20


def test_an_error_of_a_worker_is_raised_here_and_the_next_call_works(two_workers):
    wait = begin(load_settings, "deepen", {"epochs": 0})
    with pytest.raises(BadValue, match="epochs: '0' is not valid") as caught:
        wait()
    assert caught.value.key == "epochs"
    assert "In a worker process:\nTraceback" in caught.value.__notes__[0]
    assert begin(abs, -3)() == 3


def test_a_worker_that_is_killed_is_named_with_the_way_out_and_replaced(two_workers):
    said = r"worker process \d+ was killed by SIGKILL while it computed; if memory ran out, -P workers=1 computes"
    for _ in range(3):
        with pytest.raises(UserError, match=said):
            begin(signal.raise_signal, signal.SIGKILL)()
    with pytest.raises(UserError, match=r"worker process \d+ ended with exit status 3 while"):
        begin(os._exit, 3)()
    assert len(set(run_all(os.getpid, [()] * 20))) == 2


def test_workers_that_are_busy_end_with_the_block():
    with pytest.raises(KeyboardInterrupt), worker_processes(2):
        for _ in range(5):
            begin(time.sleep, 600)
        pids = [process.pid for process in active_children()]
        raise KeyboardInterrupt
    assert len(pids) == 2 and not any(is_running(pid) for pid in pids)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("worker")]


def is_running(pid: int) -> bool:
    """Whether a process exists that is not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


PROGRAM = """
import os, sys, time
from multiprocessing import set_executable
from abalone import side_by_side
from abalone.side_by_side import begin, run_all, worker_processes
print("started", flush=True)
set_executable(sys.argv[1])
side_by_side.PRELOADED = ("torch",)
with worker_processes(2):
    pids = set(run_all(os.getpid, [()] * 20))
    print(*pids, flush=True)
    begin(time.sleep, float(sys.argv[2]))()
"""
COMMAND = """
import sys
from multiprocessing import set_executable
from abalone import side_by_side
from abalone.cli.program import main
set_executable(sys.argv.pop(1))
side_by_side.PRELOADED = ("torch",)
main()
"""


def start(*command: str) -> subprocess.Popen:
    """A program that has no ``if __name__ == "__main__"``, in a session of its own."""
    variables = {**warm_environment(), "PYTHONPATH": str(ROOT)}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=variables, start_new_session=True)


def test_a_program_needs_no_guard_against_being_imported_again(tmp_path):
    Path("program.py").write_text(PROGRAM)
    for command in (["program.py", sys.executable, "0"], ["-c", PROGRAM, PYTHON, "0"]):
        out, err = start(sys.executable, *command).communicate(timeout=120)
        assert re.fullmatch(r"started\n\d+ \d+\n", out) and not err, (command, out, err)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_worker_outlives_its_parent(number):
    forked_from = sys.executable if number == signal.SIGINT else PYTHON
    program = start(sys.executable, "-c", PROGRAM, forked_from, "600")
    assert program.stdout.readline() == "started\n"
    pids = [int(word) for word in program.stdout.readline().split()]
    assert all(is_running(pid) for pid in pids)
    if number == signal.SIGINT:
        os.killpg(program.pid, number)  # as a terminal does
    else:
        program.send_signal(number)
    _, err = program.communicate(timeout=60)  # returns when the last process has closed its end of the pipe
    assert program.returncode != 0
    assert not any(is_running(pid) for pid in pids)
    assert err.count("Traceback") <= 1, "that of the program, which has no handler"


def test_ctrl_c_ends_a_command_and_its_workers_with_a_sentence(store):
    options = ("--workers", "2", "--epochs", "1000")
    program = start(PYTHON, "-c", COMMAND, sys.executable, "report", *options)
    assert "report: training 6 stages" in program.stdout.readline()
    os.killpg(program.pid, signal.SIGINT)  # as a terminal does
    out, err = program.communicate(timeout=120)  # returns when the last process has closed its end of the pipe
    assert (program.returncode, out) == (130, "")
    assert err.strip() == "Interrupted: what was finished is kept."


def test_auto_counts_the_cores_that_this_process_may_use():
    cores = os.sched_getaffinity(0)
    assert count_workers(7) == 7
    try:
        os.sched_setaffinity(0, {min(cores)})
        assert count_workers("auto") == 1
    finally:
        os.sched_setaffinity(0, cores)
    assert 1 <= count_workers("auto") <= len(cores)

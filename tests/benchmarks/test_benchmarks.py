"""The benchmarks of speed still run, each in its smallest form."""

from __future__ import annotations

import shutil
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from click import Context

from abalone.cli.program import cli
from abalone.data.splitting import Split
from abalone.settings import StageSettings, load_settings
from abalone.tracking.database import database_path
from benchmarks import bench_main, bench_population, bench_training, bench_tuning


@pytest.mark.slow
def test_training_and_population_are_measured(monkeypatch):
    monkeypatch.setattr(bench_training, "EPOCHS", {1: 1})
    [row] = bench_training.measure(repeats=1)
    assert row["rows"] == 1670 and row["ratio"] > 1
    monkeypatch.setattr(bench_population, "WIDTHS", (16,))
    monkeypatch.setattr(bench_population, "EPOCHS", {1: 1, 10: 1, 100: 1})
    monkeypatch.setattr(bench_population, "tiled", few_rows)
    rows = bench_population.measure(repeats=1)
    assert [row["population"] for row in rows] == ["one shape", "depths 1-4", "dropout", "one shape", "one shape"]
    assert all(row["ratio"] > 1 for row in rows)
    monkeypatch.setattr(bench_population, "worker_processes", lambda workers: nullcontext())
    assert min(bench_population.side_by_side(members=2, epochs=1, repeats=1)) > 0


def few_rows(settings: StageSettings, copies: int) -> tuple[torch.Tensor, np.ndarray, Split]:
    """A quarter of the rows, for any number of copies."""
    x, rings, whole = bench_training.tiled(settings, 1)
    few = {part: getattr(whole, part)[::4] for part in ("train", "val", "test")}
    return x, rings, Split(**few, fingerprint=whole.fingerprint)


@pytest.mark.slow
def test_a_study_is_measured(monkeypatch, store, empty_database):
    monkeypatch.setattr(bench_tuning, "prepare_database", lambda: shutil.copy(empty_database, database_path()))
    monkeypatch.setattr(bench_tuning, "TRIALS", 2)
    monkeypatch.setattr(bench_tuning, "TUTORIAL_TRIALS", 1)
    monkeypatch.setattr(bench_tuning, "load_settings", lambda stage, given: load_settings(stage, given | {"epochs": 8}))
    result = bench_tuning.measure()
    assert result["tracking_ms"] > 0 and result["ratio"] > 1


COMMAND = """
import sys
from multiprocessing import get_context
if __name__ == "__main__" and sys.argv[sys.argv.index("--workers") + 1] != "1":
    context = get_context("forkserver")
    context.set_forkserver_preload(["imported"])
    worker = context.Process(target=print)
    worker.start()
    worker.join()
"""


@pytest.mark.slow
def test_the_whole_job_is_measured_with_its_workers(monkeypatch, own_folder, empty_database):
    """Here it is a program that has a worker, as ``main`` does."""
    program = own_folder / "abalone" / "__main__.py"
    program.parent.mkdir()
    program.write_text(COMMAND)
    (own_folder / "imported.py").write_text("sum(range(10**8))")
    monkeypatch.setattr(bench_main, "ROOT", own_folder)
    monkeypatch.setattr(bench_main, "prepare_database", lambda: shutil.copy(empty_database, database_path()))
    monkeypatch.setattr(bench_main, "STAGES", ("encode",))
    monkeypatch.setattr(bench_main, "count_workers", lambda workers: 2)
    monkeypatch.setattr(bench_main, "tutorial_training", lambda settings, logs_model=False: sum(range(10**6)))
    result = bench_main.measure()
    assert result["workers"] == 2 and result["tutorial_cpu_s"] > 0
    assert result["cpu_s"] > result["one_cpu_s"] + 0.3, "what the fork server imports is counted"
    options = [option.name for option in cli.get_command(Context(cli), "main").params]
    assert "workers" in options

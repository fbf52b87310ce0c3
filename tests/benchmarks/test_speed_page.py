"""One runner collects the figures of all benchmarks, and README quotes the page that it writes."""

from __future__ import annotations

import importlib
import re
import subprocess
from contextlib import nullcontext

import pytest
from helpers import ROOT

from benchmarks import (
    bench_all,
    bench_main,
    bench_population,
    bench_requests,
    bench_run,
    bench_serving,
    bench_storage,
    bench_training,
    bench_tuning,
)
from benchmarks.speed import Figure, show, times

CPU_TIMES = ("server_cpu", "postgres_cpu", "client_cpu")
FIGURE = Figure("`fit`", "1.0 ms", peer="the guide's loop", theirs="3.8 ms", result="3.8 times faster", aim="3.5")


def table_rows(text: str) -> list[list[str]]:
    """Cells of the rows of a Markdown table, its header first."""
    lines = [line.strip("|\n").split(" | ") for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in cells] for cells in lines if not set("".join(cells)) <= set("-| ")]


def test_readme_quotes_the_page():
    page = {(row[0], row[1]): row[4] for row in table_rows((ROOT / "docs" / "speed.md").read_text())}
    section = re.search(r"^## Speed\n.*?(?=^## )", (ROOT / "README.md").read_text(), re.M | re.S)[0]
    header, *quoted = table_rows(section)
    assert header == ["what", "compared with", "result"] and len(quoted) > 5
    for what, peer, result in quoted:
        assert page.get((what, peer)) == result, f"docs/speed.md has no such line: {what} | {peer} | {result}"


@pytest.mark.parametrize("name", bench_all.MODULES)
def test_every_benchmark_returns_figures(name):
    assert callable(importlib.import_module(f"benchmarks.{name}").figures)


def test_the_runner_prints_one_table_and_writes_a_page_with_machine_and_date(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bench_all, "PAGE", tmp_path / "speed.md")
    monkeypatch.setattr(bench_all, "measure", lambda modules: [FIGURE] * len(modules))
    bench_all.main(["bench_training"])
    assert not bench_all.PAGE.exists(), "a part of the figures must not replace all of them"
    bench_all.main([])
    page = bench_all.PAGE.read_text()
    header, *rows = table_rows(page)
    assert header[0] == "what" and len(rows) == len(bench_all.MODULES)
    assert rows[0] == ["`fit`", "the guide's loop", "1.0 ms", "3.8 ms", "3.8 times faster", "3.5"]
    for words in (r"on \d{4}-\d\d-\d\d; do not edit", r"\d+ cores", r"torch \d", r"mlflow \d", "`make bench`"):
        assert re.search(words, page), words
    assert table_rows(capsys.readouterr().out)[-1] == rows[-1]


def test_figures_pass_from_a_benchmarks_process_to_the_runner(monkeypatch, capsys):
    show([FIGURE, Figure("memory", "35 MB")])
    printed = capsys.readouterr().out
    started = []

    def run(command: list[str], **options) -> subprocess.CompletedProcess:
        started.append(command[-1])
        return subprocess.CompletedProcess(command, 0, stdout=printed)

    monkeypatch.setattr(bench_all.subprocess, "run", run)
    assert bench_all.measure(["bench_run"]) == [FIGURE, Figure("memory", "35 MB")]
    assert started == ["benchmarks.bench_run"]


def test_ratios_are_quoted_with_two_digits():
    assert [times(ratio) for ratio in (0.71, 1.29, 9.94, 42.3)] == ["0.7", "1.3", "9.9", "42"]


def test_each_benchmark_makes_its_figures_from_what_it_measures(monkeypatch, own_folder):
    fit = {"copies": 1, "rows": 1670, "guide_ms": 45.6, "fit_ms": 12.0, "ratio": 3.8}
    monkeypatch.setattr(bench_training, "measure", lambda: [fit])
    monkeypatch.setattr(bench_run, "measure", lambda: {"run_s": 6.45, "floor_s": 5.0, "ratio": 1.29})
    many = {"population": "one shape", "width": 32, "members": 16, "rows": 1670}
    many |= {"guide_ms": 53.4, "ours_ms": 1.27, "ratio": 42.0, "peak_share": 0.31}
    monkeypatch.setattr(bench_population, "measure", lambda: [many])
    monkeypatch.setattr(bench_population, "memory", lambda: 35.2)
    monkeypatch.setattr(bench_population, "side_by_side", lambda: (200.0, 110.0))
    study = {"study_s": 5.2, "unpruned_s": 5.9, "tutorial_s": 171.6, "ratio": 33.0, "unpruned_ratio": 29.1}
    monkeypatch.setattr(bench_tuning, "measure", lambda: study | {"tracking_ms": 19.0})
    batch = {"what": bench_serving.BATCH, "ours": 2_000_000, "sklearn": 800_000, "ratio": 2.5}
    alone = {"what": "a CSV file", "ours": 90_000, "sklearn": None, "ratio": None}
    monkeypatch.setattr(bench_serving, "measure", lambda folder: [batch, alone])
    monkeypatch.setattr(bench_requests, "tracking_server", lambda folder: nullcontext())
    batches = {"study of one batch": ["runs"] * 30, "study of two batches": ["runs"] * 42}
    monkeypatch.setattr(bench_requests, "measure", lambda commands: {"stage": ["runs", "file"], **batches})
    costs = dict.fromkeys(("statements", "up", "down"), 1500)
    sent = {f"{name}_{key}": value for name in ("optuna", "mlflow") for key, value in costs.items()}
    monkeypatch.setattr(bench_storage, "measure", lambda: sent | dict.fromkeys(CPU_TIMES, 0.05))
    whole = ("cpu_s", "wall_s", "one_wall_s", "wall_share", "tutorial_cpu_s", "tutorial_wall_s", "ratio", "wall_ratio")
    monkeypatch.setattr(bench_main, "measure", lambda: {"workers": 2, **dict.fromkeys(whole, 15.0)})
    results = {}
    for module in map(importlib.import_module, (f"benchmarks.{name}" for name in bench_all.MODULES)):
        for figure in module.figures():
            results[figure.what] = (figure.ours, figure.result)
    assert results["`fit`, one epoch of three layers, 1,670 rows in batches of 32"] == ("12.0 ms", "3.8 times faster")
    assert results["`mlflow run . -e classify --env-manager local`"] == ("6.45 s", "1.3 times the CPU time")
    of_population = results["`fit_many`, 16 members of three layers of width 32, 1,670 rows"]
    assert of_population == ("1.27 ms (31% of peak)", "42 times faster")
    two_workers = results["`fit_many`, 32 members of three layers, 2 workers, wall time of one of 50 epochs"]
    assert two_workers == ("110 ms", "0.55 of its wall time")
    assert results["a study of 48 trials of 50 epochs, tracked"] == ("5.2 s", "33 times less CPU")
    assert results["`main` with 2 workers, CPU"] == ("15 s", "15 times less CPU")
    assert results["rows scored: in a batch, CPU"] == ("2,000,000 a second", "2.5 times the rows")
    assert results["rows scored: a CSV file"] == ("90,000 a second", "–")
    assert results["requests to a tracking server: stage"] == ("2, 1 of them for files", "–")
    assert results["requests to a tracking server: 16 more trials of a study"] == ("12", "–")
    of_storage = results["a trial of 50 epochs on PostgreSQL, optuna"]
    assert of_storage == ("1500 statements, 1.5 kB up, 1.5 kB down", "–")
    assert results["one worker of `mlflow server`"] == ("20 trials a second", "–")

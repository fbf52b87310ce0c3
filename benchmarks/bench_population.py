"""CPU time per model and epoch of ``fit_many`` against the guide's own loop, how it grows with the rows, and memory.

Run ``python -m benchmarks.bench_population``, or ``make bench`` for all benchmarks.
"""

from __future__ import annotations

import re
import subprocess
import sys
import timeit
from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path

import torch

from abalone.data.splitting import Split
from abalone.settings import StageSettings, load_settings
from abalone.side_by_side import worker_processes
from abalone.training.population import fit_many
from benchmarks.bench_training import cpu_seconds, tiled
from benchmarks.guide_loop import prepare_guide, train_model
from benchmarks.speed import Figure, show, times

EPOCHS = {1: 8, 10: 2, 100: 1}  # copies of the rows: epochs of one measurement
TARGETS = {"one shape": 25, "depths 1-4": 20}
DESCRIPTIONS = {
    "one shape": "16 members of three layers",
    "depths 1-4": "32 members of one to four layers",
    "dropout": "16 members of three layers with dropout",
}
WIDTHS = (32, 64)  # 64 is the width in the stages
MEMORY_TARGET = 300
WORKERS = 2
WORKERS_TARGET = 0.6  # of the wall time of one process


def populations(width: int, epochs: int) -> dict[str, list[StageSettings]]:
    """16 members of three layers; 32 of one to four layers; 16 of three layers with dropout; batch 32."""
    overrides = {"epochs": epochs, "device": "cpu", "hidden_sizes": (width,) * 3}
    deepen = load_settings("deepen", overrides)
    dropout = load_settings("dropout", overrides)
    return {
        "one shape": [_change(deepen, seed=i, learning_rate=1e-3 * 1.1**i) for i in range(16)],
        "depths 1-4": [_change(deepen, seed=i, hidden_sizes=(width,) * (1 + i % 4)) for i in range(32)],
        "dropout": [_change(dropout, seed=i) for i in range(16)],
    }


def measure(repeats: int = 5) -> list[dict]:
    """Time both loops in turn and keep the best time of each, so that a busy moment of the machine affects neither.

    Returns
    -------
    list of dict
        ``population``, ``width``, ``members``, ``rows`` (training rows), ``guide_ms`` and ``ours_ms`` (CPU per model
        and epoch, one thread), ``ratio``, ``peak_share`` (see ``_peak_share``).
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # for the guide's loop too: more threads only cost it CPU
    try:
        results = []
        for width in WIDTHS:
            for name, members in populations(width, EPOCHS[1]).items():
                results.append(_compare(name, members, copies=1, repeats=repeats))
            for copies in (10, 100):
                members = populations(width, EPOCHS[copies])["one shape"]
                results.append(_compare("one shape", members, copies, repeats=2))
        return results
    finally:
        torch.set_num_threads(threads)


def side_by_side(members: int = 32, epochs: int = 50, repeats: int = 2) -> tuple[float, float]:
    """Wall time of ``fit_many`` in this process and with two workers, which have started; the best of some turns.

    Returns
    -------
    float, float
        Milliseconds of an epoch of all members.
    """
    base = load_settings("deepen", {"epochs": epochs, "device": "cpu"})
    population = [_change(base, seed=i) for i in range(members)]
    data = tiled(base, 1)
    work = partial(fit_many, population, *data)
    torch.set_num_threads(1)
    with worker_processes(WORKERS):
        work()
        shared = min(timeit.repeat(work, number=1, repeat=repeats))
    alone = min(timeit.repeat(work, number=1, repeat=repeats))
    return 1000 * alone / epochs, 1000 * shared / epochs


def memory(members: int = 64) -> float:
    """Peak memory of ``fit_many`` for this many members, above that of the imports and the data, in MB."""
    code = f"from benchmarks.bench_population import grow; grow({members})"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return float(done.stdout)


def grow(members: int) -> None:
    """Print by how many MB the peak memory of this process grows while it trains."""
    torch.set_num_threads(1)
    base = load_settings("deepen", {"epochs": 2, "device": "cpu"})
    data = tiled(base, 1)
    before = _peak_mb()
    fit_many([_change(base, seed=i) for i in range(members)], *data)
    print(_peak_mb() - before)


def _peak_mb() -> float:
    # Not getrusage, whose peak in a new process begins with that of the process that started it.
    return int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024


def _change(settings: StageSettings, **overrides) -> StageSettings:
    return StageSettings.from_mapping({**vars(settings), **overrides})


def _compare(name: str, members: Sequence[StageSettings], copies: int, repeats: int) -> dict:
    """One row of the table; the guide's time is the mean over the members' different networks."""
    data = tiled(members[0], copies)
    networks = {member.hidden_sizes: member for member in members}
    guide_times: dict[tuple[int, ...], list[float]] = {sizes: [] for sizes in networks}
    our_times = []
    for _ in range(repeats):
        our_times.append(cpu_seconds(partial(fit_many, members, *data)))
        for sizes, member in networks.items():
            guide_times[sizes].append(_guide_seconds(member, *data))
    epochs = members[0].epochs
    guide_seconds = sum(min(times) for times in guide_times.values()) / len(networks)
    guide_ms = 1000 * guide_seconds / epochs
    ours_ms = 1000 * min(our_times) / len(members) / epochs
    return {
        "population": name,
        "width": members[0].hidden_sizes[0],
        "members": len(members),
        "rows": len(data[2].train),
        "guide_ms": round(guide_ms, 2),
        "ours_ms": round(ours_ms, 2),
        "ratio": round(guide_ms / ours_ms, 1),
        "peak_share": round(_peak_share(members, data[2], ours_ms), 2),
    }


def _peak_share(members: Sequence[StageSettings], rows: Split, ours_ms: float) -> float:
    """Operations per second of the matrix products alone, as a share of those of a product of two large matrices.

    The guide's loop spends its time elsewhere; so the ratio depends on how fast a machine multiplies matrices.
    """
    train_rows = len(rows.train)
    evaluated_rows = train_rows + len(rows.val) + len(rows.test)
    operations = 0.0
    for member in members:
        widths = [len(member.features), *member.hidden_sizes, 2]
        weights = sum(inputs * outputs for inputs, outputs in pairwise(widths))
        first_weights = widths[0] * widths[1]
        # Forward, the weights' gradients, and the inputs' gradients of all layers but the first.
        operations += 2 * train_rows * (3 * weights - first_weights)
        operations += 2 * evaluated_rows * weights
    a = torch.rand(1024, 1024)
    b = torch.rand(1024, 1024)
    seconds = min(cpu_seconds(partial(torch.mm, a, b)) for _ in range(10))
    peak = 2 * 1024**3 / seconds
    ours = operations / len(members) / (ours_ms / 1000)
    return ours / peak


def _guide_seconds(settings: StageSettings, x, rings, rows) -> float:
    network, loaders = prepare_guide(settings, x, rings, rows)
    return cpu_seconds(partial(train_model, network, loaders, settings))


def figures() -> list[Figure]:
    """Measure, for the table of all benchmarks; times are those of one member and epoch."""
    found = []
    for row in measure():
        aim = TARGETS.get(row["population"])
        found.append(
            Figure(
                what=f"`fit_many`, {DESCRIPTIONS[row['population']]} of width {row['width']}, {row['rows']:,} rows",
                ours=f"{row['ours_ms']:,.2f} ms ({row['peak_share']:.0%} of peak)",
                peer="the guide's loop, a network at a time",
                theirs=f"{row['guide_ms']:,.1f} ms",
                result=f"{times(row['ratio'])} times faster",
                aim=f"{aim}" if aim else "–",
            )
        )
    alone, shared = side_by_side()
    found.append(
        Figure(
            what=f"`fit_many`, 32 members of three layers, {WORKERS} workers, wall time of one of 50 epochs",
            ours=f"{shared:,.0f} ms",
            peer="the same in one process",
            theirs=f"{alone:,.0f} ms",
            result=f"{shared / alone:.2f} of its wall time",
            aim=f"{WORKERS_TARGET}",
        )
    )
    found.append(
        Figure("`fit_many`, 64 members, memory beside the imports", f"{memory():.0f} MB", aim=f"{MEMORY_TARGET} MB")
    )
    return found


if __name__ == "__main__":
    show(figures())

"""CPU time per model and epoch of ``fit_many`` against the guide's own loop, its growth with rows, and its memory.

Run ``python -m benchmarks.bench_population``: a table, then the same as JSON.
"""

from __future__ import annotations

import copy
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path

import torch

from abalone.data.splitting import Split
from abalone.model.networks import build
from abalone.settings import StageSettings, load_settings
from abalone.training.beginning import targets
from abalone.training.population import fit_many
from benchmarks.bench_training import tiled
from benchmarks.guide_loop import make_dataloaders, train_model

EPOCHS = {1: 8, 10: 2, 100: 1}  # copies of the rows: epochs of one measurement
TARGETS = {"one shape": 25, "depths 1-4": 20}
WIDTHS = (32, 64)  # 64 is the stages' own
MEMORY_TARGET = 300


def populations(width: int, epochs: int) -> dict[str, list[StageSettings]]:
    """16 members of three layers; 32 of one to four layers; 16 of three layers with dropout; batch 32."""
    sizes = {"epochs": epochs, "device": "cpu", "hidden_sizes": (width,) * 3}
    deepen, dropout = (load_settings(stage, sizes) for stage in ("deepen", "dropout"))
    return {
        "one shape": [_change(deepen, seed=i, learning_rate=1e-3 * 1.1**i) for i in range(16)],
        "depths 1-4": [_change(deepen, seed=i, hidden_sizes=(width,) * (1 + i % 4)) for i in range(32)],
        "dropout": [_change(dropout, seed=i) for i in range(16)],
    }


def measure(repeats: int = 5) -> list[dict]:
    """Time both loops in turn and keep the best of each, so that a busy moment of the machine hurts neither.

    Returns
    -------
    list of dict
        ``population``, ``width``, ``members``, ``rows`` (training rows), ``guide_ms`` and ``ours_ms`` (CPU per model
        and epoch, one thread), ``ratio``, ``peak_share`` (see ``_peak_share``).
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the guide's loop too: more threads only cost it CPU
    try:
        results = []
        for width in WIDTHS:
            results += [_compare(name, m, 1, repeats) for name, m in populations(width, EPOCHS[1]).items()]
            for copies in (10, 100):
                results.append(_compare("one shape", populations(width, EPOCHS[copies])["one shape"], copies, 2))
        return results
    finally:
        torch.set_num_threads(threads)


def memory(members: int = 64) -> float:
    """Peak memory of ``fit_many`` for so many members above that of the imports and the data, in MB."""
    code = f"from benchmarks.bench_population import grow; grow({members})"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return float(done.stdout)


def grow(members: int) -> None:
    """Print by how many MB the peak memory of this process grows."""
    torch.set_num_threads(1)
    base = load_settings("deepen", {"epochs": 2, "device": "cpu"})
    data, before = tiled(base, 1), _peak_mb()
    fit_many([_change(base, seed=i) for i in range(members)], *data)
    print(_peak_mb() - before)


def _peak_mb() -> float:
    # Not getrusage: what it gives a new process begins with the peak of the process that started it.
    return int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024


def _change(experiment: StageSettings, **overrides) -> StageSettings:
    return StageSettings.from_mapping({**vars(experiment), **overrides})


def _compare(name: str, members: Sequence[StageSettings], copies: int, repeats: int) -> dict:
    data = tiled(members[0], copies)
    different = {member.hidden_sizes: member for member in members}.values()
    guide, ours = {member: [] for member in different}, []
    for _ in range(repeats):
        ours.append(_cpu_seconds(partial(fit_many, members, *data)))
        for member in different:
            guide[member].append(_guide_seconds(member, *data))
    epochs = members[0].epochs
    guide_ms = 1000 * sum(min(times) for times in guide.values()) / len(guide) / epochs
    ours_ms = 1000 * min(ours) / len(members) / epochs
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
    """Operations of the matrix products alone, per second, over those of a product of two large matrices.

    The guide's loop spends its time elsewhere, so this is what keeps the ratio from being the same on all machines.
    """
    operations = 0.0
    for e in members:
        widths = [len(e.features), *e.hidden_sizes, 2]
        weights = sum(i * o for i, o in pairwise(widths))
        evaluated = sum(len(part) for part in (rows.train, rows.val, rows.test))
        # Forward, the weights' gradients, and the inputs' gradients of all layers but the first.
        operations += 2 * len(rows.train) * (3 * weights - widths[0] * widths[1]) + 2 * evaluated * weights
    a, b = torch.rand(2, 1024, 1024)
    seconds = min(_cpu_seconds(partial(torch.mm, a, b)) for _ in range(10))
    return operations / len(members) / (ours_ms / 1000) / (2 * 1024**3 / seconds)


def _guide_seconds(experiment: StageSettings, x, rings, rows) -> float:
    model = build(experiment.model_config())
    model.prepare.fit(x[rows.train])
    loaders = make_dataloaders(model.prepare(x), targets(model, torch.tensor(rings)), rows, experiment.batch_size)
    return _cpu_seconds(partial(train_model, copy.deepcopy(model.network), loaders, experiment))


def _cpu_seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def main() -> None:
    """Print the table and the JSON."""
    results, megabytes = measure(), memory()
    print(f"{'population':>10} {'width':>6} {'members':>8} {'rows':>7} {'guide ms':>9} {'ours ms':>8}", end=" ")
    print(f"{'ratio':>6} {'target':>7} {'of peak':>8}")
    for row in results:
        target = TARGETS.get(row["population"])
        verdict = "" if target is None else "met" if row["ratio"] >= target else "missed"
        print(
            f"{row['population']:>10} {row['width']:>6} {row['members']:>8} {row['rows']:>7} {row['guide_ms']:>9.2f} "
            f"{row['ours_ms']:>8.2f} {row['ratio']:>6.1f} {target or '-':>7} {row['peak_share']:>8.0%}  {verdict}"
        )
    print(f"memory above imports, 64 members: {megabytes:.0f} MB, target {MEMORY_TARGET}")
    print(json.dumps({"speed": results, "memory_mb": round(megabytes)}))


if __name__ == "__main__":
    main()

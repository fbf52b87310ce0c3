"""CPU time per epoch of ``fit`` against the guide's own loop, at 1, 10 and 100 times the rows.

Run ``python -m benchmarks.bench_training``, or ``make bench`` for all benchmarks.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from abalone.data.reading import read
from abalone.data.splitting import Split, split
from abalone.model.features import encode
from abalone.settings import StageSettings, load_settings
from abalone.training.fit import fit
from benchmarks.guide_loop import prepare_guide, train_model
from benchmarks.speed import Figure, show, times

EPOCHS = {1: 8, 10: 2, 100: 1}  # copies of the rows: epochs of one measurement
TARGET = 3.5


def measure(stage: str = "deepen", repeats: int = 5) -> list[dict[str, float]]:
    """Time both loops in turn and keep the best time of each, so that a busy moment of the machine affects neither.

    Parameters
    ----------
    stage : str
        The stage whose settings are used, batch size included.
    repeats : int
        Measurements of each loop at each size; the largest size gets two.

    Returns
    -------
    list of dict
        ``copies``, ``rows`` (training rows), ``guide_ms`` and ``fit_ms`` (CPU per epoch, one thread), ``ratio``.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # for the guide's loop too: more threads only cost it CPU
    try:
        return [_compare(stage, copies, repeats if copies < 100 else 2) for copies in EPOCHS]
    finally:
        torch.set_num_threads(threads)


def _compare(stage: str, copies: int, repeats: int) -> dict[str, float]:
    settings = load_settings(stage, {"epochs": EPOCHS[copies], "device": "cpu"})
    x, rings, rows = tiled(settings, copies)
    network, loaders = prepare_guide(settings, x, rings, rows)
    guide_times = []
    fit_times = []
    for _ in range(repeats):
        untrained = copy.deepcopy(network)
        guide_times.append(cpu_seconds(partial(train_model, untrained, loaders, settings)))
        fit_times.append(cpu_seconds(partial(fit, settings, x, rings, rows)))
    guide_ms = 1000 * min(guide_times) / settings.epochs
    fit_ms = 1000 * min(fit_times) / settings.epochs
    return {
        "copies": copies,
        "rows": len(rows.train),
        "guide_ms": round(guide_ms, 1),
        "fit_ms": round(fit_ms, 1),
        "ratio": round(guide_ms / fit_ms, 2),
    }


def tiled(settings: StageSettings, copies: int) -> tuple[torch.Tensor, np.ndarray, Split]:
    """The data set ``copies`` times over, every copy split like the first.

    Returns
    -------
    x : Tensor [n, 10], float32
    rings : array [n], int64
    split : Split
    """
    dataset = read(settings.data)
    once = split(dataset, settings.seed)
    starts = np.arange(copies)[:, None] * len(dataset.frame)
    tiled_split = Split(
        train=(starts + once.train).ravel(),
        val=(starts + once.val).ravel(),
        test=(starts + once.test).ravel(),
        fingerprint=once.fingerprint,
    )
    rings = np.tile(dataset.frame["Rings"].to_numpy(), copies)
    return encode(dataset.frame).repeat(copies, 1), rings, tiled_split


def cpu_seconds(work: Callable[[], object]) -> float:
    """CPU time of a call of ``work`` in this process."""
    start = time.process_time()
    work()
    return time.process_time() - start


def figures() -> list[Figure]:
    """Measure, for the table of all benchmarks."""
    found = []
    for row in measure():
        found.append(
            Figure(
                what=f"`fit`, one epoch of three layers, {row['rows']:,} rows in batches of 32",
                ours=f"{row['fit_ms']:,.1f} ms",
                peer="the guide's loop with `DataLoader`",
                theirs=f"{row['guide_ms']:,.1f} ms",
                result=f"{times(row['ratio'])} times faster",
                aim=f"{TARGET}",
            )
        )
    return found


if __name__ == "__main__":
    show(figures())

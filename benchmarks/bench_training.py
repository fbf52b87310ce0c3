"""CPU time per epoch of ``fit`` against the guide's own loop, at 1, 10 and 100 times the rows.

Run ``python -m benchmarks.bench_training``: a table, then the same as JSON.
"""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from abalone.data.reading import read
from abalone.data.splitting import Split, split
from abalone.model.features import encode
from abalone.model.networks import build
from abalone.settings import StageSettings, load_settings
from abalone.training.beginning import targets
from abalone.training.fit import fit
from benchmarks.guide_loop import make_dataloaders, train_model

EPOCHS = {1: 8, 10: 2, 100: 1}  # copies of the rows: epochs of one measurement
TARGET = 3.5


def measure(stage: str = "deepen", repeats: int = 5) -> list[dict[str, float]]:
    """Time both loops in turn and keep the best of each, so that a busy moment of the machine hurts neither.

    Parameters
    ----------
    stage : str
        Whose settings, batch size included.
    repeats : int
        Measurements of each loop at each size; the largest size gets two.

    Returns
    -------
    list of dict
        ``copies``, ``rows`` (training rows), ``guide_ms`` and ``fit_ms`` (CPU per epoch, one thread), ``ratio``.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the guide's loop too: more threads only cost it CPU
    try:
        return [_compare(stage, copies, repeats if copies < 100 else 2) for copies in EPOCHS]
    finally:
        torch.set_num_threads(threads)


def _compare(stage: str, copies: int, repeats: int) -> dict[str, float]:
    experiment = load_settings(stage, {"epochs": EPOCHS[copies], "device": "cpu"})
    x, rings, rows = tiled(experiment, copies)
    model = build(experiment.model_config())
    model.prepare.fit(x[rows.train])
    loaders = make_dataloaders(model.prepare(x), targets(model, torch.tensor(rings)), rows, experiment.batch_size)
    guide, ours = [], []
    for _ in range(repeats):
        network = copy.deepcopy(model.network)
        guide.append(_cpu_seconds(partial(train_model, network, loaders, experiment)))
        ours.append(_cpu_seconds(partial(fit, experiment, x, rings, rows)))
    guide_ms, fit_ms = (1000 * min(times) / experiment.epochs for times in (guide, ours))
    return {
        "copies": copies,
        "rows": len(rows.train),
        "guide_ms": round(guide_ms, 1),
        "fit_ms": round(fit_ms, 1),
        "ratio": round(guide_ms / fit_ms, 2),
    }


def tiled(experiment: StageSettings, copies: int) -> tuple[torch.Tensor, np.ndarray, Split]:
    """The data set ``copies`` times over, each copy split as the first."""
    dataset = read(experiment.data)
    once, n = split(dataset, experiment.seed), len(dataset.frame)
    starts = np.arange(copies)[:, None] * n
    parts = [(starts + part).ravel() for part in (once.train, once.val, once.test)]
    rings = np.tile(dataset.frame["Rings"].to_numpy(), copies)
    return encode(dataset.frame).repeat(copies, 1), rings, Split(*parts, once.fingerprint)


def _cpu_seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def main() -> None:
    """Print the table and the JSON."""
    results = measure()
    print(f"{'rows':>8} {'guide ms/epoch':>15} {'fit ms/epoch':>13} {'ratio':>6}   target {TARGET}")
    for row in results:
        print(f"{row['rows']:>8} {row['guide_ms']:>15.1f} {row['fit_ms']:>13.1f} {row['ratio']:>6.2f}")
    print(json.dumps(results))


if __name__ == "__main__":
    main()

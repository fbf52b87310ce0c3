"""``rings`` compared with its peers and with the guide's stages on the same splits: writes ``docs/results.md``.

Run ``make bench-quality``; it takes an hour or two of CPU time, and goes on where an interrupted one stopped. Needs the
extra ``quality``, and the extra ``peers`` for RealMLP and TabM.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from abalone.claims.claims import measure_stages, train_stages
from abalone.claims.verdicts import Finding, findings
from abalone.data.loading import LoadedData, load_data
from abalone.data.reading import read
from abalone.data.splitting import split
from abalone.settings import STAGES, load_settings
from benchmarks.measured_parts import Record, measure_parts
from benchmarks.quality_models import FIXED, FULL_EFFORT, LINEAR, OURS, Effort, models, predictions, score, slow_models
from benchmarks.quality_page import collect, page
from benchmarks.quality_sizes import sizes_figure

DOCS = Path(__file__).resolve().parent.parent / "docs"
RESULTS = DOCS / "results.md"
SIZES_FIGURE = DOCS / "sizes.png"
UNFINISHED = Path("quality.jsonl")  # results of an interrupted benchmark
SEEDS = 30
SEEDS_OF_SIZES = 10
SEEDS_OF_SLOW = 5
SIZES = (200, 400, 800)  # rows; and all that are not for test
COMPARED_BY_SIZE = (OURS, LINEAR, FIXED)


def measure_model(name: str, seed: int, rows: int | None = None, effort: Effort = FULL_EFFORT) -> list[Record]:
    """Fit a model on one split and score its predictions for the test rows.

    Parameters
    ----------
    name : str
        As ``predictions`` takes it.
    seed : int
        Seed of the split and the model.
    rows : int, optional
        Number of training and validation rows; all of them if not given.
    effort : Effort

    Returns
    -------
    list of dict
        For each section in which the model appears: ``section``, ``model``, ``seed``, ``cpu`` in seconds, scores.
    """
    torch.set_num_threads(1)
    data = load_data("uci", seed)
    if rows is not None:
        data = keep_rows(data, rows, seed)
    records = []
    for prediction in predictions(name, data, seed, effort):
        found = {"section": prediction.section, "model": name, "seed": seed, "cpu": prediction.cpu}
        records.append(found | score(prediction, data.rings[data.split.test]))
    return records


def keep_rows(data: LoadedData, rows: int, seed: int) -> LoadedData:
    """Keep so many random training and validation rows, in the same proportion, and all test rows."""
    known = np.random.default_rng(seed).permutation(np.concatenate([data.split.train, data.split.val]))[:rows]
    val, train = np.split(known, [rows // 5])
    return replace(data, split=replace(data.split, train=train, val=val))


def table_parts(names: Iterable[str], seeds: int) -> dict[str, Callable[[], list[Record]]]:
    """The parts of the comparison on whole splits."""
    parts = {}
    for name in names:
        for seed in range(seeds):
            parts[f"{name}, seed {seed}"] = partial(measure_model, name, seed)
    return parts


def size_parts(rows: int) -> dict[str, Callable[[], list[Record]]]:
    """The parts of the comparison on fewer rows."""
    parts = {}
    for seed in range(SEEDS_OF_SIZES):
        for name in COMPARED_BY_SIZE:
            parts[f"{name}, {rows} rows, seed {seed}"] = partial(measure_model, name, seed, rows)
    return parts


def judge_claims() -> list[Finding]:
    """The guide's claims over 20 seeds."""
    dataset = read()
    rows = split(dataset, 0)
    stages = {stage: load_settings(stage) for stage in STAGES}
    measured = measure_stages(stages, dataset, train_stages(stages, dataset, 20))
    return findings(measured, len(rows.test) / len(rows.train))


def main() -> None:
    """Measure, print and write."""
    torch.set_num_threads(1)
    threadpool_limits(1)  # of BLAS, which scikit-learn calls
    by_size = {count: size_parts(count) for count in SIZES}
    whole = table_parts(models(), SEEDS)
    slow = table_parts(slow_models(), SEEDS_OF_SLOW)
    measured = measure_parts(whole, UNFINISHED)
    for parts in (*by_size.values(), slow):
        measured |= measure_parts(parts, UNFINISHED)

    rows = split(read(), 0)
    known = len(rows.train) + len(rows.val)
    by_size[known] = table_parts(COMPARED_BY_SIZE, SEEDS_OF_SIZES)  # measured for the table already
    table = collect(measured, whole | slow)
    sizes = {count: collect(measured, names) for count, names in by_size.items()}
    text = page(table, sizes, judge_claims(), len(rows.test), known, datetime.date.today())
    RESULTS.write_text(text, encoding="utf-8")
    sizes_figure(sizes).savefig(SIZES_FIGURE)
    UNFINISHED.unlink()
    print(text)


if __name__ == "__main__":
    main()

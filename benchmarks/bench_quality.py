"""``rings`` compared with tuned peers and with the guide's stages on the same splits: writes ``docs/results.md``.

Run ``make bench-quality``. Needs the extra ``quality``.
"""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from abalone.claims.claims import measure_stages, train_stages
from abalone.claims.pages import claims_section
from abalone.claims.verdicts import Finding, findings, interval
from abalone.data.loading import LoadedData, load_data
from abalone.data.reading import read
from abalone.data.splitting import split
from abalone.evaluation.scores import predict, scores
from abalone.model.features import Derive
from abalone.settings import METRICS, SELECTION, STAGES, TASKS, load_settings
from abalone.tracking.markdown import markdown_table
from abalone.training.fit import fit
from abalone.training.ring_ensemble import answers, fit_rings
from abalone.training.torch_setup import cpu_settings

RESULTS = Path(__file__).resolve().parent.parent / "docs" / "results.md"
COMMAND = "make bench-quality"
SHOWN = {"classification": ("log_loss", "roc_auc", "accuracy"), "regression": ("rmse", "mae")}
OURS = "rings"
BETTER = "rings is better"
WORSE = "rings is worse"
NOISE = "within the noise"
MARKS = {BETTER: "", NOISE: " ≈", WORSE: " †"}  # after a score
BOOSTING_ROUNDS = 2000

Scores = Mapping[str, Mapping[str, np.ndarray]]  # by model, then by metric or "cpu": [S]
INTRODUCTION = """Scores on the test half, mean ± sd over the splits of seeds 0 to {last}. Every model except the
guide's stages gets the same features, derived from all ten columns. Each peer is tuned on the validation rows of every
split (three to five settings; early stopping for boosting rounds) and refitted on training and validation rows. `rings`
is fitted on the same rows with its default settings; the guide's stages run as the guide defines them. *Advantage* is
how much better `rings` scores on the same splits, with the 95 % interval of Nadeau and Bengio (2003), which allows for
splits that share rows; *wins* counts the splits on which it is better. Advantage, wins and verdict use log loss for
classification and RMSE for regression. The other scores are judged the same way: ≈ marks a difference within the noise,
† a score on which `rings` is worse; on unmarked scores `rings` is better. CPU seconds are for one split on one thread,
tuning included; one fit of `rings` serves both tasks."""


def compare(seeds: int = 10) -> dict[str, Scores]:
    """Fit every model on the splits of seeds 0 to S - 1.

    Parameters
    ----------
    seeds : int, S
        Number of splits.

    Returns
    -------
    dict of task to dict of model to dict
        Scores on the test half [S], and ``cpu``, the seconds that one split took, tuning included [S].
    """
    found: dict[str, dict[str, dict[str, list[float]]]] = {task: {} for task in TASKS}
    for seed in range(seeds):
        data = load_data("uci", seed)
        rings = data.rings[data.split.test]
        for task, name, predicted, cpu in one_split(data, seed):
            measured = found[task].setdefault(name, {"cpu": []})
            measured["cpu"].append(cpu)
            for metric, value in scores(task, rings, predicted).items():
                measured.setdefault(metric, []).append(value)
        print(f"split {seed} done", flush=True)
    return {
        task: {name: {key: np.array(values) for key, values in measured.items()} for name, measured in models.items()}
        for task, models in found.items()
    }


def one_split(
    data: LoadedData,
    seed: int,
    overrides: Mapping[str, Any] | None = None,
    boosting_rounds: int = BOOSTING_ROUNDS,
) -> Iterator[tuple[str, str, np.ndarray, float]]:
    """Fit every model on one split.

    Parameters
    ----------
    data : LoadedData
        Rows and split.
    seed : int
        Seed of every model.
    overrides : mapping, optional
        Settings of ``rings`` and the stages that differ from their files.
    boosting_rounds : int
        Upper limit for CatBoost and LightGBM.

    Yields
    ------
    task, model : str
    predicted : ndarray
        P(Old) or rings of the test rows.
    cpu : float
        CPU seconds of tuning and fitting.
    """
    from benchmarks.peers import PEERS, fit_peer

    given = {**(overrides or {}), "seed": seed}
    rows = data.split
    known = np.concatenate([rows.train, rows.val])
    (distribution, _), cpu = _timed(fit_rings, load_settings(OURS, given), data.x, data.rings, known)
    answer = answers(distribution, data.x[rows.test])
    yield "classification", OURS, answer["probability_old"], cpu
    yield "regression", OURS, answer["predicted_rings"], cpu

    inputs = _derive(data)
    for task in TASKS:
        for name in PEERS:
            model, cpu = _timed(fit_peer, name, task, inputs.train, inputs.val, inputs.both, seed, boosting_rounds)
            yield task, name, model(inputs.test), cpu
        for stage in STAGES:
            settings = load_settings(stage, given)
            if settings.task == task:
                (model, _), cpu = _timed(fit, settings, data.x, data.rings, rows)
                yield task, f"`{stage}`", predict(model, data.x[rows.test]), cpu


@dataclass(frozen=True)
class PeerInputs:
    """What the peers see: the features of ``rings``, [n, 28], with rings [n] where a peer may know them.

    Parameters
    ----------
    train, val
        Standardised by the training rows.
    both
        Training and validation rows, standardised by themselves.
    test
        Inputs alone, standardised as ``both``.
    """

    train: tuple[np.ndarray, np.ndarray]
    val: tuple[np.ndarray, np.ndarray]
    both: tuple[np.ndarray, np.ndarray]
    test: np.ndarray


def _derive(data: LoadedData) -> PeerInputs:
    x = data.x
    rings = data.rings
    rows = data.split
    known = np.concatenate([rows.train, rows.val])
    with cpu_settings():
        for_tuning = Derive().fit(x[rows.train])
        for_refit = Derive().fit(x[known])
        return PeerInputs(
            train=(for_tuning(x[rows.train]).numpy(), rings[rows.train]),
            val=(for_tuning(x[rows.val]).numpy(), rings[rows.val]),
            both=(for_refit(x[known]).numpy(), rings[known]),
            test=for_refit(x[rows.test]).numpy(),
        )


def _timed(work: Callable, *arguments: Any) -> tuple[Any, float]:
    """What ``work`` returns, and its CPU seconds."""
    start = time.process_time()
    result = work(*arguments)
    return result, time.process_time() - start


@dataclass(frozen=True)
class Advantage:
    """How much better ``rings`` is by one metric.

    Parameters
    ----------
    gains : ndarray [S]
        Of each split; above 0 where ``rings`` is better.
    text : str
        Mean and interval.
    verdict : str
        Key of ``MARKS``.
    """

    gains: np.ndarray
    text: str
    verdict: str


def advantage(metric: str, ours: np.ndarray, theirs: np.ndarray, test_to_train: float) -> Advantage:
    """Compare scores on the same splits, [S] each; a difference whose interval contains 0 is within the noise.

    The interval is that of Nadeau and Bengio; ``test_to_train`` is the number of test rows per training row.
    """
    gains = ours - theirs
    if not METRICS[metric].greater_is_better:
        gains = -gains
    low, high = interval(gains, 1 / len(gains) + test_to_train)
    if low > 0:
        verdict = BETTER
    elif high < 0:
        verdict = WORSE
    else:
        verdict = NOISE
    return Advantage(gains, f"{gains.mean():+.4f} ({low:+.4f} to {high:+.4f})", verdict)


def summary(task: str, found: Scores, test_to_train: float) -> list[tuple[str, ...]]:
    """One row per model, the best first: mean ± sd of each score, marked, and the comparison with ``rings``."""
    metric = SELECTION[task]
    names = sorted(found, key=lambda name: found[name][metric].mean(), reverse=METRICS[metric].greater_is_better)
    rows = []
    for name in names:
        measured = found[name]
        cells = {key: f"{measured[key].mean():.4f} ± {measured[key].std(ddof=1):.4f}" for key in SHOWN[task]}
        cpu = f"{measured['cpu'].mean():.1f}"
        if name == OURS:
            rows.append((f"**{name}**", *cells.values(), "", "", "", cpu))
            continue
        against = {key: advantage(key, found[OURS][key], measured[key], test_to_train) for key in SHOWN[task]}
        for key, compared in against.items():
            cells[key] += MARKS[compared.verdict]
        gains = against[metric].gains
        wins = f"{(gains > 0).sum()} of {len(gains)}"
        rows.append((name, *cells.values(), against[metric].text, wins, against[metric].verdict, cpu))
    return rows


def page(found: Mapping[str, Scores], claims: Sequence[Finding], test_to_train: float) -> str:
    """The whole of ``docs/results.md``."""
    seeds = len(found["classification"][OURS]["cpu"])
    parts = [
        "# Results",
        f"Written by `{COMMAND}` on {datetime.date.today().isoformat()}; do not edit.",
        "## `rings` and its peers",
        INTRODUCTION.format(last=seeds - 1).replace("\n", " "),
    ]
    for task, measured in found.items():
        labels = [_label(metric) for metric in SHOWN[task]]
        header = ("model", *labels, f"advantage, {SELECTION[task]}", "wins", "verdict", "CPU s")
        parts += [f"### {task.capitalize()}", markdown_table(header, summary(task, measured, test_to_train))]
    parts += ["## The guide's claims", claims_section(claims)]
    return "\n\n".join(parts) + "\n"


def _label(metric: str) -> str:
    shown = METRICS[metric]
    if shown.unit:
        return f"{shown.label} ({shown.unit})"
    return shown.label


def main() -> None:
    """Measure, print and write."""
    torch.set_num_threads(1)
    threadpool_limits(1)  # of BLAS, which scikit-learn calls
    dataset = read()
    rows = split(dataset, 0)
    stages = {stage: load_settings(stage) for stage in STAGES}
    measured = measure_stages(stages, dataset, train_stages(stages, dataset, 20))
    claims = findings(measured, len(rows.test) / len(rows.train))
    text = page(compare(), claims, len(rows.test) / (len(rows.train) + len(rows.val)))
    RESULTS.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()

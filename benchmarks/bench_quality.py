"""``rings`` beside tuned peers and the guide's stages, on the same splits; the tables of ``docs/results.md``.

``make bench-quality`` writes that file. It needs the extra ``quality``.
"""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from abalone.claims.claims import measure_stages, train_stages
from abalone.claims.pages import CLAIMS_HEADER, claims_table, explanation
from abalone.claims.verdicts import findings, interval
from abalone.data.reading import read
from abalone.data.splitting import Split, split
from abalone.evaluation.scores import predict, scores
from abalone.model.features import Derive, encode
from abalone.settings import METRICS, SELECTION, STAGES, load_settings
from abalone.tracking.markdown import markdown_table
from abalone.training.fit import fit
from abalone.training.ring_ensemble import answers, fit_rings
from abalone.training.torch_setup import cpu_settings

RESULTS = Path(__file__).resolve().parent.parent / "docs" / "results.md"
COMMAND = "make bench-quality"
SHOWN = {"classification": ("log_loss", "roc_auc", "accuracy"), "regression": ("rmse", "mae")}
UNITS = {
    "log_loss": "log loss (nats)",
    "roc_auc": "AUC",
    "accuracy": "accuracy",
    "rmse": "RMSE (rings)",
    "mae": "MAE (rings)",
}
OURS = "rings"
MARKS = {"rings is better": "", "inside the noise": " ≈", "rings is worse": " †"}  # at a score
GUIDE = {task: [stage for stage in STAGES if load_settings(stage).task == task] for task in SHOWN}

Scores = Mapping[str, Mapping[str, np.ndarray]]  # model, metric or cpu: [S]


def compare(seeds: int = 10) -> dict[str, Scores]:
    """Fit everything on the splits of seeds 0 to S - 1.

    Returns
    -------
    dict of task to dict of model to dict
        Scores on the test half [S], and ``cpu``, seconds of one split with all tuning [S].
    """
    dataset = read()
    x, rings = encode(dataset.frame), dataset.frame["Rings"].to_numpy()
    found: dict = {task: {} for task in SHOWN}
    for seed in range(seeds):
        rows = split(dataset, seed)
        for task, name, said, cpu in one_split(x, rings, rows, seed):
            for key, value in {**scores(task, rings[rows.test], said), "cpu": cpu}.items():
                found[task].setdefault(name, {}).setdefault(key, []).append(value)
        print(f"split {seed} done", flush=True)
    return {
        task: {name: {key: np.array(values) for key, values in of.items()} for name, of in models.items()}
        for task, models in found.items()
    }


def one_split(x: torch.Tensor, rings: np.ndarray, rows: Split, seed: int) -> Iterator[tuple]:
    """Task, model, its predictions of the test rows, CPU seconds; of all models."""
    from benchmarks.peers import PEERS, fit_peer

    ours, cpu = _timed(fit_rings, load_settings(OURS, {"seed": seed}), x, rings, np.concatenate([rows.train, rows.val]))
    said = answers(ours[0], x[rows.test])
    yield "classification", OURS, said["probability_old"], cpu
    yield "regression", OURS, said["predicted_rings"], cpu
    *parts, test = _prepared(x, rings, rows)
    for task, stages in GUIDE.items():
        for name in PEERS:
            model, cpu = _timed(fit_peer, name, task, *parts, seed)
            yield task, name, model(test), cpu
        for stage in stages:
            (model, _), cpu = _timed(fit, load_settings(stage, {"seed": seed}), x, rings, rows)
            yield task, f"`{stage}`", predict(model, x[rows.test]), cpu


def _prepared(x, rings, rows: Split):
    """Train, validation, both, and test inputs, as ``rings`` derives them; the first two by the training rows alone."""
    known = np.concatenate([rows.train, rows.val])
    with cpu_settings():
        first, again = Derive().fit(x[rows.train]), Derive().fit(x[known])
        train_stages, val = ((first(x[part]).numpy(), rings[part]) for part in (rows.train, rows.val))
        return train_stages, val, (again(x[known]).numpy(), rings[known]), again(x[rows.test]).numpy()


def _timed(work: Callable, *arguments: Any) -> tuple[Any, float]:
    start = time.process_time()
    done = work(*arguments)
    return done, time.process_time() - start


def advantage(metric: str, ours: np.ndarray, theirs: np.ndarray, test_to_train: float) -> tuple[np.ndarray, str, str]:
    """How much better ``rings`` is by ``metric``: on each split [S], the mean with its interval, and the verdict.

    The interval is Nadeau and Bengio's; a difference whose interval holds 0 is called inside the noise.
    """
    gain = ours - theirs if METRICS[metric].greater_is_better else theirs - ours
    low, high = interval(gain, 1 / len(gain) + test_to_train)
    verdict = "rings is better" if low > 0 else "rings is worse" if high < 0 else "inside the noise"
    return gain, f"{gain.mean():+.4f} ({low:+.4f} to {high:+.4f})", verdict


def summary(task: str, found: Scores, test_to_train: float) -> list[tuple[str, ...]]:
    """One row per model, best first: mean and sd of each score, marked, and how ``rings`` compares by the first one."""
    metric = SELECTION[task]
    sign = -1 if METRICS[metric].greater_is_better else 1
    rows = []
    for name in sorted(found, key=lambda name: sign * found[name][metric].mean()):
        of = found[name]
        cells = {key: f"{of[key].mean():.4f} ± {of[key].std(ddof=1):.4f}" for key in SHOWN[task]}
        compared = ("", "", "")
        if name != OURS:
            against = {key: advantage(key, found[OURS][key], of[key], test_to_train) for key in SHOWN[task]}
            cells = {key: cell + MARKS[against[key][-1]] for key, cell in cells.items()}
            gain, told, verdict = against[metric]
            compared = (told, f"{(gain > 0).sum()} of {len(gain)}", verdict)
        rows.append((f"**{name}**" if name == OURS else name, *cells.values(), *compared, f"{of['cpu'].mean():.1f}"))
    return rows


def page(found: Mapping[str, Scores], claims: Sequence, test_to_train: float) -> str:
    """The whole of ``docs/results.md``."""
    seeds = len(next(iter(found["classification"].values()))["cpu"])
    parts = [
        "# Results",
        f"Written by `{COMMAND}` on {datetime.date.today().isoformat()}; do not edit.",
        "## `rings` beside its peers",
        f"Test half, mean ± sd over the splits of seeds 0 to {seeds - 1}. All models but the guide's stages see the "
        "same derived features of all ten columns. Peers are tuned on the validation rows of each split (three to five "
        "settings, boosting rounds by early stopping) and fitted again on train + validation, as `rings` is with the "
        "settings that it ships with; the guide's stages are as the guide has them. *Advantage* is how much better "
        "`rings` is on the same splits, with the 95 % interval of Nadeau and Bengio (2003), which allows for splits "
        "that share rows; *wins* counts the splits on which it is better. Advantage, wins and verdict are by log loss, "
        "or RMSE; the other scores are judged in the same way: ≈ marks one whose difference to that of `rings` is "
        "inside the noise, † one by which `rings` is worse, and by all others it is better. CPU seconds are of one "
        "split, tuning included, on one thread; one fit of `rings` gives both tasks.",
    ]
    for task, scored in found.items():
        compared = (f"advantage, {SELECTION[task]}", "wins", "verdict")
        header = ("model", *(UNITS[key] for key in SHOWN[task]), *compared, "CPU s")
        parts += [f"### {task.capitalize()}", markdown_table(header, summary(task, scored, test_to_train))]
    parts += ["## The guide's claims", explanation(claims), markdown_table(CLAIMS_HEADER, claims_table(claims))]
    return "\n\n".join(parts) + "\n"


def main() -> None:
    """Measure, print, write."""
    torch.set_num_threads(1)
    threadpool_limits(1)  # of BLAS, which scikit-learn calls
    dataset = read()
    rows = split(dataset, 0)
    experiments = {stage: load_settings(stage) for stage in STAGES}
    measured = measure_stages(experiments, dataset, train_stages(experiments, dataset, 20))
    claims = findings(measured, len(rows.test) / len(rows.train))
    text = page(compare(), claims, len(rows.test) / (len(rows.train) + len(rows.val)))
    RESULTS.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()

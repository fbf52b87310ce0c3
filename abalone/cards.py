"""The words on the pages of runs, models and decisions: Markdown from settings and scores, nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from abalone.columns import CLASS_LABELS, LIMITS, OLD_FROM_RINGS, RAW_COLUMNS, YEARS_BEFORE_FIRST_RING, outputs
from abalone.config import KINDS, RINGS, STAGES, TUNED, Experiment, RingsExperiment

HEADLINES = {
    "classification": ("accuracy", "balanced_accuracy", "roc_auc", "log_loss", "brier"),
    "regression": ("rmse", "mae", "r2"),
}
TABLE_HEADER = ("stage", "accuracy", "RMSE (rings)", "AUC", "epochs to best", "seconds")
CLOSING_NOTE = (
    "Test half. Baseline: the training rows' majority class, or their mean. The guide prints TPR 0.81 and FPR 0.36, "
    "which make 0.725 of the rows right, the area 0.72 of a curve of hard labels, and sees overfitting from epoch 5 on."
)
DECISION_HEADER = ("run", "run id", "validation", "baseline", "test (not used)", "split", "outcome")
MEASURED = {
    "Length": "longest measure of the shell",
    "Diameter": "across the length",
    "Height": "with the meat in the shell",
    "Whole weight": "the whole animal",
    "Shucked weight": "the meat",
    "Viscera weight": "the gut, after bleeding",
    "Shell weight": "the shell, dried",
}
MEANINGS = {
    "label": f"{' or '.join(CLASS_LABELS)}: Old from a probability of 0.5 on",
    "probability_old": f"that the animal has {OLD_FROM_RINGS} rings or more, 0 to 1",
    "rings": "number of rings in the shell",
    "age_years": f"rings + {YEARS_BEFORE_FIRST_RING}, years",
    "rings_low": "least number of rings of an interval that holds 80 % of the animals (from runs of `rings` only)",
    "rings_high": "largest number of rings of that interval (from runs of `rings` only)",
}


def run_card(
    stage: str,
    experiment: Experiment,
    metrics: Mapping[str, float],
    model_uri: str,
    previous: tuple[str, Mapping[str, float]] | None,
) -> str:
    """The description of a stage run.

    Parameters
    ----------
    stage, experiment
        What was run.
    metrics : mapping
        Final scores, named ``name/split``, with ``baseline_name/split`` beside them, and ``best_epoch``.
    model_uri : str
        Address of the logged model.
    previous : (run id, metrics) or None
        The stage before this one, on the same rows, where such a run is known.

    Returns
    -------
    str
        Markdown.
    """
    lesson = STAGES.get(stage, TUNED)
    names = HEADLINES[experiment.task]
    before = previous[1] if previous else {}
    columns = ["test score", "this run", "baseline"] + (["stage before"] if previous else [])
    rows = [
        [name, *(_number(source.get(key)) for source, key in _cells(name, metrics, before, bool(previous)))]
        for name in names
    ]
    baseline = "the training rows' majority class" if experiment.task == "classification" else "the training mean"
    earlier = f" The stage before is run `{previous[0]}`, on the same rows." if previous else ""
    return "\n\n".join([
        f"**{stage}** ({f'guide section {lesson.guide}' if stage in STAGES else lesson.guide}). {lesson.teaches} "
        f"Test: {_headline(experiment.task, metrics, before)}.",
        markdown_table(columns, rows),
        f"The baseline is {baseline}.{earlier} Reported epoch: {metrics['reported_epoch']:.0f}; best by validation "
        f"loss: {metrics['best_epoch']:.0f} of {experiment.epochs}. Its scores stand one step after the last epoch "
        "in the charts.",
        "Load it as a PyTorch module, float32 `[n, 10]` in, "
        + ("logits `[n, 2]` (Young, Old) out" if experiment.task == "classification" else "rings `[n, 1]` out")
        + f":\n\n```python\nimport mlflow.pytorch\n\nmodel = mlflow.pytorch.load_model(\"{model_uri}\")\n```",
        f"or score raw rows (text `Sex`, seven measurements):\n\n```python\nimport mlflow.pyfunc\n\n"
        f"model = mlflow.pyfunc.load_model(\"{model_uri}\")\n```",
    ])  # fmt: skip


def _headline(task: str, metrics: Mapping[str, float], before: Mapping[str, float]) -> str:
    """The first score of a task beside those that it is to be held against; pages show little else unless unfolded."""
    name, *_ = HEADLINES[task]
    others = {"baseline": metrics.get(f"baseline_{name}/test"), "stage before": before.get(f"{name}/test")}
    told = ", ".join(f"{whose} {_number(value)}" for whose, value in others.items() if value is not None)
    return f"{name} {_number(metrics[f'{name}/test'])} ({told})"


def rings_card(experiment: RingsExperiment, metrics: Mapping[str, float], model_uris: Mapping[str, str]) -> str:
    """The description of a run of ``rings``; ``model_uris`` are the addresses of its models by task."""
    names = [*HEADLINES["classification"], *HEADLINES["regression"]]
    shown = ("{}/val", "baseline_{}/val", "{}/test", "baseline_{}/test")
    rows = [[name, *(_number(metrics.get(key.format(name))) for key in shown)] for name in names]
    fits = (
        "Validation scores, which promotion sees, are of a fit on the training rows. The models logged here, and the "
        "test scores, are of a second fit with the same settings on training and validation rows."
        if experiment.refit
        else "One fit on the training rows: it has the scores, and its models are logged here."
    )
    loading = "\n".join(f'model = mlflow.pytorch.load_model("{uri}")  # {task}' for task, uri in model_uris.items())
    scoring = "\n".join(f'model = mlflow.pyfunc.load_model("{uri}")  # {task}' for task, uri in model_uris.items())
    return "\n\n".join([
        f"**rings** ({RINGS.guide}). {RINGS.teaches} "
        f"Test: {'; '.join(_headline(task, metrics, {}) for task in HEADLINES)}.",
        markdown_table(["score", "validation", "baseline", "test", "baseline"], rows),
        f"{fits} Baselines are the majority class and the mean of the rows of each fit. The lowest validation loss was "
        f"at epoch {metrics['best_epoch']:.0f} of {experiment.epochs}; the last one is reported, since the weights are "
        "an average over the steps.",
        reliability_text(metrics),
        "`importance.png` says what the predictions of the validation rows lose with a column, "
        "`partial_dependence.png` how the predicted age goes with a measurement while the others stay.",
        "Load a model as a PyTorch module, float32 `[n, 10]` in, logits `[n, 2]` (Young, Old) or rings `[n, 1]` out:"
        f"\n\n```python\nimport mlflow.pytorch\n\n{loading}\n```",
        f"or score raw rows (text `Sex`, seven measurements):\n\n```python\nimport mlflow.pyfunc\n\n{scoring}\n```",
    ])  # fmt: skip


def reliability_text(metrics: Mapping[str, float]) -> str:
    """Calibration and interval coverage in words; empty for a run that has none."""
    if "ece/val" not in metrics:
        return ""
    ece, held = ([metrics[f"{name}/{part}"] for part in ("val", "test")] for name in ("ece", "coverage80"))
    return (
        f"**Calibration** (of the classifier): expected calibration error {ece[0]:.3f} on validation, {ece[1]:.3f} on "
        "test; so few rows give even a perfect model one above 0. **Interval** (of the regressor): `rings_low` to "
        f"`rings_high` is to hold 80 % of the animals; it holds {held[0]:.1%} on validation, {held[1]:.1%} on test. "
        "Validation is of the fit on the training rows, test of the logged model."
    )


def stage_rows(results: Sequence[Any]) -> list[tuple[str, ...]]:
    """The cells of the comparison table, one row per result of ``run_stage``; a failed stage says so."""
    rows = []
    for result in results:
        scores = result.metrics
        cells = [_number(scores.get(f"{name}/test")) for name in ("accuracy", "rmse", "roc_auc")]
        epochs = f"{scores['best_epoch']:.0f}" if "best_epoch" in scores else "failed"
        rows.append((result.stage, *cells, epochs, f"{result.seconds:.1f}"))
    return rows


def closing_rows(results: Sequence[Any]) -> list[tuple[str, ...]]:
    """The rows of all results, and beneath them the baselines and the figures that the guide prints."""
    baselines = {
        name: value for result in reversed(results) for name, value in result.metrics.items() if "baseline" in name
    }
    cells = [_number(baselines.get(f"baseline_{name}/test")) for name in ("accuracy", "rmse", "roc_auc")]
    return [*stage_rows(results), ("baseline", *cells, "–", "–"), ("the guide", "0.725", "–", "0.72", "5", "–")]


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose source is aligned too, so that it reads in a terminal."""
    widths = [max(len(str(line[i])) for line in (header, *rows)) for i in range(len(header))]
    rule = ["-" * width for width in widths]
    lines = [" | ".join(str(cell).ljust(w) for cell, w in zip(line, widths)) for line in (header, rule, *rows)]
    return "\n".join(f"| {line} |" for line in lines)


def _cells(name: str, metrics: Mapping, before: Mapping, compare: bool) -> list[tuple[Mapping, str]]:
    cells = [(metrics, f"{name}/test"), (metrics, f"baseline_{name}/test")]
    return cells + ([(before, f"{name}/test")] if compare else [])


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def decision_rows(decision: Any) -> list[tuple[str, ...]]:
    """The cells of a promotion's table, one row per candidate."""
    return [
        (
            *(c.name, c.run_id[:8], _number(c.score), _number(c.baseline), _number(c.test), c.split or "–"),
            "**best**" if c is decision.challenger else f"refused: {c.refusal}" if c.refusal else "behind the best",
        )
        for c in decision.candidates
    ]


def decision_card(decision: Any, metric: str, margin: float, dry_run: bool = False, shown: int | None = None) -> str:
    """What a promotion decided for one task, and why: Markdown, from a ``selection.Decision``.

    ``margin`` is the share by which a candidate must be better than the baseline. With ``shown``, no more candidates
    than that: MLflow holds 8,000 characters in a description.
    """
    best, was = decision.challenger, decision.champion
    if best is None:
        verdict = "No candidate; the registry is untouched."
    else:
        done = ("would be promoted (dry run)" if dry_run else "promoted") if decision.promotes else "not promoted"
        verdict = f"Best candidate: run **{best.name}** (`{best.run_id}`), **{done}**: {decision.reason}."
    now = f"Champion: version {decision.version}." if decision.version else "Champion: none."
    before = f" Before: version {was.version} (run `{was.run_id}`)." if was and was.version != decision.version else ""
    rows = decision_rows(decision)
    table = markdown_table(DECISION_HEADER, rows[:shown]) if rows else "No runs of this task."
    if shown and len(rows) > shown:
        table += f"\n\nand {len(rows) - shown} more: `decision.md`, `decision_{decision.task}.json`."
    rule = f"By `{metric}/val`, lower is better; the gate is {margin:.0%} better than the baseline:"
    return f"### {decision.task}\n\n{verdict} {now}{before}\n\n{rule}\n\n{table}"


def champion_line(decision: Any, metric: str, uri: str) -> str:
    """Who is best, by how much, and what became of it, in two sentences."""
    best, *others = [c for c in decision.candidates if not c.refusal]
    rivals = [f"next `{c.name}` {_number(c.score)}" for c in others if c.name != best.name][:1]
    rivals.append(f"baseline {_number(best.baseline)}")
    return (
        f"Best {KINDS[decision.task]} by validation: **{best.name}**, {metric} {_number(best.score)} "
        f"({', '.join(rivals)}); {decision.reason}. Champion: `{uri}`, version {decision.version}."
    )


def version_card(
    decision: Any, metric: str, promotion_run: str, metrics: Mapping[str, float], config: Mapping[str, Any]
) -> str:
    """The description of the version that a promotion registers.

    ``metrics`` are those of its run; ``config`` is its model's, as far as it says what comes out.
    """
    best = decision.challenger
    rows = [
        (f"{metric}, validation (what selected it)", _number(best.score)),
        (f"{metric}, validation, baseline", _number(best.baseline)),
        (f"{metric}, test (reported only)", _number(best.test)),
    ]
    return (
        f"Run **{best.name}** (`{best.run_id}`), promoted by run `{promotion_run}`: {decision.reason}.\n\n"
        f"{markdown_table(('score', 'value'), rows)}\n\n"
        + (f"{told}\n\n" if (told := reliability_text(metrics)) else "")
        + f"Data `{best.dataset}`, split `{best.split}`. Signature: {signature_text(config)}."
    )


def signature_text(config: Mapping[str, Any]) -> str:
    """Columns in and out with their types, in one line, of a model's configuration."""
    names = (*RAW_COLUMNS, *outputs(config))
    typed = [f"{name} {'string' if name in ('Sex', 'label') else 'double'}" for name in names]
    return f"{', '.join(typed[: len(RAW_COLUMNS)])} → {', '.join(typed[len(RAW_COLUMNS) :])}"


def model_page(task: str, name: str) -> str:
    """The page of a registered model, for a stranger: what goes in, what comes out, how to load it, its limits."""
    units = {column: "g / 200" if "weight" in column else "mm / 200" for column in LIMITS}
    inputs = [("Sex", "", "sex", "M, F or I (infant)")]
    inputs += [(column, units[column], MEASURED[column], f"0 to {limit}") for column, limit in LIMITS.items()]
    answers = [(column, MEANINGS[column]) for column in outputs({"task": task, "members": None})]
    classifying = task == "classification"
    what = (
        f"Tells old abalone ({OLD_FROM_RINGS} rings or more) from young" if classifying else "Counts an abalone's rings"
    )
    tensor = "logits `[n, 2]` (Young, Old)" if classifying else "rings `[n, 1]`"
    uri = f"models:/{name}@champion"
    return f"""{what} by its sex, size and weights. The version under the alias `champion` is the one to use: the best \
by validation when it was promoted, unless somebody rolled back or forced another; `previous` is the one before it. \
Scores, source run and fingerprints stand on each version.

**In**: these columns, in any order; others are ignored, and `Shell weights` is understood too.

{markdown_table(("column", "unit", "what is measured", "accepted"), inputs)}

The unit of the data file is a two-hundredth: 0.455 is 91 mm, 0.514 is 102.8 g. Other values are refused with row and \
reason.

**Out**:

{markdown_table(("column", "meaning"), answers)}

**Load** it with `mlflow`, `torch` and `pandas` alone, where `MLFLOW_TRACKING_URI` names this server or database:

```python
import mlflow
import pandas as pd

model = mlflow.pyfunc.load_model("{uri}")
print(model.predict(pd.read_csv("rows.csv")))  # a file with the columns above as its header
```

or as a PyTorch module, float32 `[n, 10]` (I, F, M one-hot, then the measurements, unscaled) to {tensor}:

```python
model = mlflow.pytorch.load_model("{uri}")
```

or over REST:

```
mlflow models serve -m {uri} --env-manager local --port 5001
curl http://127.0.0.1:5001/invocations -H "Content-Type: text/csv" --data-binary @rows.csv
```

**Limits**: learned from 4,177 blacklip abalone (*Haliotis rubra*) of Tasmania, measured before 1995; not for other \
species, waters or units. Rings stand for age but are not it. Animals of more than 15 rings are rare in the data and \
come out too young. Beyond the sizes in the data a prediction is a guess. The PyTorch flavor is a pickle: load it \
only from a registry that you trust; the python_function flavor unpickles nothing.
"""

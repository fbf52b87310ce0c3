"""TODO registry.pages"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlflow.models import ModelSignature

from abalone.evaluation.calibration import reliability_text
from abalone.model.columns import (
    CLASS_LABELS,
    LIMITS,
    OLD_FROM_RINGS,
    RING_ENSEMBLE,
    YEARS_BEFORE_FIRST_RING,
    outputs,
)
from abalone.settings import MODEL_KINDS
from abalone.tracking.markdown import format_score, markdown_table

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


def decision_rows(decision: Any) -> list[tuple[str, ...]]:
    """The cells of a promotion's table, one row per candidate."""
    return [
        (
            *(
                c.name,
                c.run_id[:8],
                format_score(c.score),
                format_score(c.baseline),
                format_score(c.test),
                c.split or "–",
            ),
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
    rivals = [f"next `{c.name}` {format_score(c.score)}" for c in others if c.name != best.name][:1]
    rivals.append(f"baseline {format_score(best.baseline)}")
    return (
        f"Best {MODEL_KINDS[decision.task]} by validation: **{best.name}**, {metric} {format_score(best.score)} "
        f"({', '.join(rivals)}); {decision.reason}. Champion: `{uri}`, version {decision.version}."
    )


def version_card(
    decision: Any, metric: str, promotion_run: str, metrics: Mapping[str, float], signature: ModelSignature
) -> str:
    """The description of the version that a promotion registers.

    ``metrics`` are those of its run, ``signature`` is that of its model.
    """
    best = decision.challenger
    rows = [
        (f"{metric}, validation (what selected it)", format_score(best.score)),
        (f"{metric}, validation, baseline", format_score(best.baseline)),
        (f"{metric}, test (reported only)", format_score(best.test)),
    ]
    return (
        f"Run **{best.name}** (`{best.run_id}`), promoted by run `{promotion_run}`: {decision.reason}.\n\n"
        f"{markdown_table(('score', 'value'), rows)}\n\n"
        + (f"{told}\n\n" if (told := reliability_text(metrics)) else "")
        + f"Data `{best.dataset}`, split `{best.split}`. Signature: {signature_text(signature)}."
    )


def signature_text(signature: ModelSignature) -> str:
    """Columns in and out with their types, in one line."""
    sides = []
    for schema in (signature.inputs, signature.outputs):
        sides.append(", ".join(f"{column.name} {column.type.name}" for column in schema))
    return " → ".join(sides)


def model_page(task: str, name: str) -> str:
    """The page of a registered model, for a stranger: what goes in, what comes out, how to load it, its limits."""
    units = {column: "g / 200" if "weight" in column else "mm / 200" for column in LIMITS}
    inputs = [("Sex", "", "sex", "M, F or I (infant)")]
    inputs += [(column, units[column], MEASURED[column], f"0 to {limit}") for column, limit in LIMITS.items()]
    answers = [(column, MEANINGS[column]) for column in outputs({"task": task, "architecture": RING_ENSEMBLE})]
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

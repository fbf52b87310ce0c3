"""Pages in Markdown for the registry: a promotion's decision, a version, a registered model."""

from __future__ import annotations

from collections.abc import Mapping

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
from abalone.registry.candidates import Candidate
from abalone.registry.decision import Decision
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
    "label": f"{' or '.join(CLASS_LABELS)}; Old if the probability is at least 0.5",
    "probability_old": f"probability that the animal has {OLD_FROM_RINGS} rings or more, 0 to 1",
    "rings": "number of rings in the shell",
    "age_years": f"rings + {YEARS_BEFORE_FIRST_RING}, years",
    "rings_low": "lower end of an interval that holds the rings of 80 % of the animals (from runs of `rings` only)",
    "rings_high": "upper end of that interval (from runs of `rings` only)",
}
PURPOSES = {
    "classification": f"Tells old abalone ({OLD_FROM_RINGS} rings or more) from young by sex, size and weights.",
    "regression": "Predicts an abalone's number of rings from its sex, size and weights.",
}
TENSOR_OUTPUTS = {"classification": "logits `[n, 2]` (Young, Old)", "regression": "rings `[n, 1]`"}
MODEL_PAGE = """\
{purpose} Use the version with the alias `champion`: it was the best by validation when it was promoted, unless \
somebody rolled back or forced another; `previous` is the one before it. Each version has its scores, source run and \
fingerprints on its own page.

**Input**: these columns, in any order; others are ignored.

{inputs}

`Sex` is text, the rest are floating-point numbers. The unit of the data file is a two-hundredth: 0.455 is 91 mm, \
0.514 is 102.8 g. Other values are refused, with the row and the reason.

**Output**:

{answers}

**Load** it with `mlflow`, `torch` and `pandas` alone, where `MLFLOW_TRACKING_URI` names this server or database. The \
model carries its own code, so it gives the same numbers everywhere:

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
species, waters or units. Rings are a proxy for age, not the age itself. Animals of more than 15 rings are rare in the \
data, and their predicted age is too low. Beyond the sizes in the data a prediction is a guess. The PyTorch flavor is \
a pickle: load it only from a registry that you trust; the python_function flavor unpickles nothing.
"""


def decision_rows(decision: Decision) -> list[tuple[str, ...]]:
    """Return the cells of a promotion's table, one row per candidate."""
    rows = []
    for candidate in decision.candidates:
        row = (
            candidate.name,
            candidate.run_id[:8],
            format_score(candidate.score),
            format_score(candidate.baseline),
            format_score(candidate.test),
            candidate.split or "–",
            _outcome(candidate, decision.challenger),
        )
        rows.append(row)
    return rows


def _outcome(candidate: Candidate, challenger: Candidate | None) -> str:
    if candidate.refusal:
        return f"refused: {candidate.refusal}"
    if candidate is challenger:
        return "**best**"
    return "behind the best"


def decision_card(
    decision: Decision, metric: str, margin: float, dry_run: bool = False, shown: int | None = None
) -> str:
    """Return what a promotion decided for one task, and why.

    Parameters
    ----------
    decision : Decision
    metric : str
        Metric that selects.
    margin : float
        Share by which a candidate must be better than the baseline.
    dry_run : bool
        Whether the registry was left as it was.
    shown : int, optional
        Most candidates to list. MLflow's descriptions hold 8,000 characters.
    """
    rows = decision_rows(decision)
    table = markdown_table(DECISION_HEADER, rows[:shown]) if rows else "No runs of this task."
    if shown and len(rows) > shown:
        table += f"\n\nand {len(rows) - shown} more: `decision.md`, `decision_{decision.task}.json`."
    rule = f"By `val/{metric}`, lower is better; the gate is {margin:.0%} better than the baseline:"
    verdict = f"{_verdict(decision, dry_run)} {_champion_versions(decision)}"
    return f"### {decision.task}\n\n{verdict}\n\n{rule}\n\n{table}"


def _verdict(decision: Decision, dry_run: bool) -> str:
    best = decision.challenger
    if best is None:
        return "No candidate; the registry is unchanged."
    if not decision.promotes:
        done = "not promoted"
    elif dry_run:
        done = "would be promoted (dry run)"
    else:
        done = "promoted"
    return f"Best candidate: run **{best.name}** (`{best.run_id}`), **{done}**: {decision.reason}."


def _champion_versions(decision: Decision) -> str:
    """Name the champion, and the one before it if there was another."""
    before = decision.champion
    now = f"version {decision.version}" if decision.version else "none"
    text = f"Champion: {now}."
    if before and before.version != decision.version:
        text += f" Before: version {before.version} (run `{before.run_id}`)."
    return text


def champion_line(decision: Decision, metric: str, uri: str) -> str:
    """Return the best candidate, its lead and the decision, in two sentences."""
    best = decision.challenger
    compared = []
    for rival in decision.eligible:
        if rival.name != best.name:
            compared.append(f"next `{rival.name}` {format_score(rival.score)}")
            break
    compared.append(f"baseline {format_score(best.baseline)}")
    return (
        f"Best {MODEL_KINDS[decision.task]} by validation: **{best.name}**, {metric} {format_score(best.score)} "
        f"({', '.join(compared)}); {decision.reason}. Champion: `{uri}`, version {decision.version}."
    )


def version_card(
    decision: Decision, metric: str, promotion_run: str, metrics: Mapping[str, float], signature: ModelSignature
) -> str:
    """Return the description of the version that a promotion registers.

    Parameters
    ----------
    decision : Decision
    metric : str
        Metric that selects.
    promotion_run : str
        Id of the promotion's run.
    metrics : mapping
        Metrics of the promoted run.
    signature : ModelSignature
        Signature of the promoted model.
    """
    best = decision.challenger
    rows = [
        (f"{metric}, validation (what selected it)", format_score(best.score)),
        (f"{metric}, validation, baseline", format_score(best.baseline)),
        (f"{metric}, test (reported only)", format_score(best.test)),
    ]
    paragraphs = [
        f"Run **{best.name}** (`{best.run_id}`), promoted by run `{promotion_run}`: {decision.reason}.",
        markdown_table(("score", "value"), rows),
        reliability_text(metrics),
        f"Data `{best.dataset}`, split `{best.split}`. Signature: {signature_text(signature)}.",
    ]
    return "\n\n".join(paragraph for paragraph in paragraphs if paragraph)


def signature_text(signature: ModelSignature) -> str:
    """Return the input and output columns with their types, in one line."""
    sides = []
    for schema in (signature.inputs, signature.outputs):
        sides.append(", ".join(f"{column.name} {column.type.name}" for column in schema))
    return " → ".join(sides)


def model_page(task: str, name: str) -> str:
    """Return the page of a registered model, written for readers who do not know the project.

    Parameters
    ----------
    task : str
        classification or regression.
    name : str
        Name of the registered model.
    """
    inputs = [("Sex", "", "sex", "M, F or I (infant)")]
    for column, limit in LIMITS.items():
        unit = "g / 200" if "weight" in column else "mm / 200"
        inputs.append((column, unit, MEASURED[column], f"0 to {limit}"))
    answers = [(column, MEANINGS[column]) for column in outputs({"task": task, "architecture": RING_ENSEMBLE})]
    return MODEL_PAGE.format(
        purpose=PURPOSES[task],
        uri=f"models:/{name}@champion",
        inputs=markdown_table(("column", "unit", "what is measured", "accepted"), inputs),
        answers=markdown_table(("column", "meaning"), answers),
        tensor=TENSOR_OUTPUTS[task],
    )

"""What the store knows about a run that is promoted: the rows it was fitted on, its errors by age, its signature."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature

from abalone.evaluation.age_groups import AgeGroup, group_by_age
from abalone.model.columns import MEDIAN_OUTPUT
from abalone.registry.candidates import Candidate, predicted_rows
from abalone.registry.champion import SHIPPED
from abalone.settings import PREDICTION_COLUMNS
from abalone.tracking.lookup import data_source, dataset_inputs
from abalone.tracking.markdown import markdown_table

SHIPPED_ROWS = "4,177 blacklip abalone (*Haliotis rubra*) of Tasmania in the UCI data, measured before 1995"


@dataclass(frozen=True)
class PromotedRun:
    """A run that is promoted.

    Parameters
    ----------
    metrics : mapping
        Its metrics.
    fitted_on : str
        The rows that its model was fitted on, in words.
    learned_from : str
        Number and origin of these rows, for readers who do not know the project; empty if that is not known.
    age_groups : sequence of AgeGroup
        How far off it is on test by age; empty if its test predictions cannot be read.
    signature : str
        Input and output columns with their types.
    """

    metrics: Mapping[str, float]
    fitted_on: str
    learned_from: str
    age_groups: Sequence[AgeGroup]
    signature: str


def read_promoted_run(task: str, candidate: Candidate, client: MlflowClient) -> PromotedRun:
    """Read what the pages of a version say of its run."""
    run = candidate.run or client.get_run(candidate.run_id)
    signature = candidate.signature or Model.load(f"models:/{candidate.model_id}").signature
    return PromotedRun(
        metrics=run.data.metrics,
        fitted_on=fitted_rows(run),
        learned_from=learned_from(run),
        age_groups=_test_age_groups(task, candidate.run_id),
        signature=signature_text(signature),
    )


def fitted_rows(run: Run) -> str:
    """Name the rows that the logged models of a run were fitted on, with their number if the run has its data sets."""
    named = "training rows"
    if run.data.params.get("refit") == "true":
        named = "training and validation rows (validation scores are of a fit on the training rows alone)"
    count = _count_fitted(run)
    return f"{count:,} {named}" if count else f"the {named}"


def learned_from(run: Run) -> str:
    """Say how many animals of which file a run has learned from; empty if the run does not have its data sets."""
    count = _count_fitted(run)
    if not count:
        return ""
    source = data_source(run)
    if source == SHIPPED:
        return f"{count:,} of the {SHIPPED_ROWS}"
    return f"{count:,} animals of {Path(source).name}"


def _count_fitted(run: Run) -> int:
    """Number of rows that the logged models of a run were fitted on; 0 if the run does not have its data sets."""
    counts = {}
    for entry in dataset_inputs(run):
        tags = {tag.key: tag.value for tag in entry.tags}
        if entry.dataset.profile:
            counts[tags.get("mlflow.data.context")] = json.loads(entry.dataset.profile)["num_rows"]
    parts = ["train", "validation"] if run.data.params.get("refit") == "true" else ["train"]
    if not all(part in counts for part in parts):
        return 0
    return sum(counts[part] for part in parts)


def _test_age_groups(task: str, run_id: str) -> list[AgeGroup]:
    """Errors on the test rows by age; none if the run has no test predictions, which no decision needs."""
    with suppress(MlflowException, OSError, KeyError):
        rows = predicted_rows(run_id, "test")
        median = rows[MEDIAN_OUTPUT].to_numpy() if MEDIAN_OUTPUT in rows else None
        return group_by_age(task, rows["Rings"].to_numpy(), rows[PREDICTION_COLUMNS[task]].to_numpy(), median)
    return []


def age_table(groups: Sequence[AgeGroup], animals: str = "test animals") -> str:
    """Return the errors of some animals, by default those of test, by age as a Markdown table; empty without groups."""
    if not groups:
        return ""
    if any(group.right is not None for group in groups):
        header: tuple[str, ...] = (animals, "rings", "rows", "correct label")
        rows: list[tuple[str, ...]] = [
            (group.name, group.rings, str(group.rows), _shown(group.right, ".1%")) for group in groups
        ]
    else:
        off = "mean absolute error"
        if groups[0].is_of_median:
            off += ", of the median"  # may be less than the bias, which is of the mean
        header = (animals, "rings", "rows", "mean error (bias), rings", f"{off}, rings")
        rows = []
        for group in groups:
            errors = (_shown(group.bias, "+.2f"), _shown(group.mae, ".2f"))
            rows.append((group.name, group.rings, str(group.rows), *errors))
    return markdown_table(header, rows)


def _shown(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


def limits_text(groups: Sequence[AgeGroup]) -> str:
    """Say in a sentence how far off a version is for old animals; empty if that is not known."""
    known = [group for group in groups if group.rows]
    if not known or known[-1].name != "old":
        return ""
    old = known[-1]
    if old.right is not None:
        shares = [f"{group.right:.0%} ({group.rings})" for group in reversed(known)]
        return f"Share of correct labels on test, by number of rings: {', '.join(shares)}."
    if old.bias is None or old.mae is None:
        return ""
    way = "few" if old.bias < 0 else "many"
    return (
        f"On {old.rows} test animals with {old.rings} rings it predicts {abs(old.bias):.1f} rings too {way} on "
        f"average, and is off by {old.mae:.1f}."
    )


def signature_text(signature: ModelSignature) -> str:
    """Return the input and output columns with their types, in one line."""
    sides = []
    for schema in (signature.inputs, signature.outputs):
        sides.append(", ".join(f"{column.name} {column.type.name}" for column in schema))
    return " → ".join(sides)

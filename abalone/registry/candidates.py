"""Find the runs that can be promoted, and the reason why each other run cannot. Writes nothing.

A run passes the gate if it is finished, has a model, and its validation score is better than the baseline by
``MARGIN``. Of those that pass, only the runs on one split are eligible (``splits.py`` has the rule); they are ranked by
``settings.SELECTION`` on validation. The best one is loaded and must score a few rows before it is chosen; if it fails,
the next is tried.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import LoggedModel, Run
from mlflow.models import ModelSignature

from abalone.model.rows import BadRows
from abalone.registry.loading import UnreachableModel, UnusableModel, describe, load_model
from abalone.registry.versions import all_pages, find_rolled_back
from abalone.settings import SELECTION
from abalone.tracking.file_sums import FILES_TAG
from abalone.tracking.known_runs import remember_place
from abalone.tracking.logged_tables import read_table

MARGIN = 0.05
LARGEST_SCORE = sys.float_info.max  # MLflow's database stores infinity as this


@dataclass(frozen=True)
class Candidate:
    """A run of a task.

    Parameters
    ----------
    run_id, name, status : str
        The run.
    experiment_id : str
        Experiment of the run.
    started : int
        Milliseconds since 1970.
    dataset, split : str
        Fingerprints; empty if the run has none. That of the split covers the data.
    data, seed : str
        Settings of the run; empty if it has none.
    model_id : str
        The task's logged model; empty if the run has none.
    files : str
        The sums of the model's files: those that were recorded, or, once it was loaded, those that it has; empty if
        neither is known.
    score, baseline, test : float or None
        Selection metric on validation, of the baseline on validation, and on test; None if not logged.
    refusal : str
        Why the run cannot be promoted; empty if it can.
    address : str
        Where the files of the model are; empty if the run has none.
    run : Run, optional
        The run as the store has it.
    signature : ModelSignature, optional
        That of the model, once it was loaded.
    rows : DataFrame, optional
        Its validation rows, once they were loaded; see ``validation_rows``.
    """

    run_id: str
    name: str
    status: str
    experiment_id: str
    started: int
    dataset: str
    split: str
    data: str
    seed: str
    model_id: str
    files: str
    score: float | None
    baseline: float | None
    test: float | None
    refusal: str = ""
    address: str = ""
    run: Run | None = field(default=None, repr=False)
    signature: ModelSignature | None = field(default=None, repr=False)
    rows: pd.DataFrame | None = field(default=None, repr=False, compare=False)

    @property
    def lead(self) -> float:
        """How much better than the baseline, as a share of it; NaN if either score is not logged."""
        if self.score is None or self.baseline is None:
            return math.nan
        return 1 - self.score / self.baseline


def find_candidates(task: str, experiment_id: str) -> list[Candidate]:
    """Return every run of the task, whatever its state, with the refusal of those that do not pass the gate.

    A run of ``rings`` belongs to both tasks, and its tag ``task`` names both; so the tag is searched for the task's
    name.
    """
    client = MlflowClient()
    metric = SELECTION[task]
    models = _models_by_run(client, task, experiment_id)
    candidates = []
    for run in all_pages(client.search_runs, [experiment_id], f"tags.task LIKE '%{task}%'"):
        remember_place(run)
        model = models.get(run.info.run_id)
        tags = run.data.tags
        params = run.data.params
        metrics = run.data.metrics
        candidate = Candidate(
            run_id=run.info.run_id,
            name=run.info.run_name,
            status=run.info.status,
            experiment_id=run.info.experiment_id,
            started=run.info.start_time,
            dataset=tags.get("dataset", ""),
            split=tags.get("split", ""),
            data=params.get("data", ""),
            seed=params.get("seed", ""),
            model_id=model.model_id if model else "",
            files=model.tags.get(FILES_TAG, "") if model else "",
            score=metrics.get(f"val/{metric}"),
            baseline=metrics.get(f"baseline/val_{metric}"),
            test=metrics.get(f"test/{metric}"),
            address=model.artifact_location if model else "",
            run=run,
        )
        candidates.append(replace(candidate, refusal=_gate_refusal(task, candidate)))
    return candidates


def _models_by_run(client: MlflowClient, task: str, experiment_id: str) -> dict[str, LoggedModel]:
    models = {}
    for model in all_pages(client.search_logged_models, [experiment_id], f"params.task = '{task}'"):
        if str(model.status) == "READY":
            models[model.source_run_id] = model
    return models


def refuse_rolled_back(candidates: Sequence[Candidate], versions: Sequence[Any]) -> list[Candidate]:
    """Refuse the candidates that were rolled back, or have the same score on the same split.

    Parameters
    ----------
    candidates : sequence of Candidate
        As ``find_candidates`` returns them.
    versions : sequence of ModelVersion
        All versions of the task's registered model.
    """
    judged = []
    for candidate in candidates:
        refusal = candidate.refusal
        if not refusal:
            version = find_rolled_back(versions, candidate.run_id, candidate.split, repr(candidate.score))
            refusal = f"version {version}, of the same run or score, was rolled back" if version else ""
        judged.append(replace(candidate, refusal=refusal))
    return judged


def add_recorded_files(candidates: Sequence[Candidate], versions: Sequence[Any]) -> list[Candidate]:
    """Give the candidates whose logged model has no sums of its files those of the version that it became, if any.

    An earlier version of the project logged these models and recorded no sums.

    Parameters
    ----------
    candidates, versions
        As for ``refuse_rolled_back``.
    """
    recorded = {version.run_id: version.tags.get(FILES_TAG, "") for version in versions}
    return [replace(found, files=found.files or recorded.get(found.run_id, "")) for found in candidates]


def try_models(candidates: Sequence[Candidate], split: str) -> list[Candidate]:
    """Load the models of a split, the best first, until one works; refuse those that do not.

    Loading is slow, so the models that come after it are not tried.
    """
    judged = sorted(candidates, key=_rank)
    for place, candidate in enumerate(judged):
        if candidate.refusal or candidate.split != split:
            continue
        judged[place] = _try_model(candidate)
        if not judged[place].refusal:
            break
    return judged


def keep_split(candidates: Sequence[Candidate], split: str) -> tuple[Candidate, ...]:
    """Refuse the candidates of other splits; return the best first, then the refused."""
    judged = []
    for candidate in candidates:
        refusal = candidate.refusal
        if not refusal and candidate.split != split:
            refusal = f"other rows (split {candidate.split})"
        judged.append(replace(candidate, refusal=refusal))
    return tuple(sorted(judged, key=_rank))


def _gate_refusal(task: str, candidate: Candidate) -> str:
    metric = SELECTION[task]
    if candidate.status != "FINISHED":
        return f"status {candidate.status}"
    if not candidate.model_id:
        return "no model"
    if candidate.score is None:
        return f"no val/{metric}"
    if not _is_finite(candidate.score):
        return f"val/{metric} is not finite"
    if not candidate.dataset or not candidate.split:
        return "no fingerprint of data and split"
    if candidate.baseline is None or not candidate.score <= (1 - MARGIN) * candidate.baseline:
        return f"not {MARGIN:.0%} better than the baseline"
    return ""


def _try_model(candidate: Candidate) -> Candidate:
    """Load a candidate's model and score a few rows; return it with what is known of the model, or with a refusal."""
    try:
        rows = validation_rows(candidate.run_id)
    except Exception as error:  # a lost or damaged file raises errors of any kind
        return replace(candidate, refusal=f"its validation predictions cannot be loaded ({describe(error)})")
    try:
        model = load_model(f"models:/{candidate.model_id}", candidate.files, candidate.address)
        model.predict(rows.head())
    except (UnreachableModel, UnusableModel) as error:
        return replace(candidate, refusal=error.problem)
    except BadRows as error:
        return replace(candidate, refusal=f"its model refuses its own validation rows ({error.message})")
    return replace(candidate, files=model.files, signature=model.pyfunc.metadata.signature, rows=rows)


def _rank(candidate: Candidate) -> tuple:
    score = candidate.score if _is_finite(candidate.score) else math.inf
    return bool(candidate.refusal), score, candidate.started, candidate.run_id


def _is_finite(score: float | None) -> bool:
    return score is not None and abs(score) < LARGEST_SCORE


def count_promotable(task: str, experiment_id: str) -> int:
    """Count the runs of an experiment that pass the gate."""
    return [candidate.refusal for candidate in find_candidates(task, experiment_id)].count("")


def validation_rows(run_id: str) -> pd.DataFrame:
    """Load a run's validation rows: ``row``, the columns of the data set, and the run's prediction."""
    return predicted_rows(run_id, "val")


def predicted_rows(run_id: str, part: str) -> pd.DataFrame:
    """Load a run's rows of a part, ``val`` or ``test``, with its predictions."""
    return read_table(run_id, f"predictions/{part}.json")

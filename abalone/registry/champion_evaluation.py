"""Score a champion on labelled rows that it was not fitted on, and judge whether it is still as good as promised.

What was promised is the champion's score on the test rows of its own run, which has noise of its own. So the difference
of the two scores has a 95 % interval from bootstrap samples of both sets of rows. The champion is worse if that whole
interval is worse than none. It holds if the interval reaches no difference, or better, and the whole interval of its
score on the new rows is better than the baseline. In every other case there are too few rows to say.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from abalone.data.reading import Dataset
from abalone.evaluation.age_groups import AgeGroup, group_by_age
from abalone.evaluation.bootstrap import percentile_intervals
from abalone.evaluation.distribution_scores import distribution_scores, ring_frequencies
from abalone.evaluation.population import ColumnShift, compare_populations, spread_quantiles
from abalone.evaluation.scores import baseline
from abalone.model.columns import DISTRIBUTION_OUTPUTS, MEASUREMENTS, OUTSIDE
from abalone.model.rows import BadRows
from abalone.registry.answer_scores import defined, measure, median_of, resample
from abalone.registry.loading import LoadedModel, UnusableModel, load_champion
from abalone.registry.outside import OutsideCount
from abalone.registry.promise import read_promise
from abalone.registry.versions import CHAMPION, holder
from abalone.settings import ANSWER_COLUMNS, SELECTION, UserError

HOLDS = "as good as promised"
WORSE = "worse beyond the noise"
TOO_FEW = "too few rows to say"
Columns = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Evaluation:
    """A champion on the rows of a file.

    Parameters
    ----------
    task : str
        classification or regression.
    version : int
        Version of the registered model.
    run_id : str
        Run that trained it; empty if no promotion registered the version.
    is_checked : bool
        Whether its files are those that were recorded; False if none were.
    verdict : str
        ``HOLDS``, ``WORSE`` or ``TOO_FEW``.
    rows, left_out : int
        Rows that were scored, and rows that the champion was fitted on.
    training_rows : int
        Number of rows that the champion was fitted on.
    scores : mapping of metric to float
        Those that the rows define: there is no AUC of one class.
    intervals : mapping of metric to (low, high)
        95 % bootstrap intervals.
    promised : mapping of metric to float
        Scores of the champion on the test rows of its run; of those in ``scores``.
    promised_rows : int
        Number of these test rows; 0 if their predictions are lost.
    differences : mapping of metric to (low, high)
        95 % bootstrap intervals of the score on these rows minus the promised one; empty if either is of fewer than
        ``FEWEST_ROWS`` rows.
    baseline : mapping of metric to float
        Scores, on the same rows, of the constant answer that the champion's training rows give.
    age_groups : sequence of AgeGroup
    shifts : sequence of ColumnShift
        How measurements and rings differ from the training rows.
    outside : OutsideCount
        Rows outside the training range.
    table : DataFrame [rows, ...]
        The rows with the champion's answers.
    training : mapping of column to ndarray
        The columns of ``shifts`` among the training rows.
    """

    task: str
    version: int
    run_id: str
    is_checked: bool
    verdict: str
    rows: int
    left_out: int
    training_rows: int
    scores: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float]]
    promised: Mapping[str, float]
    promised_rows: int
    differences: Mapping[str, tuple[float, float]]
    baseline: Mapping[str, float]
    age_groups: Sequence[AgeGroup]
    shifts: Sequence[ColumnShift]
    outside: OutsideCount
    table: pd.DataFrame = field(repr=False)
    training: Columns = field(repr=False)

    @property
    def rings(self) -> np.ndarray:
        """Counted rings [rows]."""
        return self.table["Rings"].to_numpy()

    @property
    def predicted(self) -> np.ndarray:
        """Probability of Old, or rings [rows]."""
        return self.table[ANSWER_COLUMNS[self.task]].to_numpy()


def evaluate_champion(task: str, dataset: Dataset) -> Evaluation:
    """Score the champion of a task on the rows of a file.

    Raises
    ------
    UserError
        If there is no champion, it cannot be loaded, it does not know its training rows, or it refuses a row.
    """
    model = load_champion(task)
    version = holder(task, CHAMPION)
    learned = _training_range(model)
    is_known = learned.contains(dataset.frame)
    rows = dataset.frame[~is_known]
    answers = _answers(model, rows, dataset)
    rings = rows["Rings"].to_numpy()
    training_rings = learned.rings.numpy()
    training = _training_columns(learned)
    measured = measure(task, rings, answers)
    sampled = resample(task, rings, answers)
    intervals = percentile_intervals(sampled)
    constant = _baseline(task, training_rings, rings, has_distribution=DISTRIBUTION_OUTPUTS[0] in answers)
    promise = read_promise(task, version)
    differences = percentile_intervals(promise.differences(sampled))
    outside = OutsideCount()
    outside.add(answers[OUTSIDE])
    return Evaluation(
        task=task,
        version=int(version.version),
        run_id=version.run_id or "",
        is_checked=model.is_checked,
        verdict=judge(SELECTION[task], intervals, differences, constant),
        rows=len(rows),
        left_out=int(is_known.sum()),
        training_rows=len(training_rings),
        scores=measured,
        intervals=intervals,
        promised={name: value for name, value in promise.scores.items() if name in measured},
        promised_rows=promise.rows,
        differences=differences,
        baseline=constant,
        age_groups=group_by_age(task, rings, answers[ANSWER_COLUMNS[task]].to_numpy(), median_of(answers)),
        shifts=compare_populations(training, rows) if len(rows) else [],
        outside=outside,
        table=rows.join(answers),
        training=training,
    )


def judge(
    metric: str,
    intervals: Mapping[str, tuple[float, float]],
    differences: Mapping[str, tuple[float, float]],
    baseline: Mapping[str, float],
) -> str:
    """Say whether a champion holds, by a metric of which lower is better.

    Parameters
    ----------
    metric : str
        Metric that selected the champion.
    intervals, differences, baseline
        As in ``Evaluation``.

    Returns
    -------
    str
        ``HOLDS``, ``WORSE`` or ``TOO_FEW``.
    """
    if metric not in differences:
        return TOO_FEW
    if differences[metric][0] > 0:
        return WORSE
    if intervals[metric][1] >= baseline[metric]:
        return TOO_FEW
    return HOLDS


def _training_range(model: LoadedModel) -> Any:
    """Return what the champion keeps of its training rows, in the class of its own code."""
    try:
        return model.pyfunc.get_raw_model().training
    except (NotImplementedError, AttributeError):
        problem = "does not know which rows it was fitted on: an earlier version of the project logged it"
        raise UnusableModel(model.uri, problem) from None


def _answers(model: LoadedModel, rows: pd.DataFrame, dataset: Dataset) -> pd.DataFrame:
    if not len(rows):  # which a model refuses
        return pd.DataFrame(columns=model.columns)
    params = {"distribution": True} if model.knows_distribution else None
    try:
        return model.predict(rows, params)
    except BadRows as error:
        raise UserError(f"{dataset.path}: {error.message}") from error


def _baseline(task: str, training_rings: np.ndarray, rings: np.ndarray, has_distribution: bool) -> dict[str, float]:
    if not len(rings):
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        constant = baseline(task, training_rings, rings)
    if has_distribution:
        frequencies = ring_frequencies(training_rings)
        constant |= distribution_scores(np.broadcast_to(frequencies, (len(rings), len(frequencies))), rings)
    return defined(constant)


def _training_columns(learned: Any) -> dict[str, np.ndarray]:
    """Measurements and rings of the training rows; of the measurements the model keeps the percentiles."""
    rows = len(learned.digests)
    columns = {}
    for name, quantiles in zip(MEASUREMENTS, learned.quantiles.numpy()):
        columns[name] = spread_quantiles(quantiles, np.linspace(0, 1, len(quantiles)), rows)
    columns["Rings"] = learned.rings.numpy()
    return columns

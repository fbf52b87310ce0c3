"""Score a champion on labelled rows that it was not fitted on, and judge whether it is still as good as promised.

What was promised is the champion's score on the test rows of its own run. What the new rows say is a score with a 95 %
bootstrap interval. The champion is worse if the whole interval is worse than the promise. It holds if the interval
reaches the promise and all of it is better than the baseline. In every other case there are too few rows to say: an
interval that reaches from the promise to the baseline cannot tell a good model from none.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from abalone.data.labels import is_old
from abalone.data.reading import Dataset
from abalone.evaluation.age_groups import AgeGroup, group_by_age
from abalone.evaluation.bootstrap import bootstrap_intervals
from abalone.evaluation.calibration import calibration_error
from abalone.evaluation.distribution_scores import distribution_scores, ring_frequencies, row_distribution_scores
from abalone.evaluation.population import ColumnShift, compare_populations, spread_quantiles
from abalone.evaluation.scores import baseline, scores
from abalone.model.columns import DISTRIBUTION_OUTPUTS, MEASUREMENTS, MEDIAN_OUTPUT, OUTSIDE
from abalone.model.rows import BadRows
from abalone.registry.loading import LoadedModel, UnusableModel, load_champion
from abalone.registry.outside import OutsideCount
from abalone.registry.versions import CHAMPION, holder
from abalone.settings import ANSWER_COLUMNS, SELECTION, UserError

HOLDS = "as good as promised"
WORSE = "worse beyond the noise"
TOO_FEW = "too few rows to say"
FEWEST_ROWS = 30  # percentile intervals from fewer rows are too short
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
        Scores of the champion on the test rows of its run.
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
    verdict: str
    rows: int
    left_out: int
    training_rows: int
    scores: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float]]
    promised: Mapping[str, float]
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
    measured = _scores(task, rings, answers)
    intervals = _intervals(task, rings, answers)
    constant = _baseline(task, training_rings, rings, has_distribution=DISTRIBUTION_OUTPUTS[0] in answers)
    promised = promised_scores(task, version)
    outside = OutsideCount()
    outside.add(answers[OUTSIDE])
    return Evaluation(
        task=task,
        version=int(version.version),
        run_id=version.run_id or "",
        verdict=judge(SELECTION[task], len(rows), intervals, promised, constant),
        rows=len(rows),
        left_out=int(is_known.sum()),
        training_rows=len(training_rings),
        scores=measured,
        intervals=intervals,
        promised=promised,
        baseline=constant,
        age_groups=group_by_age(task, rings, answers[ANSWER_COLUMNS[task]].to_numpy(), _median(answers)),
        shifts=compare_populations(training, rows) if len(rows) else [],
        outside=outside,
        table=rows.join(answers),
        training=training,
    )


def judge(
    metric: str,
    rows: int,
    intervals: Mapping[str, tuple[float, float]],
    promised: Mapping[str, float],
    baseline: Mapping[str, float],
) -> str:
    """Say whether a champion holds, by a metric of which lower is better.

    Parameters
    ----------
    metric : str
        Metric that selected the champion.
    rows : int
        Number of rows that were scored.
    intervals, promised, baseline
        As in ``Evaluation``.

    Returns
    -------
    str
        ``HOLDS``, ``WORSE`` or ``TOO_FEW``.
    """
    if rows < FEWEST_ROWS or metric not in promised:
        return TOO_FEW
    low, high = intervals[metric]
    if low > promised[metric]:
        return WORSE
    if high >= baseline[metric]:
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


def _scores(task: str, rings: np.ndarray, answers: pd.DataFrame) -> dict[str, float]:
    """All scores that are defined on the rows."""
    if not len(rings):
        return {}
    measured = _quiet_scores(task, rings, answers[ANSWER_COLUMNS[task]].to_numpy())
    for name, values in _row_scores(task, rings, answers).items():
        measured[name] = float(values.mean())
    if task == "classification":  # without an interval: the resamples of a calibrated model are less calibrated
        measured["ece"] = calibration_error(is_old(rings), answers["probability_old"].to_numpy())
    return _defined(measured)


def _median(answers: pd.DataFrame) -> np.ndarray | None:
    """Median of the rings, if the champion answers with it."""
    return answers[MEDIAN_OUTPUT].to_numpy() if MEDIAN_OUTPUT in answers else None


def _intervals(task: str, rings: np.ndarray, answers: pd.DataFrame) -> dict[str, tuple[float, float]]:
    if len(rings) < FEWEST_ROWS:
        return {}
    predicted = answers[ANSWER_COLUMNS[task]].to_numpy()
    return bootstrap_intervals(task, rings, predicted, _row_scores(task, rings, answers))


def _row_scores(task: str, rings: np.ndarray, answers: pd.DataFrame) -> dict[str, np.ndarray]:
    """Scores that are means over the rows: the bias, and those of median, interval and distribution if answered."""
    values = {}
    if task == "regression":
        values["bias"] = answers["rings"].to_numpy() - rings
    if MEDIAN_OUTPUT in answers:  # as in the champion's own run, whose scores are what was promised
        values["mae"] = (answers[MEDIAN_OUTPUT] - rings).abs().to_numpy()
    if "rings_low" in answers:
        held = (answers["rings_low"] <= rings) & (rings <= answers["rings_high"])
        values["coverage80"] = held.to_numpy(dtype=np.float64)
    if DISTRIBUTION_OUTPUTS[0] in answers:
        values |= row_distribution_scores(answers[list(DISTRIBUTION_OUTPUTS)].to_numpy(), rings)
    return values


def _quiet_scores(task: str, rings: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """Scores, NaN where they are not defined, without scikit-learn's warning about it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return scores(task, rings, predicted)


def _baseline(task: str, training_rings: np.ndarray, rings: np.ndarray, has_distribution: bool) -> dict[str, float]:
    if not len(rings):
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        constant = baseline(task, training_rings, rings)
    if has_distribution:
        frequencies = ring_frequencies(training_rings)
        constant |= distribution_scores(np.broadcast_to(frequencies, (len(rings), len(frequencies))), rings)
    return _defined(constant)


def _defined(values: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in values.items() if np.isfinite(value)}


def promised_scores(task: str, version: Any) -> dict[str, float]:
    """Test scores of the champion's run; of a run that was deleted, the one that the version keeps."""
    try:
        metrics = MlflowClient().get_run(version.run_id).data.metrics
    except MlflowException:
        metrics = {}
    promised = {name.removeprefix("test/"): value for name, value in metrics.items() if name.startswith("test/")}
    kept = f"test/{SELECTION[task]}"
    if SELECTION[task] not in promised and kept in version.tags:
        promised[SELECTION[task]] = float(version.tags[kept])
    return promised


def _training_columns(learned: Any) -> dict[str, np.ndarray]:
    """Measurements and rings of the training rows; of the measurements the model keeps the percentiles."""
    rows = len(learned.digests)
    columns = {}
    for name, quantiles in zip(MEASUREMENTS, learned.quantiles.numpy()):
        columns[name] = spread_quantiles(quantiles, np.linspace(0, 1, len(quantiles)), rows)
    columns["Rings"] = learned.rings.numpy()
    return columns

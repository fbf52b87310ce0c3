"""The guide's claims, and the numbers over many seeds that they are judged by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import Tensor, nn

from abalone.data.labels import is_old
from abalone.data.reading import Dataset
from abalone.data.splitting import Split, split
from abalone.evaluation.overfitting import OVERFIT_AT, OVERFITTING_STAGES, rise_of_test_loss
from abalone.evaluation.scores import predict, scores
from abalone.metrics import METRICS
from abalone.model.features import encode
from abalone.settings import StageSettings, UserError
from abalone.side_by_side import run_all
from abalone.training.fit import fit
from abalone.training.history import TrainingDiverged
from abalone.training.population import can_train, fit_many
from abalone.training.torch_setup import cpu_settings

CURVED = OVERFITTING_STAGES  # the stages whose test loss of every epoch is read
CURVE_MEASURES = ("rise", "lowest")  # measures of that curve, which need epochs after ``OVERFIT_AT``
OTHER_MEASURES = {
    "rise": f"rise of the test loss after epoch {OVERFIT_AT} in nats",
    "lowest": "epoch of the lowest test loss",
    "tpr": "TPR at 0.5",
    "fpr": "FPR at 0.5",
}
SHORT_LABELS = {"rise": "nats", "lowest": "epochs", "tpr": "TPR", "fpr": "FPR"}

Measured = Mapping[str, Mapping[str, np.ndarray]]  # by stage and measure, [S]; ``loss/test`` [S, epochs]


def measure_label(measure: str) -> str:
    """Label, with its unit, of a metric or of one of ``OTHER_MEASURES``."""
    if measure in METRICS:
        return METRICS[measure].label_with_unit
    return OTHER_MEASURES[measure]


def short_label(measure: str) -> str:
    """Unit or short name of a measure, to stand after a number."""
    if measure in METRICS:
        return METRICS[measure].label
    return SHORT_LABELS[measure]


@dataclass(frozen=True)
class Claim:
    """A claim of the guide, as a difference that is measured on each seed.

    Parameters
    ----------
    words : str
        The statement, in our words.
    section : str
        Section of the guide.
    metric : str
        A metric, or one of ``OTHER_MEASURES``.
    stage : str
        Stage whose value is taken.
    before : str, optional
        Stage whose value is subtracted.
    expected : float, optional
        Figure of the guide that is subtracted, if there is no such stage.
    of_split : bool
        Whether that figure was measured on a single split.
    """

    words: str
    section: str
    metric: str
    stage: str
    before: str = ""
    expected: float = 0.0
    of_split: bool = False

    @property
    def effect(self) -> str:
        """What is measured, with its unit and stages."""
        label = f"{measure_label(self.metric)}, {self.stage}"
        if self.before:
            return f"{label} - {self.before}"
        return label

    @property
    def min_epochs(self) -> int:
        """Fewest epochs of training on which the claim can be judged."""
        if self.metric in CURVE_MEASURES:
            return OVERFIT_AT + 1
        return 1

    def differences(self, measured: Measured) -> np.ndarray:
        """The difference on each seed, [S]."""
        values = _values(measured[self.stage], self.metric)
        if self.before:
            return values - _values(measured[self.before], self.metric)
        return values - self.expected


def _values(measured: Mapping[str, np.ndarray], metric: str) -> np.ndarray:
    """The values of a metric, or of one of ``OTHER_MEASURES``, on each seed, [S]."""
    if metric == "lowest":
        return 1.0 + measured["loss/test"].argmin(axis=1)
    if metric == "rise":
        return np.array([rise_of_test_loss(curve) for curve in measured["loss/test"]])
    return measured[metric]


CLAIMS = (
    Claim("Three layers beat two", section="1.a", metric="accuracy", stage="deepen", before="classify"),
    Claim("Sex helps accuracy", section="2.b", metric="accuracy", stage="encode", before="deepen"),
    Claim("Sex helps ranking", section="2.b", metric="roc_auc", stage="encode", before="deepen"),
    Claim("The encoded network overfits", section="2.c", metric="rise", stage="encode"),
    Claim(
        "The rise begins after about five epochs",
        section="2.c",
        metric="lowest",
        stage="encode",
        expected=OVERFIT_AT,
    ),
    Claim("Weight decay helps against overfitting", section="3", metric="rise", stage="encode", before="regularize"),
    Claim("Dropout makes it worse", section="3", metric="accuracy", stage="regularize", before="dropout"),
    Claim("True positive rate 0.81", section="2.c", metric="tpr", stage="encode", expected=0.81, of_split=True),
    Claim("False positive rate 0.36", section="2.c", metric="fpr", stage="encode", expected=0.36, of_split=True),
    Claim(
        "Area 0.72, from hard labels",
        section="2.c",
        metric="balanced_accuracy",
        stage="encode",
        expected=0.72,
        of_split=True,
    ),
    Claim(
        "Area 0.72, from probabilities",
        section="2.c",
        metric="roc_auc",
        stage="encode",
        expected=0.72,
        of_split=True,
    ),
)


def epochs_of(measured: Measured) -> int:
    """Number of epochs that the stages were trained for."""
    return measured[CURVED[0]]["loss/test"].shape[1]


def train_stages(stages: Mapping[str, StageSettings], dataset: Dataset, seeds: int) -> dict[str, list]:
    """Train every stage on the splits of seeds 0 to S - 1: all in one population, or one by one if they must.

    Curves that no claim reads are left out, which saves a sixth of the time: no curves of the training rows, and no
    test loss by epoch except for the stages in ``CURVED``.

    Parameters
    ----------
    stages : mapping of stage to StageSettings
    dataset : Dataset
    seeds : int, S

    Returns
    -------
    dict of stage to list, S
        Results of ``fit_many``, or of ``fit`` for a stage that ``fit_many`` does not implement.
    """
    splits = [split(dataset, seed) for seed in range(seeds)]
    splits_without_test = [replace(rows, test=rows.test[:0]) for rows in splits]
    x = encode(dataset.frame)
    rings = dataset.frame["Rings"].to_numpy()
    together = [stage for stage, settings in stages.items() if can_train(settings)]
    members = []
    member_splits = []
    by_stage = {}
    for stage, settings in stages.items():
        of_stage = [replace(settings, seed=seed) for seed in range(seeds)]
        splits_of_stage = splits if stage in CURVED else splits_without_test
        if stage in together:
            members += of_stage
            member_splits += splits_of_stage
        else:
            pairs = zip(of_stage, splits_of_stage)
            by_stage[stage] = [_fit_alone(own, x, rings, part) for own, part in pairs]
    results = fit_many(members, x, rings, member_splits, train_curves=False)
    for place, stage in enumerate(together):
        by_stage[stage] = results[place * seeds : (place + 1) * seeds]
    return {stage: by_stage[stage] for stage in stages}


def _fit_alone(settings: StageSettings, x: Tensor, rings: np.ndarray, part: Split) -> Any:
    """What ``fit_many`` returns for a member."""
    try:
        return fit(settings, x, rings, part)
    except TrainingDiverged as error:
        return error


def measure_stages(stages: Mapping[str, StageSettings], dataset: Dataset, trained: Mapping[str, Sequence]) -> Measured:
    """Score every model on the test rows of its own seed.

    Parameters
    ----------
    stages : mapping of stage to StageSettings
    dataset : Dataset
    trained : mapping of stage to list, S
        As ``train_stages`` returns them.

    Returns
    -------
    dict of stage to dict
        Test scores [S]; for a classifier ``tpr`` and ``fpr`` at the threshold 0.5 [S]; for the stages in ``CURVED``
        ``loss/test`` [S, epochs].

    Raises
    ------
    UserError
        If a training diverged.
    """
    x = encode(dataset.frame)
    rings = dataset.frame["Rings"].to_numpy()
    seeds = max(len(results) for results in trained.values())
    test_rows = [split(dataset, seed).test for seed in range(seeds)]
    calls = [(stage, stages[stage].task, results, x, rings, test_rows) for stage, results in trained.items()]
    return dict(zip(trained, run_all(_measure_stage, calls)))


def _measure_stage(
    stage: str, task: str, results: Sequence, x: Tensor, rings: np.ndarray, test_rows: Sequence[np.ndarray]
) -> dict[str, np.ndarray]:
    by_seed = []
    for seed, (result, test) in enumerate(zip(results, test_rows)):
        if isinstance(result, Exception):
            raise UserError(f"{stage}, seed {seed}: {result}")
        model, history = result
        values = _measure_model(model, task, x[test], rings[test])
        if stage in CURVED:
            values["loss/test"] = history.metrics["loss/test"]
        by_seed.append(values)
    return {name: np.array([values[name] for values in by_seed]) for name in by_seed[0]}


def _measure_model(model: nn.Module, task: str, x: Tensor, rings: np.ndarray) -> dict[str, float]:
    """Scores of a model on rows [n, 10], and the two rates of a classifier."""
    with cpu_settings():
        predicted = predict(model, x)
    values = scores(task, rings, predicted)
    if task == "classification":
        old = is_old(rings) == 1
        called_old = predicted >= 0.5
        values["tpr"] = called_old[old].mean()
        values["fpr"] = called_old[~old].mean()
    return values

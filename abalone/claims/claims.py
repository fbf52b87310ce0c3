"""TODO claims.claims"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from abalone.data.labels import is_old
from abalone.data.reading import Dataset
from abalone.data.splitting import split
from abalone.evaluation.scores import predict, scores
from abalone.model.features import encode
from abalone.settings import StageSettings, UserError
from abalone.training.population import fit_many
from abalone.training.torch_setup import cpu_settings

OVERFIT_AT = 5  # epoch after which the guide sees the test loss rise (section 2.c)
CURVED = ("encode", "regularize")  # stages whose test loss by epoch a claim reads
MEASURES = {
    "accuracy": "accuracy", "roc_auc": "AUC", "log_loss": "log loss (nats)", "rmse": "RMSE (rings)",
    "rise": f"rise of the test loss after epoch {OVERFIT_AT} in nats", "lowest": "epoch of the lowest test loss",
    "tpr": "TPR at 0.5", "fpr": "FPR at 0.5", "balanced_accuracy": "balanced accuracy",
}  # fmt: skip
Measured = Mapping[str, Mapping[str, np.ndarray]]


@dataclass(frozen=True)
class Claim:
    """A statement of the guide about a difference that every seed gives.

    Parameters
    ----------
    words, section : str
        What the guide says, in our words, and where.
    metric, stage, before : str
        Which number of which stage, and the stage whose number is subtracted, if any.
    expected, of_split : float, bool
        Without such a stage: the guide's own figure, which is subtracted, and whether it is that of one split.
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
        """What the number is, with its unit."""
        return f"{MEASURES[self.metric]}, {self.stage}" + (f" - {self.before}" if self.before else "")

    def differences(self, measured: Measured) -> np.ndarray:
        """Of each seed, [S]."""
        value = _measured_value(measured[self.stage], self.metric)
        return value - (_measured_value(measured[self.before], self.metric) if self.before else self.expected)


def _measured_value(of: Mapping[str, np.ndarray], metric: str) -> np.ndarray:
    if metric == "lowest":
        return 1.0 + of["loss/test"].argmin(1)
    if metric == "rise":  # from a fixed epoch: from the lowest of the same curve it would never be below 0
        return of["loss/test"][:, -1] - of["loss/test"][:, :OVERFIT_AT][:, -1]
    return of[metric]


CLAIMS = (
    Claim("Three layers beat two", "1.a", "accuracy", "deepen", "classify"),
    Claim("Sex helps accuracy", "2.b", "accuracy", "encode", "deepen"),
    Claim("Sex helps ranking", "2.b", "roc_auc", "encode", "deepen"),
    Claim("The encoded network overfits", "2.c", "rise", "encode"),
    Claim("The rise begins after about five epochs", "2.c", "lowest", "encode", expected=OVERFIT_AT),
    Claim("Weight decay helps against overfitting", "3", "rise", "encode", "regularize"),
    Claim("Dropout makes it worse", "3", "accuracy", "regularize", "dropout"),
    Claim("True positive rate 0.81", "2.c", "tpr", "encode", expected=0.81, of_split=True),
    Claim("False positive rate 0.36", "2.c", "fpr", "encode", expected=0.36, of_split=True),
    Claim("Area 0.72, from hard labels", "2.c", "balanced_accuracy", "encode", expected=0.72, of_split=True),
    Claim("Area 0.72, from probabilities", "2.c", "roc_auc", "encode", expected=0.72, of_split=True),
)


def train_stages(stages: Mapping[str, StageSettings], dataset: Dataset, seeds: int) -> dict[str, list]:
    """Train every stage on the splits of seeds 0 to S - 1, all in one population.

    Returns
    -------
    dict of stage to list, S
        As ``fit_many`` gives them; the test loss by epoch only of ``CURVED``.
    """
    x, rings = encode(dataset.frame), dataset.frame["Rings"].to_numpy()
    splits = [split(dataset, seed) for seed in range(seeds)]
    untested = [replace(rows, test=rows.test[:0]) for rows in splits]
    given = [rows for stage in stages for rows in (splits if stage in CURVED else untested)]
    members = [replace(settings, seed=seed) for settings in stages.values() for seed in range(seeds)]
    results = fit_many(members, x, rings, given, train_curves=False)
    return {stage: results[place * seeds :][:seeds] for place, stage in enumerate(stages)}


def measure_stages(stages: Mapping[str, StageSettings], dataset: Dataset, trained: Mapping[str, Sequence]) -> Measured:
    """Score what ``train`` gave, each model on the test rows of its seed.

    Returns
    -------
    dict of stage to dict
        Test scores [S], ``tpr`` and ``fpr`` at the 0.5 threshold [S], and of ``CURVED`` ``loss/test`` [S, epochs].

    Raises
    ------
    UserError
        If a training diverged.
    """
    x, rings = encode(dataset.frame), dataset.frame["Rings"].to_numpy()
    tests = [split(dataset, seed).test for seed in range(max(map(len, trained.values())))]
    measured = {}
    for stage, results in trained.items():
        task, rows = stages[stage].task, []
        for seed, (result, test) in enumerate(zip(results, tests)):
            if isinstance(result, Exception):
                raise UserError(f"{stage}, seed {seed}: {result}")
            model, history = result
            with cpu_settings():
                predicted = predict(model, x[test])
            row = scores(task, rings[test], predicted)
            if task == "classification":
                old, called = is_old(rings[test]) == 1, predicted >= 0.5
                row |= {"tpr": called[old].mean(), "fpr": called[~old].mean()}
            rows.append(row | ({"loss/test": history.metrics["loss/test"]} if stage in CURVED else {}))
        measured[stage] = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    return measured

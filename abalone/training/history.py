"""TODO training.history"""

from __future__ import annotations

import math
from dataclasses import dataclass

from abalone.settings import StageSettings, UserError

SPLITS = ("train", "val", "test")


class TrainingDiverged(UserError):
    """A loss became infinite or not a number; ``curves`` is what ``History.metrics`` would hold, up to then."""

    def __init__(self, message: str, curves: dict[str, list[float]] | None = None):
        super().__init__(message)
        self.curves = curves or {}


@dataclass(frozen=True)
class History:
    """What training looked like, one value per epoch, all measured at the end of the epoch in eval mode.

    Parameters
    ----------
    metrics : dict of str to list of float
        ``loss/train``, ``loss/val``, ``loss/test``; ``accuracy/...`` (share of rows) or ``rmse/...`` (rings); and
        ``learning_rate``, the one used in the epoch. A regressor's loss is in rings squared.
    best_epoch : int
        Epoch of the lowest ``loss/val``, counted from 1.
    reported_epoch : int
        Epoch whose weights the model has: the best or the last, as the settings's ``checkpoint`` says.
    """

    metrics: dict[str, list[float]]
    best_epoch: int
    reported_epoch: int


def check_finite(measured: dict[str, float], epoch: int, settings: StageSettings, curves: dict) -> None:
    """Raise ``TrainingDiverged`` if anything measured at the end of ``epoch`` is not a finite number."""
    for name, value in measured.items():
        if not math.isfinite(value):
            raise TrainingDiverged(
                f"training diverged: {name} is {value} at the end of epoch {epoch}, expected a finite number; "
                f"lower learning_rate (it is {settings.learning_rate}), for example by ten",
                curves,
            )


def roots(losses: dict[str, float]) -> dict[str, float]:
    """``rmse/...`` in rings, of ``loss/...`` in rings squared."""
    return {name.replace("loss", "rmse"): math.sqrt(loss) for name, loss in losses.items()}

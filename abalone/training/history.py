"""What a training reports: its curves, its best epoch, and the error of one that diverged."""

from __future__ import annotations

import math
from dataclasses import dataclass

from abalone.settings import RingsSettings, StageSettings, UserError

SPLITS = ("train", "val", "test")
Curves = dict[str, list[float]]


class TrainingDiverged(UserError):
    """A loss became infinite or NaN.

    Parameters
    ----------
    message : str
        Names the loss, the epoch and the learning rate.
    curves : dict of str to list of float, optional
        What ``History.metrics`` would hold, up to the epoch before.
    """

    def __init__(self, message: str, curves: Curves | None = None):
        super().__init__(message)
        self.curves = curves or {}


@dataclass(frozen=True)
class History:
    """Curves of a training, one value per epoch, each measured at the end of the epoch in eval mode.

    Parameters
    ----------
    metrics : dict of str to list of float
        ``loss/train``, ``loss/val``, ``loss/test``; ``accuracy/...`` (share of rows) or ``rmse/...`` (rings); and
        ``learning_rate``, the one used in the epoch. A regressor's loss is in rings squared.
    best_epoch : int
        Epoch of the lowest ``loss/val``, counted from 1.
    reported_epoch : int
        Epoch whose weights the model has: the best or the last, as the setting ``checkpoint`` says.
    """

    metrics: Curves
    best_epoch: int
    reported_epoch: int


def append_epoch(curves: Curves, measured: dict[str, float]) -> None:
    """Append the values measured at the end of an epoch to the curves."""
    for name, value in measured.items():
        curves.setdefault(name, []).append(value)


def check_finite(
    measured: dict[str, float], epoch: int, settings: StageSettings | RingsSettings, curves: Curves
) -> None:
    """Raise ``TrainingDiverged`` if a value measured at the end of ``epoch`` is infinite or NaN."""
    for name, value in measured.items():
        if not math.isfinite(value):
            raise TrainingDiverged(
                f"training diverged: {name} is {value} at the end of epoch {epoch}, expected a finite number; "
                f"lower learning_rate, which is {settings.learning_rate}, for example to a tenth of that",
                curves,
            )


def rmse_from_losses(losses: dict[str, float]) -> dict[str, float]:
    """``rmse/...`` in rings from ``loss/...`` in rings squared."""
    return {name.replace("loss", "rmse"): math.sqrt(loss) for name, loss in losses.items()}

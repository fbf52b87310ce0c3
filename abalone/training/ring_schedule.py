"""How many rows a step of ``rings`` takes, and how many epochs it trains, where the settings say ``auto``.

Chosen on validation rows (see ``experiments/rings.toml``). With few rows, large batches make too few steps: the weights
and their moving average are still near where they began. So a small file is trained in twenty batches per epoch, which
make as many steps in all as those of a large one; below ``SMALLEST_BATCH`` rows per step, they would overfit.
"""

from __future__ import annotations

import math
from dataclasses import replace

from abalone.setting_values import AUTO
from abalone.settings import RingsSettings

COMPARED_FROM_ROWS = 200  # fitted rows; with fewer, nobody has compared `rings` with simpler models
FULL_FROM_ROWS = 1500
FULL_BATCH = 256
FULL_EPOCHS = 45
BATCHES_PER_EPOCH = 20  # of fewer rows
EPOCHS = 20
SMALLEST_BATCH = 16


def with_schedule(settings: RingsSettings, rows: int) -> RingsSettings:
    """Replace ``auto`` by the batch size and the number of epochs for so many training rows.

    Parameters
    ----------
    settings : RingsSettings
        A number in ``batch_size`` or ``epochs`` stays as it is.
    rows : int
        Number of training rows.
    """
    batch_size = FULL_BATCH
    epochs = FULL_EPOCHS
    if rows < FULL_FROM_ROWS:
        batch_size = max(SMALLEST_BATCH, math.ceil(rows / BATCHES_PER_EPOCH))
        epochs = EPOCHS
    if settings.batch_size != AUTO:
        batch_size = int(settings.batch_size)
    if settings.epochs != AUTO:
        epochs = int(settings.epochs)
    return replace(settings, batch_size=batch_size, epochs=epochs)

"""TODO data.labels"""

from __future__ import annotations

import numpy as np

from abalone.model.columns import OLD_FROM_RINGS


def is_old(rings: np.ndarray) -> np.ndarray:
    """Label 1 (Old) for 10 rings or more, 0 (Young) below; int64 [n]."""
    return (np.asarray(rings) >= OLD_FROM_RINGS).astype(np.int64)

"""The label of the classification task: Young or Old."""

from __future__ import annotations

import numpy as np

from abalone.model.columns import OLD_FROM_RINGS


def is_old(rings: np.ndarray) -> np.ndarray:
    """Label animals with 10 rings or more as Old.

    Parameters
    ----------
    rings : array_like [n]
        Number of rings.

    Returns
    -------
    ndarray [n], int64
        1 for Old, 0 for Young.
    """
    return (np.asarray(rings) >= OLD_FROM_RINGS).astype(np.int64)

"""Claims of three kinds, and differences drawn for them, for the tests of verdicts and of the report."""

from __future__ import annotations

import numpy as np

from abalone.claims.claims import Claim

SEEDS = 20
TEST_TO_TRAIN = 1.25
CLAIM = Claim("One is better", section="1", metric="accuracy", stage="a", before="b")
PRINTED = Claim("The area is 0.72", section="2.c", metric="roc_auc", stage="a", expected=0.72, of_split=True)
EPOCH = Claim("It turns at five", section="2.c", metric="lowest", stage="a", expected=5)


def draws(mean: float, sd: float = 0.01, seed: int = 0) -> np.ndarray:
    """Normal differences, one per seed."""
    return np.random.default_rng(seed).normal(mean, sd, SEEDS)

"""Explanations of models whose dependence on each column is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from abalone.data.reading import read
from abalone.evaluation.explanations import partial_dependence, permutation_importance
from abalone.model.columns import FEATURES, MEASUREMENTS, RAW_COLUMNS
from abalone.model.features import encode

FRAME = read().frame
X = encode(FRAME)
RINGS = FRAME["Rings"].to_numpy()


def test_a_column_that_nothing_depends_on_has_no_importance():
    def errors(x: torch.Tensor) -> dict[str, float]:
        error = 10 * x[:, FEATURES.index("Shell weight")].numpy() - RINGS
        return {"absolute": float(np.abs(error).mean()), "squared": float((error**2).mean())}

    by_loss = permutation_importance(errors, X)
    assert list(by_loss) == ["absolute", "squared"]
    rises = by_loss["squared"]
    assert list(rises) == list(RAW_COLUMNS)
    assert all(len(rise) == 10 for rise in rises.values())
    assert {name for name, rise in rises.items() if np.abs(rise).max() > 1e-9} == {"Shell weight"}


def test_partial_dependence_of_a_known_model():
    class OfLengths(torch.nn.Module):
        def forward(self, x):
            return 5 + 2 * x[:, [FEATURES.index("Length")]]

    curves = partial_dependence(OfLengths(), X)
    assert list(curves) == list(MEASUREMENTS)
    values, years = curves["Length"]
    assert years == pytest.approx(5 + 2 * values + 1.5, abs=1e-5)
    assert np.ptp(curves["Height"][1]) < 1e-6

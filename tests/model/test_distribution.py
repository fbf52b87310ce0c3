"""What is read from a distribution of rings, on distributions that are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ring_fits import RINGS
from scipy.stats import lognorm

from abalone.model.columns import OLD_FROM_RINGS
from abalone.model.distribution import (
    THRESHOLDS,
    mean_rings,
    median_rings,
    ring_interval,
    ring_shares,
    with_log_normal,
)

OLD = THRESHOLDS.index(OLD_FROM_RINGS)


def at_least(shares: dict[int, float]) -> torch.Tensor:
    """P(rings >= t) [1, 28] from the share of each number of rings."""
    given = [sum(share for rings, share in shares.items() if rings >= t) for t in THRESHOLDS]
    return torch.tensor([given], dtype=torch.float64)


def log_normal(median: float, sd: float) -> torch.Tensor:
    """P(rings >= t) [1, 28] of a log-normal with this median and sd of the logarithm."""
    return torch.from_numpy(lognorm.sf(np.array(THRESHOLDS) - 0.5, sd, scale=median))[None]


def test_mean_median_and_shares_of_a_known_distribution():
    shares = {8: 0.25, 9: 0.3, 10: 0.05, 20: 0.4}
    given = at_least(shares)
    assert mean_rings(given).item() == pytest.approx(8 * 0.25 + 9 * 0.3 + 10 * 0.05 + 20 * 0.4)
    assert median_rings(given).item() == 9
    found = ring_shares(given)[0]
    assert found.shape == (29,)
    assert {1 + i: round(found[i].item(), 9) for i in found.nonzero()[:, 0].tolist() if found[i] > 1e-9} == shares


def test_the_median_has_the_least_absolute_error():
    counts = torch.from_numpy(np.bincount(RINGS, minlength=30)[1:])
    reached = counts.flip(0).cumsum(0).flip(0)[1:] / len(RINGS)
    median = median_rings(reached[None]).item()
    errors = {rings: np.abs(RINGS - rings).mean() for rings in range(1, 30)}
    assert median == min(errors, key=errors.get)


@pytest.mark.parametrize(
    "shares, interval",
    [
        ({9: 1.0}, (9, 9)),
        ({1: 1.0}, (1, 1)),
        ({29: 1.0}, (29, 29)),
        ({9: 0.1, 10: 0.8, 11: 0.1}, (10, 10)),
        ({8: 0.21, 9: 0.2, 10: 0.16, 11: 0.2, 12: 0.23}, (8, 12)),
        ({8: 0.3, 9: 0.25, 10: 0.2, 11: 0.15, 12: 0.1}, (8, 10)),
        ({8: 0.1, 9: 0.15, 10: 0.2, 11: 0.25, 12: 0.3}, (10, 12)),
        ({8: 0.25, 9: 0.5, 20: 0.25}, (8, 9)),
    ],
)
def test_the_interval_of_a_known_distribution(shares, interval):
    """The most probable counts, as many as come nearest to ``INTERVAL_SHARE``."""
    low, high = ring_interval(at_least(shares))
    assert (low.item(), high.item()) == interval


@pytest.mark.parametrize("median, sd", [(9.5, 0.2), (12.0, 0.25), (15.0, 0.15)])
def test_a_log_normal_is_hardly_changed(median, sd):
    """Only as much as counting in whole rings adds to its spread."""
    given = log_normal(median, sd)
    assert torch.allclose(with_log_normal(given), given, atol=0.005)


def test_the_mixture_leaves_the_probability_of_old_and_gives_the_upper_tail_half_of_a_log_normals():
    given = log_normal(10.0, 0.2)
    given[:, 15:] = 0  # no animal has 17 rings or more
    mixed = with_log_normal(given)
    assert mixed[0, OLD].item() == pytest.approx(given[0, OLD].item(), abs=1e-12)
    at_17 = THRESHOLDS.index(17)
    expected = log_normal(10.0, 0.2)[0, at_17] / 2
    assert mixed[0, at_17].item() == pytest.approx(expected.item(), rel=0.15)
    assert (mixed.diff(dim=1) <= 0).all()


@pytest.mark.parametrize("shares", [{1: 1.0}, {9: 1.0}, {10: 1.0}, {29: 1.0}])
def test_a_certain_distribution_stays_certain(shares):
    given = at_least(shares)
    assert torch.allclose(with_log_normal(given), given, atol=1e-9)


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_the_mixture_keeps_the_type(kind):
    assert with_log_normal(log_normal(9.5, 0.2).to(kind)).dtype == kind

"""Scores of distributions of rings, against numbers that can be worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from abalone.evaluation.distribution_scores import crps, log_score, ring_frequencies


def certain(rings: list[int]) -> np.ndarray:
    return np.eye(29)[np.array(rings) - 1]


def test_the_crps_of_a_certain_prediction_is_its_absolute_error():
    assert crps(certain([5, 9, 12]), np.array([5, 11, 9])) == pytest.approx((0 + 2 + 3) / 3)


def test_the_crps_of_two_equally_likely_counts():
    """E|X - y| - E|X - X'| / 2 = 1 - 1 / 2 between two counts that are two rings apart."""
    halves = (certain([8]) + certain([10])) / 2
    assert crps(halves, np.array([9])) == pytest.approx(0.5)


def test_the_log_score_is_that_of_the_probability_of_the_truth():
    halves = (certain([8, 3]) + certain([10, 4])) / 2
    assert log_score(halves, np.array([10, 3])) == pytest.approx(np.log(2))


def test_more_rings_than_the_largest_count_are_scored_as_that_count():
    assert crps(certain([29]), np.array([31])) == 0 and log_score(certain([29]), np.array([31])) == 0


def test_a_count_that_was_ruled_out_costs_much_but_not_everything():
    assert 20 < log_score(certain([8]), np.array([9])) < np.inf


def test_the_baseline_is_the_share_of_each_count():
    frequencies = ring_frequencies(np.array([3, 3, 9, 31]))
    assert (frequencies[2], frequencies[8], frequencies[28]) == (0.5, 0.25, 0.25)
    assert frequencies.sum() == 1 and frequencies.shape == (29,)

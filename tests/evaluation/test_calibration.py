"""Calibration and coverage against cases small enough to work out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from abalone.evaluation.calibration import calibration_error, coverage, reliability


def test_two_bins_worked_out_by_hand():
    old = np.array([0, 1, 1, 1])
    probability = np.array([0.21, 0.29, 0.81, 0.89])
    assert reliability(old, probability) == pytest.approx(np.array([[0.25, 0.5, 2], [0.85, 1.0, 2]]))
    assert calibration_error(old, probability) == pytest.approx((0.25 + 0.15) / 2)
    assert calibration_error(old, old.astype(float)) == 0, "certain and right; a probability of 1 has a bin"


def test_calibrated_probabilities_have_a_small_error_and_overconfident_ones_a_large_one():
    generator = np.random.default_rng(0)
    truth = generator.uniform(size=20_000)
    old = (generator.uniform(size=20_000) < truth).astype(int)
    assert calibration_error(old, truth) < 0.02
    assert calibration_error(old, np.where(truth > 0.5, 1.0, 0.0)) > 0.2


def test_coverage_includes_both_ends():
    assert coverage(np.array([4, 5, 6, 7]), np.full(4, 5.0), np.full(4, 6.0)) == 0.5

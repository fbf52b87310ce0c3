"""How far off predictions are by age."""

from __future__ import annotations

import numpy as np
import pytest

from abalone.evaluation.age_groups import group_by_age

RINGS = np.array([3, 7, 8, 11, 12, 20])


def test_rings_are_measured_by_their_mean_and_absolute_error():
    young, middle, old = group_by_age("regression", RINGS, RINGS + np.array([1, 3, -1, 1, -2, -6]))
    assert [(group.rings, group.rows) for group in (young, middle, old)] == [
        ("below 8", 2),
        ("8 to 11", 2),
        ("12 and more", 2),
    ]
    assert [group.bias for group in (young, middle, old)] == pytest.approx([2, 0, -4])
    assert [group.mae for group in (young, middle, old)] == pytest.approx([2, 1, 4])
    assert young.right is None


def test_the_absolute_error_is_of_the_median_if_it_is_given():
    young, *_ = group_by_age("regression", RINGS, RINGS + 2.0, median=RINGS + 1)
    assert (young.bias, young.mae) == (2, 1)


def test_labels_are_measured_by_the_share_that_is_right():
    probability_old = np.array([0.1, 0.6, 0.2, 0.9, 0.5, 0.4])  # the true labels are Old from 10 rings on
    shares = [group.right for group in group_by_age("classification", RINGS, probability_old)]
    assert shares == pytest.approx([0.5, 1, 0.5])


def test_an_age_without_animals_has_no_numbers():
    *_, old = group_by_age("regression", RINGS[:4], RINGS[:4].astype(float))
    assert (old.rows, old.bias, old.mae) == (0, None, None)

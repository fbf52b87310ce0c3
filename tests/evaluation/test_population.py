"""Populations compared column by column: distances that can be worked out, and what chance alone gives."""

from __future__ import annotations

import numpy as np
import pytest

from abalone.evaluation.population import (
    compare_populations,
    expected_index,
    population_figure,
    spread_quantiles,
    stability_index,
)


def draw(rows: int, shift: float = 0.0, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(shift, 1, rows)


def test_rows_of_the_same_population_do_not_differ_and_shifted_ones_do():
    training = {"a": draw(9000), "b": draw(9000, seed=1)}
    rows = {"a": draw(9000, seed=2), "b": draw(9000, 0.5, seed=3)}
    same, shifted = compare_populations(training, rows)
    assert same.p_value > 0.05 and same.psi < 0.01
    assert shifted.p_value < 1e-6 and shifted.psi > 0.15
    assert shifted.ks == pytest.approx(0.197, abs=0.04), "2 Phi(shift / 2) - 1"


def test_the_stability_index_worked_out_by_hand():
    """One tenth of the training rows, but half of the others, above the last cut."""
    training = np.arange(100.0)
    rows = np.concatenate([np.tile(training[:90], 5), np.full(450, 99.0)])
    expected = 9 * (0.5 / 9 - 0.1) * np.log(0.5 / 9 / 0.1) + (0.5 - 0.1) * np.log(0.5 / 0.1)
    assert stability_index(training, rows) == pytest.approx(expected)


def test_chance_alone_gives_the_expected_index():
    found = [stability_index(draw(1000, seed=seed), draw(300, seed=seed + 500)) for seed in range(200)]
    assert np.mean(found) == pytest.approx(expected_index(1000, 300), rel=0.1)


def test_a_column_made_from_percentiles_is_as_near_as_they_are():
    values = np.random.default_rng(0).choice(np.arange(0.1, 0.3, 0.005), 2000)  # ties, as measurements have
    levels = np.linspace(0, 1, 101)
    spread = spread_quantiles(np.quantile(values, levels), levels, 2000)
    [shift] = compare_populations({"a": values}, {"a": spread})
    assert shift.ks <= 0.01 + 1e-9


def test_the_figure_has_a_panel_for_each_column():
    training = {"a": draw(50), "b": draw(50)}
    figure = population_figure(training, training, compare_populations(training, training), "title")
    assert [axis.get_xlabel() for axis in figure.axes] == ["a", "b"]

"""The schedule of ``rings``: what ``auto`` means for a number of rows."""

from __future__ import annotations

import math

import pytest

from abalone.settings import load_settings
from abalone.training.ring_schedule import with_schedule


@pytest.mark.parametrize(
    "rows, batch_size, epochs",
    [
        (50, 16, 20),
        (200, 16, 20),
        (320, 16, 20),
        (400, 20, 20),
        (801, 41, 20),
        (1499, 75, 20),
        (1500, 256, 45),
        (2088, 256, 45),
    ],
)
def test_the_schedule_follows_the_number_of_rows(rows, batch_size, epochs):
    scheduled = with_schedule(load_settings("rings"), rows)
    assert (scheduled.batch_size, scheduled.epochs) == (batch_size, epochs)


@pytest.mark.parametrize("rows", [320, 800, 1499, 1500, 2088])
def test_the_number_of_steps_hardly_depends_on_the_number_of_rows(rows):
    scheduled = with_schedule(load_settings("rings"), rows)
    assert 270 <= math.ceil(rows / scheduled.batch_size) * scheduled.epochs <= 405


def test_a_number_that_was_given_is_kept():
    given = load_settings("rings", {"batch_size": 100, "epochs": "7"})
    assert with_schedule(given, 200) == given == with_schedule(given, 5000)
    only_epochs = with_schedule(load_settings("rings", {"epochs": 45}), 200)
    assert (only_epochs.batch_size, only_epochs.epochs) == (16, 45)

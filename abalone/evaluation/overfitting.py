"""Overfitting, as the guide sees it: the test loss rises again after a few epochs (section 2.c)."""

from __future__ import annotations

from collections.abc import Sequence

OVERFIT_AT = 5  # epoch after which the guide sees the test loss rise
OVERFITTING_STAGES = ("encode", "regularize", "dropout")  # the stages that compare remedies


def rise_of_test_loss(test_loss: Sequence[float]) -> float | None:
    """Rise of the test loss from epoch ``OVERFIT_AT`` to the last epoch.

    The rise is measured from a fixed epoch: from the lowest point of the same curve it could never be negative.

    Parameters
    ----------
    test_loss : sequence of float
        One value per epoch, in nats or rings squared.

    Returns
    -------
    float or None
        None if there are no epochs after ``OVERFIT_AT``.
    """
    if len(test_loss) <= OVERFIT_AT:
        return None
    return test_loss[-1] - test_loss[OVERFIT_AT - 1]

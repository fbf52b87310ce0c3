"""The networks of ``rings``: the ensemble, its probabilities and its two answers."""

from __future__ import annotations

import pytest
import torch
from ring_fits import X, member, probabilities, short_fit

from abalone.evaluation.scores import predict
from abalone.model.columns import FEATURES, OLD_FROM_RINGS
from abalone.model.distribution import THRESHOLDS, with_log_normal
from abalone.model.features import Derive
from abalone.model.networks import RingClassifier, RingDistribution, RingRegressor


@pytest.fixture(scope="module")
def short() -> RingDistribution:
    return short_fit()


@torch.no_grad()
def of_member(distribution: RingDistribution, k: int) -> torch.Tensor:
    """P(rings >= t) of member k by itself, before the log-normal is mixed in; [n, 28]."""
    z = distribution.prepare(X)
    logits = member(distribution, k).logits(z[None])[0]
    return logits.sigmoid().cummin(1).values


def test_the_ensemble_is_the_mean_of_its_members_mixed_with_a_log_normal(short):
    each = torch.stack([of_member(short, k) for k in range(3)])
    assert torch.allclose(probabilities(short), with_log_normal(each.mean(0)), atol=1e-6)
    assert (each[0] - each[1]).abs().max() > 0.01, "each member has its own weights"


def test_more_rings_are_never_more_probable_than_fewer(short):
    wild = RingDistribution(2, [8])
    for parameter in wild.parameters():
        torch.nn.init.normal_(parameter, std=3.0, generator=torch.Generator().manual_seed(0))
    for distribution in (short, wild):
        p = probabilities(distribution)
        assert p.shape == (len(X), 28)
        assert p.min() >= 0
        assert p.max() <= 1
        assert (p.diff(dim=1) <= 1e-7).all()


def test_both_models_answer_from_the_distribution(short):
    p = probabilities(short)
    old = p[:, THRESHOLDS.index(OLD_FROM_RINGS)].double().numpy()
    with torch.no_grad():
        logits = RingClassifier(short)(X)
        rings = RingRegressor(short)(X)
    assert logits.shape == (len(X), 2)
    assert rings.shape == (len(X), 1)
    assert logits.dtype == rings.dtype == torch.float32
    assert predict(RingClassifier(short), X) == pytest.approx(old, abs=1e-6)
    at_least = torch.cat([torch.ones(len(X), 1), p, torch.zeros(len(X), 1)], 1)  # [n, 30], for 1 to 30 rings
    share = -at_least.diff(dim=1)  # [n, 29], of 1 to 29 rings
    assert share[:, OLD_FROM_RINGS - 1 :].sum(1).numpy() == pytest.approx(old, abs=1e-5)
    mean = (share.double() * torch.arange(1, 30)).sum(1).numpy()
    assert rings[:, 0].numpy() == pytest.approx(mean, abs=1e-4)


@pytest.mark.parametrize("bias, probability_old", [(200.0, 1.0), (-200.0, 0.0)])
def test_a_certain_answer_has_finite_logits(bias, probability_old):
    certain = RingDistribution(1, [4])
    torch.nn.init.constant_(certain.biases[-1], bias)
    logits = RingClassifier(certain)(X[:2])
    assert logits.isfinite().all()
    assert logits.softmax(1)[0, 1].item() == pytest.approx(probability_old)


def test_derived_features_are_finite_for_every_accepted_row():
    rows = torch.zeros(3, len(FEATURES))
    rows[1, 3:] = 1.0
    rows[2, 3:] = torch.tensor([8.15, 6.5, 11.3, 28.255, 14.88, 7.6, 10.05])
    z = Derive().fit(X)(rows)
    assert z.shape == (3, Derive.outputs)
    assert z.isfinite().all()
    assert z.abs().max() <= 4
    assert torch.equal(Derive().fit(X)(X)[:, :3], X[:, :3]), "one-hot columns stay as they are"

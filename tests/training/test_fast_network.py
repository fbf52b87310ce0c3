"""Flat parameters and the forward pass without module hooks."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from abalone.training.fast_network import bare_forward, flatten, unflatten


@pytest.fixture
def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))


@pytest.fixture
def x() -> Tensor:
    return torch.rand(5, 3, generator=torch.Generator().manual_seed(0))


def test_flattened_parameters_are_views_and_get_their_own_storage_back(network, x):
    before = network(x)
    flat = flatten(network)
    assert flat.shape == (3 * 4 + 4 + 4 * 2 + 2,)
    assert torch.equal(network(x), before)
    network(x).sum().backward()
    assert torch.equal(flat.grad, torch.cat([p.grad.flatten() for p in network.parameters()]))
    assert flat.grad.any()
    with torch.no_grad():
        flat.zero_()
    assert not network(x).any()
    unflatten(network)
    with torch.no_grad():
        flat.fill_(1)
    assert not network(x).any()
    assert all(p.grad is None for p in network.parameters())


def test_the_bare_forward_pass_is_the_networks_own(network, x):
    network.append(nn.Dropout(0.5))
    forward = bare_forward(network)
    for training in (False, True):
        network.train(training)
        torch.manual_seed(0)
        expected = network(x)
        torch.manual_seed(0)
        assert torch.equal(forward(x), expected)

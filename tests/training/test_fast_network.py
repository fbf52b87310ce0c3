"""Flat parameters and gradients without autograd."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from abalone.training.fast_network import batch_gradient, flatten, unflatten


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


@pytest.mark.parametrize("criterion", [F.cross_entropy, F.mse_loss])
@pytest.mark.parametrize("extra", [[], [nn.Dropout(0.5)], [nn.Tanh()]], ids=["ReLU", "dropout", "by autograd"])
def test_gradients_are_those_of_autograd_bit_for_bit(criterion, extra):
    network = nn.Sequential(nn.Linear(3, 17), nn.ReLU(), *extra, nn.Linear(17, 2))
    x = torch.rand(33, 3)
    labels = torch.randint(2, (33,)) if criterion is F.cross_entropy else torch.rand(33, 2)
    plain = copy.deepcopy(network)
    torch.manual_seed(0)
    criterion(plain(x), labels).backward()

    flat = flatten(network)
    set_gradient = batch_gradient(network, criterion)
    for _ in range(2):  # the second batch replaces the first
        torch.manual_seed(0)
        set_gradient(x, labels)
    assert torch.equal(flat.grad, torch.cat([p.grad.flatten() for p in plain.parameters()]))


def test_a_linear_layer_without_bias_is_trained_too():
    network = nn.Sequential(nn.Linear(3, 2, bias=False))
    flat = flatten(network)
    batch_gradient(network, F.cross_entropy)(torch.ones(4, 3), torch.zeros(4, dtype=torch.int64))
    assert flat.grad.any()


def test_a_layer_that_is_used_twice_gets_the_gradient_of_both_uses():
    twice = nn.Linear(2, 2)
    network = nn.Sequential(twice, nn.ReLU(), twice)
    x = torch.rand(4, 2)
    labels = torch.tensor([0, 1, 0, 1])
    plain = copy.deepcopy(network)
    F.cross_entropy(plain(x), labels).backward()
    flat = flatten(network)
    batch_gradient(network, F.cross_entropy)(x, labels)
    assert torch.equal(flat.grad, torch.cat([p.grad.flatten() for p in plain.parameters()]))

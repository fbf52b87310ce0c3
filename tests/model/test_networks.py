"""The networks: layers, shapes and initial weights."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import nn

from abalone.model.columns import FEATURES, MLP
from abalone.model.networks import Classifier, Regressor, build, init_weights, mlp

CONFIG = {
    "architecture": MLP,
    "features": ("I", "Length", "Height"),
    "hidden_sizes": (8, 4),
    "dropout": 0.0,
    "clip": 0.0,
}


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("hidden_sizes", [(), (5,), (64, 64), (64, 64, 64), (3, 7, 2, 9)])
def test_mlp_has_a_relu_after_every_layer_but_the_last(hidden_sizes):
    network = mlp(7, hidden_sizes, 2)
    assert [type(layer) for layer in network] == [nn.Linear, nn.ReLU] * len(hidden_sizes) + [nn.Linear]
    widths = (7, *hidden_sizes, 2)
    linear = [layer for layer in network if isinstance(layer, nn.Linear)]
    assert [(layer.in_features, layer.out_features) for layer in linear] == list(pairwise(widths))
    assert sum(p.numel() for p in network.parameters()) == sum((a + 1) * b for a, b in pairwise(widths))


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_mlp_has_dropout_after_every_hidden_layer(depth):
    network = mlp(7, [6] * depth, 2, dropout=0.3)
    assert [type(layer) for layer in network] == [nn.Linear, nn.ReLU, nn.Dropout] * depth + [nn.Linear]
    assert all(layer.p == 0.3 for layer in network if isinstance(layer, nn.Dropout))


def test_dropout_does_nothing_in_eval_mode():
    network = mlp(7, (64, 64), 2, dropout=0.5)
    x = torch.rand(20, 7, generator=generator(0))
    assert not torch.equal(network.train()(x), network(x))
    assert torch.equal(network.eval()(x), network(x))
    plain = mlp(7, (64, 64), 2)
    plain.load_state_dict(dict(zip(plain.state_dict(), network.state_dict().values())))
    assert torch.equal(network(x), plain(x))


@pytest.mark.parametrize("task, kind, outputs", [("classification", Classifier, 2), ("regression", Regressor, 1)])
def test_build_makes_a_model_that_takes_all_ten_columns_and_uses_its_own(task, kind, outputs):
    model = build({"task": task, **CONFIG}).eval()
    init_weights(model.network, generator(0))  # other weights may leave every hidden unit at 0
    assert type(model) is kind
    x = torch.rand(6, len(FEATURES), generator=generator(1))
    assert model(x).shape == (6, outputs) and model(x).dtype == torch.float32
    assert [layer.in_features for layer in model.network if isinstance(layer, nn.Linear)] == [3, 8, 4]
    unused = x.clone()
    unused[:, FEATURES.index("Shell weight")] += 1
    assert torch.equal(model(unused), model(x))
    used = x.clone()
    used[:, FEATURES.index("Height")] += 1
    assert not torch.equal(model(used), model(x))


def test_build_applies_the_clip():
    model = build({"task": "regression", **CONFIG, "clip": 2.0})
    far = torch.full((1, 10), 1e6)
    far[:, 0] = 1
    limit = torch.full((1, 10), 2.0)
    limit[:, 0] = 1
    assert torch.equal(model(far), model(limit))


def test_build_refuses_a_key_that_would_have_no_effect():
    with pytest.raises(ValueError, match="mlp has no batch_norm"):
        build({**CONFIG, "task": "regression", "batch_norm": True})


def test_build_refuses_an_unknown_architecture():
    with pytest.raises(ValueError, match="architecture is 'transformer', expected mlp or ring_ensemble"):
        build({**CONFIG, "task": "regression", "architecture": "transformer"})


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_a_model_is_rebuilt_from_config_and_state(task):
    model = build({"task": task, **CONFIG})
    x = torch.rand(6, 10, generator=generator(2))
    model.prepare.fit(x)
    if task == "regression":
        model.target_mean.fill_(9.9)
        model.target_scale.fill_(3.2)
    again = build({"task": task, **CONFIG})
    again.load_state_dict(model.state_dict())
    assert torch.equal(again(x), model(x))


def test_a_regressor_predicts_in_rings():
    model = build({"task": "regression", **CONFIG})
    x = torch.rand(6, 10, generator=generator(3))
    standardised = model(x)
    model.target_mean.fill_(10.0)
    model.target_scale.fill_(3.0)
    torch.testing.assert_close(model(x), 10 + 3 * standardised)


def test_init_weights_draws_from_the_same_distribution_as_torch():
    ours = nn.Linear(64, 2000)
    theirs = nn.Linear(64, 2000)
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        theirs.reset_parameters()
    init_weights(ours, generator(0))
    bound = 1 / math.sqrt(64)
    for mine, reference in zip(ours.parameters(), theirs.parameters()):
        # Uniform up to the same bound: same maximum and quantiles, standard deviation bound / sqrt(3).
        assert 0.99 * bound < mine.abs().max() <= bound and 0.99 * bound < reference.abs().max() <= bound
        assert mine.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.04)
        at = torch.tensor([0.1, 0.3, 0.5, 0.7, 0.9])
        torch.testing.assert_close(mine.quantile(at), reference.quantile(at), atol=0.08 * bound, rtol=0)


def test_init_weights_depends_on_its_generator_alone():
    def drawn(seed: int, elsewhere: int) -> torch.Tensor:
        torch.manual_seed(elsewhere)
        network = mlp(7, (8, 8), 2)
        before = torch.get_rng_state()
        init_weights(network, generator(seed))
        assert torch.equal(torch.get_rng_state(), before)
        return nn.utils.parameters_to_vector(network.parameters())

    with torch.random.fork_rng([]):
        assert torch.equal(drawn(0, elsewhere=1), drawn(0, elsewhere=2))
        assert not torch.isclose(drawn(0, elsewhere=1), drawn(3, elsewhere=1)).any()

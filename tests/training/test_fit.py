"""The training loop: that it is the guide's, that it is repeatable, and that it touches nothing else."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from abalone.data.labels import is_old
from abalone.data.reading import read
from abalone.data.splitting import Split, split
from abalone.evaluation.scores import predict, scores
from abalone.model.columns import FEATURES
from abalone.model.features import encode
from abalone.model.networks import build, init_weights
from abalone.settings import BadValue, StageSettings, load_settings
from abalone.training.beginning import seeds, targets
from abalone.training.fit import fit, flatten, unflatten
from abalone.training.history import SPLITS, TrainingDiverged
from abalone.training.torch_setup import Adam
from benchmarks.guide_loop import make_dataloaders, train_model

FAST = {"learning_rate": 0.01, "gamma": 1.0, "epochs": 15}  # overfits: its best epoch is not its last


class Data(NamedTuple):
    x: Tensor
    rings: np.ndarray
    split: Split


@pytest.fixture(scope="module")
def data() -> Data:
    dataset = read()
    return Data(encode(dataset.frame), dataset.frame["Rings"].to_numpy(), split(dataset, 0))


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """For the oracle too: matrices this small are slower on more."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def train(data: Data, stage: str, **overrides):
    return fit(load_settings(stage, {"epochs": 3, **overrides}), *data)


def weights(model: nn.Module) -> Tensor:
    return nn.utils.parameters_to_vector(model.network.parameters()).detach()


def first_rows(data: Data, n: int) -> Data:
    """The same data with only ``n`` rows in each part."""
    parts = [getattr(data.split, name)[:n] for name in SPLITS]
    return data._replace(split=Split(*parts, "few"))


# The guide's loop is the oracle.


def guide(data: Data, experiment: StageSettings):
    """Weights and curves of the guide's own loop, from the same first weights and in the same batch order."""
    init_seed, order_seed, _ = seeds(experiment.seed)
    model, rings = build(experiment.model_config()), torch.tensor(data.rings)
    init_weights(model.network, torch.Generator().manual_seed(init_seed))
    model.prepare.fit(data.x[data.split.train])
    if experiment.standardize_target:
        known = rings[data.split.train].double()
        model.target_mean.fill_(known.mean())
        model.target_scale.fill_(known.std(correction=0))
    order = torch.Generator().manual_seed(order_seed)
    y = targets(model, rings)
    loaders = make_dataloaders(model.prepare(data.x), y, data.split, experiment.batch_size, order)
    _, curves = train_model(model.network, loaders, experiment)
    return model, curves


@pytest.mark.parametrize(
    "stage, overrides",
    [
        ("classify", {}),
        ("regularize", {"batch_size": 100, "learning_rate": 3e-3}),
        ("deepen", {"batch_size": 5000, "seed": 3}),
        ("regress", {}),
        ("regress", {"standardize_target": False, "clip": 0, "checkpoint": "best"}),
    ],
)
def test_fit_is_the_guides_loop(data, stage, overrides):
    experiment = load_settings(stage, {"epochs": 3, "checkpoint": "last", **overrides})
    theirs, curves = guide(data, experiment)
    ours, history = fit(experiment, *data)
    assert (weights(ours) - weights(theirs)).abs().max() <= 1e-6
    for part in ("val", "test"):
        loss = np.array(curves[f"loss/{part}"]) * float(theirs.target_scale if stage == "regress" else 1) ** 2
        np.testing.assert_allclose(history.metrics[f"loss/{part}"], loss, rtol=1e-5)
        if stage != "regress":
            np.testing.assert_allclose(history.metrics[f"accuracy/{part}"], curves[f"accuracy/{part}"], rtol=1e-6)


def test_the_learning_rate_decays_by_gamma_every_epoch(data):
    _, history = train(first_rows(data, 40), "classify", learning_rate=0.01, gamma=0.5, epochs=6)
    np.testing.assert_allclose(history.metrics["learning_rate"], [0.01 * 0.5**e for e in range(6)], rtol=1e-12)


# Repeatable.


@pytest.mark.parametrize("stage", ["dropout", "regress"])
def test_the_same_seed_gives_the_same_bits_and_another_does_not(data, stage):
    model, history = train(data, stage)
    torch.rand(7)  # the global generator is elsewhere now
    again, same = train(data, stage)
    assert history == same and torch.equal(weights(model), weights(again))
    assert train(data, stage, seed=1)[1].metrics["loss/train"] != history.metrics["loss/train"]


def test_weights_order_and_dropout_have_seeds_of_their_own():
    assert seeds(0) == seeds(0) and len({*seeds(0), *seeds(1)}) == 6


@pytest.mark.parametrize("stage", ["dropout", "regress"])
def test_fit_leaves_the_process_as_it_was(data, stage):
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        few = first_rows(data, 40)
        x, rings = few.x.clone(), few.rings.copy()
        before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
        train(few, stage)
        after = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
        assert torch.equal(before[0], after[0]) and before[1:] == after[1:]
        assert torch.get_num_threads() == 2 and torch.is_grad_enabled() and torch.tensor(1e-40) * 1 > 0
        assert torch.equal(few.x, x) and np.array_equal(few.rings, rings)
    finally:
        torch.set_num_threads(threads)


# Only training rows train.


@pytest.mark.parametrize("stage", ["encode", "regress"])
def test_validation_and_test_rows_do_not_reach_the_model(data, stage):
    model, history = train(data, stage, checkpoint="last")
    changed, rings = data.x.clone(), data.rings.copy()
    for rows in (data.split.val, data.split.test):
        changed[rows, 3:] *= 2
        rings[rows] = 30 - rings[rows]
    other, moved = train(Data(changed, rings, data.split), stage, checkpoint="last")
    states = model.state_dict(), other.state_dict()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert "prepare.mean" in states[0] and (stage != "regress" or "target_mean" in states[0])
    for name, values in history.metrics.items():
        assert (values == moved.metrics[name]) == (name.endswith("/train") or name == "learning_rate")


@pytest.mark.parametrize("decoupled", [False, True])
def test_adam_takes_the_steps_of_torchs_own(decoupled):
    """Two groups with settings of their own, as ``rings`` has them, and a schedule, as ``fit`` has."""
    generator = torch.Generator().manual_seed(0)
    start = [torch.randn(3, 4, generator=generator), torch.randn(4, generator=generator)]
    gradients = [[torch.randn(p.shape, generator=generator) for p in start] for _ in range(30)]
    ended = []
    for kind in (Adam, torch.optim.Adam):
        weights, biases = parameters = [torch.nn.Parameter(p.clone()) for p in start]
        groups = [{"params": [weights]}, {"params": [biases], "weight_decay": 0}]
        settings = {"weight_decay": 0.5, "decoupled_weight_decay": decoupled, "fused": True}
        optimizer = kind(groups, 0.01, (0.9, 0.98), **settings)
        schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
        for gradient in gradients:
            for p, g in zip(parameters, gradient):
                p.grad = g
            optimizer.step()
            schedule.step()
        ended.append([p.detach() for p in parameters])
    assert all(torch.equal(ours, torchs) for ours, torchs in zip(*ended))


def test_preparation_is_fitted_on_the_training_rows(data):
    model, _ = train(data, "regress", features=FEATURES)
    known, rings = data.x[data.split.train, 3:].double().numpy(), data.rings[data.split.train]
    np.testing.assert_allclose(model.prepare.mean[3:], known.mean(0), rtol=1e-6)
    np.testing.assert_allclose(model.prepare.scale[3:], known.std(0), rtol=1e-6)
    assert model.target_mean.item() == pytest.approx(rings.mean()) and model.target_scale.item() == pytest.approx(
        rings.std()
    )


@pytest.mark.parametrize("stage, standardised", [("regress", False), ("encode", True)])
def test_the_target_stays_raw_where_it_is_asked_to(data, stage, standardised):
    model, _ = train(first_rows(data, 40), stage, standardize_target=standardised)
    assert getattr(model, "target_mean", 0) == 0 and getattr(model, "target_scale", 1) == 1


# The reported epoch.


@pytest.mark.parametrize("stage", ["deepen", "regress"])
def test_the_best_epoch_is_the_lowest_validation_loss_and_its_weights_come_back(data, stage):
    model, history = train(data, stage, **FAST)
    val = history.metrics["loss/val"]
    assert history.best_epoch == history.reported_epoch == np.argmin(val) + 1 < len(val) == 15
    stopped, _ = train(data, stage, **{**FAST, "epochs": history.best_epoch}, checkpoint="last")
    assert torch.equal(weights(model), weights(stopped))


def test_checkpoint_last_keeps_the_last_epoch(data):
    best, history = train(data, "deepen", **FAST)
    last, same = train(data, "deepen", **FAST, checkpoint="last")
    assert same.metrics == history.metrics and same.best_epoch == history.best_epoch
    assert same.reported_epoch == 15 and not torch.equal(weights(last), weights(best))


@pytest.mark.parametrize("checkpoint", ["best", "last"])
@pytest.mark.parametrize("stage", ["dropout", "regress"])
def test_the_curves_agree_with_the_model_that_comes_out(data, stage, checkpoint):
    overrides = {**FAST, "epochs": 8, "checkpoint": checkpoint}
    model, history = train(data, stage, **overrides)
    task = load_settings(stage).task
    for part in SPLITS:
        rows = getattr(data.split, part)
        scored = scores(task, data.rings[rows], predict(model, data.x[rows]))
        drawn = {name: history.metrics[f"{name}/{part}"][history.reported_epoch - 1] for name in ("loss", *scored)
                 if f"{name}/{part}" in history.metrics}  # fmt: skip
        if task == "classification":
            assert drawn == pytest.approx({"loss": scored["log_loss"], "accuracy": scored["accuracy"]}, rel=1e-5)
        else:
            assert drawn == pytest.approx({"loss": scored["rmse"] ** 2, "rmse": scored["rmse"]}, rel=1e-5)


def test_a_trained_model_is_an_ordinary_module(data):
    model, _ = train(first_rows(data, 40), "dropout")
    assert not model.training and not any(module.training for module in model.modules())
    for p in model.parameters():
        assert p.requires_grad and p.grad is None and p.untyped_storage().nbytes() == 4 * p.numel()
    again = copy.deepcopy(model)
    assert torch.equal(again(data.x), model(data.x))


# What a network that learns must be able to do.


@pytest.mark.parametrize("stage", ["deepen", "regress"])
def test_a_few_rows_can_be_learnt_by_heart(data, stage):
    overrides = {
        "features": FEATURES,
        "weight_decay": 0,
        "clip": 0,
        "learning_rate": 0.01,
        "gamma": 0.98,
        "epochs": 200,
    }
    _, history = train(first_rows(data, 16), stage, **overrides, checkpoint="last")
    assert history.metrics["loss/train"][-1] < 0.01 < history.metrics["loss/train"][0] / 10


def test_training_beats_the_majority_and_the_mean(data):
    test = data.rings[data.split.test]
    _, history = train(data, "classify")
    assert history.metrics["accuracy/test"][-1] > max(is_old(test).mean(), 1 - is_old(test).mean()) + 0.15
    _, history = train(data, "regress")
    assert history.metrics["rmse/test"][-1] < test.std() * 0.9


def test_weight_decay_shrinks_the_weights(data):
    norms = [weights(train(data, "encode", weight_decay=decay, epochs=5)[0]).norm() for decay in (0, 0.01, 0.1)]
    assert norms[0] > norms[1] > norms[2]


def test_dropout_changes_training_and_no_dropout_ignores_its_seed(data):
    with_dropout, without = (train(data, "dropout", dropout=p)[1].metrics["loss/train"] for p in (0.2, 0))
    assert with_dropout != without == train(data, "encode")[1].metrics["loss/train"]


def test_a_heavier_shell_means_an_older_animal_on_average(data):
    model, _ = train(data, "regress", features=FEATURES, epochs=8)
    heavier = data.x.clone()
    heavier[:, FEATURES.index("Shell weight")] *= 1.1
    assert predict(model, heavier).mean() > predict(model, data.x).mean() + 0.1


# Failing well.


def test_divergence_names_epoch_and_learning_rate_and_gives_everything_back(data):
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    deep = {"hidden_sizes": [64] * 24, "standardize_target": False, "clip": 0}
    with pytest.raises(TrainingDiverged, match=r"loss/train is nan at the end of epoch 1, .*learning_rate.* 1\.0"):
        train(data, "regress", learning_rate=1, **deep)
    assert torch.get_num_threads() == threads and torch.equal(torch.get_rng_state(), state)


def test_a_validation_loss_that_is_not_finite_is_divergence_too(data):
    x = data.x.clone()
    x[data.split.val[0]] = torch.nan
    with pytest.raises(TrainingDiverged, match="loss/val is nan at the end of epoch 1"):
        train(data._replace(x=x), "classify")


def test_a_gpu_that_is_not_there_is_refused(data, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(BadValue, match="device: 'cuda' is not available"):
        train(data, "classify", device="cuda")


@pytest.mark.filterwarnings("error")
def test_read_only_rings_as_pandas_gives_them_are_taken(data):
    assert not data.rings.flags.writeable
    torch.set_warn_always(True)  # torch complains of such arrays only once in a process
    try:
        train(first_rows(data, 40), "classify", epochs=1)
    finally:
        torch.set_warn_always(False)


# Flat parameters.


def test_flattened_parameters_are_views_and_become_their_own_again():
    network = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    x = torch.rand(5, 3, generator=torch.Generator().manual_seed(0))
    before = network(x)
    flat = flatten(network)
    assert flat.shape == (3 * 4 + 4 + 4 * 2 + 2,) and torch.equal(network(x), before)
    network(x).sum().backward()
    assert torch.equal(flat.grad, torch.cat([p.grad.flatten() for p in network.parameters()])) and flat.grad.any()
    with torch.no_grad():
        flat.zero_()
    assert not network(x).any()
    unflatten(network)
    with torch.no_grad():
        flat.fill_(1)
    assert not network(x).any() and all(p.grad is None for p in network.parameters())

"""``fit``: it agrees with the guide's loop, is repeatable, and changes nothing outside."""

from __future__ import annotations

import copy
import random

import numpy as np
import pytest
import torch
from torch import nn
from training_data import Data, first_rows, same_weights, train, weights

from abalone.evaluation.scores import predict, scores
from abalone.model.columns import FEATURES
from abalone.model.networks import build, init_weights
from abalone.settings import StageSettings, load_settings
from abalone.training.fit import fit
from abalone.training.history import SPLITS, TrainingDiverged
from abalone.training.initialization import derive_seeds, targets
from benchmarks.guide_loop import make_dataloaders, train_model

OVERFITTING = {"learning_rate": 0.01, "gamma": 1.0, "epochs": 15}  # its best epoch is not its last


# Agreement with the guide's loop.


def guide(data: Data, settings: StageSettings) -> tuple[nn.Module, dict[str, list[float]]]:
    """Model and curves of the guide's own loop, from the same initial weights and in the same batch order."""
    init_seed, order_seed, _ = derive_seeds(settings.seed)
    rings = torch.tensor(data.rings)
    model = build(settings.model_config())
    init_weights(model.network, torch.Generator().manual_seed(init_seed))
    model.prepare.fit(data.x[data.split.train])
    if settings.standardize_target:
        train_rings = rings[data.split.train].double()
        model.target_mean.fill_(train_rings.mean())
        model.target_scale.fill_(train_rings.std(correction=0))
    order = torch.Generator().manual_seed(order_seed)
    y = targets(model, rings)
    loaders = make_dataloaders(model.prepare(data.x), y, data.split, settings.batch_size, order)
    _, curves = train_model(model.network, loaders, settings)
    return model, curves


@pytest.mark.slow
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
def test_fit_agrees_with_the_guides_loop(data, stage, overrides):
    settings = load_settings(stage, {"epochs": 3, "checkpoint": "last", **overrides})
    theirs, curves = guide(data, settings)
    ours, history = fit(settings, *data)
    assert (weights(ours) - weights(theirs)).abs().max() <= 1e-6
    loss_unit = float(theirs.target_scale) ** 2 if stage == "regress" else 1.0  # the guide's loss is standardised
    for part in ("val", "test"):
        loss = np.array(curves[f"loss/{part}"]) * loss_unit
        np.testing.assert_allclose(history.metrics[f"loss/{part}"], loss, rtol=1e-5)
        if stage != "regress":
            np.testing.assert_allclose(history.metrics[f"accuracy/{part}"], curves[f"accuracy/{part}"], rtol=1e-6)


def test_the_learning_rate_decays_by_gamma_every_epoch(data):
    _, history = train(first_rows(data, 40), "classify", learning_rate=0.01, gamma=0.5, epochs=6)
    np.testing.assert_allclose(history.metrics["learning_rate"], [0.01 * 0.5**e for e in range(6)], rtol=1e-12)


# Repeatability.


@pytest.mark.parametrize("stage", ["dropout", "regress"])
def test_the_same_seed_gives_the_same_bits_and_another_does_not(data, stage):
    model, history = train(data, stage)
    torch.rand(7)  # advances the global generator
    again, same_history = train(data, stage)
    assert history == same_history
    assert same_weights(model, again)
    _, other_history = train(data, stage, seed=1)
    assert other_history.metrics["loss/train"] != history.metrics["loss/train"]


def test_weights_order_and_dropout_have_independent_seeds():
    assert derive_seeds(0) == derive_seeds(0)
    assert len({*derive_seeds(0), *derive_seeds(1)}) == 6


@pytest.mark.parametrize("stage", ["dropout", "regress"])
def test_fit_leaves_the_process_as_it_was(data, stage):
    few = first_rows(data, 40)
    x = few.x.clone()
    rings = few.rings.copy()
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        torch_state = torch.get_rng_state()
        numpy_state = np.random.get_state()[1].tolist()
        python_state = random.getstate()
        train(few, stage)
        assert torch.equal(torch.get_rng_state(), torch_state)
        assert np.random.get_state()[1].tolist() == numpy_state
        assert random.getstate() == python_state
        assert torch.get_num_threads() == 2
        assert torch.is_grad_enabled()
        assert torch.tensor(1e-40) * 1 > 0, "denormal numbers are flushed no longer"
        assert torch.equal(few.x, x)
        assert np.array_equal(few.rings, rings)
    finally:
        torch.set_num_threads(threads)


# Only training rows train.


@pytest.mark.parametrize("stage", ["encode", "regress"])
def test_validation_and_test_rows_do_not_reach_the_model(data, stage):
    model, history = train(data, stage, checkpoint="last")
    changed_x = data.x.clone()
    changed_rings = data.rings.copy()
    for rows in (data.split.val, data.split.test):
        changed_x[rows, 3:] *= 2
        changed_rings[rows] = 30 - changed_rings[rows]
    other, other_history = train(Data(changed_x, changed_rings, data.split), stage, checkpoint="last")

    state = model.state_dict()
    other_state = other.state_dict()
    assert "prepare.mean" in state
    if stage == "regress":
        assert "target_mean" in state
    for name in state:
        assert torch.equal(state[name], other_state[name]), name
    for name, values in history.metrics.items():
        unchanged = values == other_history.metrics[name]
        assert unchanged == (name.endswith("/train") or name == "learning_rate"), name


def test_preparation_is_fitted_on_the_training_rows(data):
    model, _ = train(data, "regress", features=FEATURES)
    measurements = data.x[data.split.train, 3:].double().numpy()
    rings = data.rings[data.split.train]
    np.testing.assert_allclose(model.prepare.mean[3:], measurements.mean(0), rtol=1e-6)
    np.testing.assert_allclose(model.prepare.scale[3:], measurements.std(0), rtol=1e-6)
    assert model.target_mean.item() == pytest.approx(rings.mean())
    assert model.target_scale.item() == pytest.approx(rings.std())


@pytest.mark.parametrize("stage, standardised", [("regress", False), ("encode", True)])
def test_the_target_stays_raw_without_standardisation_and_in_classification(data, stage, standardised):
    model, _ = train(first_rows(data, 40), stage, standardize_target=standardised)
    assert getattr(model, "target_mean", 0) == 0
    assert getattr(model, "target_scale", 1) == 1


# The reported epoch.


@pytest.mark.parametrize("stage", ["deepen", "regress"])
def test_the_best_epoch_has_the_lowest_validation_loss_and_its_weights_are_restored(data, stage):
    model, history = train(data, stage, **OVERFITTING)
    losses = history.metrics["loss/val"]
    assert len(losses) == 15
    assert history.best_epoch == history.reported_epoch == np.argmin(losses) + 1
    assert history.best_epoch < 15
    overrides = {**OVERFITTING, "epochs": history.best_epoch, "checkpoint": "last"}
    stopped, _ = train(data, stage, **overrides)
    assert same_weights(model, stopped)


def test_checkpoint_last_keeps_the_last_epoch(data):
    best, history = train(data, "deepen", **OVERFITTING)
    last, last_history = train(data, "deepen", **OVERFITTING, checkpoint="last")
    assert last_history.metrics == history.metrics
    assert last_history.best_epoch == history.best_epoch
    assert last_history.reported_epoch == 15
    assert not same_weights(last, best)


@pytest.mark.parametrize("checkpoint", ["best", "last"])
@pytest.mark.parametrize("stage", ["dropout", "regress"])
def test_the_curves_agree_with_the_scores_of_the_returned_model(data, stage, checkpoint):
    overrides = {**OVERFITTING, "epochs": 8, "checkpoint": checkpoint}
    model, history = train(data, stage, **overrides)
    task = load_settings(stage).task
    for part in SPLITS:
        rows = getattr(data.split, part)
        scored = scores(task, data.rings[rows], predict(model, data.x[rows]))
        if task == "classification":
            expected = {"loss": scored["log_loss"], "accuracy": scored["accuracy"]}
        else:
            expected = {"loss": scored["rmse"] ** 2, "rmse": scored["rmse"]}
        suffix = f"/{part}"
        curves = {name.removesuffix(suffix): c for name, c in history.metrics.items() if name.endswith(suffix)}
        reported = {name: curve[history.reported_epoch - 1] for name, curve in curves.items()}
        assert reported == pytest.approx(expected, rel=1e-5)


def test_a_trained_model_is_an_ordinary_module(data):
    model, _ = train(first_rows(data, 40), "dropout")
    assert not any(module.training for module in model.modules())
    for p in model.parameters():
        assert p.requires_grad
        assert p.grad is None
        assert p.untyped_storage().nbytes() == 4 * p.numel()
    again = copy.deepcopy(model)
    assert torch.equal(again(data.x), model(data.x))


# Errors.


def test_divergence_names_epoch_and_learning_rate_and_restores_the_process(data):
    threads = torch.get_num_threads()
    state = torch.get_rng_state()
    deep = {"hidden_sizes": [64] * 24, "standardize_target": False, "clip": 0}
    with pytest.raises(TrainingDiverged, match=r"loss/train is nan at the end of epoch 1, .*learning_rate.* 1\.0"):
        train(data, "regress", learning_rate=1, **deep)
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)


def test_a_validation_loss_that_is_not_finite_is_divergence_too(data):
    x = data.x.clone()
    x[data.split.val[0]] = torch.nan
    with pytest.raises(TrainingDiverged, match="loss/val is nan at the end of epoch 1"):
        train(data._replace(x=x), "classify")


@pytest.mark.filterwarnings("error")
def test_read_only_rings_from_pandas_are_accepted(data):
    assert not data.rings.flags.writeable
    torch.set_warn_always(True)  # else torch warns of such arrays only once in a process
    try:
        train(first_rows(data, 40), "classify", epochs=1)
    finally:
        torch.set_warn_always(False)

"""The engines agree on every stage file of ``experiments/``, and refuse what they do not implement."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn
from training_data import Data, first_rows, weights

from abalone.model import networks
from abalone.settings import EXPERIMENTS_FOLDER, RingsSettings, StageSettings, load_settings, read_toml
from abalone.training.fit import fit
from abalone.training.implemented import NotImplementedByEngine
from abalone.training.initialization import untrained_model
from abalone.training.population import fit_many
from abalone.training.ring_ensemble import fit_rings
from benchmarks.guide_loop import make_dataloaders, train_model

STAGE_FILES = [path.stem for path in sorted(EXPERIMENTS_FOLDER.glob("*.toml")) if "task" in read_toml(path.stem)]
EPOCHS = 6


@pytest.fixture(scope="module")
def few(data: Data) -> Data:
    """A few rows in float64, so that rounding does not drive two trainings apart."""
    part = first_rows(data, 300)
    return part._replace(x=part.x.double())


def guides_loop(data: Data, settings: StageSettings) -> nn.Module:
    """The model as a plain loop over ``DataLoader`` trains it, from the same weights and batches."""
    model, y, order = untrained_model(settings, *data)
    loaders = make_dataloaders(model.prepare(data.x), y, data.split, settings.batch_size, order)
    for loader in loaders.values():
        loader.generator = torch.Generator()  # otherwise it draws from the global one, as dropout's masks do
    train_model(model.network, loaders, settings)
    return model


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGE_FILES)
def test_fit_is_the_guides_loop_for_every_stage_file(few, stage):
    settings = load_settings(stage, {"epochs": EPOCHS, "device": "cpu"})
    model, _ = fit(settings, *few)
    expected = guides_loop(few, settings).state_dict()
    assert model.state_dict().keys() == expected.keys()
    for name, values in model.state_dict().items():
        torch.testing.assert_close(values, expected[name], rtol=1e-6, atol=1e-8, msg=name)


@pytest.mark.parametrize("stage", STAGE_FILES)
def test_a_study_of_every_stage_file_trains_what_fit_trains_or_refuses_to(few, stage):
    settings = load_settings(stage, {"epochs": EPOCHS, "device": "cpu"})
    try:
        [(model, history)] = fit_many([settings], *few)
    except NotImplementedByEngine as refusal:
        assert "fit_many does not implement" in str(refusal)
        return
    expected, expected_history = fit(settings, *few)
    torch.testing.assert_close(weights(model), weights(expected), rtol=0, atol=1e-10)
    np.testing.assert_allclose(history.metrics["loss/val"], expected_history.metrics["loss/val"], rtol=0, atol=1e-10)


@pytest.fixture
def batch_norm(monkeypatch):
    """Put batch normalisation after every hidden layer, as a reader of the code might."""
    plain = networks.mlp

    def with_batch_norm(*args) -> nn.Sequential:
        layers = []
        for layer in plain(*args):
            layers.append(layer)
            if isinstance(layer, nn.ReLU):
                layers.append(nn.BatchNorm1d(layers[-2].out_features))
        return nn.Sequential(*layers)

    monkeypatch.setattr(networks, "mlp", with_batch_norm)


def test_the_best_epochs_running_statistics_are_restored_with_its_weights(few, batch_norm):
    settings = load_settings("classify", {"epochs": 30, "learning_rate": 0.02, "device": "cpu"})
    model, history = fit(settings, *few)
    assert history.reported_epoch < settings.epochs, "otherwise this proves nothing"
    short, _ = fit(load_settings("classify", {**vars(settings), "epochs": history.best_epoch}), *few)
    for name, values in short.state_dict().items():
        assert torch.equal(model.state_dict()[name], values), name
    rows = few.split.val
    old = torch.from_numpy((few.rings[rows] >= 10).astype(int))
    loss = nn.functional.cross_entropy(model(few.x[rows]), old).item()
    assert loss == pytest.approx(history.metrics["loss/val"][history.best_epoch - 1], rel=1e-9)


def test_fit_with_batch_norm_is_the_guides_loop(few, batch_norm):
    settings = load_settings("deepen", {"epochs": EPOCHS, "device": "cpu"})
    model, _ = fit(settings, *few)
    expected = guides_loop(few, settings).state_dict()
    for name, values in model.state_dict().items():
        torch.testing.assert_close(values, expected[name], rtol=1e-6, atol=1e-8, msg=name)


def test_fit_many_refuses_a_layer_that_it_does_not_compute_by_name(few, batch_norm):
    with pytest.raises(NotImplementedByEngine, match="fit_many does not implement the layer BatchNorm1d"):
        fit_many([load_settings("deepen", {"epochs": 1})], *few)


def test_fit_many_refuses_known_layers_in_another_order(few, monkeypatch):
    def relu_last(inputs, hidden_sizes, outputs, *options):
        return nn.Sequential(nn.Linear(inputs, outputs), nn.ReLU())

    monkeypatch.setattr(networks, "mlp", relu_last)
    with pytest.raises(NotImplementedByEngine, match="the order of layers Linear-ReLU; it trains Linear-ReLU-Linear"):
        fit_many([load_settings("deepen", {"epochs": 1, "hidden_sizes": "8"})], *few)


@dataclass(frozen=True)
class MoreSettings(StageSettings):
    momentum: float = 0.9


@dataclass(frozen=True)
class MoreRingsSettings(RingsSettings):
    momentum: float = 0.9


def test_every_engine_refuses_a_setting_that_it_does_not_know(few):
    settings = MoreSettings(**vars(load_settings("classify")))
    with pytest.raises(NotImplementedByEngine, match=r"^fit does not implement the setting momentum"):
        fit(settings, *few)
    with pytest.raises(NotImplementedByEngine, match=r"^fit_many does not implement .* momentum"):
        fit_many([settings], *few)
    with pytest.raises(NotImplementedByEngine, match=r"^fit_rings does not implement the setting momentum"):
        fit_rings(MoreRingsSettings(**vars(load_settings("rings"))), few.x, few.rings, few.split.train)

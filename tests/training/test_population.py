"""A population gives what ``fit`` gives, one by one, whoever else is in it."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from abalone.data.reading import read
from abalone.data.splitting import split
from abalone.model.columns import FEATURES
from abalone.model.features import encode
from abalone.settings import StageSettings, load_settings
from abalone.training.fit import fit
from abalone.training.history import TrainingDiverged
from abalone.training.members import untrained_members
from abalone.training.population import _Group, fit_many

DEEPEN = load_settings("deepen", {"device": "cpu", "epochs": 3})
REGRESS = load_settings("regress", {"device": "cpu", "epochs": 3})


@pytest.fixture(scope="module")
def data():
    """Few rows, so that a test takes a moment: the first 400 of the data set."""
    dataset = read("uci")
    small = replace(dataset, frame=dataset.frame.iloc[:400])
    return encode(small.frame), small.frame["Rings"].to_numpy(), split(small, 0)


def double(data):
    x, rings, rows = data
    return x.double(), rings, rows


def weights(model) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def assert_same(one, other, tolerance: float) -> None:
    """Two results of a training: every curve, the epochs, every weight."""
    (model, history), (other_model, other_history) = one, other
    assert history.metrics.keys() == other_history.metrics.keys()
    for name, values in history.metrics.items():
        np.testing.assert_allclose(values, other_history.metrics[name], rtol=0, atol=tolerance, err_msg=name)
    assert (history.best_epoch, history.reported_epoch) == (other_history.best_epoch, other_history.reported_epoch)
    torch.testing.assert_close(weights(model), weights(other_model), rtol=0, atol=tolerance)
    assert not model.training


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"weight_decay": 0.01},
        {"dropout": 0.3},
        {"checkpoint": "last"},
        {"hidden_sizes": "20"},
        {"hidden_sizes": "70,33,16,5"},
        {"batch_size": 7},
        {"batch_size": 100_000},
        {"features": "F,Height,Shell_weight", "clip": 2},
    ],
    ids=str,
)
@pytest.mark.parametrize("base", [DEEPEN, REGRESS], ids=lambda e: e.task)
def test_ten_epochs_in_float64_are_those_of_fit(data, base, settings):
    experiment = StageSettings.from_mapping({**vars(base), "epochs": 10, "learning_rate": 0.01, **settings})
    [result] = fit_many([experiment], *double(data))
    assert_same(result, fit(experiment, *double(data)), 1e-10)


def mixed() -> list[StageSettings]:
    """Both tasks, all shapes, every setting different."""
    shapes = [(64,), (64, 64), (50, 64), (64, 64, 64), (16, 8), (40,) * 4]
    return [
        replace(
            DEEPEN if i % 2 else REGRESS,
            hidden_sizes=shapes[i % len(shapes)],
            learning_rate=1e-3 * 1.2**i,
            gamma=1 - 0.01 * i,
            weight_decay=0.0 if i % 3 else 1e-3 * i,
            dropout=0.0 if i % 5 else 0.2,
            batch_size=(32, 48)[i % 2],
            epochs=6 + i % 5,
            seed=i,
        )
        for i in range(24)
    ]


def test_a_mixed_population_is_that_of_fit_member_by_member(data):
    for experiment, result in zip(mixed(), fit_many(mixed(), *double(data))):
        assert_same(result, fit(experiment, *double(data)), 1e-10)


def test_a_members_result_does_not_depend_on_its_place_or_on_who_else_is_there(data):
    members = mixed()
    together, backwards = fit_many(members, *data), fit_many(members[::-1], *data)[::-1]
    few = fit_many(members[3:9], *data)
    for result, other in [*zip(together, backwards), *zip(together[3:9], few)]:
        assert_same(result, other, 0)


def test_twins_are_equal_to_the_last_bit_in_all_places_of_all_groups(data):
    results = fit_many([DEEPEN] * 19, *data)
    for other in results[1:]:
        assert_same(results[0], other, 0)


def test_each_member_may_have_a_split_of_its_own(data):
    dataset = read("uci")
    small = replace(dataset, frame=dataset.frame.iloc[:400])
    members = [replace(DEEPEN, seed=seed) for seed in range(3)]
    splits = [split(small, seed) for seed in range(3)]
    x, rings, _ = double(data)
    for experiment, rows, result in zip(members, splits, fit_many(members, x, rings, splits)):
        assert_same(result, fit(experiment, x, rings, rows), 1e-10)


def test_without_the_train_curves_all_else_is_the_same(data):
    members, (x, rings, rows) = mixed(), data
    rows = replace(rows, train=np.tile(rows.train, 3))  # more of them than are evaluated at once
    whole, part = (fit_many(members, x, rings, rows, train_curves=wanted) for wanted in (True, False))
    for (_, full), one in zip(whole, part, strict=True):
        for name in [name for name in full.metrics if name.endswith("/train")]:
            del full.metrics[name]
        assert full.metrics == one[1].metrics and "loss/val" in full.metrics
    assert all(torch.equal(weights(a), weights(b)) for (a, _), (b, _) in zip(whole, part))


def test_members_that_are_stopped_end_there_and_the_others_go_on_undisturbed(data):
    """As a study prunes: six of eight leave, so that the group is made smaller; the rest notice nothing."""
    members = [replace(DEEPEN, seed=seed, epochs=9) for seed in range(8)]
    seen = []

    def stop(epoch, losses):
        seen.append(losses)
        return range(6) if epoch == 4 else []

    x, rings, rows = double(data)
    results = fit_many(members, x, rings, rows, stop=stop)
    for place, (experiment, result) in enumerate(zip(members, results)):
        epochs = 4 if place < 6 else 9
        assert len(result[1].metrics["loss/val"]) == epochs
        assert_same(result, fit(replace(experiment, epochs=epochs), x, rings, rows), 1e-10)
    losses = np.array(seen)  # [epochs, K]
    np.testing.assert_array_equal(losses[:, 7], results[7][1].metrics["loss/val"])
    assert np.isnan(losses[4:, :6]).all() and not np.isnan(losses[:4]).any()


def test_the_computation_shrinks_when_half_have_left(data, monkeypatch):

    sizes = []
    train = _Group.train_epoch
    monkeypatch.setattr(_Group, "train_epoch", lambda group: (sizes.append(len(group.members)), train(group)))
    members = [replace(DEEPEN, seed=seed, epochs=5) for seed in range(8)]
    fit_many(members, *data, stop=lambda epoch, losses: {1: [0, 1, 2], 2: [3], 4: [4, 5]}.get(epoch, []))
    assert sizes == [8, 8, 4, 4, 2]


def test_a_member_that_diverges_says_so_and_does_not_disturb_the_others(data):
    x, rings, rows = data
    bad = x.clone()
    bad[rows.val[0], FEATURES.index("Length")] = 3e38  # finite, but not once it is standardised
    wild = replace(REGRESS, clip=0.0)
    with pytest.raises(TrainingDiverged) as expected:
        fit(wild, bad, rings, rows)
    calm = replace(REGRESS, features=("Height", "Diameter"))
    results = fit_many([wild, calm], bad, rings, rows)
    assert isinstance(results[0], TrainingDiverged)
    assert str(results[0]).split(" is ")[0] == str(expected.value).split(" is ")[0]
    assert_same(results[1], fit_many([calm], bad, rings, rows)[0], 0)


def test_the_lowest_learning_rate_does_not_move_a_weight_and_breaks_nothing(data):
    [(still, history)] = fit_many([replace(DEEPEN, learning_rate=1e-38, gamma=0.5, weight_decay=0.01)], *data)
    assert all(math.isfinite(value) for value in history.metrics["loss/val"])
    [(begun, _)] = fit_many([replace(DEEPEN, learning_rate=1e-38, epochs=1)], *data)
    assert_same((still, history), (begun, history), 1e-6)


def test_the_global_generator_is_left_as_it_was(data):
    before = torch.get_rng_state()
    fit_many([DEEPEN, replace(DEEPEN, dropout=0.5)], *data)
    assert torch.equal(before, torch.get_rng_state())


def test_on_another_device_all_that_computes_lives_there(data, monkeypatch):

    x, rings, rows = data
    monkeypatch.setattr(population, "find_device", lambda name: torch.device("meta"))  # stands in for a GPU
    for experiment in (replace(DEEPEN, dropout=0.2, weight_decay=0.01), REGRESS):
        group = _Group(untrained_members([experiment] * 2, x, rings, [rows] * 2), True)
        group.train_epoch()
        assert group._predict().device.type == "meta"
        held = [group.x, group.y, group.table, group.keep, *(t for layer in group.layers for t in layer.kept)]
        held += [t for room in group.rooms.values() for t in (room.x, room.y, *room.h, *room.z, *room.noise)]
        assert {tensor.device.type for tensor in held} == {"meta"}


def test_nobody_is_trained_where_nobody_is_given(data):
    assert fit_many([], *data) == []

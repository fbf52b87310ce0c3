"""``fit_many`` gives what ``fit`` gives one by one, whichever members are trained together."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.overrides import TorchFunctionMode
from training_data import Data, same_weights, weights

from abalone.data.reading import Dataset, read
from abalone.data.splitting import split
from abalone.model.columns import FEATURES
from abalone.model.features import encode
from abalone.settings import StageSettings, load_settings
from abalone.training.fit import fit
from abalone.training.group import Group
from abalone.training.group_evaluation import predict
from abalone.training.history import TrainingDiverged
from abalone.training.population import fit_many
from abalone.training.population_members import untrained_members

DEEPEN = load_settings("deepen", {"device": "cpu", "epochs": 3})
REGRESS = load_settings("regress", {"device": "cpu", "epochs": 3})


def small_dataset() -> Dataset:
    """The first 400 rows, so that a test takes a moment."""
    dataset = read("uci")
    return replace(dataset, frame=dataset.frame.iloc[:400])


@pytest.fixture(scope="module")
def data() -> Data:
    small = small_dataset()
    return Data(x=encode(small.frame), rings=small.frame["Rings"].to_numpy(), split=split(small, 0))


def in_float64(data: Data) -> Data:
    return data._replace(x=data.x.double())


def assert_same(result, expected, tolerance: float) -> None:
    """Compare two results of a training: every curve, the epochs, every weight."""
    model, history = result
    expected_model, expected_history = expected
    assert history.metrics.keys() == expected_history.metrics.keys()
    for name, values in history.metrics.items():
        np.testing.assert_allclose(values, expected_history.metrics[name], rtol=0, atol=tolerance, err_msg=name)
    assert history.best_epoch == expected_history.best_epoch
    assert history.reported_epoch == expected_history.reported_epoch
    torch.testing.assert_close(weights(model), weights(expected_model), rtol=0, atol=tolerance)
    assert not model.training


@pytest.mark.parametrize(
    "overrides",
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
@pytest.mark.parametrize("base", [DEEPEN, REGRESS], ids=lambda settings: settings.task)
def test_ten_epochs_in_float64_are_those_of_fit(data, base, overrides):
    settings = StageSettings.from_mapping({**vars(base), "epochs": 10, "learning_rate": 0.01, **overrides})
    [result] = fit_many([settings], *in_float64(data))
    assert_same(result, fit(settings, *in_float64(data)), 1e-10)


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


def test_every_member_of_a_mixed_population_equals_fit(data):
    for settings, result in zip(mixed(), fit_many(mixed(), *in_float64(data)), strict=True):
        assert_same(result, fit(settings, *in_float64(data)), 1e-10)


def test_a_members_result_depends_neither_on_its_place_nor_on_the_other_members(data):
    together = fit_many(mixed(), *data)
    backwards = fit_many(mixed()[::-1], *data)
    few = fit_many(mixed()[3:9], *data)
    for result, expected in zip(backwards[::-1], together, strict=True):
        assert_same(result, expected, 0)
    for result, expected in zip(few, together[3:9], strict=True):
        assert_same(result, expected, 0)


def test_equal_settings_give_equal_bits_in_every_place_of_every_group(data):
    results = fit_many([DEEPEN] * 19, *data)
    for other in results[1:]:
        assert_same(results[0], other, 0)


def test_each_member_may_have_its_own_split(data):
    small = small_dataset()
    members = [replace(DEEPEN, seed=seed) for seed in range(3)]
    splits = [split(small, seed) for seed in range(3)]
    x, rings, _ = in_float64(data)
    results = fit_many(members, x, rings, splits)
    for settings, rows, result in zip(members, splits, results, strict=True):
        assert_same(result, fit(settings, x, rings, rows), 1e-10)


def test_without_the_train_curves_everything_else_is_the_same(data):
    x, rings, rows = data
    rows = replace(rows, train=np.tile(rows.train, 3))  # more than are evaluated at once
    complete = fit_many(mixed(), x, rings, rows, train_curves=True)
    partial = fit_many(mixed(), x, rings, rows, train_curves=False)
    for (model, history), (expected_model, expected_history) in zip(partial, complete, strict=True):
        expected = {name: c for name, c in expected_history.metrics.items() if not name.endswith("/train")}
        assert len(expected) < len(expected_history.metrics)
        assert "loss/val" in expected
        assert history.metrics == expected
        assert same_weights(model, expected_model)


def test_stopped_members_end_there_and_the_others_are_not_affected(data):
    """As a study prunes: six of eight members leave, so that the group is made smaller."""
    members = [replace(DEEPEN, seed=seed, epochs=9) for seed in range(8)]
    seen = []

    def stop(epoch, losses):
        seen.append(losses)
        return range(6) if epoch == 4 else []

    x, rings, rows = in_float64(data)
    results = fit_many(members, x, rings, rows, stop=stop)
    for place, (settings, result) in enumerate(zip(members, results, strict=True)):
        epochs = 4 if place < 6 else 9
        assert len(result[1].metrics["loss/val"]) == epochs
        assert_same(result, fit(replace(settings, epochs=epochs), x, rings, rows), 1e-10)
    losses = np.array(seen)  # [epochs, K]
    np.testing.assert_array_equal(losses[:, 7], results[7][1].metrics["loss/val"])
    assert np.isnan(losses[4:, :6]).all()
    assert not np.isnan(losses[:4]).any()


class StackHeights(TorchFunctionMode):
    """Records how many matrices the calls of ``torch.bmm`` multiply at once."""

    def __init__(self):
        super().__init__()
        self.seen: set[int] = set()

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is torch.bmm:
            self.seen.add(len(args[0]))
        return func(*args, **(kwargs or {}))


def test_the_computation_shrinks_when_half_of_the_members_have_finished(data):
    members = [replace(DEEPEN, seed=seed, epochs=5) for seed in range(8)]
    heights = StackHeights()
    by_epoch = []

    def stop(epoch, losses):
        by_epoch.append(heights.seen)
        heights.seen = set()
        return {1: [0, 1, 2], 2: [3], 4: [4, 5]}.get(epoch, [])

    with heights:
        fit_many(members, *data, stop=stop)
    assert by_epoch == [{8}, {8}, {4}, {4}, {2}]


def test_a_member_that_diverges_is_reported_and_does_not_affect_the_others(data):
    x, rings, rows = data
    bad = x.clone()
    bad[rows.val[0], FEATURES.index("Length")] = 3e38  # finite, but not once it is standardised
    diverging = replace(REGRESS, clip=0.0)
    with pytest.raises(TrainingDiverged) as expected:
        fit(diverging, bad, rings, rows)
    unaffected = replace(REGRESS, features=("Height", "Diameter"))
    error, result = fit_many([diverging, unaffected], bad, rings, rows)
    assert isinstance(error, TrainingDiverged)
    assert str(error).split(" is ")[0] == str(expected.value).split(" is ")[0]
    [alone] = fit_many([unaffected], bad, rings, rows)
    assert_same(result, alone, 0)


def test_the_lowest_learning_rate_moves_no_weight_and_stays_finite(data):
    lowest = replace(DEEPEN, learning_rate=1e-38)
    [(model, history)] = fit_many([replace(lowest, gamma=0.5, weight_decay=0.01)], *data)
    assert all(math.isfinite(value) for value in history.metrics["loss/val"])
    [(after_one_epoch, _)] = fit_many([replace(lowest, epochs=1)], *data)
    assert_same((model, history), (after_one_epoch, history), 1e-6)


def test_the_global_generator_is_restored(data):
    before = torch.get_rng_state()
    fit_many([DEEPEN, replace(DEEPEN, dropout=0.5)], *data)
    assert torch.equal(before, torch.get_rng_state())


def test_everything_that_computes_is_on_the_groups_device(data):
    """The meta device stands in for a GPU."""
    x, rings, rows = data
    for settings in (replace(DEEPEN, dropout=0.2, weight_decay=0.01), REGRESS):
        group = Group(untrained_members([settings] * 2, x, rings, [rows] * 2), torch.device("meta"))
        group.train_epoch()
        assert predict(group.rows, group.layers).device.type == "meta"
        held = [group.rows.x, group.rows.y, group.rows.table, group.trainer.keep]
        for layer in group.layers:
            held += layer.kept()
        for buffers in group.trainer.buffers.values():
            held += [buffers.x, buffers.y, *buffers.h, *buffers.z, *buffers.noise]
        assert {tensor.device.type for tensor in held} == {"meta"}


def test_an_empty_population_gives_an_empty_list(data):
    assert fit_many([], *data) == []

"""What a network that learns must be able to do."""

from __future__ import annotations

import pytest
from training_data import first_rows, train, weights

from abalone.data.labels import is_old
from abalone.evaluation.scores import predict
from abalone.model.columns import FEATURES


@pytest.mark.parametrize("stage", ["deepen", "regress"])
def test_a_few_rows_can_be_overfitted(data, stage):
    overrides = {
        "features": FEATURES,
        "weight_decay": 0,
        "clip": 0,
        "learning_rate": 0.01,
        "gamma": 0.98,
        "epochs": 200,
    }
    _, history = train(first_rows(data, 16), stage, **overrides, checkpoint="last")
    losses = history.metrics["loss/train"]
    assert losses[-1] < 0.01 < losses[0] / 10


def test_training_beats_the_majority_and_the_mean(data):
    test_rings = data.rings[data.split.test]
    share_old = is_old(test_rings).mean()
    _, history = train(data, "classify")
    assert history.metrics["accuracy/test"][-1] > max(share_old, 1 - share_old) + 0.15
    _, history = train(data, "regress")
    assert history.metrics["rmse/test"][-1] < test_rings.std() * 0.9


def test_weight_decay_shrinks_the_weights(data):
    norms = []
    for weight_decay in (0, 0.01, 0.1):
        model, _ = train(data, "encode", weight_decay=weight_decay, epochs=5)
        norms.append(weights(model).norm())
    assert norms[0] > norms[1] > norms[2]


def test_dropout_changes_training_and_its_seed_does_nothing_without_it(data):
    _, with_dropout = train(data, "dropout", dropout=0.2)
    _, without_dropout = train(data, "dropout", dropout=0)
    _, encode = train(data, "encode")
    assert with_dropout.metrics["loss/train"] != without_dropout.metrics["loss/train"]
    assert without_dropout.metrics["loss/train"] == encode.metrics["loss/train"]


def test_a_heavier_shell_means_an_older_animal_on_average(data):
    model, _ = train(data, "regress", features=FEATURES, epochs=8)
    heavier = data.x.clone()
    heavier[:, FEATURES.index("Shell weight")] *= 1.1
    assert predict(model, heavier).mean() > predict(model, data.x).mean() + 0.1

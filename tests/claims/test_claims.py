"""What claims measure: the scores of models that were trained on the splits of several seeds."""

from __future__ import annotations

import time

import pytest
import torch
from torch import nn

from abalone.claims.claims import measure_stages, train_stages
from abalone.data.reading import read
from abalone.data.splitting import split
from abalone.evaluation.scores import predict, scores
from abalone.model.features import encode
from abalone.settings import STAGES, UserError, load_settings
from abalone.training.fit import fit


def test_what_is_measured_is_what_fit_and_scores_give(measured):
    dataset = read()
    rows = split(dataset, 2)
    x = encode(dataset.frame)
    rings = dataset.frame["Rings"].to_numpy()
    model, history = fit(load_settings("encode", {"epochs": 6, "seed": 2}), x, rings, rows)
    expected = scores("classification", rings[rows.test], predict(model, x[rows.test]))
    encode_stage = measured["encode"]
    assert encode_stage["log_loss"][2] == pytest.approx(expected["log_loss"], abs=2e-3)
    assert encode_stage["loss/test"][2] == pytest.approx(history.metrics["loss/test"], abs=2e-3)
    assert encode_stage["loss/test"].shape == (3, 6)
    assert "loss/test" not in measured["deepen"]
    balanced = (encode_stage["tpr"] + 1 - encode_stage["fpr"]) / 2
    assert encode_stage["balanced_accuracy"] == pytest.approx(balanced)


def test_every_model_is_scored_on_the_test_rows_of_its_own_seed(trained, measured):
    dataset = read()
    x = encode(dataset.frame)
    rings = dataset.frame["Rings"].to_numpy()
    for stage, task in (("dropout", "classification"), ("regress", "regression")):
        for seed, (model, _) in enumerate(trained[stage]):
            test = split(dataset, seed).test
            for name, score in scores(task, rings[test], predict(model, x[test])).items():
                assert measured[stage][name][seed] == pytest.approx(score, abs=1e-6)


class ThreadCounter(nn.Module):
    """A model that notes how many threads torch may use while it predicts."""

    def __init__(self, model: nn.Module, counts: list[int]):
        super().__init__()
        self.model = model
        self.counts = counts

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.counts.append(torch.get_num_threads())
        return self.model(x)


def test_models_are_scored_on_one_thread(stages, trained):
    counts = []
    watched = {}
    for stage, results in trained.items():
        watched[stage] = [(ThreadCounter(model, counts), history) for model, history in results]
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        measure_stages(stages, read(), watched)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert set(counts) == {1}
    assert len(counts) == 3 * len(trained)


def test_a_training_that_diverged_is_named(stages, trained):
    first, _, last = trained["deepen"]
    broken = {**trained, "deepen": [first, ValueError("planted"), last]}
    with pytest.raises(UserError, match="deepen, seed 1: planted"):
        measure_stages(stages, read(), broken)


@pytest.mark.slow
def test_twenty_seeds_of_all_stages_train_in_twenty_cpu_seconds():
    """Measured on a fifth of the epochs, in a fifth of the time.

    On a slow or busy machine: in at most half the time that the same trainings would take one at a time.
    """
    dataset = read()
    stages = {stage: load_settings(stage, {"epochs": 10}) for stage in STAGES}
    began = time.process_time()
    train_stages(stages, dataset, seeds=20)
    seconds = time.process_time() - began
    x = encode(dataset.frame)
    rings = dataset.frame["Rings"].to_numpy()
    rows = split(dataset, 0)
    began = time.process_time()
    for settings in stages.values():
        fit(settings, x, rings, rows)
    one_of_each = time.process_time() - began
    print(f"20 of each stage {seconds:.1f} CPU seconds, one of each by fit {one_of_each:.1f}")
    assert seconds <= max(20 / 5, 20 / 2 * one_of_each)

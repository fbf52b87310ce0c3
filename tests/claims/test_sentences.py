"""What many seeds say of a stage, for the page of the stage's run."""

from __future__ import annotations

import numpy as np
import pytest
from claim_examples import SEEDS, TEST_TO_TRAIN

from abalone.claims.sentences import stage_sentences
from abalone.settings import STAGES

EPOCHS = 8
RISES = {"encode": 0.021, "regularize": 0.001, "dropout": 0.03}  # planted, in nats


@pytest.fixture
def measured() -> dict[str, dict[str, np.ndarray]]:
    """Twenty seeds on which weight decay helps, dropout does not, and depth changes nothing."""
    wave = np.where(np.arange(SEEDS) % 2, 0.001, -0.001)  # mean 0
    stages = {}
    for stage in STAGES:
        stages[stage] = {"accuracy": 0.745 + 0 * wave, "roc_auc": 0.83 + 0 * wave, "rmse": 2.48 + 70 * wave}
    stages["deepen"]["accuracy"] = 0.745 + wave
    stages["encode"]["roc_auc"] = 0.838 + wave
    for stage, rise in RISES.items():
        curves = np.full((SEEDS, EPOCHS), 0.5)
        curves[:, 4] = 0.49
        curves[:, -1] = 0.49 + rise
        stages[stage]["loss/test"] = curves
    stages["regularize"]["loss/test"][0, -1] = 0.55  # on one seed weight decay makes it worse
    return stages


def test_each_stage_has_a_sentence_about_its_own_lesson(measured):
    sentences = stage_sentences(measured, TEST_TO_TRAIN)
    assert list(sentences) == list(STAGES)
    assert sentences["classify"] == "Over 20 seeds the test accuracy is 0.745 ± 0.000 (mean ± standard deviation)."
    assert sentences["deepen"] == "Over 20 seeds the accuracy differs by +0.000 from classify's (10 of 20): undecided."
    assert sentences["encode"].startswith(
        "Over 20 seeds the test loss rises by 0.021 from epoch 5 to epoch 8 (20 of 20), and is lowest at epoch 5 on "
        "average. The accuracy differs by +0.000 from deepen's"
    )
    assert sentences["encode"].endswith("the AUC differs by +0.008 from deepen's (20 of 20).")
    assert sentences["regularize"] == "Over 20 seeds the test loss rises by 0.017 less than in encode (19 of 20)."
    assert sentences["dropout"].startswith("Over 20 seeds the test loss rises by 0.009 more than in encode (20 of 20);")
    assert sentences["regress"] == "Over 20 seeds the test RMSE is 2.480 ± 0.072 rings (mean ± standard deviation)."


def test_a_short_report_says_that_it_cannot_judge_overfitting(measured):
    for stage in RISES:
        measured[stage]["loss/test"] = measured[stage]["loss/test"][:, :3]
    sentences = stage_sentences(measured, TEST_TO_TRAIN)
    assert sentences["regularize"] == (
        "Over 20 seeds overfitting is not judged (needs more than 5 epochs; there were 3)."
    )
    assert "AUC differs by +0.008" in sentences["encode"]
    assert "accuracy differs" in sentences["dropout"]


def test_sentences_are_short_enough_for_a_page(measured):
    assert all(len(sentence) <= 500 for sentence in stage_sentences(measured, TEST_TO_TRAIN).values())

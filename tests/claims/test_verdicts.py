"""Verdicts: a planted effect is found, a null effect is not, and each claim reads its own numbers."""

from __future__ import annotations

import numpy as np
import pytest
from claim_examples import CLAIM, EPOCH, PRINTED, SEEDS, TEST_TO_TRAIN, draws

from abalone.claims.claims import CLAIMS, CURVED, OVERFIT_AT, Claim
from abalone.claims.verdicts import contains_zero, findings, judge
from abalone.settings import STAGES

EPOCHS = 30
RISE = Claim("It rises", section="2.c", metric="rise", stage="a")


def test_a_planted_effect_is_found_in_both_directions():
    assert judge(CLAIM, draws(0.02), TEST_TO_TRAIN).verdict == "supported"
    assert judge(CLAIM, draws(-0.02), TEST_TO_TRAIN).verdict == "not supported"


def test_a_null_effect_is_called_undecided_nineteen_times_of_twenty():
    verdicts = [judge(CLAIM, draws(0.0, seed=seed), TEST_TO_TRAIN).verdict for seed in range(400)]
    assert 0.92 < verdicts.count("undecided") / len(verdicts) < 0.98


def test_the_intervals_are_students_of_the_mean_of_another_sample_and_of_one_split():
    found = judge(CLAIM, np.array([1.0, 2.0, 3.0]), TEST_TO_TRAIN)
    assert (found.mean, found.wins) == (2.0, 3)
    expected = {1 / 3: found.interval, 1 / 3 + TEST_TO_TRAIN: found.corrected, 1 / 3 + 1: found.single}
    for variance_factor, interval in expected.items():
        half_width = 4.302653 * np.sqrt(variance_factor)  # t(2) at 97.5 %
        assert interval == pytest.approx((2 - half_width, 2 + half_width), rel=1e-6)


@pytest.mark.parametrize(
    "interval, expected",
    [((-1.0, 1.0), True), ((0.0, 1.0), True), ((-1.0, 0.0), True), ((0.1, 1.0), False), ((-1.0, -0.1), False)],
)
def test_an_interval_contains_zero_at_its_ends_too(interval, expected):
    assert contains_zero(interval) is expected


def test_a_printed_figure_is_judged_by_single_splits():
    near = judge(PRINTED, draws(0.006), TEST_TO_TRAIN)
    far = judge(PRINTED, draws(0.11), TEST_TO_TRAIN)
    assert near.interval[0] > 0, "its mean is another"
    assert near.full_verdict == "supported (within the range of single splits)"
    assert far.full_verdict == "not supported (outside the range of single splits)"


def test_the_epoch_is_judged_by_the_mean_and_not_by_single_splits():
    late = judge(EPOCH, draws(8.1, 9.4), TEST_TO_TRAIN)
    assert late.single[0] < 0 < late.interval[0]
    assert late.verdict == "not supported"
    assert judge(EPOCH, draws(-8.1, 9.4), TEST_TO_TRAIN).verdict == "not supported"
    assert judge(EPOCH, draws(0.0, 9.4), TEST_TO_TRAIN).full_verdict == "supported"


@pytest.mark.parametrize(
    "mean, full_verdict",
    [
        (0.0, "undecided at 20 seeds"),
        (0.01, "supported on these rows; undecided for another sample"),
        (-0.01, "not supported on these rows; undecided for another sample"),
        (0.05, "supported"),
        (-0.05, "not supported"),
    ],
)
def test_a_verdict_says_whether_it_reaches_beyond_these_rows(mean, full_verdict):
    found = judge(CLAIM, draws(mean), TEST_TO_TRAIN)
    assert found.full_verdict == full_verdict
    assert found.full_verdict.startswith(found.short_verdict)
    assert found.short_verdict.endswith("on these rows") == ("these rows" in full_verdict)


def test_the_rise_is_counted_from_the_fixed_epoch():
    curves = np.array([[0.5, 0.4, 0.6], [0.5, 0.6, 0.7]])
    longer = np.hstack([curves, curves, curves])  # [2, 9]: epoch 5 has the value of epoch 2, epoch 9 that of epoch 3
    assert OVERFIT_AT == 5
    assert RISE.differences({"a": {"loss/test": longer}}) == pytest.approx([0.2, 0.1])


@pytest.mark.parametrize("epochs, is_judged", [(1, False), (5, False), (6, True)])
def test_claims_about_later_epochs_than_were_trained_are_not_judged(epochs, is_judged):
    measured = without_effects()
    for stage in CURVED:
        measured[stage]["loss/test"] = measured[stage]["loss/test"][:, :epochs]
    found = findings(measured, TEST_TO_TRAIN)
    about_overfitting = [finding for finding in found if finding.claim.metric in ("rise", "lowest")]
    assert [finding.is_judged for finding in about_overfitting] == 3 * [is_judged]
    assert all(finding.is_judged for finding in found if finding not in about_overfitting)
    if not is_judged:
        for finding in about_overfitting:
            assert finding.full_verdict == f"not judged: needs more than 5 epochs; there were {epochs}"
            assert len(finding.values) == 0
            assert np.isnan([finding.mean, *finding.interval, *finding.corrected, *finding.single]).all()


# Where the effect of each claim is planted so that no other claim reads it: stages, number, and its sign in the claim.
PLANTS = {
    "Three layers beat two": ("classify", "accuracy", -1),
    "Sex helps accuracy": ("encode", "accuracy", 1),
    "Sex helps ranking": ("deepen", "roc_auc", -1),
    "The encoded network overfits": ("encode and regularize", "last", 1),
    "The rise begins after about five epochs": ("encode", "lowest", 1),
    "Weight decay helps against overfitting": ("regularize", "last", -1),
    "Dropout makes it worse": ("dropout", "accuracy", -1),
    "True positive rate 0.81": ("encode", "tpr", 1),
    "False positive rate 0.36": ("encode", "fpr", 1),
    "Area 0.72, from hard labels": ("encode", "balanced_accuracy", 1),
    "Area 0.72, from probabilities": ("encode and deepen", "roc_auc", 1),
}
CENTRES = {"accuracy": 0.75, "roc_auc": 0.72, "tpr": 0.81, "fpr": 0.36, "balanced_accuracy": 0.72, "log_loss": 0.5}


def without_effects() -> dict[str, dict[str, np.ndarray]]:
    """Stages that do not differ, with the figures that the guide prints, and noise whose mean is exactly 0."""
    generator = np.random.default_rng(0)

    def noise() -> np.ndarray:
        values = generator.normal(0, 0.01, SEEDS)
        return values - values.mean()

    measured = {stage: {name: mean + noise() for name, mean in CENTRES.items()} for stage in STAGES}
    for stage in CURVED:
        curves = np.full((SEEDS, EPOCHS), 0.5)
        curves[:, 4] += noise()
        curves[:, -1] += noise()
        set_lowest_epochs(curves, 4, 6)
        measured[stage]["loss/test"] = curves
    return measured


def set_lowest_epochs(curves: np.ndarray, even_seeds: int, odd_seeds: int) -> None:
    """Give the curves [S, epochs] their lowest value at one epoch for even seeds, and at another for odd ones."""
    curves[curves == 0.4] = 0.5
    curves[0::2, even_seeds - 1] = 0.4
    curves[1::2, odd_seeds - 1] = 0.4


def plant(measured: dict, stages: str, number: str, effect: int) -> None:
    for stage in stages.split(" and "):
        values = measured[stage]
        if number == "last":
            values["loss/test"][:, -1] += 0.03 * effect
        elif number != "lowest":
            values[number] = values[number] + 0.03 * effect
        # So far apart that a single split can still be lowest at epoch 5: it is the mean that is judged.
        elif effect > 0:
            set_lowest_epochs(values["loss/test"], 21, 4)
        else:
            set_lowest_epochs(values["loss/test"], 4, 1)


@pytest.mark.parametrize("effect", [1, 0, -1])
@pytest.mark.parametrize("place", range(len(CLAIMS)), ids=lambda place: CLAIMS[place].words)
def test_an_effect_moves_the_verdict_of_its_claim_and_of_no_other(place, effect):
    claim = CLAIMS[place]
    before = findings(without_effects(), TEST_TO_TRAIN)
    measured = without_effects()
    stages, number, sign = PLANTS[claim.words]
    if effect:
        plant(measured, stages, number, sign * effect)
    found = findings(measured, TEST_TO_TRAIN)
    verdicts = {1: "supported", 0: "undecided", -1: "not supported"}
    if claim.expected:
        verdicts = {1: "not supported", 0: "supported", -1: "not supported"}
    assert found[place].verdict == verdicts[effect]
    assert np.sign(round(found[place].mean, 6)) == effect
    for finding, was in zip(found, before):
        if finding.claim is not claim:
            assert finding.verdict == was.verdict
            assert finding.mean == pytest.approx(was.mean, abs=1e-9)


def test_there_is_a_plant_for_every_claim():
    assert set(PLANTS) == {claim.words for claim in CLAIMS}

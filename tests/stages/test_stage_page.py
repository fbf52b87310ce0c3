"""The page of a stage: the answer to its question comes first, from the numbers of the run."""

from __future__ import annotations

import pytest
from page_examples import answer, compile_code, earlier, final, page_of, table

from abalone.evaluation.overfitting import OVERFITTING_STAGES
from abalone.metrics import metrics_of
from abalone.settings import STAGES, load_settings
from abalone.stages.lessons import LESSONS


@pytest.mark.parametrize("stage", STAGES)
def test_a_page_starts_with_question_score_and_the_guide_and_ends_with_code(stage):
    task = load_settings(stage).task
    page = page_of(stage, final(task, 0.76543, 0.5))
    first = answer(page)
    assert first.startswith(f"**{LESSONS[stage].question}**")
    assert "0.7654" in first
    assert LESSONS[stage].guide_says in first
    header, _, *rows = table(page)
    assert header == ["score", "this run", "baseline", "what it is"]
    assert [row[1:3] for row in rows] == [["0.7654", "0.5000"]] * len(metrics_of(task))
    assert all(row[3] for row in rows), "every score is explained"
    assert "epoch 31 of 50, with the lowest validation loss" in page
    for flavor in ("pytorch", "pyfunc"):
        assert f'import mlflow.{flavor}\n\nmodel = mlflow.{flavor}.load_model("models:/m-1")\n```' in page
    assert page.endswith("```")
    assert ("rings `[n, 1]`" in page) == (task == "regression")
    compile_code(page)


@pytest.mark.parametrize("stage", [*STAGES, "tuned"])
def test_a_page_links_to_its_figures_the_views_and_the_next_stage(stage):
    task = "regression" if stage == "regress" else "classification"
    page = page_of(stage, final(task, 0.7, 0.5))
    figures = {"classification": ("roc", "confusion"), "regression": ("predicted_actual", "residuals")}[task]
    for name in ("curves", *figures):
        assert f"(#/experiments/7/runs/a1b2/artifacts/{name}.png?workflowType=machine_learning)" in page
    assert "viewStateShareKey=stages)" in page
    assert "viewStateShareKey=curves)" in page
    assert f"viewStateShareKey={'regressors' if task == 'regression' else 'classifiers'})" in page
    assert "(#/experiments/7/models/m-1?" in page
    following = dict(zip([*STAGES, "tuned"], [*list(STAGES)[1:], "rings", "promote"]))
    assert f"**Next**: `{following[stage]}`" in page


@pytest.mark.parametrize(
    "score, says",
    [
        (0.745, "within the noise of one split (about ±0.03). "),
        (0.79, "0.050 more, beyond the noise of one split (about ±0.03)."),
        (0.69, "0.050 less, beyond the noise of one split (about ±0.03)."),
    ],
)
def test_the_accuracy_is_compared_with_the_stage_before_and_the_noise_of_a_split(score, says):
    page = page_of("deepen", final("classification", score, 0.5), compared=[earlier("classify", 0.74)])
    assert f"Test accuracy {score:.4f}, against 0.7400 in [classify](#/classify): {says.strip()}" in answer(page)
    assert table(page)[0] == ["score", "this run", "baseline", "[classify](#/classify)", "what it is"]
    assert table(page)[2][:4] == ["accuracy", f"{score:.4f}", "0.5000", "0.7400"]


def test_the_noise_of_a_split_depends_on_the_number_of_its_rows():
    facts = {"compared": [earlier("classify", 0.74)], "test_rows": 100}
    page = page_of("deepen", final("classification", 0.79, 0.5), **facts)
    assert "within the noise of one split (about ±0.12)" in answer(page)


@pytest.mark.parametrize("score, verdict", [(0.79, "agrees"), (0.69, "shows the opposite")])
def test_a_run_agrees_with_the_guide_about_depth_only_beyond_the_noise(score, verdict):
    page = page_of("deepen", final("classification", score, 0.5), compared=[earlier("classify", 0.74)])
    assert f"This run {verdict}." in answer(page)
    within = page_of("deepen", final("classification", 0.745, 0.5), compared=[earlier("classify", 0.74)])
    assert "One split cannot tell." in answer(within)


def test_the_page_of_encode_tells_the_rise_of_the_test_loss():
    rising = answer(page_of("encode", final("classification", 0.74, 0.5, rise=0.0163)))
    assert "The test loss rises by 0.016 nats from epoch 5 to epoch 50." in rising
    assert "This run shows the rise too." in rising
    falling = answer(page_of("encode", final("classification", 0.74, 0.5, rise=-0.0163)))
    assert "The test loss falls by 0.016 nats" in falling
    assert "In this run it does not rise." in falling
    assert "changes by less than 0.001" in answer(page_of("encode", final("classification", 0.74, 0.5, rise=0.0001)))


@pytest.mark.parametrize("rise, verdict", [(-0.008, "This run agrees."), (0.03, "This run shows the opposite.")])
def test_the_page_of_regularize_compares_the_rise_with_encode(rise, verdict):
    facts = {"compared": [earlier("encode", 0.74, 0.016)]}
    first = answer(page_of("regularize", final("classification", 0.74, 0.5, rise), **facts))
    assert "without a remedy ([encode](#/encode)) it rises by 0.016." in first
    assert verdict in first
    assert first.index("The test loss") < first.index("Test accuracy"), "the loss is what the lesson is about"


def test_the_page_of_dropout_compares_the_rise_with_weight_decay_and_with_no_remedy():
    facts = {"compared": [earlier("regularize", 0.74, -0.008), earlier("encode", 0.74, 0.016)]}
    first = answer(page_of("dropout", final("classification", 0.745, 0.5, 0.014), **facts))
    expected = (
        "rises by 0.014 nats from epoch 5 to epoch 50; with weight decay ([regularize](#/regularize)) it falls by "
        "0.008; without a remedy ([encode](#/encode)) it rises by 0.016."
    )
    assert expected in first
    assert "One split cannot tell." in first


@pytest.mark.parametrize("stage", OVERFITTING_STAGES)
def test_a_run_of_few_epochs_says_that_it_is_too_short(stage):
    first = answer(page_of(stage, final("classification", 0.74, 0.5), settings=load_settings(stage, {"epochs": 3})))
    assert "This run is too short for overfitting, which the guide sees after epoch 5." in first


def test_a_page_cites_what_many_seeds_say():
    sentence = "Over 20 seeds the test loss rises by 0.020 less (19 of 20). ([report](#/r))"
    for stage in STAGES:
        task = load_settings(stage).task
        assert sentence in answer(page_of(stage, final(task, 0.7, 0.5), seeds=sentence))


def test_a_dash_stands_for_a_score_that_an_earlier_run_lacks():
    before = earlier("classify", 0.7)
    before.metrics.clear()
    page = page_of("deepen", final("classification", 0.8, 0.5), compared=[before])
    assert {row[3] for row in table(page)[2:]} == {"–"}
    assert "always predicting the majority class: 0.5000" in answer(page)


def test_the_last_epoch_is_told_apart_from_the_best():
    metrics = {**final("classification", 0.8, 0.5), "reported_epoch": 50}
    assert "They are from epoch 50 of 50; the validation loss was lowest at epoch 31." in page_of("encode", metrics)


def test_the_page_of_a_studys_winner_compares_it_with_the_base():
    page = page_of("tuned", final("classification", 0.8, 0.5), compared=[earlier("encode", 0.74)])
    assert answer(page).startswith("**The best settings that a study found, trained again.** Test accuracy 0.8000")
    assert "[encode](#/encode)" in answer(page)

"""Champions on a labelled file: the verdict, the rows that are left out, and what stays in run and version."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from mlflow import MlflowClient
from registry_store import experiment_id, runs_of, say_nothing
from ring_fits import FRAME, RINGS, ROWS, X, probabilities, short_fit
from stores import copy_store, filling

from abalone.cli.program import cli
from abalone.evaluation.distribution_scores import crps
from abalone.evaluation.scores import predict, scores
from abalone.model.columns import MEASUREMENTS
from abalone.model.distribution import ring_shares
from abalone.model.features import encode
from abalone.model.networks import RingClassifier, RingDistribution, RingRegressor
from abalone.registry import evaluation_run
from abalone.registry.answer_scores import FEWEST_ROWS
from abalone.registry.candidates import find_candidates
from abalone.registry.champion_evaluation import HOLDS, TOO_FEW, WORSE, Evaluation, judge
from abalone.registry.evaluation_run import evaluate
from abalone.registry.promise import read_promise
from abalone.settings import PREDICTION_COLUMNS, REGISTERED_MODELS, SELECTION, TASKS, UserError, load_settings
from abalone.tracking.flavor import log_model
from abalone.tracking.run_logging import log_files
from abalone.tracking.runs import tracked_run
from abalone.training.ring_ensemble import answers

NETWORKS = {"classification": RingClassifier, "regression": RingRegressor}
UNSEEN = np.concatenate([ROWS.val, ROWS.test])


@cache
def distribution() -> RingDistribution:
    return short_fit(epochs=12)


def network(task: str):
    return NETWORKS[task](distribution()).eval()


def scores_on_test(task: str, rows: np.ndarray = ROWS.test) -> dict[str, float]:
    """What the run of ``rings`` would log: MAE is that of the median."""
    answered = answers(distribution(), X[rows])
    return scores(task, RINGS[rows], answered[PREDICTION_COLUMNS[task]], answered["rings_median"])


def log_test_scores(task: str, run_id: str, rows: np.ndarray = ROWS.test) -> None:
    """Leave scores and predictions of test rows in a run, as ``rings`` does."""
    for metric, value in scores_on_test(task, rows).items():
        MlflowClient().log_metric(run_id, f"test/{metric}", value)
    table = FRAME.iloc[rows].assign(**answers(distribution(), X[rows])).rename_axis("row").reset_index()
    log_files(run_id, texts={}, figures={}, tables={"predictions/test.json": table})


@pytest.fixture(scope="module")
def filled(tmp_path_factory, empty_database) -> tuple[Path, dict[str, str]]:
    """Folder of a store with champions, and their runs."""
    folder = tmp_path_factory.mktemp("champions")
    with filling(folder, empty_database):
        run_ids = make_champions()
    return folder, run_ids


def make_champions() -> dict[str, str]:
    """Champions of a small ensemble, whose run has its scores on the test rows; the run's id by task."""
    client = MlflowClient()
    settings = load_settings("rings", {"members": 3, "hidden_sizes": "16,16"})
    run_ids = {}
    for task, name in REGISTERED_MODELS.items():
        with tracked_run("rings", {"stage": "rings", "task": task}) as run_id:
            fitted = FRAME.iloc[ROWS.train]
            model_id = log_model(network(task), settings.model_config(task), fitted, {"task": task}, "rings")
            log_test_scores(task, run_id)
        client.create_registered_model(name)
        version = client.create_model_version(name, f"models:/{model_id}", run_id, model_id=model_id)
        client.set_registered_model_alias(name, "champion", version.version)
        run_ids[task] = run_id
    return run_ids


@pytest.fixture
def champions(filled, store, own_folder) -> dict[str, str]:
    """A store with champions; the run's id by task."""
    folder, run_ids = filled
    copy_store(folder, own_folder)
    return run_ids


@pytest.fixture
def undrawn(champions, monkeypatch) -> dict[str, str]:
    """The same for tests that look at no figure: to make them takes half of an evaluation."""
    monkeypatch.setattr(evaluation_run, "_figures", lambda *arguments: {})
    return champions


def write(frame: pd.DataFrame) -> str:
    frame.to_csv("aged.csv", header=False, index=False)
    return "aged.csv"


def evaluations(frame: pd.DataFrame, **options) -> dict[str, Evaluation]:
    """Evaluate both champions on a file with these rows."""
    return {found.task: found for found in evaluate(write(frame), say_nothing, **options)}


def the_run():
    [run] = runs_of("evaluate")
    return run


def test_unseen_rows_of_the_same_population_are_as_good_as_promised(undrawn):
    found = evaluations(FRAME.iloc[ROWS.test])
    for task, evaluation in found.items():
        assert evaluation.verdict == HOLDS
        for metric, value in scores_on_test(task).items():
            assert evaluation.scores[metric] == pytest.approx(value, abs=1e-6)
            assert evaluation.promised[metric] == pytest.approx(value, abs=1e-6)
            low, high = evaluation.intervals[metric]
            assert low < value < high
    shares = ring_shares(probabilities(distribution(), X[ROWS.test]).double()).numpy()
    regression = found["regression"]
    assert regression.scores["crps"] == pytest.approx(crps(shares, RINGS[ROWS.test]), abs=1e-6)
    assert 0.5 < regression.scores["coverage80"] < 1
    assert regression.scores["rmse"] < regression.baseline["rmse"]


def test_the_run_says_the_verdict_first_and_holds_figures_rows_and_intervals(champions):
    evaluations(FRAME.iloc[ROWS.test])
    run = the_run()
    page = run.data.tags["mlflow.note.content"]
    assert page.startswith("abalone-classifier [version 1](#/models/abalone-classifier/versions/1?")
    assert page.split("\n\n")[0].count(f"**{HOLDS}** on 2089 animals of aged.csv: ") == 2
    assert "But " not in page and "Besides" not in page
    assert len(page) < 8000
    for label in (
        "| MAE (rings), of the median",
        "bias (rings), of the mean",
        "mean absolute error, of the median, rings",
    ):
        assert label in page
    metrics = run.data.metrics
    assert metrics["evaluation/rmse_low"] < metrics["evaluation/rmse"] < metrics["evaluation/rmse_high"]
    assert metrics["baseline/evaluation_rmse"] > metrics["evaluation/rmse"]
    files = {
        file.path
        for kind in ("classifier", "regressor")
        for file in MlflowClient().list_artifacts(run.info.run_id, kind)
    }
    assert files == {
        *(f"classifier/{name}.png" for name in ("confusion", "population", "reliability", "roc")),
        *(f"regressor/{name}.png" for name in ("population", "predicted_actual", "residuals")),
    }
    for file in files:
        assert f"/runs/{run.info.run_id}/artifacts/{file}?" in page
    table = mlflow.artifacts.load_dict(f"runs:/{run.info.run_id}/predictions/regressor.json")
    assert len(table["data"]) == 2089 and "rings_low" in table["columns"]
    [dataset] = run.inputs.dataset_inputs
    assert dataset.dataset.name == "aged" and dataset.tags[0].value == "evaluation"


def test_other_animals_are_worse_and_the_page_says_how_they_differ(undrawn):
    """Longer, heavier, and of more rings than their sizes say."""
    rows = FRAME.iloc[ROWS.test].copy()
    rows["Length"] *= 1.12
    rows["Whole weight"] *= 1.35
    rows["Rings"] += 4
    found = evaluations(rows)["regression"]
    assert found.verdict == WORSE
    shifts = {shift.name: shift for shift in found.shifts}
    assert shifts["Length"].p_value < 1e-6 and shifts["Length"].psi > 0.1
    assert shifts["Diameter"].p_value > 0.001 and shifts["Diameter"].psi < 0.05
    assert shifts["Rings"].psi > 0.25
    assert found.intervals["bias"][1] < 0, "too few rings"
    assert found.outside.columns["Length"] > 0
    page = the_run().data.tags["mlflow.note.content"]
    assert f"**{WORSE}**" in page
    line = MlflowClient().get_model_version("abalone-regressor", "1").description
    for text in (page, line):
        assert f"it predicts {-found.scores['bias']:.2f} rings too few (promised " in text
        assert " % of the animals instead of 80 %" in text
        assert "these animals are another population (PSI above 0.25 in " in text


def test_rows_that_a_champion_was_fitted_on_are_left_out_whatever_their_rings(undrawn):
    fitted = FRAME.iloc[ROWS.train].assign(Rings=9)
    found = evaluations(pd.concat([FRAME.iloc[UNSEEN], fitted]))
    assert found["regression"].left_out == len(ROWS.train)
    assert found["regression"].rows == len(UNSEEN)
    assert f"(without {len(ROWS.train)} that it was fitted on)" in the_run().data.tags["mlflow.note.content"]


def test_a_file_of_fitted_rows_alone_leaves_nothing_to_score(champions):
    found = evaluations(FRAME.iloc[ROWS.train])
    assert {evaluation.rows for evaluation in found.values()} == {0}
    assert {evaluation.verdict for evaluation in found.values()} == {TOO_FEW}
    page = the_run().data.tags["mlflow.note.content"]
    assert f"all {len(ROWS.train)} rows of the file were used to fit it" in page


def test_few_rows_cannot_say(champions):
    found = evaluations(FRAME.iloc[ROWS.test[:29]])
    assert {evaluation.verdict for evaluation in found.values()} == {TOO_FEW}
    page = the_run().data.tags["mlflow.note.content"]
    assert page.startswith(f"There are **{TOO_FEW}** whether abalone-classifier [version 1]")
    assert f"at least {FEWEST_ROWS} are needed" in page


def test_twenty_animals_of_one_class_in_millimetres_with_their_age_can_be_scored(champions):
    rows = FRAME.iloc[ROWS.test]
    young = rows[rows["Rings"] < 10].head(20)
    table = young.assign(**{name: young[name] * 200 for name in MEASUREMENTS}, Age=young["Rings"] + 1.5)
    table.drop(columns="Rings").to_csv("young.csv", index=False)
    classification, regression = evaluate("young.csv", say_nothing, units="mm_g", fail_if_worse=True)
    assert "roc_auc" not in classification.scores and classification.scores["accuracy"] > 0.5
    assert regression.scores["rmse"] == pytest.approx(
        np.sqrt(np.mean((predict(network("regression"), encode(young)) - young["Rings"]) ** 2))
    )
    assert regression.rows == 20 and regression.outside.outside == 0
    assert "divided by 200" in the_run().data.tags["mlflow.note.content"]


def test_the_verdict_depends_on_the_difference_and_the_baseline():
    def verdict(interval: tuple[float, float], difference: tuple[float, float]) -> str:
        return judge("rmse", {"rmse": interval}, {"rmse": difference}, {"rmse": 3.0})

    assert verdict((1.9, 2.2), (-0.1, 0.2)) == HOLDS
    assert verdict((1.5, 1.8), (-0.5, -0.2)) == HOLDS, "better than promised"
    assert verdict((2.1, 2.4), (0.1, 0.4)) == WORSE
    assert verdict((2.1, 3.5), (0.1, 1.5)) == WORSE, "as bad as the baseline, and certainly worse than promised"
    assert verdict((1.5, 3.1), (-0.5, 1.1)) == TOO_FEW, "from the promise to the baseline"
    assert judge("rmse", {"rmse": (1.9, 2.2)}, {}, {"rmse": 3.0}) == TOO_FEW, "the noise of the promise is not known"


def test_a_promise_on_few_test_rows_is_noisy_itself(undrawn):
    """100 of the test rows, without the largest errors, promise more than the rest holds, but within their noise."""
    run_id = undrawn["regression"]
    errors = np.abs(answers(distribution(), X[ROWS.test])["predicted_rings"] - RINGS[ROWS.test])
    lucky = ROWS.test[np.argsort(errors)[np.linspace(0, 2060, 100).astype(int)]]
    log_test_scores("regression", run_id, lucky)
    rest = np.setdiff1d(ROWS.test, lucky)
    found = evaluations(FRAME.iloc[rest])["regression"]
    assert found.promised_rows == 100
    assert found.intervals["rmse"][0] > found.promised["rmse"], "worse, if the promise had no noise"
    low, high = found.differences["rmse"]
    assert low <= 0 < high and found.verdict == HOLDS
    assert f"promised {found.promised['rmse']:.3f} on 100 test rows" in the_run().data.tags["mlflow.note.content"]


def test_each_version_gets_a_tag_and_the_newest_lines_in_its_description(undrawn, monkeypatch):
    monkeypatch.setattr(evaluation_run, "SHOWN_LINES", 1)
    MlflowClient().update_model_version("abalone-regressor", "1", "Its page.")
    for _ in range(2):
        evaluations(FRAME.iloc[ROWS.test[:40]])
    newest = runs_of("evaluate")[0].info.run_id
    for task, name in REGISTERED_MODELS.items():
        version = MlflowClient().get_model_version(name, "1")
        assert f"40 rows of aged.csv, run {newest}" in version.tags["evaluation"]
        *before, line = version.description.split("\n\n")
        assert before == (["Its page."] if task == "regression" else [])
        assert line.startswith("[Evaluated on 2") and newest in line


def test_an_evaluation_is_no_candidate_and_trains_nothing(undrawn):
    evaluations(FRAME.iloc[ROWS.test[:40]])
    run_id = the_run().info.run_id
    for task in TASKS:
        assert run_id not in [candidate.run_id for candidate in find_candidates(task, experiment_id())]
    assert not {"dataset", "split", "task"} & set(the_run().data.tags)
    assert len(MlflowClient().search_logged_models([experiment_id()])) == 2


def test_the_exit_status_follows_the_verdict_only_if_asked(undrawn):
    source = write(FRAME.iloc[ROWS.test].assign(Rings=lambda rows: rows["Rings"] + 4))
    asked = CliRunner().invoke(cli, ["evaluate", "--data", source, "--fail-if-worse", "--json"])
    assert asked.exit_code == 3
    found = json.loads(asked.stdout)
    assert found["regression"]["verdict"] == WORSE
    assert SELECTION["regression"] in found["regression"]["promised"]
    assert CliRunner().invoke(cli, ["evaluate", "--data", source]).exit_code == 0
    assert {run.info.status for run in runs_of("evaluate")} == {"FINISHED"}


def test_of_a_run_that_is_gone_the_version_keeps_the_promise_but_not_its_noise(champions):
    client = MlflowClient()
    client.set_model_version_tag("abalone-regressor", "1", "test/rmse", "2.2")
    [version] = client.search_model_versions("name = 'abalone-regressor'")
    version._run_id = "0" * 32
    promise = read_promise("regression", version)
    assert promise.scores == {"rmse": 2.2} and promise.rows == 0 and not promise.sampled


def test_the_promise_has_the_bias_and_only_scores_of_the_task(undrawn):
    client = MlflowClient()
    for run_id in undrawn.values():
        client.log_metric(run_id, "test/accuracy", 0.8)  # a run of rings has the scores of both tasks
        client.log_metric(run_id, "test/rmse", 2.2)
    found = evaluations(FRAME.iloc[ROWS.test])
    assert "rmse" not in found["classification"].promised and "accuracy" not in found["regression"].promised
    assert found["regression"].promised["bias"] == pytest.approx(found["regression"].scores["bias"])


def test_a_bad_row_is_named_and_no_version_is_marked(undrawn):
    with pytest.raises(UserError, match=r"aged.csv: line 40: Height is '20\.0', expected a number from 0 to 11\.3"):
        evaluations(FRAME.iloc[ROWS.test[:40]].assign(Height=[0.1] * 39 + [20.0]))
    assert the_run().info.status == "FAILED"
    assert "evaluation" not in MlflowClient().get_model_version("abalone-regressor", "1").tags


def test_without_a_champion_it_says_how_to_make_one(store):
    with pytest.raises(UserError, match="has no version with the alias champion"):
        evaluations(FRAME.iloc[ROWS.test])
    assert Path("aged.csv").exists()

"""The guide's claims: a true effect is found, a null is not, and the report reads on its own."""

from __future__ import annotations

import html
import re

import numpy as np
import pytest
from mlflow.tracking import MlflowClient

from abalone import config, report
from abalone.dataset import read, split
from abalone.evaluation import predict, scores
from abalone.features import encode
from abalone.training import fit

SEEDS, RATIO = 20, 1.25
CLAIM = report.Claim("One is better.", "1", "accuracy", lambda measured: measured["a"]["accuracy"])


def draws(mean: float, sd: float = 0.01, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(mean, sd, SEEDS)


def test_a_planted_effect_is_found_in_both_directions():
    assert report.judge(CLAIM, draws(0.02), RATIO).verdict == "supported"
    assert report.judge(CLAIM, draws(-0.02), RATIO).verdict == "not supported"


def test_a_null_effect_is_called_undecided_nineteen_times_of_twenty():
    verdicts = [report.judge(CLAIM, draws(0.0, seed=seed), RATIO).verdict for seed in range(400)]
    assert 0.92 < verdicts.count("undecided") / len(verdicts) < 0.98


def test_the_interval_is_students_and_the_corrected_one_is_wider():
    found = report.judge(CLAIM, np.array([1.0, 2.0, 3.0]), RATIO)
    assert (found.mean, found.wins) == (2.0, 3)
    assert found.high - found.mean == pytest.approx(4.302653 / np.sqrt(3), rel=1e-6)  # t(2) at 97.5 %
    assert found.corrected[1] - found.mean == pytest.approx(4.302653 * np.sqrt(1 / 3 + RATIO), rel=1e-6)


def test_a_printed_figure_is_held_against_single_splits():
    printed = report.Claim("The area is 0.72.", "2.c", "AUC", CLAIM.measure, expected=0.72)
    assert report.judge(printed, draws(0.725), RATIO).verdict == "supported"
    assert report.judge(printed, draws(0.83), RATIO).verdict == "not supported"


@pytest.fixture(scope="module")
def measured():
    stages = ("classify", "deepen", "encode", "regularize", "dropout")
    experiments = [config.load(stage, {"epochs": 6}) for stage in stages]
    return report.measure(experiments, stages, read(), seeds=3)


def test_what_is_measured_is_what_fit_and_scores_give(measured):
    dataset = read()
    rows, x, rings = split(dataset, 2), encode(dataset.frame), dataset.frame["Rings"].to_numpy()
    model, history = fit(config.load("encode", {"epochs": 6, "seed": 2}), x, rings, rows)
    expected = scores("classification", rings[rows.test], predict(model, x[rows.test]))
    assert measured["encode"]["log_loss"][2] == pytest.approx(expected["log_loss"], abs=2e-3)
    assert measured["encode"]["loss/test"][2] == pytest.approx(history.metrics["loss/test"], abs=2e-3)
    assert measured["encode"]["loss/test"].shape == (3, 6) and "loss/test" not in measured["deepen"]
    rates = measured["encode"]
    assert rates["balanced_accuracy"] == pytest.approx((rates["tpr"] + 1 - rates["fpr"]) / 2)


def test_the_report_stands_on_its_own(measured):
    found = report.findings(measured, RATIO)
    drawn = report.figures(found, measured)
    for text in (report.markdown(found, drawn), html.unescape(report.page(found, drawn))):
        for row in report.table(found):
            cells = re.escape("\n".join(row)).replace("\\\n", r"\s*(?:\||</td><td>)\s*")
            assert re.search(cells, text), row
        assert text.count("data:image/png;base64,") == len(found) == len(report.CLAIMS)
        assert not re.search(r"(src=|\]\()\"?(http|/)", text), "nothing is fetched from elsewhere"


def test_a_row_of_the_table_says_what_was_found():
    found = report.judge(CLAIM, np.array([1.0, 2.0, 3.0, -1.0]), RATIO)
    [row] = report.table([found])
    assert row == (
        *("One is better.", "1", "+1.2500 (accuracy)", "-1.4675 to 3.9675"),
        *(row[4], "3 of 4", "undecided at 4 seeds"),
    )
    low, high = (float(end) for end in row[4].split(" to "))
    assert low < -1.4675 and high > 3.9675


def test_the_report_is_a_tracked_run(store):
    stages = ("classify", "deepen", "encode", "regularize", "dropout")
    said: list[str] = []
    report.run_report({stage: config.load(stage, {"epochs": 2}) for stage in stages}, 3, said.append)
    client = MlflowClient()
    [run] = client.search_runs([client.get_experiment_by_name("abalone").experiment_id])
    kept = {item.path for item in client.list_artifacts(run.info.run_id)}
    assert kept >= {"report.md", "report.html", "claims.json", "claim_1.png"}
    assert run.info.status == "FINISHED" and "Three layers beat two." in run.data.tags["mlflow.note.content"]
    assert "Three layers beat two." in said[-1]

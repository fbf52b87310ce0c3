"""The table that compares ``rings`` with its peers: what it calls better, and what noise."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from helpers import ROOT

from abalone.claims.claims import Claim
from abalone.claims.verdicts import judge
from abalone.data.loading import load_data
from benchmarks import bench_quality
from benchmarks.bench_quality import one_split, summary

RESULTS = ROOT / "docs" / "results.md"


def scored(log_loss: np.ndarray, accuracy: np.ndarray | float = 0.8) -> dict[str, np.ndarray]:
    same = np.full_like(log_loss, 0.8)
    return {"log_loss": log_loss, "roc_auc": same, "accuracy": np.zeros_like(log_loss) + accuracy, "cpu": same}


def test_a_planted_advantage_is_found_and_noise_is_called_noise():
    noise = np.random.default_rng(0).normal(0, 0.01, (4, 10))
    ours = 0.42 + noise[0]
    found = {
        "rings": scored(ours),
        "worse": scored(ours + 0.05 + 0.1 * noise[1]),
        "same": scored(ours + noise[2]),
        "better": scored(ours - 0.05 + 0.1 * noise[3]),
    }
    rows = {row[0]: row for row in summary("classification", found, 1.0)}
    assert next(iter(rows)) == "better" and list(rows)[-1] == "worse"
    assert rows["worse"][-2] == "rings is better"
    assert rows["same"][-2] == "within the noise"
    assert rows["better"][-2] == "rings is worse"
    assert rows["worse"][-3] == "10 of 10" and rows["better"][-3] == "0 of 10"
    gains = [float(rows[name][4].split()[0]) for name in ("worse", "better")]
    assert gains == pytest.approx([0.05, -0.05], abs=0.001)


def test_each_score_is_judged_by_itself_in_its_own_direction():
    noise = np.random.default_rng(0).normal(0, 0.01, (6, 10))
    ours = 0.42 + noise[0]
    right = 0.8 + noise[1]
    found = {
        "rings": scored(ours, right),
        "less often right": scored(ours + 0.05 + 0.1 * noise[2], right - 0.05 + 0.1 * noise[3]),
        "as often right": scored(ours + 0.05 + 0.1 * noise[2], right + 0.3 * noise[4]),
        "more often right": scored(ours + 0.05 + 0.1 * noise[2], right + 0.05 + 0.1 * noise[5]),
    }
    rows = {row[0]: row for row in summary("classification", found, 1.0)}
    names = list(found)[1:]
    assert [rows[name][3][-2:] for name in names[1:]] == [" ≈", " †"]
    for unmarked in (rows["**rings**"][3], rows[names[0]][3], *(rows[name][1] for name in names)):
        assert unmarked[-1].isdigit(), "rings is better, or the row is its own"
    assert {rows[name][-2] for name in names} == {"rings is better"}


def test_the_page_says_which_score_the_verdict_uses_and_contains_the_claims():
    noise = np.random.default_rng(0).normal(0, 0.01, (4, 10))
    ours = {"rmse": 2 + noise[0], "mae": 1.4 + noise[1], "cpu": noise[2] + 1}
    found = {
        "classification": {"rings": scored(0.42 + noise[0]), "CatBoost": scored(0.5 + noise[3])},
        "regression": {"rings": ours, "SVM": {**ours, "rmse": 2.2 + noise[3]}},
    }
    claim = Claim("One is better", "1", "accuracy", "a", "b")
    text = bench_quality.page(found, [judge(claim, noise[0] + 0.1, 1.0)], 1.0)
    assert "verdict use log loss for classification and RMSE for regression" in text
    assert "≈ marks" in text and "† a score" in text
    assert text.count("verdict  ") + text.count("verdict |") == 3
    assert "| One is better | +0.1008 accuracy |" in text


def test_every_model_predicts_the_test_rows_and_none_is_fitted_on_them():
    """Other rings in the test half change no prediction."""
    pytest.importorskip("catboost", reason="needs the extra quality")
    data = load_data("uci", 0)
    rings = data.rings.copy()
    rings[data.split.test] = 1
    changed = replace(data, rings=rings)
    quick = {"overrides": {"epochs": 1}, "boosting_rounds": 3}
    pairs = zip(one_split(data, 0, **quick), one_split(changed, 0, **quick), strict=True)
    for (task, name, predicted, _), (*same, predicted_again, _) in pairs:
        assert [task, name] == same and len(predicted) == len(data.split.test)
        np.testing.assert_array_equal(predicted, predicted_again, err_msg=name)


def test_the_stored_results_say_how_they_were_made_and_meet_what_is_promised():
    text = RESULTS.read_text()
    assert re.search(rf"Written by `{bench_quality.COMMAND}` on \d{{4}}-\d\d-\d\d", text)
    ours = re.findall(r"\*\*rings\*\* +\| ([\d.]+) ± \S+ +\| ([\d.]+)", text)
    [(log_loss, auc), (rmse, mae)] = [(float(first), float(second)) for first, second in ours]
    assert log_loss <= 0.418 and auc >= 0.8875 and rmse <= 2.055 and mae <= 1.445
    for name in ("CatBoost", "LightGBM", "SVM", "logistic / ridge", "`encode`", "`regress`"):
        assert f"| {name} " in text


def test_the_words_of_the_stored_results_are_those_of_the_benchmark():
    text = RESULTS.read_text()
    assert bench_quality.INTRODUCTION.format(last=9).replace("\n", " ") in text
    for verdict in (bench_quality.BETTER, bench_quality.NOISE):
        assert f"| {verdict} " in text

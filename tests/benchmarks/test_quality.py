"""The table that holds ``rings`` against its peers: what it calls better, and what noise."""

from __future__ import annotations

import re

import numpy as np
import pytest
from helpers import ROOT

from abalone import settings
from abalone.claims.claims import Claim
from abalone.claims.verdicts import judge
from abalone.data.reading import read
from abalone.data.splitting import split
from abalone.model.features import encode
from abalone.settings import load_settings
from benchmarks import bench_quality
from benchmarks.bench_quality import one_split, summary

RESULTS = ROOT / "docs" / "results.md"


def scored(log_loss: np.ndarray, accuracy: np.ndarray | float = 0.8) -> dict[str, np.ndarray]:
    fine = np.full_like(log_loss, 0.8)
    return {"log_loss": log_loss, "roc_auc": fine, "accuracy": fine * 0 + accuracy, "cpu": fine}


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
    assert [rows[name][-2] for name in ("worse", "same", "better")] == [
        "rings is better", "inside the noise", "rings is worse",
    ]  # fmt: skip
    assert rows["worse"][-3] == "10 of 10" and rows["better"][-3] == "0 of 10"
    gains = [float(rows[name][4].split()[0]) for name in ("worse", "better")]
    assert gains == pytest.approx([0.05, -0.05], abs=0.001)


def test_each_score_is_judged_by_itself_in_its_own_direction():
    noise = np.random.default_rng(0).normal(0, 0.01, (6, 10))
    ours, right = 0.42 + noise[0], 0.8 + noise[1]
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
        assert unmarked[-1].isdigit(), "rings is better, or the row itself"
    assert {rows[name][-2] for name in names} == {"rings is better"}


def test_the_page_names_what_the_verdict_is_of_and_holds_the_claims():
    noise = np.random.default_rng(0).normal(0, 0.01, (4, 10))
    ours = {"rmse": 2 + noise[0], "mae": 1.4 + noise[1], "cpu": noise[2] + 1}
    found = {"classification": {"rings": scored(0.42 + noise[0]), "CatBoost": scored(0.5 + noise[3])}}
    found["regression"] = {"rings": ours, "SVM": {**ours, "rmse": 2.2 + noise[3]}}
    claim = Claim("One is better", "1", "accuracy", "a", "b")
    text = bench_quality.page(found, [judge(claim, noise[0] + 0.1, 1.0)], 1.0)
    assert "verdict are by log loss, or RMSE" in text and "≈ marks" in text and "† one" in text
    assert text.count("| verdict") == 3 and "| One is better | 1 " in text.replace("  ", " ")


def test_everyone_is_scored_on_the_test_rows_and_none_is_fitted_on_them(monkeypatch):
    """Other rings in the test half change no prediction."""
    pytest.importorskip("catboost", reason="needs the extra quality")
    dataset = read()
    x, rings, rows = encode(dataset.frame), dataset.frame["Rings"].to_numpy(), split(dataset, 0)
    load = load_settings
    monkeypatch.setattr(settings, "load_settings", lambda stage, given: load(stage, {**given, "epochs": 1}))
    changed = rings.copy()
    changed[rows.test] = 1
    monkeypatch.setattr("benchmarks.peers.ROUNDS", 3)
    for one, other in zip(one_split(x, rings, rows, 0), one_split(x, changed, rows, 0)):
        assert one[:2] == other[:2] and len(one[2]) == len(rows.test)
        np.testing.assert_array_equal(one[2], other[2], err_msg=one[1])


def test_the_stored_results_say_how_they_were_made_and_meet_what_is_promised():
    text = RESULTS.read_text()
    assert re.search(rf"Written by `{bench_quality.COMMAND}` on \d{{4}}-\d\d-\d\d", text)
    log_loss, auc = (
        float(value) for value in re.search(r"\*\*rings\*\* +\| ([\d.]+) ± \S+ +\| ([\d.]+)", text).groups()
    )
    rmse, mae = (
        float(v)
        for v in re.search(r"(?s)### Regression.*?\*\*rings\*\* +\| ([\d.]+) ± \S+ +\| ([\d.]+)", text).groups()
    )
    assert log_loss <= 0.418 and auc >= 0.8875 and rmse <= 2.055 and mae <= 1.445
    for name in ("CatBoost", "LightGBM", "SVM", "logistic / ridge", "`encode`", "`regress`"):
        assert f"| {name} " in text

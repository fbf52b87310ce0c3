"""The tables that compare ``rings`` with its peers: what they call better, and what noise."""

from __future__ import annotations

import datetime
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import ROOT

from abalone.claims.claims import Claim
from abalone.claims.verdicts import judge
from abalone.data.loading import load_data
from abalone.data.reading import SHIPPED_FILE
from benchmarks import quality_page
from benchmarks.bench_quality import keep_rows
from benchmarks.measured_parts import measure_parts
from benchmarks.quality_models import Effort, models, predictions, score_distribution
from benchmarks.quality_page import TABLE_METRICS, collect, page, sizes_table, summary
from benchmarks.quality_sizes import sizes_figure

RESULTS = ROOT / "docs" / "results.md"
SEEDS = np.arange(10)


def scored(log_loss: np.ndarray, accuracy: np.ndarray | float = 0.8) -> dict[str, np.ndarray]:
    same = np.full_like(log_loss, 0.8)
    scores = {"log_loss": log_loss, "roc_auc": same, "accuracy": np.zeros_like(log_loss) + accuracy}
    return {"seed": SEEDS[: len(log_loss)], "cpu": same, **scores}


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
    gains = [float(rows[name][5].split()[0]) for name in ("worse", "better")]
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
    assert [rows[name][4][-2:] for name in names[1:]] == [" ≈", " †"]
    for unmarked in (rows["**rings**"][4], rows[names[0]][4], *(rows[name][2] for name in names)):
        assert unmarked[-1].isdigit(), "rings is better, or the row is its own"
    assert {rows[name][-2] for name in names} == {"rings is better"}


def test_a_peer_with_fewer_splits_is_compared_on_its_own():
    """On the other splits ``rings`` is much worse, which would turn the verdict."""
    noise = np.random.default_rng(0).normal(0, 0.001, (2, 10))
    ours = 0.42 + noise[0]
    ours[5:] += 0.5
    found = {"rings": scored(ours), "slow": scored(ours[:5] + 0.05 + noise[1][:5])}
    [slow] = [row for row in summary("classification", found, 1.0) if row[0] == "slow"]
    assert slow[1] == "5" and slow[-3:-1] == ("5 of 5", "rings is better")
    assert float(slow[5].split()[0]) == pytest.approx(0.05, abs=0.002)


def planted(section: str, model: str, better: float, seeds: int = 4) -> list[dict]:
    """Records of a model with noise of its own."""
    noise = np.random.default_rng(len(model)).normal(0, 0.001, seeds)
    names = [*TABLE_METRICS, "mae_of_mean", "coverage", *(f"coverage_{part}" for part in range(1, 6))]
    records = []
    for seed in range(seeds):
        values = dict.fromkeys(names, 0.5 + better + noise[seed])
        records.append({"section": section, "model": model, "seed": seed, "cpu": 1.0, **values})
    return records


def planted_parts() -> dict[str, list[dict]]:
    parts = {}
    for section in quality_page.SECTIONS:
        parts[f"ours, {section}"] = planted(section, "rings", 0.0)
        parts[f"peer, {section}"] = planted(section, "a peer", 0.1)
    return parts


def test_the_page_says_how_it_judges_and_contains_all_tables_and_the_claims():
    parts = planted_parts()
    table = collect(parts, parts)
    claim = Claim("One is better", "1", "accuracy", "a", "b")
    finding = judge(claim, np.random.default_rng(0).normal(0.1, 0.01, 10), 1.0)
    text = page(table, {200: table, 2088: table}, [finding], 2089, 2088, datetime.date(2026, 1, 2))
    assert "on 2026-01-02" in text
    assert "verdict use log loss for classification, RMSE for regression and the log score" in text
    assert "MAE is that of the median for `rings`" in text
    assert re.search(r"has an MAE of 0\.(49|50)\d\d\.", text)
    for title in (*quality_page.SECTIONS.values(), "By number of rows"):
        assert f"\n### {title}\n" in text
    assert "| One is better |" in text
    assert not re.search(r"\{\w+\}", text), "a placeholder was left"


def test_the_table_of_sizes_has_a_row_for_each_size_and_task_and_the_figure_a_line_for_each_model():
    parts = planted_parts()
    table = collect(parts, parts)
    lines = sizes_table({200: table, 2088: table}, 2089).splitlines()
    assert [line.split("|")[2].strip() for line in lines[2:]] == ["200", "2,088", "200", "2,088"]
    assert "+0.1" in lines[2] and "rings" in lines[0]
    figure = sizes_figure({200: table, 2088: table})
    assert [len(axis.get_lines()) for axis in figure.axes] == [2, 2]


def test_an_interrupted_benchmark_goes_on_where_it_stopped(tmp_path):
    path = tmp_path / "parts.jsonl"
    calls = []

    def part(name: str):
        def measure() -> list[dict]:
            calls.append(name)
            if calls.count("b") == 1 and name == "b":
                raise KeyboardInterrupt
            return [{"value": name}]

        return measure

    parts = {name: part(name) for name in "abc"}
    with pytest.raises(KeyboardInterrupt):
        measure_parts(parts, path)
    with path.open("a") as file:
        file.write('{"part": "c", "rec')  # as a power cut leaves a line
    measured = measure_parts(parts, path)
    assert calls == ["a", "b", "b", "c"]
    assert measured == {name: [{"value": name}] for name in "abc"} == measure_parts(parts, path)


def test_fewer_rows_are_some_of_the_training_and_validation_rows_and_the_test_rows_stay():
    data = load_data("uci", 0)
    few = keep_rows(data, 200, seed=0).split
    assert (len(few.train), len(few.val)) == (160, 40)
    known = np.concatenate([few.train, few.val])
    assert len(np.unique(known)) == 200
    assert np.isin(known, np.concatenate([data.split.train, data.split.val])).all()
    np.testing.assert_array_equal(few.test, data.split.test)


def test_a_distribution_that_is_certain_and_right_has_the_best_scores():
    rings = np.array([5, 9, 12, 15, 20])
    certain = torch.from_numpy((rings[:, None] >= np.arange(2, 30)).astype(float))
    found = score_distribution(certain, rings)
    assert found["ring_log_score"] == found["crps"] == found["width_80"] == 0
    assert found["coverage"] == 1
    wrong = score_distribution(certain, rings + 1)
    assert wrong["crps"] == 1 and wrong["coverage"] == 0 and wrong["ring_log_score"] > 20


@pytest.mark.slow
def test_every_model_predicts_the_test_rows_and_none_is_fitted_on_them(monkeypatch):
    """Other rings in the test half change no prediction."""
    for package in ("catboost", "ngboost"):
        pytest.importorskip(package, reason="needs the extra quality")
    from benchmarks.fixed_peers import CATBOOST

    monkeypatch.setitem(CATBOOST, "iterations", 3)
    first_lines = SHIPPED_FILE.read_text().splitlines(keepends=True)[:500]
    Path("few.data").write_text("".join(first_lines))
    data = load_data("few.data", 0)
    rings = data.rings.copy()
    rings[data.split.test] = 1
    changed = replace(data, rings=rings)
    quick = Effort({"epochs": 1}, boosting_rounds=3, fits=1)
    for name in models():
        pairs = zip(predictions(name, data, 0, quick), predictions(name, changed, 0, quick), strict=True)
        for first, again in pairs:
            assert first.section == again.section and len(first.predicted) == len(data.split.test)
            np.testing.assert_array_equal(first.predicted, again.predicted, err_msg=name)


def test_the_stored_results_say_how_they_were_made_and_meet_what_is_promised():
    text = RESULTS.read_text()
    assert re.search(rf"Written by `{quality_page.COMMAND}` on \d{{4}}-\d\d-\d\d", text)
    ours = re.findall(r"\*\*rings\*\* +\| \d+ +\| ([\d.]+) ± \S+ +\| ([\d.]+)", text)
    (log_loss, auc), (rmse, mae), (log_score, crps) = [(float(first), float(second)) for first, second in ours]
    assert log_loss <= 0.419 and auc >= 0.8865 and rmse <= 2.06 and mae <= 1.41
    assert log_score <= 1.93 and crps <= 1.01
    for name in ("CatBoost", "CatBoost, fixed", "LightGBM", "SVM", "NGBoost, log-normal", "`encode`", "`regress`"):
        assert f"| {name} " in text


def test_the_words_of_the_stored_results_are_those_of_the_benchmark():
    text = RESULTS.read_text()
    [last] = re.findall(r"over the splits of seeds 0 to (\d+); a peer", text)
    assert quality_page.INTRODUCTION.format(last=last).replace("\n", " ") in text
    for verdict in (quality_page.BETTER, quality_page.NOISE):
        assert f"| {verdict} " in text

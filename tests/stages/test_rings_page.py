"""The page of ``rings``."""

from __future__ import annotations

from typing import Any

import pytest
from page_examples import EPOCHS, answer, compile_code, earlier, final, table

from abalone.evaluation.calibration import reliability_text
from abalone.metrics import METRICS
from abalone.settings import load_settings
from abalone.stages.earlier_runs import EarlierRun
from abalone.stages.rings_page import QUESTION, RingsFacts, rings_page


def metrics() -> dict[str, float]:
    known = {"val/ece": 0.05, "test/ece": 0.03, "val/coverage80": 0.81, "test/coverage80": 0.8, **EPOCHS}
    for name in METRICS:
        for part in ("val", "test"):
            known[f"{part}/{name}"] = 0.5
            known[f"baseline/{part}_{name}"] = 0.5
    return known


def page_of(known: dict[str, float], refit: bool = True, seed: int = 0, data: str = "uci", **facts: Any) -> str:
    ids = {"experiment_id": "7", "run_id": "a1b2", "model_ids": {"classification": "m-1", "regression": "m-2"}}
    settings = load_settings("rings", {"refit": refit, "seed": seed, "data": data})
    fitted = {"epochs": 45, "fitted_rows": 2088, **ids, **facts}
    return rings_page(RingsFacts(settings=settings, metrics=known, test_rows=2089, **fitted))


@pytest.mark.parametrize("refit", [True, False])
def test_the_page_names_both_models_their_calibration_and_what_was_fitted(refit):
    page = page_of(metrics(), refit)
    assert answer(page).startswith(f"**{QUESTION}** Test accuracy 0.5000; test RMSE 0.5000 rings.")
    assert len(table(page)) == 2 + len(METRICS)
    assert "0.050 on validation, 0.030 on test" in page
    assert "81.0% on validation, 80.0% on test" in page
    assert ("second fit" in page) == refit
    for model_id in ("m-1", "m-2"):
        assert page.count(f"models:/{model_id}") == 2
        assert f"(#/experiments/7/models/{model_id}?" in page
    assert "artifacts/importance.png" in page
    compile_code(page)


def test_the_page_says_what_mean_and_median_are_scored_by_and_warns_of_few_rows_only():
    assert "RMSE and R² score the mean of the predicted distribution, and MAE its median" in page_of(metrics())
    warning = "With fewer than 200, rings was not compared with simpler models"
    assert f"Fitted on 199 rows. {warning}" in page_of(metrics(), fitted_rows=199)
    assert warning not in page_of(metrics(), fitted_rows=200)


def test_a_run_on_other_rows_says_how_to_promote_it():
    assert "To promote it" not in page_of(metrics())
    assert "`promote` compares the runs on one split, at first the champion's" in page_of(metrics(), seed=3)
    own = page_of(metrics(), data="mine.csv")
    assert "on the rows of `mine.csv`, seed 0; its tag `split` has the fingerprint, and `-P split=FINGERPRINT`" in own


def test_the_page_compares_with_the_guides_stages():
    regress = EarlierRun("regress", "#/regress", final("regression", 2.48, 3.2))
    known = {**metrics(), "test/accuracy": 0.8, "test/rmse": 2.05}
    first = answer(page_of(known, compared=[earlier("encode", 0.74), regress]))
    assert "Test accuracy 0.8000, against 0.7400 in [encode](#/encode): 0.060 more, beyond the noise" in first
    assert "test RMSE 2.0500 rings, against 2.4800 in [regress](#/regress)." in first


def test_a_run_without_calibration_has_no_text_about_it():
    assert reliability_text({"val/log_loss": 0.5}) == ""

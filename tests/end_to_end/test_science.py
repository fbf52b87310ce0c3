"""Mean test scores of the stages over ten seeds and splits, within bands measured for the guide's networks.

The run ``report`` of ``make run`` has the scores of every seed, in ``scores.json``.
"""

from __future__ import annotations

import re
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from helpers import ROOT
from mlflow import MlflowClient

from abalone.claims.claims import measure_stages, train_stages
from abalone.data.reading import read
from abalone.settings import load_settings
from abalone.tracking.logged_tables import read_table

SEEDS = 10
BANDS = {
    "classify": {"accuracy": (0.735, 0.755), "roc_auc": (0.820, 0.840)},
    "deepen": {"accuracy": (0.735, 0.755), "roc_auc": (0.820, 0.840)},
    "encode": {"accuracy": (0.738, 0.758), "roc_auc": (0.825, 0.848)},
    "regularize": {"accuracy": (0.731, 0.751)},
    "dropout": {"accuracy": (0.734, 0.754)},
    "regress": {"rmse": (2.30, 2.51)},
}
AS_IN_THE_GUIDE = {"clip": 0, "standardize_target": False}
pytestmark = pytest.mark.slow


@pytest.fixture
def means(made: Path) -> pd.DataFrame:
    """Mean of each test score over the seeds, by stage."""
    mlflow.set_tracking_uri(f"sqlite:///{made / 'mlflow.db'}")
    client = MlflowClient()
    experiment = client.get_experiment_by_name("abalone").experiment_id
    [report] = client.search_runs([experiment], "tags.stage = 'report'")
    scores = read_table(report.info.run_id, "scores.json")
    return scores[scores["seed"] < SEEDS].groupby("stage").mean()


@pytest.mark.parametrize("stage", BANDS)
def test_the_mean_of_ten_seeds_lies_within_its_band(means, stage):
    for name, (low, high) in BANDS[stage].items():
        mean = means[name][stage]
        assert low <= mean <= high, f"{stage}: mean {name} {mean:.4f}"


@pytest.mark.parametrize("page", ["docs/guide.md", "docs/guide.pt-BR.md"])
def test_the_guides_page_has_these_means(means, page):
    text = (ROOT / page).read_text(encoding="utf-8")
    for stage in BANDS:
        row = re.search(rf"^\| `{stage}` \|((?:[ \d.,]*\|){{4}})$", text, re.M)[1]
        for name, cell in zip(("accuracy", "roc_auc", "log_loss", "rmse"), row.split("|")):
            if cell.strip():
                shown = float(cell.replace(",", "."))
                assert shown == pytest.approx(means[name][stage], abs=0.002), f"{stage}: {name}"


def test_regression_as_in_the_guide_is_far_worse_and_the_remedy_is_on_by_default():
    stages = {"regress": load_settings("regress", AS_IN_THE_GUIDE)}
    dataset = read()
    measured = measure_stages(stages, dataset, train_stages(stages, dataset, SEEDS))
    assert 2.6 <= measured["regress"]["rmse"].mean() <= 3.0

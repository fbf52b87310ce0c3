"""Names that others chose, of runs, experiments, files and studies: pages show them as text, not as links or HTML."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from mlflow import MlflowClient
from registry_store import CLASSIFIER, candidate, promote_one, runs_of, say_nothing, version_with

from abalone.data.reading import SHIPPED_FILE, read
from abalone.registry.evaluation_run import evaluate
from abalone.registry.model_page import model_page
from abalone.registry.pages import champion_line
from abalone.registry.prediction_run import predict
from abalone.registry.scoring import Request
from abalone.registry.versions import LEARNED_TAG
from abalone.settings import TASKS
from abalone.tracking.addresses import link
from abalone.tracking.markdown import data_part
from abalone.tracking.run_logging import DESCRIPTION_TAG
from abalone.tuning.pages import winner_note

HOSTILE = "x](y) `[click](https:evil) ``![](https:evil.png) <img src=x onerror=alert(1)> www.evil.example | c"
FILE = HOSTILE.replace("/", ":") + ".csv"
ESCAPED = re.compile(r"\\[\\`\[\]|]")
CODE = re.compile(r"(`+)(?!`).+?(?<!`)\1(?!`)")
OUR_LINK = re.compile(r"\]\((#/|get-artifact\?)")


def assert_harmless(page: str) -> None:
    """All links are our own, and there is no HTML, outside of code and escapes."""
    assert "evil" in page
    active = CODE.sub("", ESCAPED.sub("", page))
    assert not re.search(r"\]\(", OUR_LINK.sub("", active)), active
    assert "<" not in active and "://" not in active and "www." not in active


@pytest.fixture
def rows(own_folder) -> str:
    """A file with a hostile name."""
    Path(FILE).write_text("".join(SHIPPED_FILE.read_text().splitlines(keepends=True)[:60]))
    return FILE


def test_the_pages_of_a_promotion_and_of_its_version(store):
    experiment = f"../{HOSTILE}"
    for draw, name in enumerate((f"{HOSTILE} <1>", f"{HOSTILE} 2")):
        candidate(name, 0.5, experiment=experiment, draw=draw, noise=0.01)
    candidate(HOSTILE, 0.9, experiment=experiment, seed=1, tags={"dataset": HOSTILE})
    candidate(HOSTILE, 0.9, experiment=experiment, tags={"split": HOSTILE})
    decision = promote_one(experiment=experiment)
    [run] = runs_of("promote", experiment)
    assert_harmless(run.data.tags[DESCRIPTION_TAG])
    assert_harmless(version_with("champion").description)
    assert_harmless(champion_line(decision, "log_loss", "models:/m@champion", link))
    assert not [path for path in Path("..").iterdir() if "evil" in path.name], "artifacts are filed by number"


def test_the_pages_of_predictions_and_evaluations_and_of_the_version(store, rows):
    for task in TASKS:
        candidate("run", 0.6, task=task)
        promote_one(task)
    predict(rows, f"scored {FILE}", Request(), say_nothing)
    evaluate(rows, say_nothing)
    for stage in ("predict", "evaluate"):
        [run] = runs_of(stage)
        assert_harmless(run.data.tags[DESCRIPTION_TAG])
    assert_harmless(version_with("champion").description)


def test_the_page_of_a_registered_model_whose_champion_learned_from_such_a_file(store):
    candidate("run", 0.6)
    promote_one()
    MlflowClient().set_model_version_tag(CLASSIFIER, "1", LEARNED_TAG, f"100 animals of {FILE}")
    page = model_page("classification", version_with("champion"))
    assert_harmless(page.partition("**Limits**")[2])


def test_the_page_of_a_stage_and_of_a_winner(own_folder, rows):
    assert_harmless(data_part(read(rows).understood))
    assert_harmless(winner_note(HOSTILE, 1, "log_loss", 0.5, 0.5, 0.0))

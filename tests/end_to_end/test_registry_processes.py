"""Promotions, rollbacks and deletions by real processes at once; the soak ``registry_races`` has many rounds."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from helpers import ROOT
from mlflow import MlflowClient
from registry_store import CLASSIFIER, candidate, promote_one, version_with
from stores import copy_store, filling
from warm_processes import PYTHON, warm_environment

from abalone.registry.loading import load_champion
from abalone.registry.versions import versions

PROMOTE = ("-m", "abalone", "promote", "--task", "classification", "--experiment")
ROLLBACK = ("-m", "abalone", "rollback", "--task", "classification")
DELETE = "from mlflow import MlflowClient; MlflowClient().delete_model_version('abalone-classifier', '2')"

pytestmark = pytest.mark.slow


def at_once(*commands: tuple[str, ...]) -> list[str]:
    """Run Python commands at the same time; stderr of those that fail."""
    env = {**warm_environment(), "PYTHONPATH": str(ROOT)}
    started = [subprocess.Popen([PYTHON, *command], env=env, stderr=subprocess.PIPE, text=True) for command in commands]
    errors = [process.communicate(timeout=120)[1] for process in started]
    return [error for process, error in zip(started, errors) if process.returncode]


def check_registry() -> None:
    """There is one champion that can be loaded; previous is another version, or there is none."""
    aliases = MlflowClient().get_registered_model(CLASSIFIER).aliases
    assert aliases.get("previous") != aliases["champion"]
    assert "rolled_back" not in version_with("champion").tags
    load_champion("classification")


@pytest.fixture(scope="module")
def filled(tmp_path_factory, empty_database) -> Path:
    """Folder of a store with a champion and a previous one, and a better candidate."""
    folder = tmp_path_factory.mktemp("champions")
    with filling(folder, empty_database):
        for name, skill in (("first", 0.3), ("second", 0.5)):
            candidate(name, skill, experiment=name)
            promote_one(experiment=name)
        candidate("third", 0.7, experiment="third")
    return folder


@pytest.fixture
def two_champions(filled, store, own_folder) -> None:
    """That store, for one test."""
    copy_store(filled, own_folder)


def test_six_promotions_of_one_run_leave_one_version_of_it(store):
    candidate("only", 0.5)
    assert at_once(*[(*PROMOTE, "abalone")] * 6) == []
    assert [version.version for version in versions("classification")] == [version_with("champion").version]
    check_registry()


@pytest.mark.parametrize("attempt", range(2))
def test_a_promotion_and_a_rollback_leave_a_whole_registry(two_champions, attempt):
    errors = at_once((*PROMOTE, "third"), ROLLBACK)
    assert all("nothing to roll back" in error for error in errors), errors
    check_registry()


@pytest.mark.parametrize("attempt", range(2))
def test_a_promotion_succeeds_while_the_champion_is_deleted(two_champions, attempt):
    assert at_once((*PROMOTE, "third"), ("-c", DELETE)) == []
    assert MlflowClient().get_run(version_with("champion").run_id).info.run_name == "third"
    check_registry()

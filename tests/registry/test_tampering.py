"""Somebody can write into the artifact store: a changed file is named before anything is loaded, no pickle is opened.

Each planted piece of code leaves a file behind if it is ever executed (``planted_code``).
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import mlflow
import pytest
from helpers import ROOT
from mlflow import MlflowClient
from planted_code import (
    EXECUTED,
    add_bytecode,
    add_module,
    change_loader,
    change_module,
    forget_imports,
    let_pytorch_load,
    plant_bomb,
    plant_bomb_in_weights,
    planted,
)
from registry_store import (
    CLASSIFIER,
    candidate,
    forget_file_sums,
    model_folder,
    model_id_of,
    promote_one,
    refusals,
    say_nothing,
    version_with,
)
from stores import copy_store, filling

from abalone.data.reading import SHIPPED_FILE
from abalone.registry.evaluation_run import evaluate
from abalone.registry.loading import UnreachableModel, UnusableModel
from abalone.registry.prediction_run import predict
from abalone.registry.promotion import promote
from abalone.registry.rollback import rollback
from abalone.registry.scoring import Request
from abalone.settings import TASKS
from abalone.tracking.file_sums import FILES_TAG, file_sums
from abalone.tracking.sealing import sealed_name

Damage = Callable[[Path], None]


@pytest.fixture(scope="module")
def filled(tmp_path_factory, empty_database) -> Path:
    """Folder of a store with two champions, and a candidate that is weaker than the classifier."""
    folder = tmp_path_factory.mktemp("champions")
    with filling(folder, empty_database):
        for task in TASKS:
            candidate(f"champion {task}", 0.6, task=task)
            promote_one(task)
        candidate("weaker", 0.3)
    return folder


@pytest.fixture
def champions(filled, store, own_folder) -> dict[str, Path]:
    """A store with two champions and a weaker candidate; the folders of the champions' models, by task."""
    copy_store(filled, own_folder)
    forget_imports()
    return {task: model_folder(model_id_of(version_with("champion", task).run_id)) for task in TASKS}


@pytest.fixture
def unchecked(champions) -> dict[str, Path]:
    """The same for champions of an earlier version of the project, which recorded no sums."""
    for folder in champions.values():
        forget_file_sums(folder.parent.name)
    return champions


def write_rows(count: int) -> str:
    """Write some rows of the shipped file into a file, and return its name."""
    lines = SHIPPED_FILE.read_text().splitlines(keepends=True)
    Path("rows.csv").write_text("".join(lines[:count]))
    return "rows.csv"


def predict_rows(say: Callable[[str], None] = say_nothing) -> None:
    predict(write_rows(5), "scored.csv", Request(), say)


def evaluate_rows(say: Callable[[str], None] = say_nothing) -> None:
    evaluate(write_rows(60), say)


def is_executed() -> bool:
    return Path(EXECUTED).exists()


@pytest.mark.parametrize(
    "damage, has_model_sums",
    [(change_module, True), (add_module, True), (change_loader, True), (change_module, False)],
    ids=["a module", "a module more", "the loader", "a module of a model without sums"],
)
def test_nothing_of_a_changed_champion_is_executed_and_the_file_is_named(
    champions, damage: Damage, has_model_sums: bool
):
    folder = champions["classification"]
    damage(folder)
    if not has_model_sums:
        MlflowClient().delete_logged_model_tag(folder.parent.name, FILES_TAG)
    problem = r"has other files than were recorded \((changed|added) .*(scorer|torch|loader)\.py.*so it was not loaded"
    for use in (predict_rows, evaluate_rows):
        with pytest.raises(UnusableModel, match=f"^models:/{CLASSIFIER}/1 {problem}; train and promote again$"):
            use()
    forget_imports()
    decision = promote_one(dry_run=True)
    assert not is_executed()
    assert decision.reason.startswith("version 1, the champion, has other files than were recorded (")
    assert refusals(decision)["champion classification"].startswith("has other files than were recorded (")
    assert decision.challenger.name == "weaker"


def test_a_changed_archive_of_code_is_named_and_not_executed(champions):
    [archive] = (champions["classification"] / "code").iterdir()
    with zipfile.ZipFile(archive, "a") as package:
        package.writestr(f"{archive.stem}/rows.py", planted(Path.cwd()))
    with pytest.raises(UnusableModel, match=rf"recorded \(changed code/{archive.name}\), so it was not loaded"):
        predict_rows()
    assert not is_executed()


def test_a_file_that_no_run_has_recorded_is_not_even_fetched(champions):
    for folder in champions.values():
        (folder / "code" / "torch.py").write_text(planted(Path.cwd()))
    for use in (predict_rows, evaluate_rows):
        use()
    assert not is_executed()


def test_a_changed_candidate_is_refused_and_not_executed(store):
    candidate("sound", 0.3)
    change_module(model_folder(model_id_of(candidate("changed", 0.9))))
    forget_imports()
    decision = promote_one()
    assert decision.challenger.name == "sound" and not is_executed()
    assert refusals(decision)["changed"].startswith("has other files than were recorded (changed code/abalone_model_")


def test_a_rollback_to_a_changed_or_unreachable_version_changes_nothing(champions):
    candidate("second", 0.8)
    promote_one()
    folder = champions["classification"]
    change_module(folder)
    with pytest.raises(UnusableModel, match=rf"models:/{CLASSIFIER}/1 has other files than were recorded \(changed "):
        rollback(("classification",), say_nothing)
    folder.rename(folder.with_name("away"))
    with pytest.raises(UnreachableModel):
        rollback(("classification",), say_nothing)
    assert (version_with("champion").version, version_with("previous").version) == (2, 1)
    assert "rolled_back" not in version_with("champion").tags and not is_executed()


def test_a_rollback_to_a_version_with_a_file_more_names_it(champions):
    candidate("second", 0.8)
    promote_one()
    Path(champions["classification"], "data", "more.bin").write_bytes(b"1")
    with pytest.raises(UnusableModel, match=r"added data/more\.bin"):
        rollback(("classification",), say_nothing)


def test_a_rollback_away_from_a_changed_champion_is_possible(champions):
    run_id = candidate("second", 0.8)
    promote_one()
    change_module(model_folder(model_id_of(run_id)))
    rollback(("classification",), say_nothing)
    assert version_with("champion").version == 1 and not is_executed()


def test_bytecode_in_the_store_is_not_executed(champions):
    for folder in champions.values():
        add_bytecode(folder)
    for use in (predict_rows, evaluate_rows, promote_one):
        forget_imports()
        use()
        assert not is_executed()


def test_the_check_in_security_md_names_the_changed_file(champions):
    page = (ROOT / "SECURITY.md").read_text()
    code = page.partition("<<'END'\n")[2].partition("\nEND")[0]
    exec(code, {})
    change_module(champions["classification"])
    with pytest.raises(UnusableModel, match=r"changed code/.*scorer\.py"):
        exec(code, {})


def test_a_promotion_records_the_sums_that_the_run_recorded(champions):
    for task, folder in champions.items():
        recorded = MlflowClient().get_logged_model(folder.parent.name).tags[FILES_TAG]
        assert version_with("champion", task).tags[FILES_TAG] == recorded == file_sums(folder)
        assert f"  code/{sealed_name()}.zip\n" in recorded and recorded.endswith("  weights.pt")
        assert len(recorded) < 5000  # as long as a version's tag may be in earlier versions of MLflow


def test_the_next_promotion_records_the_sums_of_a_model_that_recorded_none(store):
    folder = model_folder(model_id_of(candidate("earlier", 0.6)))
    forget_file_sums(folder.parent.name)
    promote_one()
    assert version_with("champion").tags[FILES_TAG] == file_sums(folder)


def test_a_champion_without_sums_works_and_each_command_says_that_it_was_not_checked(unchecked):
    candidate("second", 0.8)
    said: list[str] = []
    predict_rows(said.append)
    evaluate_rows(said.append)
    promote(("classification",), said.append)
    rollback(("classification",), said.append)
    assert len(said) == 4
    for text in said:
        assert f"models:/{CLASSIFIER}/1 was registered by hand, or by a version of the project that did not" in text
    promote_one(force=True)
    candidate("third", 0.9)
    promote_one()
    predict_rows(said.append)
    assert f"models:/{CLASSIFIER}/3" not in said[-1] and "models:/abalone-regressor/1 was registered" in said[-1]


def test_the_bomb_explodes_where_the_module_is_unpickled(unchecked):
    plant_bomb(unchecked["classification"])
    with pytest.raises(AttributeError):  # it leaves no module
        mlflow.pytorch.load_model(str(unchecked["classification"]))
    assert is_executed()


@pytest.mark.parametrize("plant", [plant_bomb, plant_bomb_in_weights, let_pytorch_load])
def test_predict_evaluate_and_promote_unpickle_nothing_even_without_sums(unchecked, plant: Damage):
    for folder in unchecked.values():
        plant(folder)
    for use in (predict_rows, evaluate_rows):
        is_loaded = nullcontext() if plant is plant_bomb else pytest.raises(UnusableModel, match="cannot be loaded")
        with is_loaded:
            use()
        assert not is_executed()
    decision = promote_one(dry_run=True)
    assert not is_executed()
    assert ("the champion, cannot be loaded" in decision.reason) == (plant is not plant_bomb)

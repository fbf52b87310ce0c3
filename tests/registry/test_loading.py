"""Loading a model with its own code, and one clear message for a model that cannot be used."""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient
from registry_store import candidate, make_unsealed, model_folder, model_id_of, package_of, rename_package, replace_in
from stores import copy_store, filling

from abalone.data.reading import read
from abalone.model.rows import BadRows
from abalone.registry.loading import UnreachableModel, UnusableModel, load_champion, load_model
from abalone.settings import UserError

ROWS = read().frame.head(20)


@pytest.fixture(scope="module")
def logged(empty_database: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder with the store of a logged classifier, and its address."""
    folder = tmp_path_factory.mktemp("logged")
    with filling(folder, empty_database):
        return folder, f"models:/{model_id_of(candidate('logged', 0.5))}"


@pytest.fixture
def uri(logged: tuple[Path, str], store: str, own_folder: Path) -> str:
    """Address of a logged classifier."""
    folder, uri = logged
    copy_store(folder, own_folder)
    return uri


@pytest.fixture
def folder(uri) -> Path:
    """Folder of that classifier in the store."""
    return model_folder(uri.removeprefix("models:/"))


def test_a_loaded_model_answers_as_pyfunc_does(uri):
    model = load_model(uri)
    assert model.columns == ("label", "probability_old", "outside_training_range")
    pd.testing.assert_frame_equal(model.predict(ROWS), mlflow.pyfunc.load_model(uri).predict(ROWS))


def test_a_model_that_was_loaded_needs_no_files_and_leaves_none(uri, own_folder, monkeypatch):
    temporary = own_folder / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    path = list(sys.path)
    model = load_model(uri)
    assert len(model.predict(ROWS)) == len(ROWS)
    with pytest.raises(UnreachableModel):
        load_model("models:/m-unknown")
    assert not list(temporary.iterdir()) and sys.path == path


def test_integers_and_numbers_as_text_are_passed_as_numbers(uri):
    model = load_model(uri)
    whole = ROWS.assign(Height=1.0, **{"Whole weight": 2.0})
    expected = model.predict(whole)
    for kind in (np.int64, str, object):
        pd.testing.assert_frame_equal(model.predict(whole.astype({"Height": kind, "Whole weight": kind})), expected)


def test_rows_that_the_model_refuses_are_bad_rows_in_the_models_own_words(uri, folder):
    replace_in(rename_package(folder, "abalone_model_of_other_words") / "rows.py", "is missing", "is lacking")
    rows = ROWS.assign(Length=np.nan).rename_axis("line")
    with pytest.raises(BadRows, match=r"^line 0: Length is lacking; line 1: Length is lacking"):
        load_model(uri).predict(rows)


def test_loading_leaves_the_stored_files_as_they_are(uri, folder):
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    load_model(uri).predict(ROWS)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def lose_code(folder: Path) -> None:
    shutil.rmtree(folder / "code")


def cut_code(folder: Path) -> None:
    [archive] = (folder / "code").iterdir()
    archive.write_bytes(archive.read_bytes()[:1000])


def lose_weights(folder: Path) -> None:
    (folder / "weights.pt").unlink()


def cut_weights(folder: Path) -> None:
    content = (folder / "weights.pt").read_bytes()
    (folder / "weights.pt").write_bytes(content[: len(content) * 9 // 10])


def cut_description(folder: Path) -> None:
    (folder / "MLmodel").write_text("flavors: [")


def lose_flavor(folder: Path) -> None:
    replace_in(folder / "MLmodel", "python_function:", "another:")


def lose_signature(folder: Path) -> None:
    replace_in(folder / "MLmodel", "(?ms)^signature:.*?^(?=\\w)", "")


def break_syntax(folder: Path) -> None:
    (rename_package(folder, "abalone_model_of_broken_syntax") / "scorer.py").write_text("def")


def lose_module(folder: Path) -> None:
    (rename_package(folder, "abalone_model_of_lost_module") / "networks.py").unlink()


def lose_name(folder: Path) -> None:
    replace_in(rename_package(folder, "abalone_model_of_lost_name") / "columns.py", "LIMITS", "BOUNDS")


def lose_entry_point(folder: Path) -> None:
    replace_in(rename_package(folder, "abalone_model_of_lost_entry") / "scorer.py", "def _load_pyfunc", "def load")


def need_a_package(folder: Path) -> None:
    replace_in(
        rename_package(folder, "abalone_model_of_needs") / "scorer.py", "import torch\n", "import no_such_package\n"
    )


@pytest.mark.parametrize(
    "damage, reason",
    [
        (make_unsealed, "ImportError: it was logged by an older version of the project, which did not seal its code"),
        (lose_code, "ImportError: its code has no package abalone_model_"),
        (cut_code, "ImportError: its code has no package abalone_model_"),
        (lose_module, "ModuleNotFoundError: No module named 'abalone_model_of_lost_module.networks'"),
        (lose_name, "ImportError: cannot import name 'LIMITS' from 'abalone_model_of_lost_name.columns'"),
        (lose_entry_point, "AttributeError: module 'abalone_model_of_lost_entry.scorer' has no attribute"),
        (break_syntax, "SyntaxError: "),
        (need_a_package, "ModuleNotFoundError: No module named 'no_such_package'"),
        (lose_weights, "FileNotFoundError: "),
        (cut_weights, ""),  # what torch raises depends on where the file ends
        (cut_description, "ParserError: "),
        (lose_flavor, 'MlflowException: Model does not have the "python_function" flavor'),
        (lose_signature, "ValueError: its signature names no outputs"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_model_that_cannot_be_loaded_is_refused_with_model_reason_and_way_out(
    uri, folder, damage: Callable[[Path], None], reason
):
    damage(folder)
    modules = set(sys.modules)
    expected = f"^{re.escape(f'{uri} cannot be loaded ({reason}')}.*; train and promote again$"
    with pytest.raises(UnusableModel, match=expected) as error:
        load_model(uri)
    assert isinstance(error.value, UserError) and "\n" not in str(error.value)
    assert not [name for name in set(sys.modules) - modules if name.startswith("abalone_model_")]


def test_damaged_code_is_not_used_for_the_next_model_of_the_same_version(store):
    uris = [f"models:/{model_id_of(candidate(name, 0.5))}" for name in ("damaged", "sound")]
    damaged, sound = (model_folder(uri.removeprefix("models:/")) for uri in uris)
    for folder in (damaged, sound):
        rename_package(folder, "abalone_model_of_one_version")
    (package_of(damaged) / "networks.py").unlink()
    with pytest.raises(UnusableModel):
        load_model(uris[0])
    assert len(load_model(uris[1]).predict(ROWS)) == len(ROWS)


def test_a_model_that_fails_while_scoring_is_refused(uri, folder):
    package = rename_package(folder, "abalone_model_that_cannot_score")
    replace_in(package / "scorer.py", "checked = check", "checked = torch.no_such_function")
    model = load_model(uri)
    with pytest.raises(
        UnusableModel, match=r"cannot score rows \(AttributeError: .*no_such_function.*train and promote"
    ):
        model.predict(ROWS)


@pytest.mark.parametrize("lost", ["", "MLmodel"], ids=["all files", "the description"])
def test_files_that_cannot_be_fetched_are_the_stores_fault(uri, folder, store, lost):
    path = folder / lost
    path.rename(folder.with_name("away"))
    with pytest.raises(UnreachableModel) as error:
        load_model(uri)
    assert str(error.value).startswith(f"{uri} cannot be fetched (")
    assert str(error.value).endswith(f"check that the artifact store behind {store} is available")


def test_a_model_that_is_not_in_the_store_cannot_be_fetched(store):
    with pytest.raises(UnreachableModel, match=r"^models:/m-0000 cannot be fetched \(.*m-0000"):
        load_model("models:/m-0000")


def test_without_a_champion_it_says_how_to_make_one(store):
    with pytest.raises(UserError) as error:
        load_champion("classification")
    assert str(error.value) == (
        f"abalone-classifier has no version with the alias champion in {store}; "
        "make one with: mlflow run . -e promote -P experiment=NAME"
    )


def test_a_registry_that_does_not_answer_is_named(store, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    mlflow.set_tracking_uri("http://127.0.0.1:9")
    with pytest.raises(
        UserError, match=r"^the model registry http://127\.0\.0\.1:9 cannot be read \(MlflowException: "
    ):
        load_champion("classification")


def test_the_champion_is_the_version_with_the_alias(uri):
    client = MlflowClient()
    client.create_registered_model("abalone-classifier")
    for _ in range(2):
        client.create_model_version("abalone-classifier", uri, model_id=uri.removeprefix("models:/"))
    client.set_registered_model_alias("abalone-classifier", "champion", "1")
    assert load_champion("classification").uri == "models:/abalone-classifier/1"

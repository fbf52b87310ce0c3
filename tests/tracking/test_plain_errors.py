"""A full disk is told in one sentence that names the place."""

from __future__ import annotations

import errno
import os
import resource
import shutil
from pathlib import Path
from tempfile import gettempdir

import pytest
import torch
from mlflow import MlflowClient
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

from abalone.settings import load_settings
from abalone.stages.stage import run_stage
from abalone.tracking.plain_errors import explain, fault, named
from abalone.tracking.run_logging import log_files
from abalone.tracking.runs import tracked_run


def no_room(*arguments: object, **options: object) -> None:
    """What a write does on a full disk; the error of a write names no file."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def says(place: Path | str) -> str:
    return f"the disk is full: {place} could not be written; free some space"


def test_the_place_is_the_file_that_the_error_names_or_else_the_folder_that_is_written_to():
    with pytest.raises(OSError) as raised, named("figures"):
        no_room()
    assert fault(raised.value) == says("figures")
    with pytest.raises(OSError) as raised, named("figures"):
        raise OSError(errno.ENOSPC, "full", "figures/roc.png")
    assert fault(raised.value) == says("figures/roc.png")


def test_of_a_copy_the_target_is_the_place():
    error = OSError(errno.ENOSPC, "full", "here/model.pth", None, "there/model.pth")
    assert fault(error) == says("there/model.pth")


def test_of_several_errors_the_first_one_counts():
    with pytest.raises(ValueError) as raised:
        try:
            raise OSError(errno.ENOSPC, "full", "mlruns")
        finally:
            raise ValueError("the run could not be ended")
    assert fault(raised.value) == says("mlruns")


def test_a_folder_that_cannot_be_copied_is_named(own_folder, monkeypatch):
    Path("here").mkdir()
    Path("here", "file").write_text("text")
    monkeypatch.setattr(shutil, "copy2", no_room)
    with pytest.raises(shutil.Error) as raised:
        shutil.copytree("here", "there", copy_function=shutil.copy2)
    assert fault(raised.value) == says(Path("there", "file"))


def test_weights_that_torch_cannot_save_were_meant_for_the_folder_of_temporary_files():
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limit[1]))
    try:
        with pytest.raises(RuntimeError) as raised:
            torch.save(torch.zeros(9999), "weights")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert fault(raised.value) == says(gettempdir())


@pytest.mark.parametrize("error", [ValueError("no"), PermissionError(errno.EACCES, "denied", "mlruns")])
def test_other_errors_keep_their_own_text(error):
    assert fault(error) == "" and explain(error) == str(error)


def test_a_stage_whose_figures_or_model_find_no_room_fails_with_the_sentence_in_its_run(store, monkeypatch):
    monkeypatch.setattr(LocalArtifactRepository, "log_artifacts", no_room)
    with pytest.raises(OSError) as raised:
        run_stage("classify", load_settings("classify", {"epochs": 1}))
    assert fault(raised.value) == says(gettempdir())
    client = MlflowClient()
    [run] = client.search_runs([client.get_experiment_by_name("abalone").experiment_id])
    assert (run.info.status, run.data.tags["error"]) == ("FAILED", f"OSError: {says(gettempdir())}")


def test_a_text_that_finds_no_room_is_named_by_its_folder(store, monkeypatch):
    monkeypatch.setattr(Path, "write_text", no_room)
    with pytest.raises(OSError) as raised, tracked_run("classify") as run_id:
        log_files(run_id, texts={"page.md": "text"}, figures={}, tables={})
    assert fault(raised.value).startswith(f"the disk is full: {gettempdir()}/")

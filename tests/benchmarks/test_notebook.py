"""The guide's notebook: made from its source, free of errors and of this machine's paths, and executable."""

from __future__ import annotations

import re

import nbformat
import pytest
from mlflow import MlflowClient
from nbformat import NotebookNode
from project_copies import copy_project
from warm_processes import start_servers_warm

from abalone.settings import STAGES
from abalone.stages.lessons import LESSONS
from benchmarks.notebook import MAX_BYTES, NOTEBOOK, SOURCE, build_notebook, execute

ABSOLUTE_PATH = re.compile(r"(?<![\w/:#.<~])/[\w.-]+/|\b[A-Z]:\\")


@pytest.fixture
def committed() -> NotebookNode:
    return nbformat.read(NOTEBOOK, as_version=4)


def test_text_and_blocks_of_python_become_cells_in_their_order():
    notebook = build_notebook("# Title\n\n```python\na = 1\n```\n\n```python\na\n```\n\nThe end.\n")
    assert [(cell.cell_type, cell.source) for cell in notebook.cells] == [
        ("markdown", "# Title"), ("code", "a = 1"), ("code", "a"), ("markdown", "The end."),
    ]  # fmt: skip


def test_the_committed_notebook_is_the_one_that_make_notebook_writes(committed):
    built = build_notebook(SOURCE.read_text(encoding="utf-8"))
    assert cells(committed) == cells(built), "run: make notebook"


def test_it_asks_the_question_of_every_stage_and_runs_it():
    source = SOURCE.read_text(encoding="utf-8")
    flat = " ".join(source.split())
    for stage in STAGES:
        assert LESSONS[stage].question in flat
        assert f'run_stage("{stage}")' in source


def test_the_committed_notebook_was_executed_from_top_to_bottom_without_an_error(committed):
    code = [cell for cell in committed.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert unwanted(committed) == []
    assert kinds(committed).count("image/png") > 5
    assert NOTEBOOK.stat().st_size < MAX_BYTES


def test_the_committed_notebook_holds_no_path_of_a_machine(committed):
    assert ABSOLUTE_PATH.search("see /home/me/abalone.db") and ABSOLUTE_PATH.search(r"C:\abalone")
    for text in texts(committed):
        assert not ABSOLUTE_PATH.search(text), text


@pytest.mark.slow
def test_every_cell_runs_and_gives_what_the_committed_one_gives(committed, store: str, own_folder, monkeypatch):
    """In a warm kernel, with blank figures and a copy of the project that has fewer epochs."""
    start_servers_warm(monkeypatch)
    monkeypatch.setenv("WARM_FIGURES", "blank")
    copy = copy_project(own_folder / "copy")
    for file in (copy / "experiments").glob("*.toml"):
        fewer = re.sub(r"^(epochs|members) = .+", r"\1 = 2", file.read_text(), flags=re.M)
        file.write_text(fewer)
    notebook = build_notebook(SOURCE.read_text(encoding="utf-8"))
    execute(notebook, own_folder, project=copy)
    runs = MlflowClient(store).search_runs(["1"], "tags.stage = 'encode'")
    assert [run.data.params["epochs"] for run in runs] == ["2"]
    assert unwanted(notebook) == []
    assert kinds(notebook) == kinds(committed)
    assert not [text for text in texts(notebook) if str(own_folder) in text]


def cells(notebook: NotebookNode) -> list[tuple[str, str, str]]:
    return [(cell.id, cell.cell_type, cell.source) for cell in notebook.cells]


def outputs(notebook: NotebookNode) -> list[NotebookNode]:
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


def unwanted(notebook: NotebookNode) -> list[NotebookNode]:
    """Errors, and what was written to stderr."""
    return [output for output in outputs(notebook) if output.output_type == "error" or output.get("name") == "stderr"]


def kinds(notebook: NotebookNode) -> list[str]:
    """The types of all outputs, in their order."""
    found = []
    for output in outputs(notebook):
        found += sorted(output.get("data", {output.output_type: ""}))
    return found


def texts(notebook: NotebookNode) -> list[str]:
    """Every output that is not a picture, and every cell."""
    found = [cell.source for cell in notebook.cells]
    for output in outputs(notebook):
        found += [str(value) for kind, value in output.get("data", {}).items() if not kind.startswith("image/")]
        found.append(output.get("text", ""))
    return found

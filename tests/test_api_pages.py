"""``make docs``: the pages of the Python API, from the docstrings."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pdoc
import pytest
from helpers import ROOT

from abalone import api


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of the package itself."""
    folder = tmp_path_factory.mktemp("pages")
    pdoc.render.configure(docformat="numpy", show_source=False)
    pdoc.pdoc("abalone", "abalone.settings", output_directory=folder)
    assert (folder / "abalone" / "settings.html").exists()
    return (folder / "abalone.html").read_text(encoding="utf-8")


def test_the_page_of_the_package_has_every_function_of_the_api(page):
    assert [name for name in api.__all__ if f'<section id="{name}">' not in page] == []


def test_parameters_and_examples_of_a_docstring_are_sections_of_the_page(page):
    section = page.partition('<section id="run_stage">')[2].partition("</section>")[0]
    assert "Parameters</h6>" in section and "Examples</h6>" in section
    assert "<strong>settings</strong>" in section


def test_make_docs_makes_a_page_of_every_package(page):
    # Under `make test` it is a make within a make, which also prints the folders that it enters and leaves.
    printed = subprocess.check_output(["make", "--dry-run", "docs"], cwd=ROOT, text=True)
    packages = {f"abalone.{Path(init).parent.name}" for init in (ROOT / "abalone").glob("*/__init__.py")}
    assert {"abalone", "abalone.settings", *packages} <= set(printed.split())

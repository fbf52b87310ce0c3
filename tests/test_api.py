"""The Python API: importable at once from the package's top, with examples that run."""

from __future__ import annotations

import doctest
import inspect
import subprocess
import sys

from click.testing import CliRunner
from helpers import ROOT

import abalone
from abalone import api
from abalone.cli.program import cli


def test_the_top_of_the_package_is_the_api_and_imports_no_heavy_library():
    assert abalone.__all__ == api.__all__
    assert all(getattr(abalone, name) is getattr(api, name) for name in api.__all__)
    heavy = ("torch", "mlflow", "pandas", "sklearn", "matplotlib", "optuna", "numpy")
    code = f"import sys; from abalone import *; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True, cwd=ROOT) == "[]\n"


def test_the_examples_of_the_docstrings_run_one_after_the_other(store):
    examples = [test for test in doctest.DocTestFinder().find(api, module=api) if test.examples]
    assert len(examples) > 3
    runner = doctest.DocTestRunner()
    for test in sorted(examples, key=lambda test: test.lineno):
        runner.run(test)
    assert runner.summarize().failed == 0


def test_every_command_that_does_something_has_its_function(monkeypatch, own_folder):
    """The commands parse, and call the API."""
    called = []
    for name in api.__all__:
        if name not in ("load_settings", "load_data", "load_champion"):
            monkeypatch.setattr(api, name, lambda *args, name=name, **options: called.append(name) or Nothing())
    for words in (
        "classify", "rings", "main", "tune", "report --json", "promote", "rollback --task both",
        "predict --input a --output b", "evaluate --data a", "status --json",
    ):  # fmt: skip
        CliRunner().invoke(cli, words.split())
    expected = ["run_stage", "run_stage", "run_main", "tune", "report", "promote", "rollback", "predict", "evaluate"]
    assert called == [*expected, "read_status"]


class Nothing(dict):
    """Stands for any result."""


def test_every_function_says_what_it_is_for_and_types_its_parameters():
    for name in api.__all__:
        function = getattr(api, name)
        assert inspect.getdoc(function), name
        hints = inspect.signature(function).parameters.values()
        assert all(parameter.annotation is not inspect.Parameter.empty for parameter in hints), name

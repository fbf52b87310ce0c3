"""MLproject, experiments/, conda.yaml, pyproject.toml, the command line and the source agree with each other."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import fields
from importlib.util import resolve_name
from itertools import pairwise
from pathlib import Path

import click
import pytest
import yaml
from click.testing import CliRunner
from helpers import ROOT

from abalone.cli.mlproject import deployed_mlproject, mlproject
from abalone.cli.program import cli
from abalone.settings import STAGES, load_settings, read_toml, settings_type

PROJECT = yaml.safe_load((ROOT / "MLproject").read_text())
ENTRY_POINTS = PROJECT["entry_points"]
# A package imports only from those before it; packages separated by a comma do not import from each other.
DIRECTION = (
    "model < setting_values, metrics < settings < side_by_side < data, tracking < training, evaluation"
    " < stages, registry, claims < tuning < main, status < api < __init__, cli < __main__"
)
# The only packages that may import these libraries.
USERS = {
    "mlflow": {"model", "tracking", "registry", "tuning", "status"},
    "optuna": {"tuning"},
    "click": {"cli"},
    "matplotlib": {"evaluation", "claims", "tuning", "tracking"},  # tracking turns figures into images
}
SOURCES = sorted((ROOT / "abalone").rglob("*.py"))
INITS = sorted([*(ROOT / "abalone").rglob("__init__.py"), ROOT / "benchmarks" / "__init__.py"])
MOST_LINES = 350


def text_options(command: str) -> dict[str, click.Option]:
    return {option.name: option for option in cli.commands[command].params if not option.is_flag}


def test_mlproject_is_the_one_that_make_mlproject_writes():
    assert (ROOT / "MLproject").read_text() == mlproject(), "run: make mlproject"
    assert (ROOT / "deploy" / "MLproject").read_text() == deployed_mlproject(), "run: make mlproject"


def test_every_stage_is_an_entry_point_an_experiment_and_a_command():
    for stage in (*STAGES, "rings"):
        assert stage in ENTRY_POINTS and stage in cli.commands
    assert {path.stem for path in (ROOT / "experiments").glob("*.toml")} >= {*STAGES, "rings"}
    assert set(ENTRY_POINTS) == set(cli.commands)


@pytest.mark.parametrize("stage", [*STAGES, "rings"])
def test_mlproject_experiment_and_command_name_the_same_keys_with_the_same_defaults(stage):
    declared = {name: str(spec["default"]) for name, spec in ENTRY_POINTS[stage]["parameters"].items()}
    settings = load_settings(stage)
    assert load_settings(stage, declared) == settings
    assert list(declared) == [f.name for f in fields(settings_type(stage))] == list(read_toml(stage))
    options = text_options(stage)
    assert set(options) == {*declared, "run_name", "experiment_name"}
    for name, value in settings.as_text().items():
        assert options[name].help.endswith(f"[default: {value}]"), name


@pytest.mark.parametrize("name", ENTRY_POINTS)
def test_an_entry_point_passes_every_parameter_on_to_its_command(name):
    entry = ENTRY_POINTS[name]
    words = entry["command"].split()
    assert words[:4] == ["python", "-m", "abalone", name]
    passed = dict(zip(words[4::2], words[5::2]))
    assert passed == {f"--{key.replace('_', '-')}": f"{{{key}}}" for key in entry.get("parameters", {})}
    assert set(entry.get("parameters", {})) <= set(text_options(name))


def test_a_stage_differs_from_the_one_before_it_only_in_what_the_guide_teaches_there():
    settings = {stage: read_toml(stage) for stage in STAGES}
    for before, after in pairwise(settings):
        changed = {key for key in settings[after] if settings[after][key] != settings[before][key]}
        assert changed == set(STAGES[after].taught), after


def test_conda_yaml_holds_the_pins_of_pyproject_and_everything_python_under_pip():
    pins = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    python, pip, packages = yaml.safe_load((ROOT / PROJECT["conda_env"]).read_text())["dependencies"]
    assert re.fullmatch(r"python=3\.11\.\d+", python) and pip == "pip"
    assert packages["pip"] == pins
    assert all(re.fullmatch(r"[a-z-]+==[\d.]+", pin) for pin in pins)


def test_imports_go_one_way_by_package():
    floors = {}
    for floor, group in enumerate(DIRECTION.split(" < ")):
        for package in group.split(", "):
            floors[package] = floor
    for path in SOURCES:
        package = package_of(path)
        for _, name in imports(path):
            if name.startswith("abalone."):
                used = name.split(".")[1]
                assert used == package or floors[used] < floors[package], f"{path} imports {name}"


def test_the_model_package_imports_only_relatively_and_only_from_itself():
    """A logged model carries a copy of the package under another name."""
    for path in (ROOT / "abalone" / "model").glob("*.py"):
        for level, name in imports(path):
            assert level == 1 or name.split(".")[0] != "abalone", f"{path} imports {name}"


@pytest.mark.parametrize("path", INITS, ids=lambda path: path.parent.name)
def test_an_init_holds_the_purpose_of_its_package_and_no_code(path):
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree), f"{path} has no docstring"
    others = tree.body[1:]
    if path.parent.name == "abalone":
        others = [node for node in others if not is_reexport(node)]
    assert not others, f"{path} has code"


def is_reexport(node: ast.AST) -> bool:
    """Whether a statement imports the Python API, or names what it is."""
    if isinstance(node, ast.Assign):
        return [target.id for target in node.targets] == ["__all__"]
    return isinstance(node, ast.ImportFrom) and node.module == "abalone.api"


def test_every_folder_of_modules_is_a_package():
    folders = {path.parent for path in SOURCES}
    assert {path.parent for path in INITS} >= folders


@pytest.mark.parametrize("library", USERS)
def test_a_library_is_imported_only_by_its_packages(library):
    users = set()
    for path in SOURCES:
        if any(name.split(".")[0] == library for _, name in imports(path)):
            users.add(package_of(path))
    assert users == USERS[library]


def package_of(path: Path) -> str:
    """The package below ``abalone`` that a file is in; for ``settings.py``, ``main.py`` and the like, its own name."""
    return path.relative_to(ROOT / "abalone").with_suffix("").parts[0]


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Level (0: absolute) and absolute name of everything that a file imports, wherever in the file."""
    package = ".".join(path.relative_to(ROOT).parent.parts)
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield 0, alias.name
        elif isinstance(node, ast.ImportFrom):
            module = resolve_name("." * node.level + (node.module or ""), package)
            for alias in node.names:
                yield node.level, f"{module}.{alias.name}"


@pytest.mark.parametrize("folder", ["abalone", "tests", "benchmarks"])
def test_every_file_can_be_read_in_one_sitting(folder):
    lengths = {}
    for path in (ROOT / folder).rglob("*.py"):
        lengths[str(path.relative_to(ROOT))] = len(path.read_text().splitlines())
    assert lengths
    too_long = {name: length for name, length in lengths.items() if length > MOST_LINES}
    assert not too_long


def test_help_lists_every_command_once_the_stages_in_the_guides_order():
    shown = [command.name for commands in cli.sections.values() for command in commands]
    assert sorted(shown) == sorted(cli.commands) == sorted(ENTRY_POINTS)
    assert shown[: len(STAGES)] == list(STAGES)
    printed = CliRunner().invoke(cli, ["--help"]).output
    listed = re.findall(r"^  ([a-z]+) {2,}\S", printed, re.M)
    assert listed == shown


@pytest.mark.parametrize("name", ENTRY_POINTS)
def test_the_help_of_a_command_has_defaults_and_an_example_that_is_accepted(name):
    command = cli.commands[name]
    assert len(command.epilog) <= 78, "one line"
    words = shlex.split(command.epilog)
    assert words[:5] == ["Example:", "python", "-m", "abalone", name]
    command.make_context(name, words[5:], parent=click.Context(cli))
    for option in command.params:
        says_default = option.required or option.is_flag or option.show_default or "[default: " in option.help
        assert says_default, option.name


def test_help_answers_without_the_heavy_libraries():
    heavy = ("torch", "mlflow", "pandas", "sklearn", "matplotlib", "optuna", "numpy")
    code = f"""
import sys
from abalone.cli.mlproject import mlproject
from abalone.cli.program import cli
for arguments in (["--help"], *([name, "--help"] for name in cli.commands)):
    cli.main(arguments, standalone_mode=False)
print("heavy:", [name for name in {heavy} if name in sys.modules])
"""
    printed = subprocess.check_output([sys.executable, "-c", code], text=True, cwd=ROOT)
    assert printed.endswith("heavy: []\n")
    assert "classify" in printed and "--learning-rate" in printed


def test_make_alone_lists_every_target_with_a_line_of_help():
    targets = re.search(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(), re.M).group(1).split()
    shown = subprocess.check_output(["make", "--no-print-directory"], text=True, cwd=ROOT)
    assert [line.split()[0] for line in shown.splitlines()] == targets
    assert all(len(line.split()) > 2 for line in shown.splitlines())

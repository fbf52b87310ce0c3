"""MLproject, experiments/, conda.yaml, pyproject.toml, the command line and the source agree with each other."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from dataclasses import fields
from itertools import pairwise

import click
import pytest
import yaml
from helpers import ROOT

from abalone.cli import cli
from abalone.settings import STAGES, load_settings, read_toml, settings_type

PROJECT = yaml.safe_load((ROOT / "MLproject").read_text())
ENTRY_POINTS = PROJECT["entry_points"]
PACKAGE = {path.stem: path for path in (ROOT / "abalone").glob("*.py")}

# A module imports only from modules before it; on one line nobody imports from a neighbour.
ORDER = """
columns processes signals
config
dataset features
models
training evaluation plots cards serving
members studies rings explain views
population
tracking
selection trial_runs
registry tuning scoring report
stages
tune_stage rings_stage
guide
cli
__main__
"""
ONLY = {
    "mlflow": {"processes", "tracking", "trial_runs", "selection", "registry", "serving", "scoring", "tuning"},
    "optuna": {"studies", "tuning"},
    "click": {"cli"},
    "matplotlib": {"plots"},
}


def text_options(command: str) -> dict[str, click.Option]:
    return {option.name: option for option in cli.commands[command].params if not option.is_flag}


def test_every_stage_is_an_entry_point_an_experiment_and_a_command():
    for stage in (*STAGES, "rings"):
        assert stage in ENTRY_POINTS and stage in cli.commands
    assert {path.stem for path in (ROOT / "experiments").glob("*.toml")} >= {*STAGES, "rings"}
    assert set(ENTRY_POINTS) == set(cli.commands)


@pytest.mark.parametrize("stage", [*STAGES, "rings"])
def test_mlproject_experiment_and_command_name_the_same_keys_with_the_same_defaults(stage):
    declared = {name: str(spec["default"]) for name, spec in ENTRY_POINTS[stage]["parameters"].items()}
    kept = load_settings(stage)
    assert load_settings(stage, declared) == kept
    assert list(declared) == [f.name for f in fields(settings_type(stage))] == list(read_toml(stage))
    options = text_options(stage)
    assert set(options) == {*declared, "run_name", "experiment_name"}
    for name, value in kept.as_text().items():
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
    names = list(settings)
    for before, after in pairwise(names):
        changed = {key for key in settings[after] if settings[after][key] != settings[before][key]}
        assert changed == set(STAGES[after].taught), after


def test_conda_yaml_holds_the_pins_of_pyproject_and_everything_python_under_pip():
    pins = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    python, pip, packages = yaml.safe_load((ROOT / PROJECT["conda_env"]).read_text())["dependencies"]
    assert re.fullmatch(r"python=3\.11\.\d+", python) and pip == "pip"
    assert packages["pip"] == pins
    assert all(re.fullmatch(r"[a-z-]+==[\d.]+", pin) for pin in pins)


def test_modules_depend_in_one_direction():
    rank = {name: level for level, line in enumerate(ORDER.split("\n")) for name in line.split()}
    for name, path in PACKAGE.items():
        if name == "__init__":
            continue
        for used in imports(path, inside="abalone"):
            assert rank[used] < rank[name], f"{name} imports {used}"


@pytest.mark.parametrize("library", ONLY)
def test_a_library_is_known_to_few_modules(library):
    users = {name for name, path in PACKAGE.items() if library in imports(path)}
    assert users <= ONLY[library]
    assert users or not ONLY[library] & PACKAGE.keys()


def imports(path, inside: str | None = None) -> set[str]:
    """Top-level packages that a file imports anywhere, or the modules of one package."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    if inside:
        return {name.split(".")[1] for name in found if name.split(".")[0] == inside and name != inside}
    return {name.split(".")[0] for name in found}


def test_every_file_can_be_read_in_one_sitting():
    lengths = {path.name: len(path.read_text().splitlines()) for path in PACKAGE.values()}
    assert max(lengths.values()) < 350, lengths


def test_help_answers_without_the_heavy_libraries():
    heavy = ("torch", "mlflow", "pandas", "sklearn", "matplotlib", "optuna", "numpy")
    ask = f"""
import sys
from abalone.cli import cli
for arguments in (["--help"], *([name, "--help"] for name in cli.commands)):
    cli.main(arguments, standalone_mode=False)
print("heavy:", [name for name in {heavy} if name in sys.modules])
"""
    told = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert told.endswith("heavy: []\n")
    assert "classify" in told and "--learning-rate" in told


def test_make_alone_lists_every_target_with_a_line_of_help():
    targets = re.search(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(), re.M).group(1).split()
    shown = subprocess.check_output(["make", "--no-print-directory"], text=True, cwd=ROOT)
    assert [line.split()[0] for line in shown.splitlines()] == targets
    assert all(len(line.split()) > 2 for line in shown.splitlines())

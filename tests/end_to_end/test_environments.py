"""``mlflow run`` with each environment manager. A script stands in for conda, so its solver is not tested."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sysconfig
from pathlib import Path

import pytest
import yaml
from helpers import ROOT
from mlflow import MlflowClient
from mlflow.entities import Run
from warm_processes import PROGRAMS, warm_environment

pytestmark = pytest.mark.slow
PYENV = shutil.which("pyenv")
CONDA_PYTHON, _, PACKAGES = yaml.safe_load((ROOT / "conda.yaml").read_text())["dependencies"]
PYTHON = CONDA_PYTHON.removeprefix("python=")

CONDA = """#!/usr/bin/env python3
import json, os, pathlib, sys
home = pathlib.Path({home!r})
with open(home / "calls.txt", "a") as calls:
    print(json.dumps(sys.argv[1:]), file=calls)
if sys.argv[1:3] == ["env", "list"]:
    print(json.dumps({{"envs": [str(path) for path in (home / "envs").glob("*")]}}))
elif sys.argv[1:3] == ["env", "create"]:
    (home / "envs" / sys.argv[sys.argv.index("-n") + 1]).mkdir(parents=True)
"""
CONDA_SH = """conda() {{
    test "$1" = activate && test -d "{home}/envs/$2" && export CONDA_DEFAULT_ENV="$2" PATH="{bin}:$PATH"
}}
"""


@pytest.fixture
def conda_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the parts of conda that MLflow uses: two sub-commands and a shell function."""
    home = tmp_path / "conda"
    (home / "bin").mkdir(parents=True)
    (home / "etc" / "profile.d").mkdir(parents=True)
    conda = home / "bin" / "conda"
    conda.write_text(CONDA.format(home=str(home)))
    conda.chmod(conda.stat().st_mode | stat.S_IEXEC)
    script = CONDA_SH.format(home=home, bin=PROGRAMS)
    (home / "etc" / "profile.d" / "conda.sh").write_text(script)
    monkeypatch.setenv("MLFLOW_CONDA_HOME", str(home))
    return home


def mlflow_run(*arguments: str, manager: str | None = None) -> subprocess.CompletedProcess:
    """``mlflow run`` of this project; its command runs in what the manager builds, not in a warm process."""
    command = ["mlflow", "run", ROOT, *arguments]
    if manager:
        command += ["--env-manager", manager]
    return subprocess.run(command, capture_output=True, text=True, env=warm_environment(), timeout=900)


def only_run() -> Run:
    """The only run of the experiment that a bare ``mlflow run`` uses."""
    client = MlflowClient()
    [run] = client.search_runs([client.get_experiment_by_name("Default").experiment_id])
    return run


def test_conda_is_the_default_and_gets_conda_yaml(store, conda_home):
    done = mlflow_run("-e", "classify", "-P", "epochs=1")
    assert done.returncode == 0, done.stderr
    calls = [json.loads(line) for line in (conda_home / "calls.txt").read_text().splitlines()]
    [create] = [call for call in calls if call[:2] == ["env", "create"]]
    assert Path(create[create.index("--file") + 1]).samefile(ROOT / "conda.yaml")
    run = only_run()
    assert run.info.status == "FINISHED" and run.data.tags["stage"] == "classify"
    again = mlflow_run("-e", "status")
    assert again.returncode == 0 and "already exists" in again.stderr


def test_without_conda_the_message_says_so(store, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_CONDA_HOME", str(tmp_path / "nowhere"))
    done = mlflow_run("-e", "classify")
    assert done.returncode != 0 and "Could not find Conda executable" in done.stderr


@pytest.mark.skipif(
    not PYENV or PYTHON not in subprocess.run([PYENV, "versions"], capture_output=True, text=True).stdout,
    reason=f"virtualenv needs pyenv with Python {PYTHON}",
)
def test_virtualenv_finds_the_pins_and_runs(store, tmp_path, monkeypatch):
    """uv's test installs all; a second time takes longer than all else here, so pip only says what it would install."""
    monkeypatch.setenv("MLFLOW_ENV_ROOT", str(tmp_path / "envs"))
    monkeypatch.setenv("PIP_DRY_RUN", "yes")
    monkeypatch.setenv("PIP_IGNORE_INSTALLED", "yes")
    monkeypatch.setenv("PIP_NO_DEPS", "yes")
    monkeypatch.setenv("PYTHONPATH", sysconfig.get_path("purelib"))  # for the run, which has those of this environment
    done = mlflow_run("-e", "status", manager="virtualenv")
    assert done.returncode == 0, done.stderr[-3000:]
    assert only_run().info.status == "FINISHED"
    would_install = set()
    for line in (done.stdout + done.stderr).splitlines():
        if line.startswith("Would install "):
            would_install |= {package.split("+")[0] for package in line.split()[2:]}
    assert {package.replace("==", "-") for package in PACKAGES["pip"]} <= would_install


def test_uv_installs_the_pins_and_runs(store, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_ENV_ROOT", str(tmp_path / "envs"))
    monkeypatch.setenv("UV_LINK_MODE", "symlink")  # to uv's cache: a copy has more than a gigabyte
    if "PIP_FIND_LINKS" in os.environ:  # uv's own variable for the same thing
        monkeypatch.setenv("UV_FIND_LINKS", os.environ["PIP_FIND_LINKS"])
    done = mlflow_run("-e", "classify", "-P", "epochs=1", manager="uv")
    assert done.returncode == 0, done.stderr[-3000:]
    assert only_run().info.status == "FINISHED"
    [environment] = [path for path in (tmp_path / "envs").iterdir() if (path / "bin" / "python").exists()]
    code = "import importlib.metadata as m, json; print(json.dumps({d.name: d.version for d in m.distributions()}))"
    versions = json.loads(subprocess.check_output([environment / "bin" / "python", "-c", code], text=True))
    installed = {f"{name.lower()}=={version.split('+')[0]}" for name, version in versions.items()}
    assert installed >= set(PACKAGES["pip"])

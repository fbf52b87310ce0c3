"""Running the code blocks of a page in a clean copy of the project, as its reader would."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import ROOT, environment
from warm_processes import PROGRAMS, warm_variables


def code_blocks(page: str) -> list[tuple[str, str]]:
    """Language and text of each block of a page, whose path counts from the project's folder."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(r"^```(\w+)\n(.*?)^```", text, re.M | re.S)


def check_out(folder: Path) -> Path:
    """Copy the files known to git, with this Python's environment as ``.venv``."""
    names = subprocess.check_output(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, text=True).splitlines()
    for name in names:
        if (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    (folder / ".venv").symlink_to(sys.prefix)
    for mark in (".installed", ".installed-test"):
        if not (folder / ".venv" / mark).exists():
            pytest.skip("the page's commands need an environment made by make")
    return folder


def warm_shell(command: str) -> tuple[list[str], dict[str, str]]:
    """A shell in the project's environment whose Python has imported the libraries, and the variables that it needs.

    Its figures are blank; those of ``made`` are drawn.
    """
    line = f'source .venv/bin/activate; PATH="{PROGRAMS}:$PATH"; {command}'
    return ["bash", "-ec", line], {"WARM_SERVER": warm_variables()["WARM_SERVER"], "WARM_FIGURES": "blank"}


def run(command: list[str], folder: Path, **variables: str) -> str:
    """Run a command, which must succeed, and return what it prints."""
    done = subprocess.run(command, cwd=folder, env=clean() | variables, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def clean() -> dict[str, str]:
    """The environment of a user who has configured nothing, except that ``make ui`` opens no browser."""
    unset = [name for name in os.environ if name.startswith("MLFLOW_") and name != "MLFLOW_DISABLE_TELEMETRY"]
    settings = {name: value for name, value in environment().items() if name not in ("PYTHONPATH", *unset)}
    return {**settings, "BROWSER": "true"}

"""Parameters of ``mlflow run`` with every character that a shell minds: each arrives as it was typed, or is refused.

MLflow passes the commands of ``MLproject`` to ``bash -c``. It quotes values and the names of unknown parameters, which
the first test checks for every parameter of every entry point.
"""

from __future__ import annotations

import subprocess

import pytest
from helpers import ROOT
from mlflow.projects.utils import load_project

from abalone.cli.program import cli

HOSTILE = {
    "quotes": """'; touch pwned; echo "$HOME" '""",
    "a semicolon": "a;touch pwned",
    "a new line": "a\ntouch pwned\n",
    "backticks": "`touch pwned`",
    "a substitution": "$(touch pwned)",
    "a pipe": "a|touch pwned&touch pwned>pwned",
    "an option": "--help",
    "braces of MLproject": "{seed}{0}{",
    "a wildcard and a home": "~/* [a-z] $PWD !!",
    "nothing": "",
}
STUB = 'python() { printf "%s\\0" "$@"; }\n'  # takes the place of the program in a command


@pytest.mark.parametrize("value", HOSTILE.values(), ids=HOSTILE)
def test_every_parameter_of_every_entry_point_arrives_as_it_was_typed(own_folder, value):
    project = load_project(str(ROOT))
    for name in cli.commands:
        entry = project.get_entry_point(name)
        given = dict.fromkeys(entry.parameters, value)
        command = entry.compute_command({**given, f"x {value}": value}, None)
        done = subprocess.run(["bash", "-c", STUB + command], capture_output=True, text=True, check=True)
        words = done.stdout.split("\0")[:-1]
        expected = ["-m", "abalone", name]
        for parameter in entry.parameters:
            expected += [f"--{parameter.replace('_', '-')}", value]
        assert words == [*expected, f"--x {value}", value]
    assert not list(own_folder.iterdir())

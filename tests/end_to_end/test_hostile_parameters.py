"""Parameters of ``mlflow run`` with every character that a shell minds: each arrives as it was typed, or is refused.

MLflow passes the commands of ``MLproject`` to ``bash -c``. It quotes values and the names of unknown parameters, which
the first test checks for every parameter of every entry point.
"""

from __future__ import annotations

import subprocess

import pytest
from helpers import ROOT
from mlflow.projects.utils import load_project
from registry_store import candidate, promote_one
from warm_processes import warm_mlflow_run

from abalone.cli.program import cli
from abalone.data.reading import SHIPPED_FILE
from abalone.settings import TASKS

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


@pytest.mark.slow
def test_a_path_leads_where_it_says_and_executes_nothing(store, own_folder):
    for task in TASKS:
        candidate("run", 0.6, task=task)
        promote_one(task)
    folder = own_folder / "a b;$(touch pwned)"
    folder.mkdir()
    source = folder / "`touch pwned`\n'\".csv"
    target = folder / "../$(touch pwned) {0}.csv"
    source.write_text("".join(SHIPPED_FILE.read_text().splitlines(keepends=True)[:5]))
    known = set(own_folder.iterdir())
    done = warm_mlflow_run("-e", "predict", "-P", f"input={source}", "-P", f"output={target}")
    assert done.returncode == 0, done.stderr
    assert len(target.read_text().splitlines()) == 6
    away = warm_mlflow_run("-e", "evaluate", "-P", f"data={folder}/../../no`touch pwned`/such;file")
    assert away.returncode != 0
    assert f"data file {own_folder.parent}/no`touch pwned`/such;file: cannot be read (No such file" in away.stderr
    assert set(own_folder.iterdir()) - known == {target.resolve()}
    assert not (ROOT / "pwned").exists()

"""The command line: usage errors, which come before anything is imported or written, and what commands print."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from helpers import ROOT, environment
from warm_processes import PYTHON, warm_environment

from abalone.cli.options import parse_settings
from abalone.cli.output import print_object
from abalone.cli.program import cli
from abalone.cli.tables import fit_text
from abalone.tracking.markdown import markdown_table

WITH_OUTCOME = markdown_table(
    ("run", "run id", "validation", "test (not used)", "split", "outcome"),
    [
        ("encode", "9e4de1b6", "0.5172", "0.5048", "2ba22190f44f", "**best**"),
        ("tuned encode", "6822865d", "0.5103", "0.5141", "2ba22190f44f", "refused: not 5% better than the baseline"),
    ],
)


@pytest.mark.parametrize(
    "arguments, expected",
    [
        (["main", "--seeds", "2"], "expected 0 for no report, or at least 3"),
        (["main", "--epochs", "0"], "expected passes over the training rows, from 1 to 10000"),
        (["rings", "--members", "0"], "expected networks in the ensemble, from 1 to 1024"),
        (["tune", "--base", "regress", "--task", "classification"], "expected one of classify, deepen, encode"),
        (["tune", "--search", "depht"], "--search"),
        (["promote", "--min-improvement", "-1"], "--min-improvement"),
        (["rollback"], "--task"),
        (["status", "--json", "maybe"], "--json"),
    ],
)
def test_a_wrong_option_is_a_usage_error_that_names_it_and_what_was_expected(own_folder, arguments, expected):
    done = CliRunner().invoke(cli, arguments)
    words = done.output.replace("│", " ").split()
    assert done.exit_code == 2
    assert expected in " ".join(words)
    assert not list(own_folder.iterdir()), "no database, no run"


def test_underscores_do_for_hyphens_in_options():
    done = CliRunner().invoke(cli, ["classify", "--learning_rate", "7"])
    assert done.exit_code == 2
    assert "'--learning-rate'" in done.output


@pytest.mark.parametrize(
    "given, recorded",
    [
        ("uci", "uci"),
        ("my rows.csv", "{here}/my rows.csv"),
        ("'my rows.csv'", "{here}/my rows.csv"),
        ('"/else where/rows.csv"', "/else where/rows.csv"),
        ("../rows.csv", "{above}/rows.csv"),
        ("~/rows.csv", "{home}/rows.csv"),
    ],
)
def test_a_path_to_data_is_recorded_as_an_absolute_one_without_quotes(own_folder, given, recorded):
    places = {"here": own_folder, "above": own_folder.parent, "home": Path.home()}
    assert parse_settings("classify", {"data": given}).data == recorded.format(**places)


def test_quotes_that_belong_to_the_name_of_a_file_are_kept(own_folder):
    (own_folder / "'rows'").touch()
    assert parse_settings("classify", {"data": "'rows'"}).data == f"{own_folder}/'rows'"


def test_relocate_says_what_it_did(store):
    done = CliRunner().invoke(cli, ["relocate"])
    assert done.exit_code == 0
    assert "nothing to do" in done.output


def cells(text: str) -> list[list[str]]:
    """The cells of a table line by line, without its rule."""
    lines = [line for line in text.splitlines() if line.startswith("| ") and not line.startswith("| -")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_a_table_that_fits_is_printed_as_it_is():
    text = f"Before:\n\n{WITH_OUTCOME}\n\nafter, a line that may well be longer than the terminal is wide"
    width = len(WITH_OUTCOME.splitlines()[0])
    assert fit_text(text, width) == text
    assert fit_text(text, width - 1) != text


@pytest.mark.parametrize("width", range(30, 120))
def test_a_table_fits_the_terminal_and_keeps_its_first_and_last_column(width):
    fitted = fit_text(f"{WITH_OUTCOME}\n\nafter", width)
    table, after = fitted.split("\n\n")
    assert after == "after"
    lines = [line for line in table.splitlines() if line.startswith("|")]
    assert {len(line) for line in lines} == {len(lines[0])}
    assert len(lines[0]) <= width
    title, *rows = cells(table)
    assert title[0] == "run" and title[-1] == "outcome"
    assert " ".join(row[-1] for row in rows if row[-1]).endswith("refused: not 5% better than the baseline")


def test_titles_wrap_before_cells_and_the_second_last_column_goes_first():
    wide = fit_text(WITH_OUTCOME, len(WITH_OUTCOME.splitlines()[0]) - 4)
    assert "Not shown" not in wide
    assert "refused: not 5% better than the baseline |" in wide, "only the title `test (not used)` is wrapped"
    assert fit_text(WITH_OUTCOME, 60).endswith("(Not shown in 60 columns: split.)")
    assert "(Not shown in 45 columns: validation, test (not used), split.)" in fit_text(WITH_OUTCOME, 45)


def test_a_word_is_broken_only_if_no_column_is_left_to_leave_out():
    table = markdown_table(("path", "size"), [("/a/very/long/path/without/any/space/in/it/at/all.csv", "1")])
    assert max(len(line) for line in fit_text(table, 30).splitlines()) <= 30
    assert "".join(row[0] for row in cells(fit_text(table, 30))[1:]) == table.splitlines()[2].split()[1]


def test_links_to_pages_of_the_ui_are_printed_as_their_text():
    text = "[encode](#/experiments/1/runs/abc?workflowType=machine_learning), [guide](https://example.org)"
    assert fit_text(text, 80) == "encode, [guide](https://example.org)"


def test_status_prints_one_object_through_the_command_line(store):
    done = CliRunner().invoke(cli, ["status", "--json", "--experiment-name", "mine"])
    assert done.exit_code == 0 and done.stderr == ""
    assert json.loads(done.stdout)["experiment"] is None
    assert CliRunner().invoke(cli, ["status", "--json", "false"]).stdout.startswith("Nothing has been run yet")


def test_json_has_null_for_what_is_no_number(capsys):
    import numpy as np

    print_object({"values": np.array([0.5, np.nan]), "best": float("inf"), "pair": (1, np.float64(2))})
    assert json.loads(capsys.readouterr().out) == {"values": [0.5, None], "best": None, "pair": [1, 2.0]}


def abalone(*arguments: str, python: str = sys.executable) -> subprocess.CompletedProcess:
    """Run ``python -m abalone`` in the test's folder."""
    env = {**(warm_environment() if python == PYTHON else environment()), "PYTHONPATH": str(ROOT)}
    return subprocess.run([python, "-m", "abalone", *arguments], capture_output=True, text=True, env=env)


def test_a_command_searches_the_libraries_for_garbage_less_often_and_not_at_its_end():
    code = """
import atexit, gc, sys
atexit.register(lambda: print(gc.get_threshold()[0], gc.get_freeze_count() > 0))  # the first here is called last
sys.argv = ["abalone", "--help"]
from abalone.cli.program import main
main()
"""
    printed = subprocess.check_output([sys.executable, "-c", code], text=True, cwd=ROOT)
    assert printed.splitlines()[-1] == "10000 True"


@pytest.mark.slow
def test_json_is_all_that_stdout_holds_and_mlflow_is_silent_without_debug(own_folder):
    """A fresh store, so that MLflow would report on its tables and on the experiment; a warm process does not tell."""
    trained = abalone("encode", "--epochs", "2")
    assert trained.returncode == 0, trained.stderr
    assert trained.stderr == ""
    assert trained.stdout.startswith("encode: training 2 epochs on 1,670 rows\n")

    promoted = abalone("promote", "--task", "classification", "--json", python=PYTHON)
    found = json.loads(promoted.stdout)
    assert promoted.returncode == 0 and "### classification" in promoted.stderr
    decision = found["decisions"]["classification"]
    assert found["dry_run"] is False and decision["promotes"] and decision["version"] == 1
    assert decision["best"]["name"] == "encode" == decision["candidates"][0]["name"]

    failed = abalone("promote", "--json", "true", "--experiment-name", "new", python=PYTHON)
    assert failed.returncode == 1 and failed.stdout == ""
    assert "no candidate for classification and regression" in failed.stderr
    assert "INFO" not in failed.stderr

    short = ("--seeds", "3", "--epochs", "2", "--workers", "1")
    reported = json.loads(abalone("report", *short, "--json", python=PYTHON).stdout)
    assert reported["seeds"] == 3
    assert {"verdict", "full_verdict", "mean", "interval", "values"} <= set(reported["claims"][0])

    Path("mlflow.db").unlink()
    debugged = abalone("promote", "--debug")
    assert "Creating initial MLflow database tables" in debugged.stderr, "a message of MLflow's"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are of POSIX")
def test_a_training_shows_a_bar_on_a_terminal_and_the_table_fits_its_width(store):
    import fcntl
    import pty
    import struct
    import termios

    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 60, 0, 0))
    command = [PYTHON, "-m", "abalone", "classify", "--epochs", "3"]
    env = {**warm_environment(), "PYTHONPATH": str(ROOT)}
    env.pop("COLUMNS", None)  # which pytest-xdist sets, and which would hide the terminal's own width
    process = subprocess.Popen(command, stdout=slave, stderr=slave, env=env)
    os.close(slave)
    shown = b""
    try:
        while chunk := os.read(master, 4096):
            shown += chunk
    except OSError:  # what Linux raises at the end of a pseudo-terminal
        pass
    os.close(master)
    assert process.wait() == 0
    text = shown.decode()
    assert "classify:" in text and "0/3" in text, "the bar"
    assert "training 3 epochs" not in text, "no line beside the bar"
    table = [line for line in text.splitlines() if line.startswith("| ")]
    assert table and max(len(line.rstrip()) for line in table) <= 60


INTERRUPTED_IN_DEL = """
import os, signal, sys, time
from abalone.cli import program

class Stopped:
    def __del__(self):
        os.kill(os.getpid(), getattr(signal, sys.argv[1]))

def command(standalone_mode):
    Stopped()
    time.sleep(60)

program.cli.main = command
program.main()
"""


@pytest.mark.slow
@pytest.mark.parametrize("name, status", [("SIGTERM", 128 + signal.SIGTERM), ("SIGINT", 130)])
def test_a_signal_that_arrives_in_a_del_is_not_lost(name, status):
    env = {**warm_environment(), "PYTHONPATH": str(ROOT)}
    command = [PYTHON, "-c", INTERRUPTED_IN_DEL, name]
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=50)
    assert (done.returncode, done.stderr) == (status, "Interrupted: what was finished is kept.\n")

"""Usage errors of the command line, which are raised before anything is imported or written."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from abalone.cli import cli


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

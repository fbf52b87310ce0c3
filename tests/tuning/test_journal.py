"""A journal after a power cut or on a full disk: what was finished is kept, and what cannot be mended is said."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest
from optuna.storages.journal import JournalFileBackend
from tuning_helpers import JOURNAL, make_plan

from abalone.settings import UserError
from abalone.tuning.plan import Plan
from abalone.tuning.storage import check_study, open_study

TORN = b'{"op_code":6,"worker_id":"871d4527","trial_id":5,"state":1,"values":[0.51'


@pytest.fixture
def plan(own_folder) -> Plan:
    """A plan whose study has five trials in the journal, two of them finished."""
    plan = make_plan()
    study = open_study(plan, "s", JOURNAL)
    trials = [study.ask(plan.distributions()) for _ in range(5)]
    for trial in trials[:2]:
        study.tell(trial, 0.5)
    return plan


def append(content: bytes) -> None:
    with Path(JOURNAL).open("ab") as file:
        file.write(content)


@pytest.mark.parametrize("tail", [TORN, b"\0" * 20, TORN[:1], "ä".encode()[:1]], ids=["torn", "zeros", "brace", "byte"])
def test_an_unfinished_last_line_is_cut_and_the_study_goes_on(plan, capsys, tail):
    whole = Path(JOURNAL).read_bytes()
    append(tail)
    study = open_study(plan, "s", JOURNAL)
    assert Path(JOURNAL).read_bytes() == whole
    assert f"its {len(tail)} bytes were cut off, and all that was finished is kept" in capsys.readouterr().err
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 2 + ["RUNNING"] * 3
    study.tell(2, 0.4)
    assert open_study(plan, "s", JOURNAL).best_value == 0.4


def test_a_whole_journal_is_opened_without_a_word(plan, capsys):
    open_study(plan, "s", JOURNAL)
    assert capsys.readouterr() == ("", "")


def test_a_line_that_another_process_left_unfinished_is_cut_by_the_next_that_writes(plan):
    study = open_study(plan, "s", JOURNAL)
    append(TORN)
    study.tell(2, 0.4)
    assert open_study(plan, "s", JOURNAL).best_value == 0.4


def test_a_line_that_is_still_being_written_is_left_alone(plan, monkeypatch):
    """Whoever appends holds the lock, so the line is finished once the next process has it."""
    study = open_study(plan, "s", JOURNAL)
    backend = JournalFileBackend(JOURNAL)
    line = b'{"op_code":8,"worker_id":"w","trial_id":2,"user_attr":{"half":true}}\n'
    backend._lock.acquire()
    append(line[:20])
    with monkeypatch.context() as patch:
        patch.setattr("time.sleep", lambda seconds: finish_line(backend, line[20:]))
        study.set_user_attr("mine", 1)
    assert open_study(plan, "s", JOURNAL).trials[2].user_attrs["half"] is True


def finish_line(backend: JournalFileBackend, rest: bytes) -> None:
    append(rest)
    backend._lock.release()


@pytest.mark.parametrize("is_last", [True, False], ids=["last line", "in the middle"])
def test_a_line_torn_in_the_middle_is_named_with_a_command_that_keeps_what_came_before(plan, is_last):
    whole = Path(JOURNAL).read_bytes()
    append(TORN + b'{"op_code":8}\n')
    if not is_last:
        append(whole.splitlines(keepends=True)[-1])
    number = len(whole.splitlines()) + 1
    with pytest.raises(UserError, match=rf"{JOURNAL} is damaged in line {number} .*-P storage=PATH") as error:
        open_study(plan, "s", JOURNAL)
    command = str(error.value).split("line with: ")[1].split("; or")[0]
    assert shlex.split(command)[:3] == ["head", "-n", str(number - 1)]
    subprocess.run(command, shell=True, check=True)
    assert Path(JOURNAL).read_bytes() == whole
    assert len(open_study(plan, "s", JOURNAL).trials) == 5


def test_a_study_is_checked_without_a_write_not_even_to_a_torn_journal(plan):
    append(TORN)
    before = Path(JOURNAL).read_bytes()
    check_study(plan, "s", JOURNAL)
    check_study(plan, "new", JOURNAL)
    with pytest.raises(UserError, match="another name"):
        check_study(make_plan(seed=7), "s", JOURNAL)
    check_study(plan, "s", "elsewhere.journal")
    check_study(plan, "s", "sqlite:///elsewhere.db")
    assert Path(JOURNAL).read_bytes() == before
    assert [path.name for path in Path().iterdir()] == [JOURNAL]

"""A warm process is to a test what a fresh one is: each test here holds for both."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from warm_processes import PYTHON, warm_environment

pytestmark = [
    pytest.mark.slow,
    pytest.mark.parametrize("python", [sys.executable, PYTHON], ids=["fresh", "warm"]),
]
WAIT = "import time; print('waiting', flush=True); time.sleep(600)"
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def start(python: str, *arguments: str, **variables: str) -> subprocess.Popen:
    env = warm_environment() | variables
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    return subprocess.Popen([python, *arguments], text=True, env=env, preexec_fn=take_signals, **pipes)


def take_signals() -> None:
    """Undo what a shell does for a command in the background, and nohup."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_DFL)


def test_arguments_folder_environment_input_output_and_status_are_its_own(python, own_folder):
    Path("shown.py").write_text(
        "import atexit, os, sys\n"
        "atexit.register(print, 'the end')\n"
        "print(sys.argv[1:], os.getcwd(), os.environ['MINE'], sys.stdin.read(), __name__)\n"
        "sys.exit('no more')\n"
    )
    process = start(python, "-m", "shown", "--a", "b c", MINE="x")
    out, err = process.communicate("read")
    assert out == f"['--a', 'b c'] {own_folder} x read __main__\nthe end\n"
    assert err == "no more\n" and process.returncode == 1


def test_a_module_is_taken_from_pythonpath_and_code_from_the_command_line(python, own_folder):
    (own_folder / "far").mkdir()
    Path("far", "away.py").write_text("NAME = 'found'")
    process = start(python, "-c", "import sys, away; print(away.NAME, sys.argv)", "1", PYTHONPATH="far")
    assert process.communicate() == ("found ['-c', '1']\n", "")


def test_its_open_files_are_its_own_by_their_numbers(python, own_folder):
    code = "import os, sys; os.write(int(sys.argv[1]), b'written')"
    with Path("file").open("w") as file:
        number = fcntl.fcntl(file, fcntl.F_DUPFD, 77)  # or the next that is free
    try:
        subprocess.run([python, "-c", code, str(number)], env=warm_environment(), pass_fds=[number], check=True)
    finally:
        os.close(number)
    assert Path("file").read_text() == "written"


def test_isolated_it_has_neither_the_folder_nor_pythonpath(python, own_folder):
    Path("near.py").write_text("")
    code = "import importlib.util, sys; print(importlib.util.find_spec('near'), sys.argv)"
    process = start(python, "-I", "-c", code, "1", PYTHONPATH=str(own_folder))
    assert process.communicate() == ("None ['-c', '1']\n", "")


def test_workers_of_multiprocessing_run_in_it(python):
    code = "from multiprocessing import get_context\nwith get_context('forkserver').Pool(2) as pool:\n"
    process = start(python, "-c", code + "    print(pool.map(abs, [-1, 2]))")
    assert process.communicate() == ("[1, 2]\n", "")


def test_a_signal_to_its_group_ends_what_it_has_started_too(python):
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {WAIT!r}])"
    pipe = subprocess.PIPE
    process = subprocess.Popen([python, "-c", child], env=warm_environment(), stdout=pipe, text=True, process_group=0)
    assert process.stdout.readline() == "waiting\n"
    os.killpg(process.pid, signal.SIGTERM)
    assert process.communicate(timeout=60) == ("", None), "nothing holds the pipe any more"
    assert process.returncode == -signal.SIGTERM


@pytest.mark.parametrize("number", SIGNALS)
def test_signals_reach_it(python, number):
    process = start(python, "-c", WAIT)
    process.stdout.readline()
    process.send_signal(number)
    _, err = process.communicate()
    assert process.returncode == -number
    assert ("KeyboardInterrupt" in err) == (number == signal.SIGINT)


def test_it_does_not_outlive_a_kill(python):
    process = start(python, "-c", WAIT)
    process.stdout.readline()
    process.kill()
    assert process.communicate(timeout=60) == ("", "")  # stdout ends when the last process that holds it has ended


def test_one_that_was_killed_before_it_had_sent_its_command_harms_no_other(python):
    for sent in (b"", b'.{"arguments": ['):
        with socket.socket(socket.AF_UNIX) as killed:
            killed.connect("\0" + warm_environment()["WARM_SERVER"])
            killed.sendall(sent)
    assert start(python, "-c", "print('alive')").communicate() == ("alive\n", "")

"""One ``make run`` for all tests that look at what it leaves."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from documents import check_out, run
from filelock import FileLock


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clean copy of the project after ``make run``, which printed ``printed.txt``. Tests that write get a copy of it.

    It runs as it is: in fresh processes, with the real settings of every stage, study and report.
    """
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    folder = shared / "made"
    printed = folder / "printed.txt"
    with FileLock(shared / "made.lock"):
        if not printed.exists():
            shutil.rmtree(folder, ignore_errors=True)
            check_out(folder)
            printed.write_text(run(["make", "run"], folder))
    return folder

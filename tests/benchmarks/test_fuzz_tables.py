"""Some hundred rounds of ``benchmarks/soak/fuzz_tables.py``, and a look at whether it would notice anything."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from abalone.model.rows import BadRows
from abalone.registry.loading import LoadedModel
from abalone.settings import UserError
from benchmarks.soak import fuzz_tables

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def champions(tmp_path_factory) -> dict[str, LoadedModel]:
    return fuzz_tables.untrained_champions(tmp_path_factory.mktemp("champions"))


@pytest.fixture
def root(own_folder, monkeypatch) -> Path:
    """An empty folder, which is the working one."""
    path = own_folder / "root"
    path.mkdir()
    monkeypatch.chdir(path)
    return path


def test_every_damaged_table_ends_in_rows_or_in_a_user_error(champions, root):
    outcomes, surprises, _ = fuzz_tables.fuzz(seed=1, rounds=300, champions=champions, root=root)
    assert not surprises
    assert set(outcomes) == {"data: rows", "data: refused", "input: rows", "input: refused"}
    assert min(outcomes.values()) >= 30


def write_elsewhere(*arguments: object) -> None:
    Path("elsewhere").write_text("")


def write_and_refuse(source: str, target: str, request: object) -> None:
    Path(target).write_text("")
    raise UserError("no")


def crash(*arguments: object) -> None:
    raise ValueError("negative seek value")


def refuse_as_rows(*arguments: object) -> None:
    raise BadRows("no")


@pytest.mark.parametrize("fault", [write_elsewhere, write_and_refuse, crash, refuse_as_rows])
def test_a_fault_would_be_noticed(root, monkeypatch, fault):
    monkeypatch.setattr(fuzz_tables, "score_table", fault)
    with pytest.raises(fuzz_tables.Surprise):
        fuzz_tables.try_table(b"", random.Random(0), root)

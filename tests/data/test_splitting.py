"""Labels, the split and its fingerprint."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from data_files import GOOD, OLD, YOUNG, write_rows
from sklearn.model_selection import train_test_split

from abalone.data.labels import is_old
from abalone.data.reading import DataError, Dataset, read
from abalone.data.splitting import split


@pytest.fixture(scope="module")
def uci() -> Dataset:
    return read()


def test_old_is_ten_rings_or_more():
    labels = is_old(np.array([1, 9, 10, 29]))
    assert labels.tolist() == [0, 0, 1, 1]
    assert labels.dtype == np.int64


@pytest.mark.parametrize("seed", [0, 7])
def test_half_of_the_rows_are_for_test_and_the_rest_is_split_80_to_20(uci, seed):
    rows = split(uci, seed)
    old = is_old(uci.frame["Rings"])
    parts = (rows.train, rows.val, rows.test)
    assert [len(part) for part in parts] == [1670, 418, 2089]
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(4177))
    assert all(abs(old[part].mean() - old.mean()) < 0.002 for part in parts)


@pytest.mark.parametrize("seed", [0, 7])
def test_the_split_is_that_of_scikit_learn_on_the_data_frame(uci, seed):
    """The published figures are about these very rows; docs/design.md states the split in this form."""
    rows = split(uci, seed)
    old = is_old(uci.frame["Rings"])
    first, test = train_test_split(uci.frame, test_size=0.5, random_state=seed, stratify=old)
    train, val = train_test_split(first, test_size=0.2, random_state=seed, stratify=is_old(first["Rings"]))
    assert rows.train.tolist() == train.index.tolist()
    assert rows.val.tolist() == val.index.tolist()
    assert rows.test.tolist() == test.index.tolist()


def test_parts_go_by_mlflow_names_and_scored_parts_by_metric_names(uci):
    rows = split(uci, 0)
    assert list(rows.parts()) == ["train", "validation", "test"]
    assert list(rows.scored()) == ["val", "test"]
    assert rows.parts()["validation"] is rows.scored()["val"] is rows.val


def test_the_fingerprint_distinguishes_seeds_and_data(uci):
    fingerprint = split(uci, 0).fingerprint
    other_seed = split(uci, 1).fingerprint
    other_data = split(replace(uci, sha256="0" * 64), 0).fingerprint
    assert split(uci, 0).fingerprint == fingerprint
    assert len({fingerprint, other_seed, other_data}) == 3
    assert len(fingerprint) == 12


@pytest.mark.parametrize("young, old, seed", [(10, 10, 0), (10, 11, 1), (11, 200, 2), (500, 10, 3)])
def test_the_smallest_files_that_are_accepted_have_both_classes_in_every_part(young, old, seed):
    small = read(write_rows([YOUNG] * young + [OLD] * old))
    labels = is_old(small.frame["Rings"])
    rows = split(small, seed)
    assert all(set(labels[part]) == {0, 1} for part in (rows.train, rows.val, rows.test))


@pytest.mark.parametrize("rare, name", [(YOUNG, "young (rings below 10)"), (OLD, "old (rings 10 or more)")])
def test_too_few_rows_of_a_class_are_refused(rare, name):
    """Only where they are split: nine animals can be read, and scored."""
    lines = [line for line in GOOD if line != rare] * 3 + [rare] * 9
    with pytest.raises(DataError, match=r"rows\.csv: 9 .*, expected at least 10 to split") as refusal:
        split(read(write_rows(lines)), 0)
    assert name in str(refusal.value)
    assert split(read(write_rows([*lines, rare])), 0)

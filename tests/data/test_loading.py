"""Loading: the file, its split and its tensor belong together."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from data_files import GOOD, write_rows

from abalone.data.loading import load_data
from abalone.data.reading import DataError, read
from abalone.data.splitting import split
from abalone.model.features import encode


def test_loaded_data_are_the_rows_of_the_file_split_by_the_seed():
    data = load_data("uci", seed=3)
    dataset = read("uci")
    rows = split(dataset, 3)
    assert data.dataset.sha256 == dataset.sha256
    assert data.split.fingerprint == rows.fingerprint
    assert np.array_equal(data.split.test, rows.test)
    assert torch.equal(data.x, encode(dataset.frame))
    assert data.x.dtype == torch.float32 and data.x.shape == (4177, 10)
    assert np.array_equal(data.rings, dataset.frame["Rings"])
    assert data.rings.dtype == np.int64


def test_a_path_is_loaded_as_well():
    data = load_data(write_rows(GOOD), seed=0)
    assert len(data.x) == len(data.rings) == len(GOOD)
    assert sum(len(part) for part in data.split.parts().values()) == len(GOOD)


def test_a_file_that_cannot_be_used_is_refused():
    with pytest.raises(DataError, match="2 columns"):
        load_data(write_rows(["1,2"]), seed=0)

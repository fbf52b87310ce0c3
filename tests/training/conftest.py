"""Fixtures of the tests of training."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from training_data import Data, shipped_data


@pytest.fixture(scope="session")
def data() -> Data:
    """All rows of the shipped file."""
    return shipped_data()


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """One thread for the guide's loop too: matrices this small are slower on more."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)

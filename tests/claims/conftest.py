"""Stages trained for a few epochs on three seeds, once for all tests of claims."""

from __future__ import annotations

import pytest

from abalone.claims.claims import measure_stages, train_stages
from abalone.data.reading import read
from abalone.settings import STAGES, StageSettings, load_settings


@pytest.fixture(scope="session")
def stages() -> dict[str, StageSettings]:
    return {stage: load_settings(stage, {"epochs": 6}) for stage in STAGES}


@pytest.fixture(scope="session")
def trained(stages):
    return train_stages(stages, read(), seeds=3)


@pytest.fixture(scope="session")
def measured(stages, trained):
    return measure_stages(stages, read(), trained)

"""A store with a champion, with which tests of several files begin."""

from __future__ import annotations

from pathlib import Path

import pytest
from registry_store import candidate, promote_one, version_with
from stores import copy_store, filling


@pytest.fixture(scope="session")
def filled_with_champion(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Path:
    """Folder of a store with a champion."""
    folder = tmp_path_factory.mktemp("champion")
    with filling(folder, empty_database):
        candidate("champion", 0.5)
        promote_one()
    return folder


@pytest.fixture
def champion(filled_with_champion: Path, store: str, own_folder: Path) -> str:
    """Id of the champion's run."""
    copy_store(filled_with_champion, own_folder)
    return version_with("champion").run_id

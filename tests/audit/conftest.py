"""One history for all tests of the replay: made once, copied by whoever tampers."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.audit.audited import World, world_on
from tests.audit.history import Audited, make_history
from tests.conftest import Database, clone


@pytest.fixture(scope="module")
async def audited(template: Database, tmp_path_factory: pytest.TempPathFactory) -> Audited:
    """A bundle in which nothing is wrong."""
    database = clone(template, f"audited_{os.urandom(6).hex()}")
    folder: Path = tmp_path_factory.mktemp("audit") / "history"
    return await make_history(database, folder)


@pytest.fixture
async def world(fresh_database: Database, tmp_path: Path) -> AsyncIterator[World]:
    """A platform with a log of its own, to be exported."""
    data = tmp_path / "platform"
    data.mkdir()
    async with world_on(fresh_database, data) as running:
        yield running

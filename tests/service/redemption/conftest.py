"""A database for these tests alone: nothing in it may be wrong afterwards, and others write what no check would pass."""

import os
from collections.abc import AsyncIterator

import pytest

from tests.conftest import Database, clone
from tests.running import Api, running_api


@pytest.fixture(scope="module")
def database(template: Database) -> Database:
    """A module's own."""
    return clone(template, f"redemption_{os.urandom(6).hex()}")


@pytest.fixture(scope="module")
async def api(database: Database, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Api]:
    """The API over it."""
    async with running_api(database.app, database.redis, tmp_path_factory.mktemp("redemption")) as running:
        yield running

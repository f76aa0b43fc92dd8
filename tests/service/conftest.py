"""An API over the rules of tests/rules/counting, for the tests of what counts."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.conftest import Database, clone
from tests.running import running_api
from tests.service.counting_world import World, make_world

RULES = Path(__file__).parent.parent / "rules" / "counting"


@pytest.fixture(scope="module")
async def world(template: Database, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """The API with these rules, and sources of every grade, over a database that a module has to itself: afterwards
    nothing in it may be wrong."""
    database, data_dir = clone(template, f"counting_{os.urandom(6).hex()}"), tmp_path_factory.mktemp("counting")
    async with running_api(database.app, database.redis, data_dir, rules_dir=RULES) as api:
        yield await make_world(api, database)


@pytest.fixture
async def fresh_world(fresh_database: Database, tmp_path: Path) -> AsyncIterator[World]:
    """The same over a database of the test's own."""
    async with running_api(fresh_database.app, fresh_database.redis, tmp_path, rules_dir=RULES) as api:
        yield await make_world(api, fresh_database)

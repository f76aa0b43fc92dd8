"""One database and one pair of sides for each module here: whatever is asked may change them."""

import os

import pytest

from tests.conftest import Database, clone
from tests.running import Api
from tests.whole.world import World, open_world


@pytest.fixture(scope="module")
def database(template: Database) -> Database:
    """These tests' own: operators do anything to it."""
    return clone(template, f"whole_{os.urandom(6).hex()}")


@pytest.fixture(scope="module")
async def world(api: Api) -> World:
    return await open_world(api)

"""A database for these tests alone: nothing in it may be wrong afterwards."""

import os

import pytest

from tests.conftest import Database, clone


@pytest.fixture(scope="module")
def database(template: Database) -> Database:
    """A module's own."""
    return clone(template, f"redemption_{os.urandom(6).hex()}")

"""A ledger with an empty log, as the log's own processes see it."""

from collections.abc import AsyncIterator

import pytest

from service.database import Connection
from tests.conftest import Database
from tests.running import pooled


@pytest.fixture
async def connection(fresh_database: Database) -> AsyncIterator[Connection]:
    async with pooled(fresh_database.sequencer) as pool, pool.acquire() as connection:
        yield connection

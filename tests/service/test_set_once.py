"""What was ended stays ended, whatever the application's role tries: a licence, a key, an entry of a register."""

import asyncpg
import pytest

from tests.conftest import Database

pytestmark = pytest.mark.anyio

PUT = {
    "licence": (
        "INSERT INTO service.licence (source_id, scenario, valid_from, granted_at) VALUES (-1, 'x', now(), now())"
    ),
    "register_entry": (
        "INSERT INTO service.register_entry (register, subject_tag, key_version, scheme, valid_from, source, "
        "imported_at) VALUES ('coverage', sha256('set once'), 1, 'x', now(), 'x', now())"
    ),
    "source_key": (
        "INSERT INTO service.source_key (source_id, key_id, public_key, valid_from, registered_at) "
        "VALUES (-1, 'x', 'x', '2026-01-01', now())"
    ),
}
ENDS = {"licence": "superseded_at", "register_entry": "withdrawn_at", "source_key": "valid_to"}
MINE = {
    "licence": "source_id = -1",
    "register_entry": "subject_tag = sha256('set once')",
    "source_key": "source_id = -1",
}


@pytest.mark.parametrize("table", PUT)
async def test_an_end_is_set_once(database: Database, table: str) -> None:
    column, mine = ENDS[table], MINE[table]
    refused = ["NULL", f"{column} + interval '1 second'"]
    if table != "source_key":
        refused.append(f"{column} - interval '1 second'")
    connection = await asyncpg.connect(database.app)
    transaction = connection.transaction()
    await transaction.start()
    try:
        await connection.execute(PUT[table])
        for value in ("NULL", "timestamptz '2026-06-01'", column):
            assert await connection.execute(f"UPDATE service.{table} SET {column} = {value} WHERE {mine}") == "UPDATE 1"
        for value in refused:
            with pytest.raises(asyncpg.RaiseError, match="what was ended stays ended"):
                async with connection.transaction():
                    await connection.execute(f"UPDATE service.{table} SET {column} = {value} WHERE {mine}")
    finally:
        await transaction.rollback()
        await connection.close()


async def test_a_key_may_end_earlier(database: Database) -> None:
    connection = await asyncpg.connect(database.app)
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute(PUT["source_key"])
    for day in ("2026-06-01", "2026-05-01"):
        done = await connection.execute(f"UPDATE service.source_key SET valid_to = '{day}' WHERE source_id = -1")
        assert done == "UPDATE 1"
    await transaction.rollback()
    await connection.close()

"""Row checks of participants' reads: a condition that is forgotten shows nothing, and nothing can be written."""

import asyncio
from uuid import UUID, uuid4

import asyncpg
import pytest

from service.own import own_rows, seeing_only
from tests.conftest import Database
from tests.running import Api, pooled, ride

pytestmark = pytest.mark.anyio

_OWN = """
    SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'participant_id'
    WHERE n.nspname IN ('ledger', 'service', 'vault') AND c.relkind IN ('r', 'p')
        AND has_table_privilege('tanpuhui_self', c.oid, 'SELECT')
"""


async def credited(api: Api) -> UUID:
    person = await api.person()
    assert (await api.report_one(person.source, ride(person.source, person.subject))).status_code == 201
    return UUID(person.participant_id)


async def test_without_a_condition_only_the_participants_own_rows_are_there(api: Api, database: Database) -> None:
    mine, others = await credited(api), await credited(api)
    async with pooled(database.app) as pool:
        async with own_rows(pool, mine) as connection:
            tables = [row[0] for row in await connection.fetch(_OWN)]
            assert len(tables) >= 25
            seen = {}
            for table in tables:
                rows = await connection.fetch(f"SELECT DISTINCT participant_id FROM {table}")
                seen[table] = {row[0] for row in rows}
            assert set().union(*seen.values()) - {None} == {mine}  # leaves of nobody's are everybody's
            for table in ("ledger.account", "ledger.movement", "service.link", "service.activity", "service.evidence"):
                assert seen[table] == {mine}, table
            asked = await connection.fetch("SELECT 1 FROM ledger.account WHERE participant_id = $1", others)
            assert asked == []
        async with pool.acquire() as connection:  # the same connection, and its own role again
            assert await connection.fetchval("SELECT current_user") == "tanpuhui_app"
            assert (
                await connection.fetchval("SELECT count(*) FROM ledger.account WHERE participant_id = $1", others) == 1
            )


async def test_several_may_be_named_and_nobody_is_nobody(api: Api, database: Database) -> None:
    one, two, three = await credited(api), await credited(api), await credited(api)
    count = "SELECT count(*) FROM ledger.account WHERE participant_id = ANY($1)"
    async with pooled(database.app) as pool:
        async with own_rows(pool, one, two) as connection:
            assert await connection.fetchval(count, [one, two, three]) == 2
        async with own_rows(pool) as connection:
            assert await connection.fetchval(count, [one, two, three]) == 0
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute("SET LOCAL ROLE tanpuhui_self")  # and nobody was named
            assert await connection.fetchval(count, [one, two, three]) == 0


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO ledger.bucket (participant_id, expires_on, available) VALUES ($1, '2027-12-31', 1)",
        "UPDATE ledger.account SET points_available = 1 WHERE participant_id = $1",
        "DELETE FROM service.evidence WHERE participant_id = $1",
    ],
)
async def test_who_reads_writes_nothing(api: Api, database: Database, statement: str) -> None:
    mine = await credited(api)
    async with pooled(database.app) as pool, own_rows(pool, mine) as connection:
        with pytest.raises((asyncpg.InsufficientPrivilegeError, asyncpg.ReadOnlySQLTransactionError)):
            await connection.execute(statement, mine)


async def test_identities_are_out_of_reach(database: Database) -> None:
    async with pooled(database.app) as pool:
        for statement in (
            "SELECT * FROM vault.identity",
            "SELECT * FROM vault.person",
            "SELECT * FROM service.money_call",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                async with own_rows(pool, uuid4()) as connection:
                    await connection.fetch(statement)


async def test_every_table_that_shows_itself_row_by_row_has_a_policy(database: Database) -> None:
    """A later table that is granted to the reading role and holds participants' rows must be checked like the rest."""
    async with pooled(database.owner) as pool, pool.acquire() as connection:
        policies = "SELECT c.oid::regclass::text FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid"
        checked = {row[0] for row in await connection.fetch(policies + " WHERE c.relrowsecurity")}
        assert {row[0] for row in await connection.fetch(_OWN)} == checked
        passing = "SELECT rolname FROM pg_roles WHERE rolname ^@ 'tanpuhui_' AND rolbypassrls ORDER BY 1"
        assert [row[0] for row in await connection.fetch(passing)] == [
            "tanpuhui_app",
            "tanpuhui_auditor",
            "tanpuhui_sequencer",
        ]


async def test_what_is_cut_off_leaves_no_role_behind(database: Database) -> None:
    async with pooled(database.app, size=1) as pool:

        async def read() -> None:
            async with own_rows(pool, uuid4()) as connection:
                await connection.execute("SELECT pg_sleep(10)")

        for pause in (0.0, 0.02, 0.1):
            reading = asyncio.create_task(read())
            await asyncio.sleep(pause)
            reading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading
            async with pool.acquire() as connection:
                assert await connection.fetchval("SELECT current_user") == "tanpuhui_app"
                assert not connection.is_in_transaction()


async def test_a_failed_statement_ends_the_reading_alone(database: Database) -> None:
    async with pooled(database.app, size=1) as pool:
        with pytest.raises(asyncpg.UndefinedTableError):
            async with own_rows(pool, uuid4()) as connection:
                await connection.fetch("SELECT * FROM service.nothing")
        async with pool.acquire() as connection, seeing_only(connection, [uuid4()]):
            assert await connection.fetchval("SELECT current_user") == "tanpuhui_self"


async def test_gathered_balances_are_each_callers_own(api: Api) -> None:
    people = [str(await credited(api)) for _ in range(5)]
    answers = await asyncio.gather(*(api.balance(person) for person in people * 4))
    assert [answer["participant_id"] for answer in answers] == people * 4
    assert all(answer["points"]["available"] > 0 for answer in answers)


async def test_a_read_without_a_connection_fails_and_the_next_one_is_not_stuck(api: Api) -> None:
    person = await credited(api)
    reader, pool = api.platform.balances, api.platform.pool

    class Away:
        def acquire(self) -> object:
            raise ConnectionRefusedError

    reader._pool = Away()  # type: ignore[assignment]  # a pool whose server is gone
    try:
        failed = await asyncio.gather(*(reader.read(person) for _ in range(3)), return_exceptions=True)
        assert {type(each) for each in failed} == {ConnectionRefusedError}
    finally:
        reader._pool = pool
    assert await asyncio.wait_for(reader.read(person), 10) is not None

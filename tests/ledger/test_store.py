"""The ledger's tables: what each role may do to them, what no role may, and the constraints behind every decision."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from uuid import UUID, uuid4

import asyncpg
import pytest

from ledger.errors import LedgerInvariantBroken, TransferNotFound
from ledger.journal import ASSETS, PARTICIPANT_ACCOUNTS, Account, Line, Transfer, credit_lines, posted
from ledger.leaves import lapse_leaf
from ledger.store import (
    append_transfers,
    lock_accounts,
    open_account,
    read_buckets,
    read_statement,
    read_transfer,
)
from service.clock import Fresh, system_clock
from service.database import Connection
from tests.conftest import Database
from tests.running import Api, pooled, ride

pytestmark = pytest.mark.anyio

END = date(2028, 11, 30)
NOW = timedelta(0)
fresh = Fresh(system_clock())


async def opened(tx: Connection) -> UUID:
    participant_id = uuid4()
    await open_account(tx, participant_id, kind="citizen", programme="demo", region="310000")
    return participant_id


async def locked(tx: Connection, participant_id: UUID) -> Account:
    accounts, _ = await lock_accounts(tx, [participant_id], clock_offset=NOW)
    return accounts[participant_id]


def credit(account: Account, co2e_mg: int, points: int) -> Transfer:
    lines = credit_lines(
        account, co2e_mg=co2e_mg, points=points, credit_class="behaviour", vintage=2026, expires_on=END
    )
    return Transfer(
        fresh.id(),
        account.participant_id,
        "credit",
        account.counter + 1,
        "demo",
        "310000",
        lines,
        END,
        datetime.now(UTC),
    )


async def append(tx: Connection, transfers: Sequence[Transfer], accounts: Mapping[UUID, Account]) -> None:
    await append_transfers(tx, transfers, [lapse_leaf(each, "citizen", bytes(16)) for each in transfers], accounts)


async def post(tx: Connection, participant_id: UUID, *amounts: tuple[int, int]) -> list[Transfer]:
    """Post credits of these milligrams and points in one go."""
    account = await locked(tx, participant_id)
    transfers = []
    for co2e_mg, points in amounts:
        transfers.append(credit(account, co2e_mg, points))
        account = posted(account, transfers[-1].lines)
    await append(tx, transfers, {participant_id: account})
    return transfers


async def test_what_is_posted_is_what_is_read(database: Database) -> None:
    async with pooled(database.app) as pool, pool.acquire() as tx, tx.transaction():
        participant_id = await opened(tx)
        transfers = await post(tx, participant_id, (82273, 82), (999, 0), (5, 1))
        account = await locked(tx, participant_id)
        assert (account.counter, account.next_expiry) == (3, END)
        assert account.balance("co2e_mg", "available") == 82273 + 999 + 5
        assert await read_buckets(tx, [participant_id]) == {participant_id: {END: 83}}
        found = await read_transfer(tx, participant_id, transfers[0].transfer_id)
        assert (found.transfer, found.reversed_by) == (transfers[0], None)
        assert await read_statement(tx, participant_id, before=3, limit=9) == transfers[1::-1]
        assert await read_statement(tx, participant_id, before=2**63 - 1, limit=1) == transfers[2:]
        with pytest.raises(TransferNotFound, match=str(participant_id)):
            await read_transfer(tx, uuid4(), participant_id)


async def test_accounts_are_locked_in_one_order_and_the_time_is_after_the_wait(database: Database) -> None:
    async with pooled(database.app, size=3) as pool:
        async with pool.acquire() as tx:
            people = [await opened(tx) for _ in range(6)]
        async with pool.acquire() as holder:
            async with holder.transaction():
                await locked(holder, people[3])
                waiting = [asyncio.create_task(_lock_all(pool, order)) for order in (people, people[::-1])]
                await asyncio.sleep(0.1)
                released = datetime.now(UTC)
            found = await asyncio.gather(*waiting)
        assert all(accounts == set(people) and at > released for accounts, at in found)
        async with pool.acquire() as tx, tx.transaction():
            assert await lock_accounts(tx, [uuid4()], clock_offset=NOW) == ({}, None)
            _, now = await lock_accounts(tx, people[:1], clock_offset=NOW)
            _, later = await lock_accounts(tx, people[:1], clock_offset=timedelta(days=40))
            assert now is not None
            assert later is not None
            assert timedelta(days=40) <= later - now < timedelta(days=40, minutes=1)


async def _lock_all(pool: "asyncpg.Pool[asyncpg.Record]", order: Sequence[UUID]) -> tuple[set[UUID], datetime]:
    async with pool.acquire() as tx, tx.transaction():
        accounts, at = await lock_accounts(tx, order, clock_offset=NOW)
        assert at is not None
        return set(accounts), at


async def test_a_posting_that_does_not_fit_its_accounts_is_a_bug(database: Database) -> None:
    async with pooled(database.app) as pool, pool.acquire() as tx:
        participant_id = await opened(tx)
        stranger = replace(await locked(tx, participant_id), participant_id=uuid4())
        with pytest.raises(LedgerInvariantBroken, match="1 accounts were to change"):
            async with tx.transaction():
                await append(tx, [credit(stranger, 1, 1)], {stranger.participant_id: stranger})
        async with tx.transaction():
            first = (await post(tx, participant_id, (5, 5)))[0]
        account = await locked(tx, participant_id)
        for again in (first, replace(credit(account, 1, 1), counter=1)):  # the same transfer; a counter used before
            with pytest.raises(asyncpg.UniqueViolationError):
                async with tx.transaction():
                    await append(tx, [again], {participant_id: account})
        assert (await locked(tx, participant_id)) == account


GOOD = Line("issuance", "available", "points", 1, expires_on=END)
GRAMS = Line("issuance", "available", "co2e_mg", 1, "behaviour", 2026)


@pytest.mark.parametrize(
    "line",
    [
        replace(GOOD, amount=0),
        replace(GOOD, amount=-1),
        replace(GOOD, to_account="issuance"),
        replace(GOOD, to_account="pocket"),
        replace(GOOD, asset="yuan"),
        replace(GOOD, credit_class="behaviour"),
        replace(GOOD, vintage=2026),
        replace(GOOD, expires_on=date(2028, 11, 29)),
        replace(GRAMS, credit_class=None),
        replace(GRAMS, credit_class="imaginary"),
        replace(GRAMS, vintage=None),
        replace(GRAMS, expires_on=END),
    ],
    ids=str,
)
async def test_the_database_refuses_a_line_that_no_decision_would_post(database: Database, line: Line) -> None:
    async with pooled(database.app) as pool, pool.acquire() as tx:
        participant_id = await opened(tx)
        account = await locked(tx, participant_id)
        transfer = replace(credit(account, 1, 1), lines=(GOOD, GRAMS))
        after = replace(account, counter=1)
        with pytest.raises(asyncpg.IntegrityConstraintViolationError):
            async with tx.transaction():
                await append(tx, [replace(transfer, lines=(line,))], {participant_id: after})
        async with tx.transaction():
            await append(tx, [transfer], {participant_id: after})  # the good ones, to know that nothing else was wrong


@pytest.mark.parametrize("name", [(asset, name) for asset in ASSETS for name in PARTICIPANT_ACCOUNTS], ids=" ".join)
async def test_no_balance_is_ever_negative(database: Database, name: tuple[str, str]) -> None:
    async with pooled(database.app) as pool, pool.acquire() as tx:
        participant_id = await opened(tx)
        account = replace(await locked(tx, participant_id), counter=1)
        for amount in (-1, 2**63):
            wrong = replace(account, balances={**account.balances, name: amount})
            with pytest.raises((asyncpg.CheckViolationError, asyncpg.DataError)):
                async with tx.transaction():
                    await append(tx, [replace(credit(account, 1, 1), counter=1)], {participant_id: wrong})


async def test_no_bucket_gives_what_it_does_not_hold(database: Database) -> None:
    drawn = replace(GOOD, from_account="available", to_account="issuance")
    async with pooled(database.app) as pool, pool.acquire() as tx:
        participant_id = await opened(tx)
        account = replace(await locked(tx, participant_id), counter=1)
        wanted = replace(credit(account, 1, 1), lines=(drawn,))
        with pytest.raises(LedgerInvariantBroken, match="bucket"):
            async with tx.transaction():
                await append(tx, [wanted], {participant_id: account})
        async with tx.transaction():
            await post(tx, participant_id, (1, 2))
        account = replace(await locked(tx, participant_id), counter=2)
        wanted = replace(credit(account, 1, 1), counter=2, lines=(replace(drawn, amount=3),))
        with pytest.raises(asyncpg.CheckViolationError, match="bucket_available_check"):
            async with tx.transaction():
                await append(tx, [wanted], {participant_id: account})


JOURNAL = (
    "ledger.transfer",
    "ledger.movement",
    "ledger.reversed",
    "ledger.matured",
    "ledger.leaf",
    "service.event_key",
    "service.activity",
    "service.rule_document",
    "service.approval",
    "service.manifest",
    "service.waiver",
)
_COLUMNS = {
    "ledger.leaf": "log_index",
    "service.event_key": "key_version",
    "service.rule_document": "kind",
    "service.approval": "role",
    "service.manifest": "sequence",
}
PROJECTIONS = ("ledger.account", "ledger.bucket", "ledger.system_total", "ledger.log_head", "ledger.fold_head")
LOG = ("ledger.leaf", "ledger.log_head", "ledger.fold_head", "ledger.system_total")


def _changes(table: str) -> tuple[str, str, str]:
    column = _COLUMNS.get(table, "participant_id")
    return f"UPDATE {table} SET {column} = {column}", f"DELETE FROM {table}", f"TRUNCATE {table}"


async def refused(url: str, *statements: str, error: type[Exception]) -> None:
    connection = await asyncpg.connect(url)
    try:
        for statement in statements:
            with pytest.raises(error):
                await connection.execute(statement)
    finally:
        await connection.close()


@pytest.mark.parametrize("table", JOURNAL)
async def test_the_journal_is_append_only_below_the_application(api: Api, database: Database, table: str) -> None:
    person = await api.person()
    outcome = (await api.report(person.source, [ride(person.source, person.subject)]))[0]
    await api.reverse(person.participant_id, outcome["transfer_id"])
    for url in (database.app, database.sequencer, database.auditor):
        await refused(url, *_changes(table), error=asyncpg.InsufficientPrivilegeError)
    for url in (database.owner, database.admin):
        await refused(url, *_changes(table), error=asyncpg.RaiseError)


async def test_the_application_cannot_touch_the_log_or_rename_anybody(database: Database) -> None:
    inserts = [f"INSERT INTO {table} DEFAULT VALUES" for table in LOG]
    changes = [f"DELETE FROM {table}" for table in (*PROJECTIONS, "ledger.leaf_queue", "service.link")]
    updates = [
        "UPDATE ledger.log_head SET size = size",
        "UPDATE ledger.fold_head SET folded_to = 0",
        "UPDATE ledger.system_total SET amount = 0",
        "UPDATE ledger.leaf_queue SET leaf = leaf",
        "UPDATE ledger.account SET kind = 'firm'",
        "UPDATE ledger.account SET programme = 'other'",
        "UPDATE service.evidence SET sealed = ''",
        "UPDATE service.manifest_text SET jws = ''",
        "INSERT INTO ledger.leaf_queue (queue_id, leaf) OVERRIDING SYSTEM VALUE VALUES (1, 'x')",
        "CREATE TABLE ledger.mine (x int)",
        "DROP TABLE ledger.movement",
        "ALTER TABLE ledger.movement DISABLE TRIGGER ALL",
    ]
    await refused(database.app, *inserts, *changes, *updates, error=asyncpg.InsufficientPrivilegeError)


async def test_the_sequencer_cannot_post_and_reads_no_person(database: Database) -> None:
    tables = ("ledger.transfer", "ledger.movement", "ledger.account", "ledger.bucket")
    statements = [f"INSERT INTO {table} DEFAULT VALUES" for table in tables]
    # A key, an epoch or a seal it may queue, of nobody; never a leaf in a participant's name.
    statements.append("INSERT INTO ledger.leaf_queue (participant_id, transfer_id, leaf) VALUES (NULL, NULL, '1')")
    statements += [
        f"SELECT * FROM {table}" for table in ("ledger.account", "ledger.bucket", "service.link", "service.evidence")
    ]
    statements += ["UPDATE ledger.account SET counter = 0", "UPDATE ledger.leaf_queue SET leaf = leaf"]
    await refused(database.sequencer, *statements, error=asyncpg.InsufficientPrivilegeError)


async def test_the_auditor_only_reads_and_sees_no_link(database: Database) -> None:
    connection = await asyncpg.connect(database.admin)
    rows = await connection.fetch(
        "SELECT schemaname || '.' || tablename FROM pg_tables WHERE schemaname IN ('ledger', 'service')"
    )
    await connection.close()
    tables = [row[0] for row in rows]
    statements = [f"{verb} {table}" for table in tables for verb in ("DELETE FROM", "TRUNCATE")]
    statements += [f"INSERT INTO {table} DEFAULT VALUES" for table in tables]
    # whose anything is
    unseen = ("service.link", "service.consent", "service.organisation", "service.mandate", "service.waiver")
    statements += [f"SELECT * FROM {table}" for table in unseen]
    await refused(database.auditor, *statements, error=asyncpg.InsufficientPrivilegeError)
    connection = await asyncpg.connect(database.auditor)
    for table in tables:
        if table.startswith("ledger."):
            await connection.fetch(f"SELECT * FROM {table} LIMIT 1")
    await connection.close()


async def test_nobody_else_reaches_the_schemas(database: Database) -> None:
    connection = await asyncpg.connect(database.admin)
    granted = await connection.fetch(
        "SELECT table_schema, table_name FROM information_schema.role_table_grants "
        "WHERE table_schema IN ('ledger', 'service') AND grantee = 'PUBLIC'"
    )
    await connection.close()
    assert granted == []

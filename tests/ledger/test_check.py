"""The check finds every planted difference and names it; on a ledger nobody touched it finds none."""

from datetime import timedelta

import asyncpg
import pytest

from ledger.check import check_ledger
from service.activities.check import check_activities
from service.worker import drain
from tests.conftest import Database, clone
from tests.running import pooled, ride, running_api, vault_for_tests

pytestmark = pytest.mark.anyio

_A_LEAF = "(SELECT leaf FROM ledger.leaf WHERE log_index = 2)"
_SPOIL = (
    "UPDATE ledger.leaf SET leaf = convert_to(replace(convert_from(leaf, 'UTF8'), {}, {}), 'UTF8') WHERE log_index = 0"
)

# What an insider does, and the check that must name it. Several may; the one given must be among them.
PLANTS: dict[str, tuple[str, str]] = {
    "a balance raised": ("UPDATE ledger.account SET points_available = points_available + 1", "account balance"),
    "grams raised": ("UPDATE ledger.account SET co2e_available = co2e_available + 1", "account balance"),
    "a debt forgiven": ("UPDATE ledger.account SET points_debt = 0", "account balance"),
    "an account removed": ("DELETE FROM ledger.account", "account balance"),
    "a kind changed": ("UPDATE ledger.account SET kind = 'firm'", "leaf participant_kind"),
    "a bucket raised": ("UPDATE ledger.bucket SET available = available + 1", "bucket"),
    "a bucket removed": ("DELETE FROM ledger.bucket WHERE available > 0", "bucket"),
    "points moved to a later month": (
        "UPDATE ledger.bucket SET expires_on = expires_on + 1 + interval '1 month' - interval '1 day'",
        "bucket",
    ),
    "an expiry forgotten": ("UPDATE ledger.account SET next_expiry = NULL", "next expiry"),
    "an expiry put off": ("UPDATE ledger.account SET next_expiry = next_expiry + 400", "next expiry"),
    "a counter raised": ("UPDATE ledger.account SET counter = counter + 1", "counter"),
    "a transfer renumbered": ("UPDATE ledger.transfer SET counter = 99 WHERE counter = 1", "counter"),
    "a transfer removed": ("DELETE FROM ledger.transfer WHERE counter = 1", "counter"),
    "a transfer's lines removed": (
        "DELETE FROM ledger.movement m USING ledger.transfer t WHERE t.transfer_id = m.transfer_id AND t.counter = 1",
        "transfer without lines",
    ),
    "a transfer removed from under its lines": (
        "DELETE FROM ledger.transfer WHERE counter = 2",
        "line without transfer",
    ),
    "an amount raised": ("UPDATE ledger.movement SET amount = amount + 1 WHERE asset = 'co2e_mg'", "account balance"),
    "an amount raised with its balance": (
        "UPDATE ledger.movement m SET amount = amount + 1 FROM ledger.transfer t "
        "WHERE t.transfer_id = m.transfer_id AND t.counter = 1 AND asset = 'co2e_mg'; "
        "UPDATE ledger.account SET co2e_available = co2e_available + 1; "
        "UPDATE ledger.system_total SET amount = amount - 2 WHERE asset = 'co2e_mg' AND account = 'issuance'",
        "leaf lines",
    ),
    "a vintage changed": ("UPDATE ledger.movement SET vintage = 2025 WHERE asset = 'co2e_mg'", "leaf lines"),
    "a class changed": ("UPDATE ledger.movement SET credit_class = 'project' WHERE asset = 'co2e_mg'", "leaf lines"),
    "a day changed": ("UPDATE ledger.transfer SET effective_on = effective_on - 1", "leaf day"),
    "a time changed": ("UPDATE ledger.transfer SET recorded_at = recorded_at - interval '1 minute'", "leaf at"),
    "a reason changed": (
        "UPDATE ledger.transfer SET reason = 'source_retracted' WHERE kind = 'reversal'",
        "leaf reason",
    ),
    "a leaf removed": ("DELETE FROM ledger.leaf WHERE log_index = 1", "leaf"),
    "the last leaf removed with the size": (
        "DELETE FROM ledger.leaf WHERE log_index = (SELECT max(log_index) FROM ledger.leaf); "
        "UPDATE ledger.log_head SET size = size - 1; UPDATE ledger.fold_head SET folded_to = folded_to - 1",
        "leaf",
    ),
    "a leaf queued again": (
        f"INSERT INTO ledger.leaf_queue (participant_id, transfer_id, leaf) "
        f"SELECT participant_id, transfer_id, {_A_LEAF} FROM ledger.leaf WHERE log_index = 2",
        "leaf",
    ),
    "a leaf rewritten": (_SPOIL.format("'82273'", "'82274'"), "leaf lines"),
    "a leaf spaced out": (_SPOIL.format("','", "', '"), "leaf content"),
    "a leaf for another": (_SPOIL.format("'\"citizen\"'", "'\"firm\"'"), "leaf participant_kind"),
    "leaves swapped": (
        "UPDATE ledger.leaf a SET leaf = b.leaf FROM ledger.leaf b WHERE a.log_index + b.log_index = 1",
        "leaf transfer",
    ),
    "the log shortened": ("UPDATE ledger.log_head SET size = size - 1", "log size"),
    "the log moved up": ("UPDATE ledger.leaf SET log_index = log_index + 100", "log size"),
    "a system total changed": (
        "UPDATE ledger.system_total SET amount = amount + 1 WHERE account = 'issuance'",
        "system total",
    ),
    "a system total removed": ("DELETE FROM ledger.system_total WHERE account = 'lapsed'", "system total"),
    "a system total invented": (
        "INSERT INTO ledger.system_total VALUES ('demo', 'points', 'partner', 5)",
        "system total",
    ),
    "a fold claimed": ("UPDATE ledger.fold_head SET folded_to = folded_to - 1", "system total"),
}

ACTIVITY_PLANTS: dict[str, tuple[str, str]] = {
    "a day changed": ("UPDATE service.activity SET day = day - 1", "activity day"),
    "a grade changed": ("UPDATE service.activity SET grade = 'C'", "activity grade"),
    "an activity removed": ("DELETE FROM service.activity", "activity methodology"),
    "a source renamed": ("UPDATE service.source SET uri = uri || 'x'", "activity source"),
    "a rule rewritten": (
        "UPDATE service.rule_document SET digest = sha256(digest) WHERE kind = 'methodology'",
        "activity methodology",
    ),
}


@pytest.fixture(scope="module")
async def ledger(template: Database, worker_id: str, tmp_path_factory: pytest.TempPathFactory) -> Database:
    """A small ledger with credits, reversals, a lapse and a debt, all of it sequenced; and a copy of each table."""
    database = clone(template, f"tests_of_the_check_{worker_id}")
    data_dir = tmp_path_factory.mktemp("data")
    settings = (database.app, database.redis, data_dir)
    async with running_api(*settings) as api:
        person = await api.person()
        outcomes = await api.report(person.source, [ride(person.source, person.subject) for _ in range(3)])
        await api.reverse(person.participant_id, outcomes[1]["transfer_id"])
    async with running_api(*settings, clock_offset=timedelta(days=800)) as api:
        await api.reverse(person.participant_id, outcomes[0]["transfer_id"])
        other = await api.person()
        await api.report(other.source, [ride(other.source, other.subject)])
    async with pooled(database.sequencer) as pool:
        await drain(pool)
    await keep_copies(database)
    return database


async def keep_copies(database: Database) -> None:
    """Copy each table, so that what an insider does can be undone."""
    connection = await asyncpg.connect(database.admin)
    await connection.execute("CREATE SCHEMA kept")
    for table in await _tables(connection):
        await connection.execute(f"CREATE TABLE kept.{table.replace('.', '_')} AS TABLE {table}")
    await connection.close()


async def _tables(connection: "asyncpg.Connection[asyncpg.Record]") -> list[str]:
    rows = await connection.fetch(
        "SELECT schemaname || '.' || tablename FROM pg_tables WHERE schemaname IN ('ledger', 'service')"
    )
    return [row[0] for row in rows]


async def planted(database: Database, statements: str, *, activities: bool = False) -> set[str]:
    """Do this as an insider with every right and the triggers off, check as the auditor, and put everything back."""
    insider = await asyncpg.connect(database.admin)
    auditor = await asyncpg.connect(database.auditor)
    try:
        await insider.execute("SET session_replication_role = replica")
        await insider.execute(statements)
        findings = (
            await check_activities(auditor, vault_for_tests()) if activities else (await check_ledger(auditor)).findings
        )
        assert all(finding.about and finding.stored != finding.journal for finding in findings)
        return {finding.check for finding in findings}
    finally:
        for table in await _tables(insider):
            copy = f"kept.{table.replace('.', '_')}"
            await insider.execute(f"DELETE FROM {table}; INSERT INTO {table} OVERRIDING SYSTEM VALUE TABLE {copy}")
        await insider.close()
        await auditor.close()


async def test_a_ledger_that_nobody_touched_has_no_difference(ledger: Database) -> None:
    connection = await asyncpg.connect(ledger.auditor)
    checked = await check_ledger(connection)
    assert (checked.findings, await check_activities(connection, vault_for_tests())) == ((), [])
    await connection.close()
    assert checked.counts["transfers"] == checked.counts["log_size"] == checked.counts["folded_to"] == 7
    assert checked.counts["accounts"] == 2


@pytest.mark.parametrize("name", PLANTS)
async def test_each_planted_difference_is_named(ledger: Database, name: str) -> None:
    statements, check = PLANTS[name]
    assert check in await planted(ledger, statements)
    assert await planted(ledger, "SELECT 1") == set()  # all of it was put back


@pytest.mark.parametrize("name", ACTIVITY_PLANTS)
async def test_each_difference_between_activities_and_leaves_is_named(ledger: Database, name: str) -> None:
    statements, check = ACTIVITY_PLANTS[name]
    assert check in await planted(ledger, statements, activities=True)

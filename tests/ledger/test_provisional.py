"""Credits that wait: what the database keeps of their maturity, that each ends once, and leaves without a transfer."""

from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta

import asyncpg
import pytest

from ledger.check import check_ledger
from ledger.errors import LeafInvalid, LedgerInvariantBroken
from ledger.leaves import lapse_leaf
from ledger.notices import ManifestFacts, RuleApproval, RuleFacts, manifest_leaf, rule_leaf
from ledger.store import queue_leaf, read_statement, read_transfer
from service.database import Pool
from service.worker import drain
from tests.conftest import Database, clone
from tests.ledger.books import Books
from tests.ledger.test_check import keep_copies, planted
from tests.running import pooled

pytestmark = pytest.mark.anyio

END, LATER = date(2098, 11, 30), date(2099, 1, 31)
RULE = rule_leaf(
    RuleFacts(
        "demo",
        "methodology",
        "firm-power",
        1,
        "demonstration",
        "11" * 32,
        (RuleApproval("technical_body", "office-7", "kid", "44" * 32, "55" * 64, date(2026, 11, 20)),),
    ),
    datetime(2026, 11, 21, tzinfo=UTC),
    bytes(16),
)
MANIFEST = manifest_leaf(
    ManifestFacts("urn:tests:meters", "demo", "310000", date(2026, 11, 20), 1, "22" * 32, "33" * 32, "44" * 32),
    datetime(2026, 11, 21, tzinfo=UTC),
    bytes(16),
)


@pytest.fixture
async def pool(database: Database) -> AsyncIterator[Pool]:
    async with pooled(database.app) as pool:
        yield pool


async def test_a_pending_credit_matures_into_the_bucket_of_its_maturity(pool: Pool) -> None:
    async with pool.acquire() as tx:
        books = await Books.open(tx)
        credit = await books.credit(1000, 7, END, pending=True, funded_points=3)
        account = await books.account()
        assert (account.balance("points", "pending"), account.balance("co2e_mg", "pending")) == (10, 1000)
        assert (account.balance("points", "available"), account.next_expiry, await books.buckets()) == (0, None, {})
        maturity = await books.mature(credit, LATER)
        account = await books.account()
        assert (account.balance("points", "pending"), account.balance("co2e_mg", "pending")) == (0, 0)
        assert (account.balance("points", "available"), account.balance("co2e_mg", "available")) == (10, 1000)
        assert (account.counter, account.next_expiry, await books.buckets()) == (2, LATER, {LATER: 10})
        found = await read_transfer(tx, books.participant_id, credit.transfer_id)
        assert (found.transfer, found.reversed_by, found.matured_by) == (credit, None, maturity.transfer_id)
        itself = await read_transfer(tx, books.participant_id, maturity.transfer_id)
        assert (itself.transfer, itself.matured_by) == (maturity, None)
        assert maturity.matures == credit.transfer_id
        assert await read_statement(tx, books.participant_id, before=9, limit=9) == [maturity, credit]


async def test_a_credit_matures_once(pool: Pool) -> None:
    async with pool.acquire() as tx:
        books = await Books.open(tx)
        credit = await books.credit(1000, 7, END, pending=True)
        await books.credit(1000, 7, END, pending=True)
        await books.mature(credit, END)
        with pytest.raises(asyncpg.UniqueViolationError, match="matured_pkey"):
            await books.mature(credit, END)
        assert (await books.account()).balance("points", "pending") == 7


async def test_only_a_maturity_names_what_it_matures(pool: Pool) -> None:
    async with pool.acquire() as tx:
        books = await Books.open(tx)
        credit = await books.credit(1, 1, END)
        for kind, matures in (("credit", credit.transfer_id), ("maturity", None)):
            with pytest.raises(asyncpg.CheckViolationError, match="transfer_matures_check"):
                await books._post(
                    kind, lambda *_: credit.lines, lambda transfer: lapse_leaf(transfer, "citizen", bytes(16)),
                    matures=matures,
                )  # fmt: skip


async def test_what_is_taken_back_before_and_after_the_maturity(pool: Pool) -> None:
    async with pool.acquire() as tx:
        books = await Books.open(tx)
        withdrawn = await books.credit(1000, 7, END, pending=True)
        await books.reverse(withdrawn, "not_eligible_at_settlement")
        assert set((await books.account()).balances.values()) == {0}
        matured = await books.credit(1000, 7, END, pending=True, funded_points=3)
        await books.credit(500, 5, END)
        await books.mature(matured, LATER)
        back = await books.reverse(matured, "source_retracted")
        assert [(line.from_account, line.to_account, line.amount, line.expires_on) for line in back.lines] == [
            ("available", "issuance", 1000, None),
            ("available", "issuance", 7, LATER),
            ("available", "partner", 3, LATER),
        ]
        assert await books.buckets() == {END: 5}
        found = await read_transfer(tx, books.participant_id, matured.transfer_id)
        assert found.reversed_by == back.transfer_id
        assert found.matured_by is not None


async def test_grams_that_wait_alone_mature_beside_points_that_did_not(pool: Pool) -> None:
    async with pool.acquire() as tx:
        books = await Books.open(tx)
        credit = await books.credit(1000, 7, END, grams_pending=True)
        assert await books.buckets() == {END: 7}
        await books.mature(credit, LATER)
        assert await books.buckets() == {END: 7}
        await books.reverse(credit)
        assert set((await books.account()).balances.values()) == {0}


async def test_points_that_waited_for_years_do_not_lapse_before_they_could_be_used(pool: Pool) -> None:
    async with pool.acquire() as tx:
        books = await Books.open(tx)
        early = await books.credit(1000, 7, date(2027, 1, 31), pending=True)
        spent = await books.credit(1000, 9, date(2027, 1, 31))
        books.offset = timedelta(days=800)
        await books.mature(early, END)
        assert await books.buckets() == {END: 7}  # the other nine have lapsed
        await books.reverse(spent)
        assert await books.buckets() == {}
        assert (await books.account()).balance("points", "debt") == 2
        late = await books.credit(1000, 3, END, pending=True)
        assert (await books.account()).balance("points", "debt") == 2
        await books.mature(late, END)
        assert (await books.account()).balance("points", "debt") == 0
        assert await books.buckets() == {END: 1}


async def test_a_leaf_without_a_transfer_is_sequenced_between_the_others(fresh_database: Database) -> None:
    async with pooled(fresh_database.app) as pool, pool.acquire() as tx:
        books = await Books.open(tx)
        for leaf in (RULE, MANIFEST):
            await queue_leaf(tx, leaf)
            await books.credit(1000, 7, END)
        with pytest.raises(LedgerInvariantBroken, match="with its transfer, never alone"):
            await queue_leaf(tx, lapse_leaf(await books.credit(1, 1, END), "citizen", bytes(16)))
        with pytest.raises(LeafInvalid):
            await queue_leaf(tx, RULE + b" ")
        with pytest.raises(asyncpg.CheckViolationError, match="leaf_queue_transfer_check"):
            await tx.execute("INSERT INTO ledger.leaf_queue (transfer_id, leaf) VALUES (gen_random_uuid(), 'x')")
    owner = await asyncpg.connect(fresh_database.owner)
    with pytest.raises(asyncpg.CheckViolationError, match="leaf_transfer_check"):
        await owner.execute("INSERT INTO ledger.leaf (log_index, transfer_id, leaf) VALUES (0, gen_random_uuid(), 'x')")
    await owner.close()
    async with pooled(fresh_database.sequencer) as pool:
        assert await drain(pool) == 5
    connection = await asyncpg.connect(fresh_database.auditor)
    rows = await connection.fetch("SELECT transfer_id IS NULL AS alone, leaf FROM ledger.leaf ORDER BY log_index")
    assert [row["alone"] for row in rows] == [True, False, True, False, False]
    assert [rows[0]["leaf"], rows[2]["leaf"]] == [RULE, MANIFEST]
    assert (await check_ledger(connection)).findings == ()
    await connection.close()


_MOVE = "UPDATE ledger.movement m SET {} FROM ledger.transfer t WHERE m.transfer_id = t.transfer_id AND {}"
_FORGET = "UPDATE ledger.transfer SET kind = 'lapse', matures = NULL WHERE kind = 'maturity'"

# What an insider does to credits that waited, and the check that must name it.
PLANTS: dict[str, tuple[str, str]] = {
    "pending points raised": ("UPDATE ledger.account SET points_pending = points_pending + 1", "account balance"),
    "pending grams removed": ("UPDATE ledger.account SET co2e_pending = 0", "account balance"),
    "a maturity forgotten": ("DELETE FROM ledger.matured", "matured"),
    "a maturity invented": (
        "INSERT INTO ledger.matured SELECT participant_id, transfer_id, transfer_id FROM ledger.transfer "
        "WHERE kind = 'reversal'",
        "matured",
    ),
    "a maturity of another credit": (
        "UPDATE ledger.transfer t SET matures = c.transfer_id FROM ledger.transfer c "
        "WHERE t.kind = 'maturity' AND c.participant_id = t.participant_id AND c.kind = 'credit' "
        "AND c.transfer_id <> t.matures",
        "matured",
    ),
    "a maturity of a reversal": (
        "WITH one AS (SELECT m.participant_id, m.transfer_id AS maturity, min(r.transfer_id::text)::uuid AS reversal "
        "FROM ledger.transfer m JOIN ledger.transfer r USING (participant_id) "
        "WHERE m.kind = 'maturity' AND r.kind = 'reversal' GROUP BY 1, 2 LIMIT 1), "
        "told AS (UPDATE ledger.transfer t SET matures = reversal FROM one WHERE t.transfer_id = maturity) "
        "UPDATE ledger.matured SET transfer_id = reversal FROM one WHERE maturity_id = maturity",
        "matured",
    ),
    "a maturity of what was reversed before": (
        "UPDATE ledger.transfer SET counter = counter + 90 WHERE kind = 'maturity'",
        "matured",
    ),
    "a maturity told as a lapse": (_FORGET, "leaf kind"),
    "a maturity that is not told": (f"{_FORGET}; DELETE FROM ledger.matured", "pending"),
    "a maturity of too much": (_MOVE.format("amount = m.amount + 1", "t.kind = 'maturity'"), "pending"),
    "a maturity of another vintage": (
        _MOVE.format("vintage = 2025", "t.kind = 'maturity' AND m.asset = 'co2e_mg'"),
        "pending",
    ),
    "a withdrawal out of what is available": (
        _MOVE.format("from_account = 'available'", "t.kind = 'reversal' AND m.from_account = 'pending'"),
        "pending",
    ),
    "a matured credit taken back out of pending": (
        _MOVE.format("from_account = 'pending'", "t.kind = 'reversal' AND m.from_account = 'available'"),
        "pending",
    ),
    "a budget's points returned to issuance": (
        _MOVE.format("to_account = 'issuance'", "t.kind = 'reversal' AND m.to_account = 'partner'"),
        "returned",
    ),
    "a reversal of less": (
        _MOVE.format("amount = m.amount - 1", "t.kind = 'reversal' AND m.amount > 1"),
        "returned",
    ),
    "a reversal forgotten": ("DELETE FROM ledger.reversed", "reversed"),
    "a reversal invented": (
        "INSERT INTO ledger.reversed SELECT participant_id, transfer_id, transfer_id FROM ledger.transfer "
        "WHERE kind = 'maturity'",
        "reversed",
    ),
    "a reversal of another credit": (
        "UPDATE ledger.transfer t SET reverses = c.transfer_id FROM ledger.transfer c WHERE t.kind = 'reversal' "
        "AND c.kind = 'credit' AND c.participant_id = t.participant_id AND c.transfer_id <> t.reverses",
        "reversed",
    ),
    "a reversal before its credit": (
        "UPDATE ledger.transfer SET counter = counter + 50 WHERE kind = 'credit'",
        "reversed",
    ),
    "a rule's leaf given to a transfer": (
        "UPDATE ledger.leaf a SET leaf = b.leaf FROM ledger.leaf b WHERE a.log_index = 1 AND b.log_index = 0",
        "leaf transfer",
    ),
    "a transfer's leaf made nobody's": (
        "UPDATE ledger.leaf SET participant_id = NULL, transfer_id = NULL WHERE log_index = 1",
        "leaf transfer",
    ),
    "a rule's leaf removed": ("DELETE FROM ledger.leaf WHERE log_index = 0", "log size"),
    "what it matures rewritten": (
        "UPDATE ledger.leaf SET leaf = convert_to(regexp_replace(convert_from(leaf, 'UTF8'), "
        "'\"matures\":\"........', '\"matures\":\"00000000'), 'UTF8')",
        "leaf matures",
    ),
}


@pytest.fixture(scope="module")
async def ledger(template: Database, worker_id: str) -> Database:
    """A rule's leaf, then credits that wait, matured, were withdrawn, and were taken back after they had matured."""
    database = clone(template, f"tests_of_the_check_of_pending_credits_{worker_id}")
    async with pooled(database.app) as pool, pool.acquire() as tx:
        await queue_leaf(tx, RULE)
        for _ in range(2):
            books = await Books.open(tx)
            withdrawn, kept, lost = [await books.credit(1000, 7, END, pending=True, funded_points=3) for _ in range(3)]
            await books.credit(1000, 7, END, pending=True)
            await books.reverse(withdrawn, "not_eligible_at_settlement")
            await books.mature(kept, LATER)
            await books.mature(lost, LATER)
            await books.reverse(lost)
        await queue_leaf(tx, MANIFEST)
    async with pooled(database.sequencer) as pool:
        await drain(pool)
    await keep_copies(database)
    return database


async def test_a_ledger_that_nobody_touched_has_no_difference(ledger: Database) -> None:
    connection = await asyncpg.connect(ledger.auditor)
    checked = await check_ledger(connection)
    await connection.close()
    assert checked.findings == ()
    assert (checked.counts["transfers"], checked.counts["log_size"]) == (16, 18)


@pytest.mark.parametrize("name", PLANTS)
async def test_each_planted_difference_is_named(ledger: Database, name: str) -> None:
    statements, check = PLANTS[name]
    assert check in await planted(ledger, statements)
    assert await planted(ledger, "SELECT 1") == set()

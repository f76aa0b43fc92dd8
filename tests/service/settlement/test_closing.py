"""A statement is issued once its day is complete, holds what the journal holds of that day, and never changes."""

import asyncio
from datetime import UTC, date, datetime, timedelta

import asyncpg
import orjson
import pytest

from ledger.leaf_reading import read_leaf
from service.clock import shanghai_day
from service.participants import hold_withdrawals
from service.settlement.closing import issue_due, run_statements
from service.settlement.reconciling import StatementNotFound, read_day, read_days
from service.settlement.statement import digest_of, read_statement
from service.worker import drain
from tests.conftest import Database
from tests.running import pooled
from tests.service.settlement.books import Books, open_books

pytestmark = pytest.mark.anyio

TODAY = shanghai_day(datetime.now(UTC))
YESTERDAY, BEFORE = TODAY - timedelta(days=1), TODAY - timedelta(days=2)


async def documents(books: Books) -> dict[date, bytes]:
    async with books.app.acquire() as connection:
        rows = await connection.fetch("SELECT day, document FROM service.bank_statement ORDER BY day")
    return {row["day"]: row["document"] for row in rows}


async def test_a_day_that_is_over_has_its_statement_in_the_order_of_the_log(fresh_database: Database) -> None:
    async with open_books(fresh_database) as books:
        one, other = await books.redeem(BEFORE, 2), await books.redeem(BEFORE, 3, captured=False)
        await books.redeem(TODAY, 5)
        assert await books.issue() == 2  # the day before, and yesterday, on which nothing happened
        found = await documents(books)
        statement = read_statement(found[BEFORE])
        assert [(entry.kind, entry.redemption_id) for entry in statement.entries] == [
            ("hold", one.redemption_id),
            ("capture", one.redemption_id),
            ("hold", other.redemption_id),
        ]
        assert [entry.log_index for entry in statement.entries] == [0, 1, 2]
        assert (statement.size, statement.sequence, statement.previous) == (5, 1, None)
        totals = statement.totals
        assert (totals["hold"].entries, totals["hold"].value_fen) == (2, one.value_fen + other.value_fen)
        assert (totals["capture"].units, totals["capture"].points) == (2, 20)
        empty = read_statement(found[YESTERDAY])
        assert (empty.entries, empty.sequence) == ((), 2)
        assert empty.previous == digest_of(found[BEFORE]).hex()
        assert await books.issue() == 0
        assert await documents(books) == found


async def test_the_log_names_each_statement(fresh_database: Database) -> None:
    async with open_books(fresh_database) as books:
        await books.redeem(YESTERDAY)
        await books.issue()
        (document,) = (await documents(books)).values()
        (leaf,) = await books.leaves()
        said = read_leaf(leaf)
        assert said["digest"] == digest_of(document).hex()
        assert (said["state"], said["day"], said["bank"]) == ("issued", str(YESTERDAY), books.bank)
        assert (said["sequence"], said["size"]) == ("1", str(read_statement(document).size))


async def test_a_day_waits_for_every_entry_to_have_its_place(fresh_database: Database) -> None:
    async with open_books(fresh_database) as books:
        found = await books.redeem(YESTERDAY)
        assert await books.issue(drained=False) == 0  # they are queued still
        assert await books.issue() == 1
        (document,) = (await documents(books)).values()
        assert {entry.redemption_id for entry in read_statement(document).entries} == {found.redemption_id}


async def test_an_entry_without_a_leaf_holds_its_day_up_and_the_days_after_it(fresh_database: Database) -> None:
    async with open_books(fresh_database) as books:
        lost = await books.redeem(BEFORE, queued=False)
        await books.redeem(YESTERDAY)
        assert await books.issue() == 0
        async with books.app.acquire() as connection:
            for transfer_id in (lost.redemption_id, lost.capture_id):
                await connection.execute(
                    "INSERT INTO ledger.leaf_queue (participant_id, transfer_id, leaf) VALUES ($1, $2, 'late')",
                    lost.participant_id,
                    transfer_id,
                )
        assert await books.issue() == 2


async def test_what_was_being_posted_at_midnight_is_waited_for(fresh_database: Database) -> None:
    async with open_books(fresh_database) as books:
        await books.redeem(YESTERDAY)
        async with pooled(fresh_database.app) as pool, pool.acquire() as posting:
            transaction = posting.transaction()
            await transaction.start()
            await hold_withdrawals(posting)  # as every posting begins
            issuing = asyncio.create_task(books.issue())
            done, _ = await asyncio.wait({issuing}, timeout=0.5)
            assert not done
            late = await books.redeem(YESTERDAY)  # its clock was read before midnight, its commit comes now
            await transaction.commit()
            assert await issuing == 0  # the late entry has no place yet
            assert await books.issue() == 1
        (document,) = (await documents(books)).values()
        assert late.redemption_id in {entry.redemption_id for entry in read_statement(document).entries}


async def test_the_day_that_is_not_over_has_none(fresh_database: Database) -> None:
    async with open_books(fresh_database) as books:
        await books.redeem(TODAY)
        assert await books.issue() == 0
        async with books.app.acquire() as connection:
            with pytest.raises(StatementNotFound):
                await read_day(connection, books.bank_id, TODAY)
        books.offset = timedelta(days=1)
        assert await books.issue() == 1


async def test_banks_have_statements_of_their_own(fresh_database: Database) -> None:
    async with open_books(fresh_database) as books:
        other = await books.another_bank()
        mine, theirs = await books.redeem(YESTERDAY), await books.redeem(YESTERDAY, bank=other)
        assert await books.issue() == 2
        async with books.app.acquire() as connection:
            for bank_id, redeemed in ((books.bank_id, mine), (other[1], theirs)):
                statement = (await read_day(connection, bank_id, YESTERDAY)).statement
                assert {entry.redemption_id for entry in statement.entries} == {redeemed.redemption_id}
                assert statement.sequence == 1


async def test_two_workers_issue_each_day_once(fresh_database: Database) -> None:
    async with open_books(fresh_database) as books, pooled(fresh_database.sequencer, 4) as workers:
        await books.redeem(TODAY - timedelta(days=9))
        await books.issue(drained=False)
        async with books.sequencer.acquire() as connection:
            assert await connection.fetchval("SELECT count(*) FROM service.bank_statement") == 0
        await drain(books.sequencer)

        async def work() -> int:
            async with workers.acquire() as connection:
                return await issue_due(connection, timedelta(0))

        assert sum(await asyncio.gather(*(work() for _ in range(4)))) == 9
        async with books.app.acquire() as connection:
            days = await read_days(connection, books.bank_id, TODAY, 100)
        assert [line.day for line in days] == [TODAY - timedelta(days=ago) for ago in range(1, 10)]
        assert [line.sequence for line in days] == list(range(9, 0, -1))
        assert len(await books.leaves()) == 9


async def test_nothing_is_issued_while_the_log_is_refused(fresh_database: Database) -> None:
    async with open_books(fresh_database) as books:
        await books.redeem(YESTERDAY)
        async with books.sequencer.acquire() as connection:
            await connection.execute("UPDATE ledger.log_state SET refused = 'restored-backup'")
        assert await books.issue() == 0


async def test_the_loop_issues_and_ends_when_told(fresh_database: Database) -> None:
    async with open_books(fresh_database) as books:
        await books.redeem(YESTERDAY)
        await books.issue(drained=False)
        stopping = asyncio.Event()
        await drain(books.sequencer)
        loop = asyncio.create_task(run_statements(books.sequencer, timedelta(0), stopping))
        for _ in range(100):
            if await documents(books):
                break
            await asyncio.sleep(0.05)
        stopping.set()
        await loop
        assert list(await documents(books)) == [YESTERDAY]


@pytest.mark.parametrize("table", ["bank_statement", "bank_file", "day_closing", "dispute_step"])
async def test_nothing_of_the_record_is_edited(fresh_database: Database, table: str) -> None:
    owner = await asyncpg.connect(fresh_database.owner)
    for change in (f"DELETE FROM service.{table}", f"TRUNCATE service.{table}"):
        with pytest.raises(asyncpg.RaiseError):
            await owner.execute(change)
    await owner.close()


async def test_the_application_makes_no_statement(fresh_database: Database) -> None:
    async with open_books(fresh_database) as books:
        await books.redeem(YESTERDAY)
        await books.issue(drained=False)
        await drain(books.sequencer)
        async with books.app.acquire() as connection:
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await issue_due(connection, timedelta(0))


async def test_what_the_bank_calls_it_stands_in_the_statement(fresh_database: Database) -> None:
    async with open_books(fresh_database) as books:
        found = await books.redeem(YESTERDAY)
        async with books.app.acquire() as connection:
            for number, at in ((1, YESTERDAY), (2, TODAY + timedelta(days=1))):
                await connection.execute(
                    "INSERT INTO service.fulfilment (participant_id, redemption_id, number, reference, fulfilled_on, "
                    "call_id, recorded_at) VALUES ($1, $2, $3, $4, $5, gen_random_uuid(), $5::date)",
                    found.participant_id,
                    found.redemption_id,
                    number,
                    f"loan {number}",
                    at,
                )
        await books.issue()
        (document,) = (await documents(books)).values()
        references = {entry["kind"]: entry["reference"] for entry in orjson.loads(document)["entries"]}
        assert references == {"hold": None, "capture": "loan 1"}

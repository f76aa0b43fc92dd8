"""A bank's files against our statements, kept with what differed; a day is closed by both sides on the same papers."""

import asyncio
from datetime import UTC, date, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from ledger.leaf_reading import read_leaf
from service.clock import shanghai_day
from service.settlement.bank_file import read_bank_file
from service.settlement.reconciling import (
    BankDay,
    BankNotClosed,
    DayClosed,
    DayMoved,
    close_by_bank,
    close_by_operator,
    read_day,
    read_days,
    take_file,
)
from service.settlement.statement import statement_csv
from tests.conftest import Database
from tests.running import pooled
from tests.service.settlement.books import Books, open_books

pytestmark = pytest.mark.anyio

TODAY = shanghai_day(datetime.now(UTC))
YESTERDAY, BEFORE = TODAY - timedelta(days=1), TODAY - timedelta(days=2)
HEADER = "transfer_id,redemption_id,kind,units,value_fen\n"


async def send(books: Books, content: bytes, day: date = YESTERDAY, bank_id: int | None = None) -> BankDay:
    bank_id = bank_id or books.bank_id
    file = read_bank_file(content, "csv", bank=books.bank, day=day)
    async with books.app.acquire() as connection, connection.transaction(isolation="read_committed"):
        return await take_file(connection, bank_id, day, content, file, uuid4(), books.fresh)


async def stands(books: Books, day: date = YESTERDAY) -> BankDay:
    async with books.app.acquire() as connection:
        return await read_day(connection, books.bank_id, day)


async def bank_closes(books: Books, statement: str, file: str | None, day: date = YESTERDAY) -> BankDay:
    async with books.app.acquire() as connection, connection.transaction(isolation="read_committed"):
        return await close_by_bank(
            connection, books.bank_id, day, statement=statement, file=file, call_id=uuid4(), fresh=books.fresh
        )


async def operator_closes(books: Books, statement: str, file: str | None, day: date = YESTERDAY) -> BankDay:
    async with books.app.acquire() as connection, connection.transaction(isolation="read_committed"):
        return await close_by_operator(
            connection, books.bank_id, day, statement=statement, file=file, fresh=books.fresh
        )


def line(transfer_id: UUID, redemption_id: UUID, kind: str, units: int, value_fen: int) -> str:
    return f"{transfer_id},{redemption_id},{kind},{units},{value_fen}\n"


async def closed_leaves(books: Books) -> int:
    return sum(read_leaf(leaf)["state"] == "closed" for leaf in await books.leaves())


async def test_a_bank_that_says_the_same_agrees_and_closes_for_both(fresh_database: Database) -> None:
    async with open_books(fresh_database) as books:
        await books.redeem(YESTERDAY)
        await books.issue()
        assert (await stands(books)).state == "issued"
        found = await send(books, statement_csv((await stands(books)).document))
        assert (found.state, found.file and found.file.differences) == ("agreed", ())
        assert found.file is not None
        closed = await bank_closes(books, found.digest, found.file.digest)
        assert closed.state == "closed"
        assert [(each.side, each.authority) for each in closed.closings] == [("bank", "bank"), ("platform", "rule")]
        assert await stands(books) == closed
        assert await closed_leaves(books) == 1
        again = await bank_closes(books, found.digest, found.file.digest)
        assert again == closed
        assert await closed_leaves(books) == 1
        with pytest.raises(DayClosed):
            await send(books, HEADER.encode("ascii"))
        assert await send(books, statement_csv(found.document)) == closed  # the same file again changes nothing


async def test_a_day_may_be_closed_without_a_file(fresh_database: Database) -> None:
    async with open_books(fresh_database) as books:
        await books.redeem(BEFORE)
        await books.issue()
        for day in (BEFORE, YESTERDAY):
            assert (await bank_closes(books, (await stands(books, day)).digest, None, day)).state == "closed"
        assert await closed_leaves(books) == 2


async def test_every_reason_is_found_among_the_platforms_records(fresh_database: Database) -> None:
    async with open_books(fresh_database) as books:
        earlier = await books.redeem(BEFORE, 4)
        one, other = await books.redeem(YESTERDAY, 2), await books.redeem(YESTERDAY, 3)
        stranger = await books.redeem(YESTERDAY, 9, bank=await books.another_bank())
        await books.issue()
        lost = uuid4()
        rows = [
            line(one.redemption_id, one.redemption_id, "hold", 2, 1_000),
            line(one.capture_id, one.redemption_id, "capture", 2, 900),
            line(one.capture_id, one.redemption_id, "capture", 2, 1_000),
            line(other.redemption_id, other.redemption_id, "refund", 3, 1_500),
            line(earlier.capture_id, earlier.redemption_id, "capture", 4, 2_000),
            line(lost, one.redemption_id, "capture", 1, 500),
            line(stranger.capture_id, stranger.redemption_id, "capture", 9, 4_500),
        ]
        found = await send(books, (HEADER + "".join(rows)).encode("ascii"))
        assert found.file is not None
        differences = found.file.differences
        assert [(each.reason, each.line) for each in differences] == [
            ("amount-differs", 3),
            ("duplicate-line", 4),
            ("kind-differs", 5),
            ("wrong-day", 6),
            ("missing-here", 7),
            ("unknown-redemption", 8),
            ("missing-there", None),
        ]
        assert differences[3].ours == str(BEFORE)
        assert sum(each.value_fen for each in differences) == -100 + 1_000 + 2_000 + 500 + 4_500 - 1_500
        assert found.state == "disputed"
        assert (await stands(books)).file == found.file


async def test_a_later_file_replaces_the_answer_and_none_is_lost(fresh_database: Database) -> None:
    async with open_books(fresh_database) as books:
        await books.redeem(YESTERDAY)
        await books.issue()
        first = await send(books, HEADER.encode("ascii"))
        second = await send(books, statement_csv(first.document))
        assert [len(file.differences) for file in second.files] == [2, 0]
        assert (first.state, second.state) == ("disputed", "agreed")
        third = await send(books, HEADER.encode("ascii"))  # it is the last one that counts
        assert (third.state, len(third.files)) == ("disputed", 3)
        async with books.app.acquire() as connection:
            (shown,) = await read_days(connection, books.bank_id, TODAY, 10)
        assert (shown.state, shown.differences) == ("disputed", 2)


async def test_differences_are_closed_by_both_and_by_the_bank_first(fresh_database: Database) -> None:
    async with open_books(fresh_database) as books:
        await books.redeem(YESTERDAY)
        await books.issue()
        found = await send(books, HEADER.encode("ascii"))
        assert found.file is not None
        with pytest.raises(BankNotClosed):
            await operator_closes(books, found.digest, found.file.digest)
        half = await bank_closes(books, found.digest, found.file.digest)
        assert half.state == "disputed"
        assert half.closed_by == {"bank"}
        assert await closed_leaves(books) == 0
        whole = await operator_closes(books, found.digest, found.file.digest)
        assert (whole.state, whole.closings[-1].authority) == ("closed", "operator")
        assert await operator_closes(books, found.digest, found.file.digest) == whole
        assert await closed_leaves(books) == 1
        assert await stands(books) == whole


async def test_a_closing_on_an_earlier_file_counts_no_more(fresh_database: Database) -> None:
    async with open_books(fresh_database) as books:
        await books.redeem(YESTERDAY)
        await books.issue()
        first = await send(books, HEADER.encode("ascii"))
        assert first.file is not None
        await bank_closes(books, first.digest, first.file.digest)
        second = await send(books, (HEADER + "\n").encode("ascii"))
        assert second.file is not None
        assert second.closed_by == frozenset()
        with pytest.raises(DayMoved) as moved:
            await operator_closes(books, first.digest, first.file.digest)
        assert (moved.value.statement, moved.value.file) == (first.digest, second.file.digest)
        with pytest.raises(BankNotClosed):
            await operator_closes(books, second.digest, second.file.digest)
        await bank_closes(books, second.digest, second.file.digest)
        assert (await operator_closes(books, second.digest, second.file.digest)).state == "closed"


@pytest.mark.parametrize("which", ["statement", "file"])
async def test_a_side_closes_on_what_it_has_seen(fresh_database: Database, which: str) -> None:
    async with open_books(fresh_database) as books:
        await books.redeem(YESTERDAY)
        await books.issue()
        found = await send(books, statement_csv((await stands(books)).document))
        assert found.file is not None
        named = {"statement": found.digest, "file": found.file.digest} | {which: "ab" * 32}
        with pytest.raises(DayMoved):
            await bank_closes(books, named["statement"], named["file"])
        with pytest.raises(DayMoved):
            await bank_closes(books, found.digest, None)


async def test_closings_and_files_at_once_leave_one_truth(fresh_database: Database) -> None:
    async with open_books(fresh_database) as books:
        await books.redeem(YESTERDAY)
        await books.issue()
        found = await stands(books)
        agreed = await send(books, statement_csv(found.document))
        assert agreed.file is not None
        mark = agreed.file.digest
        tasks = [bank_closes(books, found.digest, mark) for _ in range(4)]
        files = [send(books, (HEADER + "\n" * n).encode("ascii")) for n in range(4)]
        await asyncio.gather(*tasks, *files, return_exceptions=True)
        end = await stands(books)
        assert await closed_leaves(books) == (end.state == "closed")
        if end.state == "closed":
            assert end.file is not None
            assert end.file.digest == mark
        else:
            assert len(end.files) >= 2


async def test_a_file_waits_for_a_closing_that_is_under_way(fresh_database: Database) -> None:
    async with open_books(fresh_database) as books, pooled(fresh_database.app) as pool, pool.acquire() as connection:
        await books.redeem(YESTERDAY)
        await books.issue()
        found = await stands(books)
        transaction = connection.transaction(isolation="read_committed")
        await transaction.start()
        await close_by_bank(
            connection, books.bank_id, YESTERDAY, statement=found.digest, file=None, call_id=uuid4(), fresh=books.fresh
        )
        sending = asyncio.create_task(send(books, HEADER.encode("ascii")))
        done, _ = await asyncio.wait({sending}, timeout=0.3)
        assert not done
        await transaction.commit()
        with pytest.raises(DayClosed):
            await sending
        assert ((await stands(books)).state, (await stands(books)).files) == ("closed", ())


async def test_nothing_is_told_of_another_banks_day(fresh_database: Database) -> None:
    async with open_books(fresh_database) as books:
        await books.redeem(YESTERDAY)
        stranger = await books.redeem(BEFORE, 9, bank=await books.another_bank())
        await books.issue()
        row = line(stranger.capture_id, stranger.redemption_id, "capture", 9, 4_500)
        found = await send(books, (HEADER + row).encode("ascii"))
        assert found.file is not None
        (difference, *_) = found.file.differences
        assert (difference.reason, difference.ours) == ("unknown-redemption", None)


async def test_a_correction_is_an_entry_of_a_later_day(fresh_database: Database) -> None:
    async with open_books(fresh_database) as books:
        found = await books.redeem(BEFORE)
        await books.issue()
        before = (await stands(books, BEFORE)).document
        refund_id = await books.refund(found, TODAY)
        books.offset = timedelta(days=1)
        await books.issue()
        assert (await stands(books, BEFORE)).document == before
        (entry,) = (await stands(books, TODAY)).statement.entries
        assert (entry.kind, entry.transfer_id, entry.reason) == ("refund", refund_id, "cancelled")

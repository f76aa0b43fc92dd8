"""Statements are written again from the steps of their days: what was changed on either side is found."""

from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from ledger.check import Finding
from service.clock import shanghai_day
from service.settlement.check import check_statements
from service.settlement.statement import digest_of
from tests.conftest import Database
from tests.service.settlement.books import Books, Redeemed, open_books

pytestmark = pytest.mark.anyio

TODAY = shanghai_day(datetime.now(UTC))
YESTERDAY, BEFORE = TODAY - timedelta(days=1), TODAY - timedelta(days=2)


async def found(database: Database) -> list[Finding]:
    connection = await asyncpg.connect(database.auditor)
    try:
        return await check_statements(connection)
    finally:
        await connection.close()


async def tamper(database: Database, *queries: str) -> None:
    """As whoever owns the database, with its triggers off."""
    connection = await asyncpg.connect(database.admin)
    try:
        await connection.execute("SET session_replication_role = 'replica'")
        for query in queries:
            await connection.execute(query)
    finally:
        await connection.close()


async def issued(books: Books) -> Redeemed:
    """Two days with steps and their statements, of two banks."""
    one = await books.redeem(BEFORE, 2)
    await books.redeem(YESTERDAY, 3)
    await books.redeem(BEFORE, 4, bank=await books.another_bank())
    assert await books.issue() == 4
    return one


async def test_what_was_issued_is_what_the_entries_say(fresh_database: Database) -> None:
    async with open_books(fresh_database) as books:
        await issued(books)
        assert await found(fresh_database) == []
        await books.redeem(TODAY, 1)
        assert await found(fresh_database) == []


@pytest.mark.parametrize(
    ("query", "stored", "about"),
    [
        ("UPDATE service.redemption_entry SET units = 9 WHERE kind = 'capture'", "units=2", BEFORE),
        ("DELETE FROM service.redemption_entry WHERE kind = 'capture'", "kind='capture'", BEFORE),
        ("UPDATE service.bank_statement SET digest = sha256('x')", "a document of", BEFORE),
        ("UPDATE service.bank_statement SET size = size + 1", "size 6", BEFORE),
        ("UPDATE service.bank_statement SET size = 0", "complete to 0", BEFORE),
        ("UPDATE service.bank_statement SET sequence = sequence + 5", "sequence 2", YESTERDAY),
        ("DELETE FROM service.bank_statement WHERE sequence = 1", "sequence 2", YESTERDAY),
    ],
)
async def test_what_was_changed_is_found(fresh_database: Database, query: str, stored: str, about: object) -> None:
    async with open_books(fresh_database) as books:
        await issued(books)
        await tamper(fresh_database, query)
        findings = await found(fresh_database)
        assert findings
        assert {finding.check for finding in findings} == {"statement"}
        assert any(stored in finding.stored and finding.about.endswith(str(about)) for finding in findings), findings


async def test_a_statement_and_its_digest_rewritten_together_are_found(fresh_database: Database) -> None:
    async with open_books(fresh_database) as books:
        await issued(books)
        async with books.app.acquire() as connection:
            query = "SELECT document FROM service.bank_statement WHERE sequence = 2 AND bank_id = $1"
            document: bytes = await connection.fetchval(query, books.bank_id)
        forged = document.replace(b'"points":"30"', b'"points":"20"')
        assert forged != document
        values = f"document = '\\x{forged.hex()}', digest = '\\x{digest_of(forged).hex()}'"
        row = f"sequence = 2 AND bank_id = {books.bank_id}"
        await tamper(fresh_database, f"UPDATE service.bank_statement SET {values} WHERE {row}")
        (finding,) = await found(fresh_database)
        assert (finding.about.split()[-1], "points=20" in finding.stored) == (str(YESTERDAY), True)


async def test_a_day_without_its_statement_is_found(fresh_database: Database) -> None:
    async with open_books(fresh_database) as books:
        await issued(books)
        row = f"sequence = 1 AND bank_id = {books.bank_id}"
        await tamper(fresh_database, f"DELETE FROM service.bank_statement WHERE {row}")
        missing = [finding for finding in await found(fresh_database) if finding.stored == "no statement"]
        assert [finding.about.split()[-1] for finding in missing] == [str(BEFORE)]

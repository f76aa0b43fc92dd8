"""Write each statement again from the steps it tells of, and compare. Nothing is repaired."""

from collections.abc import AsyncIterator
from itertools import zip_longest

import asyncpg

from ledger.check import Finding
from service.settlement.closing import read_entries
from service.settlement.statement import DayStatement, digest_of, read_statement, statement_document

_STATEMENTS = """
    SELECT b.bank_id, b.uri, b.programme, s.day, s.sequence, s.size, s.digest, s.document
    FROM service.bank_statement s JOIN service.bank b USING (bank_id) ORDER BY b.bank_id, s.day
"""
# A day of a bank without a statement although a later one has one: statements are issued day by day.
_MISSING = """
    SELECT b.uri, d.day::date AS day
    FROM (SELECT bank_id, min(day) AS first, max(day) AS last FROM service.bank_statement GROUP BY bank_id) AS s
    JOIN service.bank b USING (bank_id)
    CROSS JOIN LATERAL generate_series(
        least(s.first, (SELECT min(day) FROM service.redemption_entry e WHERE e.bank_id = s.bank_id)), s.last,
        interval '1 day') AS d (day)
    WHERE NOT EXISTS (SELECT FROM service.bank_statement t WHERE t.bank_id = s.bank_id AND t.day = d.day)
    ORDER BY b.uri, d.day
"""


async def check_statements(connection: asyncpg.Connection) -> list[Finding]:
    """Every statement against the steps that were recorded for its bank and day, and the statement before it, as of one
    moment."""
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        await connection.execute("SET LOCAL statement_timeout = 0")
        findings = [finding async for finding in _differences(connection)]
        missing = await connection.fetch(_MISSING, timeout=None)
        return findings + [Finding("statement", f"{row['uri']} {row['day']}", "no statement", "due") for row in missing]


async def _differences(connection: asyncpg.Connection) -> AsyncIterator[Finding]:
    bank_id, sequence, previous = 0, 0, None
    async for row in connection.cursor(_STATEMENTS, prefetch=20):  # a busy day is megabytes
        if row["bank_id"] != bank_id:
            bank_id, sequence, previous = row["bank_id"], 0, None
        about, digest = f"{row['uri']} {row['day']}", row["digest"].hex()
        entries = await read_entries(connection, bank_id, row["day"])
        if digest_of(row["document"]) != row["digest"]:
            yield Finding("statement", about, f"a document of {digest_of(row['document']).hex()}", f"digest {digest}")
        elif entries is None or any(entry.log_index >= row["size"] for entry in entries):
            yield Finding("statement", about, f"complete to {row['size']}", "a step of the day lies beyond it")
        else:
            head = {name: row[name] for name in ("programme", "day", "size")}
            written = DayStatement(row["uri"], sequence=sequence + 1, previous=previous, entries=entries, **head)
            if statement_document(written) != row["document"]:
                yield Finding("statement", about, *_told(read_statement(row["document"]), written))
        sequence, previous = row["sequence"], digest


def _told(stored: DayStatement, written: DayStatement) -> tuple[str, str]:
    """What differs between a statement and what it is written as now: of its head, else its first entry that does."""
    for name in ("bank", "programme", "day", "sequence", "previous", "size"):
        if getattr(stored, name) != getattr(written, name):
            return f"{name} {getattr(stored, name)}", f"{name} {getattr(written, name)}"
    pairs = zip_longest(stored.entries, written.entries)
    one, other = next(pair for pair in pairs if pair[0] != pair[1])
    return str(one or "no entry"), str(other or "no entry")

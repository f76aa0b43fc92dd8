"""Issue each bank's statement once its day is complete, and put its digest into the log. A loop of the worker.

A day is complete when midnight has passed, nothing that was being posted before midnight is still under way, and every
entry of the day has its place in the log. The first holds by the database's clock, the second by taking for a moment
the lock that every posting shares, the third is looked up. From then on nothing of that day can come any more: a later
correction is an entry of a later day. Two workers do no harm, and one that is killed left nothing half done.
"""

import asyncio
import secrets
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta

import asyncpg
import structlog

from ledger.leaves import NONCE_BYTES
from ledger.notices import StatementFacts, statement_leaf
from service.clock import SHANGHAI, shanghai_day
from service.database import FAULTS, Connection, Pool
from service.participants import exclude_postings
from service.settlement.statement import DayStatement, Entry, digest_of, statement_document

_log = structlog.get_logger(__name__)

LOOKED_EVERY_S = 5.0
MOST_DAYS = 31  # of one bank in one round: a platform that was away for a year does not hold the loop up
BANK_LOCK = 7262022  # the advisory lock, with the bank's id, under which its days change

_NOW = "SELECT clock_timestamp() + $1::interval"
_REFUSED = "SELECT refused IS NOT NULL FROM ledger.log_state"
_LOCK = "SELECT pg_advisory_xact_lock($1, $2)"

# From the day of a bank's first entry on every day has a statement: one without entries is told from one that is lost.
_DUE = """
    SELECT b.bank_id, b.uri, b.programme, coalesce(s.day + 1, e.day) AS first
    FROM service.bank b
    LEFT JOIN LATERAL (SELECT day FROM service.bank_statement WHERE bank_id = b.bank_id
        ORDER BY day DESC LIMIT 1) AS s ON true
    LEFT JOIN LATERAL (SELECT day FROM service.redemption_entry WHERE bank_id = b.bank_id
        ORDER BY day LIMIT 1) AS e ON s.day IS NULL
    WHERE coalesce(s.day + 1, e.day) < $1 ORDER BY b.uri
"""
_LAST = "SELECT day, sequence, digest FROM service.bank_statement WHERE bank_id = $1 ORDER BY day DESC LIMIT 1"
# What the bank calls a redemption is what it had said by the end of the day.
_ENTRIES = """
    SELECT e.transfer_id, e.redemption_id, e.kind, e.reason, r.offer, r.offer_version, e.units, e.points, e.value_fen,
        e.co2e_mg, f.reference, l.log_index, e.recorded_at
    FROM service.redemption_entry e
    JOIN service.redemption r ON r.participant_id = e.participant_id AND r.redemption_id = e.redemption_id
    LEFT JOIN ledger.leaf l ON l.participant_id = e.participant_id AND l.transfer_id = e.transfer_id
    LEFT JOIN LATERAL (SELECT reference FROM service.fulfilment WHERE participant_id = e.participant_id
        AND redemption_id = e.redemption_id AND recorded_at < $3 ORDER BY number DESC LIMIT 1) AS f
        ON e.kind <> 'hold'
    WHERE e.bank_id = $1 AND e.day = $2 ORDER BY l.log_index NULLS FIRST
"""
_BRIEFLY = "SET LOCAL lock_timeout = '2s'"  # behind a posting that hangs others would wait as long
_SIZE = "SELECT size FROM ledger.log_head"
_INSERT = """
    INSERT INTO service.bank_statement (bank_id, day, sequence, size, digest, document, issued_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7)
"""
_QUEUE = "INSERT INTO ledger.leaf_queue (leaf) VALUES ($1)"


@dataclass(frozen=True, slots=True)
class _Due:
    """A bank and its first day without a statement."""

    bank_id: int
    uri: str
    programme: str
    first: date


async def issue_due(connection: Connection, clock_offset: timedelta) -> int:
    """Issue the statement of every complete day that has none; how many were issued. Call it outside a transaction.

    Nothing is issued while the log is refused. A day whose entries still wait for their place is left for the next
    round, and so are the days after it.
    """
    now: datetime = await connection.fetchval(_NOW, clock_offset)
    today = shanghai_day(now)
    due = [_Due(**row) for row in await connection.fetch(_DUE, today)]
    if not due or await connection.fetchval(_REFUSED):
        return 0
    async with connection.transaction():
        await connection.execute(_BRIEFLY)
        await exclude_postings(connection)
    issued = 0
    for bank in due:
        for ahead in range(min((today - bank.first).days, MOST_DAYS)):
            async with connection.transaction(isolation="read_committed"):
                if not await _issue(connection, bank, bank.first + timedelta(days=ahead), clock_offset):
                    break
            issued += 1
    return issued


async def _issue(tx: Connection, bank: _Due, day: date, clock_offset: timedelta) -> bool:
    """Issue one statement; False when the day is not complete yet, or another worker was quicker."""
    await tx.execute(_LOCK, BANK_LOCK, bank.bank_id)
    last = await tx.fetchrow(_LAST, bank.bank_id)
    if last is not None and last["day"] >= day:
        return False
    now: datetime = await tx.fetchval(_NOW, clock_offset)
    entries = await read_entries(tx, bank.bank_id, day)
    if entries is None:
        return False
    statement = DayStatement(
        bank=bank.uri,
        programme=bank.programme,
        day=day,
        sequence=1 if last is None else last["sequence"] + 1,
        previous=None if last is None else last["digest"].hex(),
        size=await tx.fetchval(_SIZE),
        entries=entries,
    )
    # Aside: a busy day takes seconds to write, and the log is sequenced by the same process.
    document = await asyncio.to_thread(statement_document, statement)
    digest = digest_of(document)
    await tx.execute(_INSERT, bank.bank_id, day, statement.sequence, statement.size, digest, document, now)
    facts = facts_of(statement, digest, "issued")
    await tx.execute(_QUEUE, statement_leaf(facts, now, secrets.token_bytes(NONCE_BYTES)))
    _log.info("statement issued", bank=bank.uri, day=str(day), entries=len(entries), size=statement.size)
    return True


async def read_entries(
    tx: "Connection | asyncpg.Connection[asyncpg.Record]", bank_id: int, day: date
) -> tuple[Entry, ...] | None:
    """Everything of a bank's day in the order of the log; None while a step of it waits for its place there."""
    ends = datetime.combine(day + timedelta(days=1), time(), SHANGHAI)
    rows = await tx.fetch(_ENTRIES, bank_id, day, ends)
    return None if any(row["log_index"] is None for row in rows) else tuple(Entry(**row) for row in rows)


def facts_of(
    statement: DayStatement,
    digest: bytes,
    state: str,
    *,
    authority: str | None = None,
    file: str | None = None,
    signature: str | None = None,
) -> StatementFacts:
    """What the log is told of a statement that is issued; or closed, on whose authority, on which book of the bank and
    by which of its signed calls."""
    return StatementFacts(
        programme=statement.programme,
        bank=statement.bank,
        day=statement.day,
        state=state,
        sequence=statement.sequence,
        digest=digest.hex(),
        size=statement.size,
        authority=authority,
        file=file,
        signature=signature,
    )


async def run_statements(pool: Pool, clock_offset: timedelta, stopping: asyncio.Event) -> None:
    """Look every few seconds whether a bank's day is complete, until `stopping` is set."""
    while not stopping.is_set():
        try:
            async with pool.acquire() as connection:
                await issue_due(connection, clock_offset)
        except FAULTS as error:
            _log.error("statements could not be issued", because=type(error).__name__, detail=str(error))
        try:
            await asyncio.wait_for(stopping.wait(), LOOKED_EVERY_S)
        except TimeoutError:
            continue

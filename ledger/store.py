"""The ledger's SQL: lock accounts, append decided transfers, read what was posted. Every function runs in its caller's
transaction."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import TypeAlias
from uuid import UUID

import asyncpg

from ledger.errors import LedgerInvariantBroken, TransferNotFound
from ledger.journal import Account, Buckets, Line, Transfer

Connection: TypeAlias = "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"

# The clock is read outside the part that locks: inside, it would be read before a lock that is waited for.
_LOCK = """
    WITH locked AS MATERIALIZED (
        SELECT * FROM ledger.account WHERE participant_id = ANY($1) ORDER BY participant_id FOR UPDATE
    )
    SELECT participant_id, kind, programme, region, counter, next_expiry, co2e_available, co2e_pending, co2e_held,
           co2e_debt, points_available, points_pending, points_held, points_debt, clock_timestamp() + $2 AS at
    FROM locked
"""

_OPEN = """
    INSERT INTO ledger.account (participant_id, kind, programme, region, opened_at)
    VALUES ($1, $2, $3, $4, clock_timestamp())
"""

_BUCKETS = (
    "SELECT participant_id, expires_on, available FROM ledger.bucket WHERE participant_id = ANY($1) AND available > 0"
)

_TRANSFERS = """
    INSERT INTO ledger.transfer
        (participant_id, transfer_id, counter, kind, programme, region, effective_on, recorded_at, reverses, reason)
    SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::int8[], $4::text[], $5::text[], $6::text[], $7::date[],
                         $8::timestamptz[], $9::uuid[], $10::text[])
"""

_REVERSED = """
    INSERT INTO ledger.reversed (participant_id, transfer_id, reversal_id)
    SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[])
"""

# The projections move by what the journal took in, in the same statement: they cannot part. A bucket's net change is
# inserted when it gains and updated when it loses, because a CHECK sees the proposed row before it sees the conflict.
_MOVEMENTS = """
    WITH posted AS (
        INSERT INTO ledger.movement
            (participant_id, transfer_id, line, from_account, to_account, asset, amount,
             credit_class, vintage, expires_on)
        SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::int2[], $4::text[], $5::text[], $6::text[], $7::int8[],
                             $8::text[], $9::int2[], $10::date[])
        RETURNING participant_id, from_account, to_account, asset, amount, expires_on
    ), sided AS (
        SELECT participant_id, asset, side.account, side.change, expires_on
        FROM posted, LATERAL (VALUES (to_account, amount), (from_account, -amount)) AS side (account, change)
        WHERE side.account IN ('available', 'pending', 'held', 'debt')
    ), moved AS (
        SELECT participant_id,
               coalesce(sum(change) FILTER (WHERE asset = 'co2e_mg' AND account = 'available'), 0) AS co2e_available,
               coalesce(sum(change) FILTER (WHERE asset = 'co2e_mg' AND account = 'pending'), 0) AS co2e_pending,
               coalesce(sum(change) FILTER (WHERE asset = 'co2e_mg' AND account = 'held'), 0) AS co2e_held,
               coalesce(sum(change) FILTER (WHERE asset = 'co2e_mg' AND account = 'debt'), 0) AS co2e_debt,
               coalesce(sum(change) FILTER (WHERE asset = 'points' AND account = 'available'), 0) AS points_available,
               coalesce(sum(change) FILTER (WHERE asset = 'points' AND account = 'pending'), 0) AS points_pending,
               coalesce(sum(change) FILTER (WHERE asset = 'points' AND account = 'held'), 0) AS points_held,
               coalesce(sum(change) FILTER (WHERE asset = 'points' AND account = 'debt'), 0) AS points_debt
        FROM sided GROUP BY participant_id
    ), bucketed AS (
        SELECT participant_id, expires_on, sum(change) AS change FROM sided
        WHERE expires_on IS NOT NULL AND account = 'available' GROUP BY participant_id, expires_on
    ), gained AS (
        INSERT INTO ledger.bucket AS b (participant_id, expires_on, available)
        SELECT participant_id, expires_on, change FROM bucketed WHERE change > 0
        ON CONFLICT (participant_id, expires_on) DO UPDATE SET available = b.available + excluded.available
    ), lost AS (
        UPDATE ledger.bucket AS b SET available = b.available + bucketed.change FROM bucketed
        WHERE bucketed.change < 0 AND b.participant_id = bucketed.participant_id AND b.expires_on = bucketed.expires_on
    )
    UPDATE ledger.account AS a SET
        counter = o.counter, next_expiry = o.next_expiry,
        co2e_available = a.co2e_available + m.co2e_available, co2e_pending = a.co2e_pending + m.co2e_pending,
        co2e_held = a.co2e_held + m.co2e_held, co2e_debt = a.co2e_debt - m.co2e_debt,
        points_available = a.points_available + m.points_available,
        points_pending = a.points_pending + m.points_pending,
        points_held = a.points_held + m.points_held, points_debt = a.points_debt - m.points_debt
    FROM moved m
    JOIN unnest($11::uuid[], $12::int8[], $13::date[]) AS o (participant_id, counter, next_expiry)
        USING (participant_id)
    WHERE a.participant_id = m.participant_id
"""

_QUEUE = """
    INSERT INTO ledger.leaf_queue (participant_id, transfer_id, leaf)
    SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::bytea[])
"""

_TRANSFER = """
    SELECT t.counter, t.kind, t.programme, t.region, t.effective_on, t.recorded_at, t.reverses, t.reason,
        r.reversal_id AS reversed_by
    FROM ledger.transfer t
    LEFT JOIN ledger.reversed r ON r.participant_id = t.participant_id AND r.transfer_id = t.transfer_id
    WHERE t.participant_id = $1 AND t.transfer_id = $2
"""

_LINES = """
    SELECT transfer_id, from_account, to_account, asset, amount, credit_class, vintage, expires_on
    FROM ledger.movement WHERE participant_id = $1 AND transfer_id = ANY($2) ORDER BY transfer_id, line
"""

_STATEMENT = """
    SELECT transfer_id, counter, kind, programme, region, effective_on, recorded_at, reverses, reason
    FROM ledger.transfer WHERE participant_id = $1 AND counter < $2 ORDER BY counter DESC LIMIT $3
"""


@dataclass(frozen=True, slots=True)
class Posted:
    """A transfer as it stands in the journal, and the reversal that took it back, if one did."""

    transfer: Transfer
    reversed_by: UUID | None


async def open_account(tx: Connection, participant_id: UUID, *, kind: str, programme: str, region: str) -> None:
    """An empty account for a new participant."""
    await tx.execute(_OPEN, participant_id, kind, programme, region)


async def lock_accounts(
    tx: Connection, participant_ids: Iterable[UUID], *, clock_offset: timedelta
) -> tuple[dict[UUID, Account], datetime | None]:
    """Lock these participants in id order; return their accounts and the database's time, which is when everything
    below is recorded.

    clock_offset   zero, but in tests that move time
    returns        the accounts found; the time is None when none was
    """
    rows = await tx.fetch(_LOCK, sorted(set(participant_ids)), clock_offset)
    accounts = {
        row["participant_id"]: Account(
            row["participant_id"],
            row["kind"],
            row["programme"],
            row["region"],
            row["counter"],
            _balances(row),
            row["next_expiry"],
        )
        for row in rows
    }
    return accounts, max((row["at"] for row in rows), default=None)


def _balances(row: asyncpg.Record) -> dict[tuple[str, str], int]:
    return {
        ("co2e_mg", "available"): row["co2e_available"],
        ("co2e_mg", "pending"): row["co2e_pending"],
        ("co2e_mg", "held"): row["co2e_held"],
        ("co2e_mg", "debt"): row["co2e_debt"],
        ("points", "available"): row["points_available"],
        ("points", "pending"): row["points_pending"],
        ("points", "held"): row["points_held"],
        ("points", "debt"): row["points_debt"],
    }


async def read_buckets(tx: Connection, participant_ids: Iterable[UUID]) -> dict[UUID, dict[date, int]]:
    """The free points of each participant by the last day on which they may be used; participants without any are
    absent."""
    found: dict[UUID, dict[date, int]] = defaultdict(dict)
    for row in await tx.fetch(_BUCKETS, list(participant_ids)):
        found[row["participant_id"]][row["expires_on"]] = row["available"]
    return dict(found)


async def append_transfers(
    tx: Connection, transfers: Sequence[Transfer], leaves: Sequence[bytes], accounts: Mapping[UUID, Account]
) -> None:
    """Post decided transfers, one statement per table; their participants are locked, and `accounts` is how each stands
    afterwards.

    Raises LedgerInvariantBroken when the journal would not fit the accounts; what may be refused was refused before.
    """
    if not transfers:
        return
    await tx.execute(
        _TRANSFERS,
        [t.participant_id for t in transfers],
        [t.transfer_id for t in transfers],
        [t.counter for t in transfers],
        [t.kind for t in transfers],
        [t.programme for t in transfers],
        [t.region for t in transfers],
        [t.effective_on for t in transfers],
        [t.recorded_at for t in transfers],
        [t.reverses for t in transfers],
        [t.reason for t in transfers],
    )
    reversals = [t for t in transfers if t.reverses]
    if reversals:
        await tx.execute(
            _REVERSED,
            [t.participant_id for t in reversals],
            [t.reverses for t in reversals],
            [t.transfer_id for t in reversals],
        )
    lines = [(t.participant_id, t.transfer_id, number, line) for t in transfers for number, line in enumerate(t.lines)]
    changed = [accounts[participant_id] for participant_id in dict.fromkeys(t.participant_id for t in transfers)]
    status = await tx.execute(
        _MOVEMENTS,
        [participant_id for participant_id, _, _, _ in lines],
        [transfer_id for _, transfer_id, _, _ in lines],
        [number for _, _, number, _ in lines],
        [line.from_account for _, _, _, line in lines],
        [line.to_account for _, _, _, line in lines],
        [line.asset for _, _, _, line in lines],
        [line.amount for _, _, _, line in lines],
        [line.credit_class for _, _, _, line in lines],
        [line.vintage for _, _, _, line in lines],
        [line.expires_on for _, _, _, line in lines],
        [account.participant_id for account in changed],
        [account.counter for account in changed],
        [account.next_expiry for account in changed],
    )
    if status != f"UPDATE {len(changed)}":
        raise LedgerInvariantBroken(f"{len(changed)} accounts were to change, the database says {status}")
    await tx.execute(_QUEUE, [t.participant_id for t in transfers], [t.transfer_id for t in transfers], leaves)


async def read_transfer(tx: Connection, participant_id: UUID, transfer_id: UUID) -> Posted:
    """One transfer with its lines and its reversal. Raises TransferNotFound."""
    row = await tx.fetchrow(_TRANSFER, participant_id, transfer_id)
    if row is None:
        raise TransferNotFound(transfer_id)
    lines = (await _read_lines(tx, participant_id, [transfer_id]))[transfer_id]
    return Posted(_transfer(row, participant_id, transfer_id, lines), row["reversed_by"])


async def read_statement(tx: Connection, participant_id: UUID, *, before: int, limit: int) -> list[Transfer]:
    """The latest transfers whose counter is below `before`, newest first: a page by key, steady while new ones
    arrive."""
    rows = await tx.fetch(_STATEMENT, participant_id, before, limit)
    lines = await _read_lines(tx, participant_id, [row["transfer_id"] for row in rows])
    return [_transfer(row, participant_id, row["transfer_id"], lines[row["transfer_id"]]) for row in rows]


async def _read_lines(tx: Connection, participant_id: UUID, transfer_ids: Sequence[UUID]) -> dict[UUID, list[Line]]:
    lines: dict[UUID, list[Line]] = {transfer_id: [] for transfer_id in transfer_ids}
    for row in await tx.fetch(_LINES, participant_id, transfer_ids):
        transfer_id, *fields = row
        lines[transfer_id].append(Line(*fields))
    return lines


def _transfer(row: asyncpg.Record, participant_id: UUID, transfer_id: UUID, lines: Sequence[Line]) -> Transfer:
    return Transfer(
        transfer_id,
        participant_id,
        row["kind"],
        row["counter"],
        row["programme"],
        row["region"],
        tuple(lines),
        row["effective_on"],
        row["recorded_at"],
        row["reverses"],
        row["reason"],
    )


def live_points(account_points: int, buckets: Buckets, today: date) -> int:
    """The points a participant can still use today: a bucket past its last day is dead at once, whether or not its
    lapse is posted."""
    return account_points - sum(left for day, left in buckets.items() if day < today)

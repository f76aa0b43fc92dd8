"""The ledger's SQL: lock accounts, append decided transfers, read what was posted. Every function runs in its caller's
transaction."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import date, datetime, timedelta
from operator import attrgetter
from typing import TypeAlias
from uuid import UUID

import asyncpg

from ledger.errors import LedgerInvariantBroken, TransferNotFound
from ledger.journal import ASSETS, KINDS, PARTICIPANT_ACCOUNTS, Account, Line, Transfer, bucket_change
from ledger.leaf_reading import read_leaf

Connection: TypeAlias = "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"

# The clock is read outside the part that locks: inside, it would be read before a lock that is waited for.
_LOCK = """
    WITH locked AS MATERIALIZED (
        SELECT * FROM ledger.account WHERE participant_id = ANY($1) ORDER BY participant_id FOR UPDATE
    )
    SELECT participant_id, kind, programme, region, counter, next_expiry, clock_timestamp() + $2 AS at, co2e_available,
           co2e_pending, co2e_held, co2e_debt, points_available, points_pending, points_held, points_debt
    FROM locked
"""

_OPEN = """
    INSERT INTO ledger.account (participant_id, kind, programme, region, opened_at)
    SELECT new.participant_id, new.kind, $3, $4, clock_timestamp()
    FROM unnest($1::uuid[], $2::text[]) AS new (participant_id, kind)
"""

_BUCKETS = (
    "SELECT participant_id, expires_on, available FROM ledger.bucket WHERE participant_id = ANY($1) AND available > 0"
)

# Appended by COPY: half the time of INSERT … unnest for the server, and a quarter for the driver (docs/decisions/0010).
_TRANSFER_COLUMNS = tuple(field.name for field in fields(Transfer) if field.name != "lines")
_LINE_COLUMNS = tuple(field.name for field in fields(Line))
_MOVEMENT_COLUMNS = ("participant_id", "transfer_id", "line", *_LINE_COLUMNS)
_transfer_row, _line_row = attrgetter(*_TRANSFER_COLUMNS), attrgetter(*_LINE_COLUMNS)
_QUEUE_COLUMNS = ("participant_id", "transfer_id", "leaf")
_REVERSED_COLUMNS = ("participant_id", "transfer_id", "reversal_id")
_MATURED_COLUMNS = ("participant_id", "transfer_id", "maturity_id")

_BALANCES = [(asset, name) for asset in ASSETS for name in PARTICIPANT_ACCOUNTS]  # as they stand in _LOCK and below
_MOVE_BALANCES = """
    UPDATE ledger.account AS a SET
        counter = o.counter, next_expiry = o.next_expiry,
        co2e_available = o.co2e_available, co2e_pending = o.co2e_pending,
        co2e_held = o.co2e_held, co2e_debt = o.co2e_debt,
        points_available = o.points_available, points_pending = o.points_pending,
        points_held = o.points_held, points_debt = o.points_debt
    FROM unnest($1::uuid[], $2::int8[], $3::date[], $4::int8[], $5::int8[], $6::int8[], $7::int8[], $8::int8[],
                $9::int8[], $10::int8[], $11::int8[])
        AS o (participant_id, counter, next_expiry, co2e_available, co2e_pending, co2e_held, co2e_debt,
              points_available, points_pending, points_held, points_debt)
    WHERE a.participant_id = o.participant_id
"""

# A bucket that gains is inserted or added to; one that loses is there already, and a CHECK would see the row that an
# upsert proposes before it sees the conflict.
_FILL_BUCKETS = """
    INSERT INTO ledger.bucket AS b (participant_id, expires_on, available)
    SELECT * FROM unnest($1::uuid[], $2::date[], $3::int8[])
    ON CONFLICT (participant_id, expires_on) DO UPDATE SET available = b.available + excluded.available
"""
_DRAW_BUCKETS = """
    UPDATE ledger.bucket AS b SET available = b.available + o.change
    FROM unnest($1::uuid[], $2::date[], $3::int8[]) AS o (participant_id, expires_on, change)
    WHERE b.participant_id = o.participant_id AND b.expires_on = o.expires_on
"""

_TRANSFER = """
    SELECT t.counter, t.kind, t.programme, t.region, t.effective_on, t.recorded_at, t.reverses, t.reason,
        t.matures, t.hold_id, r.reversal_id AS reversed_by, m.maturity_id AS matured_by
    FROM ledger.transfer t
    LEFT JOIN ledger.reversed r ON r.participant_id = t.participant_id AND r.transfer_id = t.transfer_id
    LEFT JOIN ledger.matured m ON m.participant_id = t.participant_id AND m.transfer_id = t.transfer_id
    WHERE t.participant_id = $1 AND t.transfer_id = $2
"""

_LINES = """
    SELECT transfer_id, from_account, to_account, asset, amount, credit_class, vintage, expires_on
    FROM ledger.movement WHERE participant_id = $1 AND transfer_id = ANY($2) ORDER BY transfer_id, line
"""

_LINES_OF_MANY = """
    SELECT m.transfer_id, m.from_account, m.to_account, m.asset, m.amount, m.credit_class, m.vintage, m.expires_on
    FROM unnest($1::uuid[], $2::uuid[]) AS w (participant_id, transfer_id)
    JOIN ledger.movement m USING (participant_id, transfer_id) ORDER BY m.transfer_id, m.line
"""

_STATEMENT = """
    SELECT transfer_id, counter, kind, programme, region, effective_on, recorded_at, reverses, reason, matures,
        hold_id
    FROM ledger.transfer WHERE participant_id = $1 AND counter < $2 ORDER BY counter DESC LIMIT $3
"""


@dataclass(frozen=True, slots=True)
class Posted:
    """A transfer as it stands in the journal, the reversal that took it back and the maturity that freed what it left
    pending, if there are such."""

    transfer: Transfer
    reversed_by: UUID | None
    matured_by: UUID | None = None


async def open_account(tx: Connection, participant_id: UUID, *, kind: str, programme: str, region: str) -> None:
    """An empty account for a new participant."""
    await open_accounts(tx, [participant_id], [kind], programme=programme, region=region)


async def open_accounts(
    tx: Connection, participant_ids: Sequence[UUID], kinds: Sequence[str], *, programme: str, region: str
) -> None:
    """Empty accounts for new participants, each with its kind."""
    await tx.execute(_OPEN, participant_ids, kinds, programme, region)


async def lock_accounts(
    tx: Connection, participant_ids: Iterable[UUID], *, clock_offset: timedelta
) -> tuple[dict[UUID, Account], datetime | None]:
    """Lock these participants in id order; return their accounts and the database's time, which is when everything
    below is recorded.

    clock_offset   zero, but in tests that move time
    returns        the accounts found; the time is None when none was
    """
    rows = await tx.fetch(_LOCK, sorted(set(participant_ids)), clock_offset)
    accounts: dict[UUID, Account] = {}
    for participant_id, kind, programme, region, counter, next_expiry, _, *amounts in rows:
        balances = dict(zip(_BALANCES, amounts, strict=True))
        accounts[participant_id] = Account(participant_id, kind, programme, region, counter, balances, next_expiry)
    return accounts, rows[-1]["at"] if rows else None  # the last was read last


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
    """Post decided transfers, one statement per table; their participants are locked.

    leaves     the log's record of each transfer, in the same order
    accounts   how each participant stands after all of them: journal.posted() of these very lines

    Raises LedgerInvariantBroken when the journal would not fit the accounts; what may be refused was refused before.
    """
    if not transfers:
        return
    await _copy(tx, "transfer", _TRANSFER_COLUMNS, list(map(_transfer_row, transfers)))
    moved = [
        (t.participant_id, t.transfer_id, number, *_line_row(line))
        for t in transfers
        for number, line in enumerate(t.lines)
    ]
    await _copy(tx, "movement", _MOVEMENT_COLUMNS, moved)
    reversals = [(t.participant_id, t.reverses, t.transfer_id) for t in transfers if t.reverses]
    if reversals:
        await _copy(tx, "reversed", _REVERSED_COLUMNS, reversals)
    maturities = [(t.participant_id, t.matures, t.transfer_id) for t in transfers if t.matures]
    if maturities:
        await _copy(tx, "matured", _MATURED_COLUMNS, maturities)
    await _move_balances(tx, [accounts[each] for each in dict.fromkeys(t.participant_id for t in transfers)])
    await _move_buckets(tx, transfers)
    queued = [(t.participant_id, t.transfer_id, leaf) for t, leaf in zip(transfers, leaves, strict=True)]
    await _copy(tx, "leaf_queue", _QUEUE_COLUMNS, queued)


async def queue_leaf(tx: Connection, leaf: bytes) -> None:
    """Put a leaf into the log that posts no transfer, a rule's or a manifest's; it is in the log once the caller's
    transaction is.

    Raises LeafInvalid for bytes that are no leaf, LedgerInvariantBroken for the leaf of a transfer: append_transfers()
    queues those beside what they tell of.
    """
    kind = read_leaf(leaf)["kind"]
    if kind in KINDS:
        raise LedgerInvariantBroken(f"the leaf of a {kind} is queued with its transfer, never alone")
    await _copy(tx, "leaf_queue", _QUEUE_COLUMNS, [(None, None, leaf)])


async def _copy(tx: Connection, table: str, columns: Sequence[str], rows: Sequence[tuple[object, ...]]) -> None:
    await tx.copy_records_to_table(table, schema_name="ledger", columns=columns, records=rows)


async def _move_balances(tx: Connection, changed: Sequence[Account]) -> None:
    status = await tx.execute(
        _MOVE_BALANCES,
        [account.participant_id for account in changed],
        [account.counter for account in changed],
        [account.next_expiry for account in changed],
        *([account.balances[balance] for account in changed] for balance in _BALANCES),
    )
    if status != f"UPDATE {len(changed)}":
        raise LedgerInvariantBroken(f"{len(changed)} accounts were to change, the database says {status}")


async def _move_buckets(tx: Connection, transfers: Sequence[Transfer]) -> None:
    changes: dict[tuple[UUID, date], int] = defaultdict(int)
    for transfer in transfers:
        for line in transfer.lines:
            if line.expires_on:
                changes[transfer.participant_id, line.expires_on] += bucket_change(line)
    for statement, rows in (
        (_FILL_BUCKETS, [(*key, change) for key, change in changes.items() if change > 0]),
        (_DRAW_BUCKETS, [(*key, change) for key, change in changes.items() if change < 0]),
    ):
        if rows:
            status = await tx.execute(statement, *map(list, zip(*rows, strict=True)))
            if int(status.rpartition(" ")[2]) != len(rows):
                raise LedgerInvariantBroken(f"{len(rows)} buckets were to change, the database says {status}")


async def read_transfer(tx: Connection, participant_id: UUID, transfer_id: UUID) -> Posted:
    """One transfer with its lines, its reversal and its maturity. Raises TransferNotFound."""
    row = await tx.fetchrow(_TRANSFER, participant_id, transfer_id)
    if row is None:
        raise TransferNotFound(transfer_id)
    lines = (await _read_lines(tx, participant_id, [transfer_id]))[transfer_id]
    return Posted(_transfer(row, participant_id, transfer_id, lines), row["reversed_by"], row["matured_by"])


async def read_statement(tx: Connection, participant_id: UUID, *, before: int, limit: int) -> list[Transfer]:
    """The latest transfers whose counter is below `before`, newest first: a page by key, steady while new ones
    arrive."""
    rows = await tx.fetch(_STATEMENT, participant_id, before, limit)
    lines = await _read_lines(tx, participant_id, [row["transfer_id"] for row in rows])
    return [_transfer(row, participant_id, row["transfer_id"], lines[row["transfer_id"]]) for row in rows]


async def read_lines(tx: Connection, transfers: Sequence[tuple[UUID, UUID]]) -> dict[UUID, tuple[Line, ...]]:
    """The lines of transfers, each named by its participant and its id; by transfer, unknown ones are absent."""
    found: dict[UUID, list[Line]] = defaultdict(list)
    for transfer_id, *columns in await tx.fetch(_LINES_OF_MANY, *map(list, zip(*transfers, strict=True))):
        found[transfer_id].append(Line(*columns))
    return {transfer_id: tuple(lines) for transfer_id, lines in found.items()}


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
        row["matures"],
        row["hold_id"],
    )

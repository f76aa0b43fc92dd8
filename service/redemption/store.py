"""The SQL of redemptions inside a posting: claim the callers' keys, read what is decided by, write what was decided."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any
from uuid import UUID

import asyncpg
import orjson

from ledger.holds import Grams, Hold
from ledger.records import record
from service.activities.intake import Refusal
from service.database import Connection
from service.redemption.commands import MoneyCall, RedemptionCommand, RedemptionState
from service.vault import DataKey, seal_terms

_CLAIM = """
    INSERT INTO service.money_call
        (client, key, fingerprint, participant_id, redemption_id, transfer_id, recorded_at)
    SELECT n.client, n.key, n.fingerprint, n.participant_id, n.redemption_id, n.transfer_id, clock_timestamp()
    FROM unnest($1::text[], $2::text[], $3::bytea[], $4::uuid[], $5::uuid[], $6::uuid[])
        AS n (client, key, fingerprint, participant_id, redemption_id, transfer_id)
    ORDER BY n.client, n.key
    ON CONFLICT (client, key) DO NOTHING RETURNING client, key
"""  # sorted: two batches with the same keys meet in the same order, and the later one waits
_ANSWERS = """
    SELECT c.client, c.key, c.fingerprint, c.participant_id, c.redemption_id, c.transfer_id, c.refusal
    FROM unnest($1::text[], $2::text[]) AS w (client, key) JOIN service.money_call c USING (client, key)
"""
_REFUSED = """
    UPDATE service.money_call c SET refusal = n.refusal
    FROM unnest($1::text[], $2::text[], $3::bytea[]) AS n (client, key, refusal)
    WHERE c.client = n.client AND c.key = n.key
"""

STATE_COLUMNS = (
    "r.participant_id, r.redemption_id, r.bank_id, r.bank, r.offer, r.offer_version, encode(r.offer_digest, 'hex'), "
    "r.pool, r.units, r.points, r.value_fen, r.co2e_mg, r.units_left, r.units_captured, r.units_refunded, r.state, "
    "r.started_by, r.request_id, r.created_at, r.expires_at, r.accepted_at, r.ended_at, r.accepted_call"
)
"""The columns of service.redemption AS r, in the order of RedemptionState."""

_STANDING = f"""
    SELECT {STATE_COLUMNS}, h.points_left, h.co2e_left
    FROM service.redemption r
    JOIN ledger.hold h ON h.participant_id = r.participant_id AND h.hold_id = r.redemption_id
    WHERE r.participant_id = ANY($1) AND (r.state = 'held' OR r.redemption_id = ANY($2))
"""

_CAPTURES = """
    SELECT e.transfer_id, e.participant_id, e.redemption_id, e.units, r.reversal_id AS refunded_by
    FROM service.redemption_entry e
    LEFT JOIN ledger.reversed r ON r.participant_id = e.participant_id AND r.transfer_id = e.transfer_id
    WHERE e.participant_id = ANY($1) AND e.transfer_id = ANY($2) AND e.kind = 'capture'
"""

_GRAMS = """
    SELECT m.participant_id, m.vintage, m.credit_class,
        sum(CASE 'available' WHEN m.to_account THEN m.amount WHEN m.from_account THEN -m.amount ELSE 0 END)::int8 AS mg
    FROM ledger.movement m
    WHERE m.participant_id = ANY($1) AND m.asset = 'co2e_mg' AND 'available' IN (m.from_account, m.to_account)
    GROUP BY m.participant_id, m.vintage, m.credit_class
"""

_DRAWN_TODAY = """
    SELECT participant_id, pool, sum(points / units
        * (CASE WHEN expires_at > $3 THEN units_left ELSE 0 END + units_captured - units_refunded))::int8 AS points
    FROM service.redemption WHERE participant_id = ANY($1) AND created_at >= $2 GROUP BY participant_id, pool
"""  # a dead hold draws on nothing, whether or not its lapse was written down

_QUEUED = """
    SELECT w.pool FROM unnest($1::text[]) AS w (pool)
    WHERE EXISTS (SELECT FROM service.redemption_wish q WHERE q.pool = w.pool AND q.state = 'waiting')
"""

_LOCK_WISHES = """
    SELECT q.wish_id FROM unnest($1::uuid[], $2::uuid[]) AS w (participant_id, wish_id)
    JOIN service.redemption_wish q USING (participant_id, wish_id)
    WHERE q.state = 'waiting' ORDER BY q.participant_id, q.wish_id FOR UPDATE OF q
"""
_GRANTED = """
    UPDATE service.redemption_wish q
    SET state = 'placed', redemption_id = n.redemption_id, ended_at = clock_timestamp()
    FROM unnest($1::uuid[], $2::uuid[], $3::uuid[]) AS n (participant_id, wish_id, redemption_id)
    WHERE q.participant_id = n.participant_id AND q.wish_id = n.wish_id
"""

_NEW_COLUMNS = (
    "participant_id", "redemption_id", "bank_id", "bank", "offer", "offer_version", "offer_digest", "pool", "units",
    "points", "value_fen", "co2e_mg", "units_left", "units_captured", "units_refunded", "state", "started_by",
    "request_id", "created_at", "expires_at", "accepted_at", "ended_at", "accepted_call",
)  # fmt: skip
_ENTRY_COLUMNS = (
    "participant_id", "transfer_id", "redemption_id", "bank_id", "kind", "reason", "units", "points", "value_fen",
    "co2e_mg", "day", "recorded_at", "call_id",
)  # fmt: skip
_STEPS = f"""
    SELECT {", ".join(_ENTRY_COLUMNS)} FROM service.redemption_entry
    WHERE participant_id = ANY($1) AND redemption_id = ANY($2) ORDER BY recorded_at, transfer_id
"""
_CHANGED = """
    UPDATE service.redemption r SET units_left = n.units_left, units_captured = n.units_captured,
        units_refunded = n.units_refunded, state = n.state, accepted_at = n.accepted_at, ended_at = n.ended_at
    FROM unnest($1::uuid[], $2::uuid[], $3::int8[], $4::int8[], $5::int8[], $6::text[], $7::timestamptz[],
            $8::timestamptz[])
        AS n (participant_id, redemption_id, units_left, units_captured, units_refunded, state, accepted_at, ended_at)
    WHERE r.participant_id = n.participant_id AND r.redemption_id = n.redemption_id
"""
_HELD = """
    UPDATE ledger.hold h SET points_left = n.points_left, co2e_left = n.co2e_left
    FROM unnest($1::uuid[], $2::uuid[], $3::int8[], $4::int8[]) AS n (participant_id, hold_id, points_left, co2e_left)
    WHERE h.participant_id = n.participant_id AND h.hold_id = n.hold_id
"""


@dataclass(frozen=True, slots=True)
class Answered:
    """What a call under this key was answered before."""

    fingerprint: bytes
    participant_id: UUID
    redemption_id: UUID
    transfer_id: UUID
    refusal: Refusal | None


@dataclass(frozen=True, slots=True)
class Capture:
    """A capture as it was posted, and the refund that took it back, if there is one."""

    participant_id: UUID
    redemption_id: UUID
    units: int
    refunded_by: UUID | None


@record
class Entry:
    """A step to write for the bank's day; the fields are the columns of service.redemption_entry."""

    participant_id: UUID
    transfer_id: UUID
    redemption_id: UUID
    bank_id: int
    kind: str
    reason: str | None
    units: int
    points: int
    value_fen: int
    co2e_mg: int
    day: date
    recorded_at: datetime
    call_id: UUID | None


async def claim_calls(tx: Connection, commands: Sequence[RedemptionCommand]) -> dict[bytes, Answered]:
    """Take the callers' keys that are new; what was answered under the others, by the tag of the key."""
    calls = [(command.order.call, command) for command in commands if command.order.call is not None]
    if not calls:
        return {}
    rows = [
        (call.client, call.key, call.fingerprint, command.participant_id, command.redemption_id, step_id(command))
        for call, command in calls
    ]
    taken = {(row[0], row[1]) for row in await tx.fetch(_CLAIM, *map(list, zip(*rows, strict=True)))}
    others = [call for call, _ in calls if (call.client, call.key) not in taken]
    if not others:
        return {}
    found = await tx.fetch(_ANSWERS, [call.client for call in others], [call.key for call in others])
    answers = {(row["client"], row["key"]): _answered(row) for row in found}
    return {call.tag: answers[call.client, call.key] for call in others}


def step_id(command: RedemptionCommand) -> UUID:
    """The id of the transfer that the command will post."""
    transfer_id: UUID = getattr(command, "transfer_id", command.redemption_id)
    return transfer_id


def _answered(row: asyncpg.Record) -> Answered:
    refusal = None
    if row["refusal"] is not None:
        slug, params = orjson.loads(row["refusal"])
        refusal = Refusal(slug, params)
    return Answered(row["fingerprint"], row["participant_id"], row["redemption_id"], row["transfer_id"], refusal)


async def store_refusals(tx: Connection, refused: Sequence[tuple[MoneyCall, Refusal]]) -> None:
    """Remember what calls were refused, under their keys."""
    if refused:
        rows = [(call.client, call.key, orjson.dumps([refusal.slug, refusal.params])) for call, refusal in refused]
        await tx.execute(_REFUSED, *map(list, zip(*rows, strict=True)))


async def read_standing(
    tx: Connection, participant_ids: Collection[UUID], redemption_ids: Collection[UUID]
) -> tuple[dict[UUID, RedemptionState], dict[UUID, Hold]]:
    """The redemptions of these participants that are still held, and these whatever became of them, with their holds;
    the participants are locked."""
    states: dict[UUID, RedemptionState] = {}
    holds: dict[UUID, Hold] = {}
    for row in await tx.fetch(_STANDING, list(participant_ids), list(redemption_ids)):
        *columns, points_left, co2e_left = row
        state = RedemptionState(*columns)
        states[state.redemption_id] = state
        holds[state.redemption_id] = Hold(
            state.participant_id, state.redemption_id, state.expires_at, points_left, co2e_left
        )
    return states, holds


async def read_captures(
    tx: Connection, participant_ids: Collection[UUID], capture_ids: Collection[UUID]
) -> dict[UUID, Capture]:
    """These captures of these participants; what is none is absent."""
    rows = await tx.fetch(_CAPTURES, list(participant_ids), list(capture_ids))
    return {
        row["transfer_id"]: Capture(row["participant_id"], row["redemption_id"], row["units"], row["refunded_by"])
        for row in rows
    }


async def read_steps(
    tx: Connection, participant_ids: Collection[UUID], redemption_ids: Collection[UUID]
) -> dict[UUID, list[Entry]]:
    """Every step of these redemptions, oldest first."""
    found: dict[UUID, list[Entry]] = defaultdict(list)
    for row in await tx.fetch(_STEPS, list(participant_ids), list(redemption_ids)):
        found[row["redemption_id"]].append(Entry(*row))
    return found


async def read_grams(tx: Connection, participant_ids: Collection[UUID]) -> Mapping[UUID, Grams]:
    """What of each participant's milligrams is available, by vintage and class."""
    found: dict[UUID, dict[tuple[int, str], int]] = defaultdict(dict)
    for row in await tx.fetch(_GRAMS, list(participant_ids)):
        found[row["participant_id"]][row["vintage"], row["credit_class"]] = row["mg"]
    return found


async def read_queued(tx: Connection, pools: Collection[str]) -> set[str]:
    """Those of these pools that somebody waits for."""
    return {row["pool"] for row in await tx.fetch(_QUEUED, list(pools))}


async def read_approved(tx: Connection, request_ids: Collection[UUID]) -> set[UUID]:
    """Those of these requests of banks that were approved before."""
    found = await tx.fetch(
        "SELECT request_id FROM service.redemption_key WHERE request_id = ANY($1)", list(request_ids)
    )
    return {row["request_id"] for row in found}


async def lock_wishes(tx: Connection, wishes: Sequence[tuple[UUID, UUID]]) -> set[UUID]:
    """Those of these wishes, each named by its participant and its id, that still wait; they are locked."""
    return {row["wish_id"] for row in await tx.fetch(_LOCK_WISHES, *map(list, zip(*wishes, strict=True)))}


async def write_granted(tx: Connection, granted: Sequence[tuple[UUID, UUID, UUID]]) -> None:
    """End the wishes that became holds."""
    if granted:
        await tx.execute(_GRANTED, *map(list, zip(*granted, strict=True)))


async def read_drawn(
    tx: Connection, participant_ids: Collection[UUID], since: datetime, at: datetime
) -> dict[tuple[UUID, str], int]:
    """Points that stand, at a moment, of each participant's redemptions since another, by pool."""
    rows = await tx.fetch(_DRAWN_TODAY, list(participant_ids), since, at)
    return {(row["participant_id"], row["pool"]): row["points"] for row in rows}


async def write_new(
    tx: Connection, new: Sequence[tuple[RedemptionState, Hold, bytes, bytes]], keys: Mapping[UUID, DataKey]
) -> None:
    """Write redemptions that were placed: how each stands, its hold, the salt of its terms and their document, which
    are sealed under the participant's key."""
    if not new:
        return
    rows = [
        tuple(
            bytes.fromhex(state.offer_digest) if name == "offer_digest" else getattr(state, name)
            for name in _NEW_COLUMNS
        )
        for state, *_ in new
    ]
    ids = [(state.participant_id, state.redemption_id) for state, *_ in new]
    await _copy(tx, "service", "redemption", _NEW_COLUMNS, rows)
    owners = [(state.redemption_id, state.participant_id, state.bank_id, state.request_id) for state, *_ in new]
    await _copy(tx, "service", "redemption_key", ("redemption_id", "participant_id", "bank_id", "request_id"), owners)
    terms = [
        (owner, redemption_id, seal_terms(keys[owner], redemption_id, salt, document))
        for (owner, redemption_id), (_, _, salt, document) in zip(ids, new, strict=True)
    ]
    await _copy(tx, "service", "redemption_terms", ("participant_id", "redemption_id", "sealed"), terms)
    held = [
        (hold.participant_id, hold.hold_id, hold.expires_at, hold.points_left, hold.co2e_left) for _, hold, *_ in new
    ]
    await _copy(tx, "ledger", "hold", ("participant_id", "hold_id", "expires_at", "points_left", "co2e_left"), held)


async def write_changed(tx: Connection, changed: Sequence[tuple[RedemptionState, Hold]]) -> None:
    """Write how far redemptions have come."""
    if not changed:
        return
    states = [
        (
            state.participant_id,
            state.redemption_id,
            state.units_left,
            state.units_captured,
            state.units_refunded,
            state.state,
            state.accepted_at,
            state.ended_at,
        )
        for state, _ in changed
    ]
    await tx.execute(_CHANGED, *map(list, zip(*states, strict=True)))
    holds = [(hold.participant_id, hold.hold_id, hold.points_left, hold.co2e_left) for _, hold in changed]
    await tx.execute(_HELD, *map(list, zip(*holds, strict=True)))


async def write_entries(tx: Connection, entries: Sequence[Entry]) -> None:
    """Write the steps that were taken, for the banks' days."""
    if entries:
        rows = [tuple(getattr(entry, name) for name in _ENTRY_COLUMNS) for entry in entries]
        await _copy(tx, "service", "redemption_entry", _ENTRY_COLUMNS, rows)


async def _copy(
    tx: Connection, schema: str, table: str, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]
) -> None:
    await tx.copy_records_to_table(table, schema_name=schema, columns=columns, records=rows)

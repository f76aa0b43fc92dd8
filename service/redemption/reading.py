"""Read redemptions: a participant's own, and a bank's, which learns of them by their ids alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from uuid import UUID

from service.database import Connection
from service.redemption.commands import RedemptionState
from service.redemption.store import STATE_COLUMNS

_NEWEST = UUID(int=2**128 - 1)
_ONE = f"SELECT {STATE_COLUMNS} FROM service.redemption r WHERE r.participant_id = $1 AND r.redemption_id = $2"
_PAGE = f"""
    SELECT {STATE_COLUMNS} FROM service.redemption r WHERE r.participant_id = $1 AND r.redemption_id < $2
    ORDER BY r.redemption_id DESC LIMIT $3
"""
# A bank sees what was accepted: until then it is the participant's own affair.
_OF_BANK = f"""
    SELECT {STATE_COLUMNS} FROM service.redemption_key k
    JOIN service.redemption r ON r.participant_id = k.participant_id AND r.redemption_id = k.redemption_id
    WHERE k.bank_id = $1 AND k.redemption_id < $2 AND r.accepted_at IS NOT NULL
    ORDER BY k.redemption_id DESC LIMIT $3
"""
_OWNERS = """
    SELECT k.participant_id FROM unnest($1::uuid[], $2::int4[]) WITH ORDINALITY AS w (redemption_id, bank_id, place)
    LEFT JOIN service.redemption_key k ON k.redemption_id = w.redemption_id AND k.bank_id = w.bank_id ORDER BY w.place
"""
_STEPS = """
    SELECT e.transfer_id, e.kind, e.reason, e.units, e.points, e.value_fen, e.co2e_mg, e.recorded_at, l.log_index,
        r.reversal_id AS refunded_by
    FROM service.redemption_entry e
    LEFT JOIN ledger.leaf l ON l.participant_id = e.participant_id AND l.transfer_id = e.transfer_id
    LEFT JOIN ledger.reversed r ON r.participant_id = e.participant_id AND r.transfer_id = e.transfer_id
    WHERE e.participant_id = $1 AND e.redemption_id = $2 ORDER BY e.recorded_at, e.transfer_id
"""
_FULFILMENTS = """
    SELECT number, reference, fulfilled_on, recorded_at FROM service.fulfilment
    WHERE participant_id = $1 AND redemption_id = $2 ORDER BY number
"""
_LOCK_ACCOUNT = "SELECT true FROM ledger.account WHERE participant_id = $1 FOR UPDATE"
_ACCEPT = """
    UPDATE service.redemption r SET accepted_at = t.now, accepted_call = $4
    FROM (SELECT clock_timestamp() + $3::interval AS now) AS t
    WHERE r.participant_id = $1 AND r.redemption_id = $2 AND r.accepted_at IS NULL AND r.state = 'held'
        AND r.expires_at > t.now
"""
_FULFIL = """
    INSERT INTO service.fulfilment
        (participant_id, redemption_id, number, reference, fulfilled_on, call_id, recorded_at)
    SELECT $1, $2, coalesce(max(number), 0) + 1, $3, $4, $5, clock_timestamp() + $6::interval
    FROM service.fulfilment WHERE participant_id = $1 AND redemption_id = $2
"""
_DEAD = """
    SELECT participant_id, hold_id FROM ledger.hold
    WHERE points_left > 0 AND expires_at <= clock_timestamp() + $1::interval ORDER BY expires_at LIMIT $2
"""


class NothingCaptured(Exception):
    """A benefit cannot have been given for points that were not captured."""


@dataclass(frozen=True, slots=True)
class ToldStep:
    """A step as it stands: its place in the log once it has one, and the refund of a capture."""

    transfer_id: UUID
    kind: str
    reason: str | None
    units: int
    points: int
    value_fen: int
    co2e_mg: int
    recorded_at: datetime
    log_index: int | None
    refunded_by: UUID | None


@dataclass(frozen=True, slots=True)
class Fulfilled:
    """The bank's word that the benefit was given: its own reference, and the day."""

    number: int
    reference: str
    fulfilled_on: date
    recorded_at: datetime


@dataclass(frozen=True, slots=True)
class Told:
    """A redemption with everything that happened."""

    state: RedemptionState
    steps: tuple[ToldStep, ...]
    fulfilments: tuple[Fulfilled, ...]


async def read_redemption(tx: Connection, participant_id: UUID, redemption_id: UUID) -> Told | None:
    """One of a participant's redemptions; None when there is none."""
    row = await tx.fetchrow(_ONE, participant_id, redemption_id)
    if row is None:
        return None
    steps = await tx.fetch(_STEPS, participant_id, redemption_id)
    fulfilments = await tx.fetch(_FULFILMENTS, participant_id, redemption_id)
    return Told(
        RedemptionState(*row),
        tuple(ToldStep(**step) for step in steps),
        tuple(Fulfilled(**one) for one in fulfilments),
    )


async def read_redemptions(
    tx: Connection, participant_id: UUID, *, before: UUID = _NEWEST, limit: int
) -> list[RedemptionState]:
    """A participant's redemptions, newest first."""
    return [RedemptionState(*row) for row in await tx.fetch(_PAGE, participant_id, before, limit)]


async def read_bank_redemptions(
    tx: Connection, bank_id: int, *, before: UUID = _NEWEST, limit: int
) -> list[RedemptionState]:
    """A bank's redemptions that it has accepted, newest first."""
    return [RedemptionState(*row) for row in await tx.fetch(_OF_BANK, bank_id, before, limit)]


async def owners_of(tx: Connection, wanted: Sequence[tuple[UUID, int]]) -> list[UUID | None]:
    """Whose redemptions of banks these are, each named by its id and its bank; None where the bank has none of it."""
    return [row["participant_id"] for row in await tx.fetch(_OWNERS, *map(list, zip(*wanted, strict=True)))]


async def accept(tx: Connection, participant_id: UUID, redemption_id: UUID, call_id: UUID, offset: timedelta) -> None:
    """Note that the bank has the entitlement, by this signed call: from now on only the bank can give the hold back. In
    a transaction; what is accepted, or over, stays as it is."""
    await tx.fetchval(_LOCK_ACCOUNT, participant_id)
    await tx.execute(_ACCEPT, participant_id, redemption_id, offset, call_id)


async def fulfil(
    tx: Connection, told: Told, reference: str, fulfilled_on: date, call_id: UUID, offset: timedelta
) -> None:
    """Write down the bank's word; the same word again changes nothing. In a transaction.

    Raises NothingCaptured.
    """
    state = told.state
    if not state.units_captured:
        raise NothingCaptured
    await tx.fetchval(_LOCK_ACCOUNT, state.participant_id)
    last = await tx.fetch(_FULFILMENTS, state.participant_id, state.redemption_id)
    if last and (last[-1]["reference"], last[-1]["fulfilled_on"]) == (reference, fulfilled_on):
        return
    await tx.execute(_FULFIL, state.participant_id, state.redemption_id, reference, fulfilled_on, call_id, offset)


async def read_dead(tx: Connection, offset: timedelta, limit: int) -> Sequence[tuple[UUID, UUID]]:
    """Holds whose time is over and of which something is still held: participant and hold, the oldest first."""
    return [(row["participant_id"], row["hold_id"]) for row in await tx.fetch(_DEAD, offset, limit)]

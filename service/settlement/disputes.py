"""Disputes 争议: a participant says that what points were spent on never came; the bank answers, the operator decides.

Every step is a row of its own with the state that it made, whose turn it was, and words that may be erased. A deadline
counts from the day after it; that it passed is written down before the next step, and read at once. A decision for
the participant is followed by refunds, which the caller posts first: decided is only what can be kept.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime
from typing import Literal
from uuid import UUID

import asyncpg

from service.clock import Fresh, shanghai_day
from service.database import Connection
from service.settlement.states import Standing, after, answer_due, decision_due, standing
from service.vault import Vault, key_beside, open_words, read_key, seal_words

Outcome = Literal["participant", "bank"]
Position = Literal["accepts", "rejects"]


class DisputeNotFound(Exception):
    """No dispute of this id about this redemption, or not the caller's."""


class NothingToDispute(Exception):
    """Nothing of this redemption was captured, or all of it was given back: its points are not spent."""


class DisputeExists(Exception):
    """There is a dispute about this redemption already; `dispute_id` is its id."""

    def __init__(self, dispute_id: UUID) -> None:
        super().__init__(dispute_id)
        self.dispute_id = dispute_id


@dataclass(frozen=True, slots=True)
class Step:
    """One step: what was done (`open`, or a step of states.STEPS), by whom, and what was written with it.

    party     `participant`, `bank`, `operator`, or `rule` for a deadline that passed
    position  of the bank's answer: `accepts` or `rejects` what is claimed
    words     None where nothing was written or it was erased
    """

    number: int
    step: str
    state: str
    party: str
    position: str | None
    words: str | None
    recorded_at: datetime


@dataclass(frozen=True, slots=True)
class Disputed:
    """A dispute with its steps. `standing` is as of the day on which it was read."""

    participant_id: UUID
    dispute_id: UUID
    redemption_id: UUID
    bank: str
    reason: str
    opened_at: datetime
    answer_by: date
    decide_by: date
    standing: Standing
    steps: tuple[Step, ...]


_COLUMNS = """
    SELECT d.participant_id, d.dispute_id, d.redemption_id, b.uri AS bank, d.reason, d.state, d.opened_at, d.answer_by,
        d.decide_by
    FROM service.dispute d JOIN service.bank b ON b.bank_id = d.bank_id
"""
_OF_REDEMPTION = _COLUMNS + " WHERE d.participant_id = $1 AND d.redemption_id = $2 ORDER BY d.opened_at"
_ONE = _COLUMNS + " WHERE d.participant_id = $1 AND d.redemption_id = $2 AND d.dispute_id = $3"
_OF_BANKS = (
    _COLUMNS
    + """
    WHERE ($1::int4 IS NULL OR d.bank_id = $1) AND (NOT $2 OR d.state IN ('opened', 'answered', 'overdue'))
        AND (d.opened_at, d.dispute_id) > ($3::timestamptz, $4::uuid) ORDER BY d.opened_at, d.dispute_id LIMIT $5
"""
)
_LOCK = """
    SELECT state, answer_by, decide_by FROM service.dispute
    WHERE participant_id = $1 AND redemption_id = $2 AND dispute_id = $3 FOR UPDATE
"""
_STEPS = """
    SELECT s.participant_id, s.dispute_id, s.number, s.step, s.state, s.party, s.position, t.sealed, s.recorded_at,
        k.kek_version, k.wrapped
    FROM service.dispute_step s LEFT JOIN service.dispute_text t USING (participant_id, dispute_id, number)
    LEFT JOIN vault.person_key k USING (participant_id)
    WHERE s.participant_id = ANY($1) AND s.dispute_id = ANY($2) ORDER BY s.number
"""
_REDEMPTION = """
    SELECT bank_id, units_captured - units_refunded AS spent FROM service.redemption
    WHERE participant_id = $1 AND redemption_id = $2
"""
_OPEN = """
    INSERT INTO service.dispute (participant_id, dispute_id, redemption_id, bank_id, reason, state, opened_at,
        answer_by, decide_by)
    VALUES ($1, $2, $3, $4, $5, 'opened', $6, $7, $8)
    ON CONFLICT (participant_id, redemption_id) WHERE state <> 'withdrawn' DO NOTHING RETURNING true
"""  # a conflict is said: DisputeExists
_STANDS = """
    SELECT dispute_id FROM service.dispute
    WHERE participant_id = $1 AND redemption_id = $2 AND state <> 'withdrawn'
"""
_MOVE = """
    UPDATE service.dispute SET state = $3, decide_by = $4 WHERE participant_id = $1 AND dispute_id = $2
"""
_NUMBER = "SELECT count(*) FROM service.dispute_step WHERE participant_id = $1 AND dispute_id = $2"
_STEP = """
    INSERT INTO service.dispute_step (participant_id, dispute_id, number, step, state, party, position, call_id,
        recorded_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
"""
_WORDS = "INSERT INTO service.dispute_text (participant_id, dispute_id, number, sealed) VALUES ($1, $2, $3, $4)"
_UNREFUNDED = """
    SELECT e.transfer_id FROM service.redemption_entry e
    WHERE e.participant_id = $1 AND e.redemption_id = $2 AND e.kind = 'capture' AND NOT EXISTS
        (SELECT FROM ledger.reversed r WHERE r.participant_id = e.participant_id AND r.transfer_id = e.transfer_id)
    ORDER BY e.transfer_id
"""
_OWNER = "SELECT participant_id FROM service.redemption_key WHERE redemption_id = $1 AND bank_id = $2"


@dataclass(frozen=True, slots=True)
class Which:
    """A dispute by its whole address."""

    participant_id: UUID
    redemption_id: UUID
    dispute_id: UUID


async def open_dispute(
    tx: Connection,
    vault: Vault,
    participant_id: UUID,
    redemption_id: UUID,
    reason: str,
    words: str | None,
    fresh: Fresh,
) -> Disputed:
    """Open a dispute about a redemption whose points were spent.

    reason  one of states.DISPUTE_REASONS

    Raises DisputeNotFound where there is no such redemption, NothingToDispute, DisputeExists.
    """
    redemption = await tx.fetchrow(_REDEMPTION, participant_id, redemption_id)
    if redemption is None:
        raise DisputeNotFound
    now = fresh.clock()
    dispute_id, answer_by = fresh.id(), answer_due(shanghai_day(now))
    row = (participant_id, dispute_id, redemption_id, redemption["bank_id"], reason, now, answer_by)
    if redemption["spent"] <= 0:
        raise NothingToDispute
    if not await tx.fetchval(_OPEN, *row, decision_due(answer_by)):
        raise DisputeExists(await tx.fetchval(_STANDS, participant_id, redemption_id))
    which = Which(participant_id, redemption_id, dispute_id)
    await _record(tx, vault, which, "open", "opened", "participant", now, words=words)
    return await read_dispute(tx, vault, which, shanghai_day(now))


async def answer_dispute(
    tx: Connection, vault: Vault, which: Which, position: Position, words: str | None, call_id: UUID, fresh: Fresh
) -> Disputed:
    """The bank's answer, late or not; the operator's time begins with it. Raises DisputeNotFound, StepRefused."""
    return await _take(tx, vault, which, "answer", "bank", fresh, words, position=position, call_id=call_id)


async def withdraw_dispute(tx: Connection, vault: Vault, which: Which, words: str | None, fresh: Fresh) -> Disputed:
    """The participant takes it back; another may be opened. Raises DisputeNotFound, StepRefused."""
    return await _take(tx, vault, which, "withdraw", "participant", fresh, words)


async def decide_dispute(
    tx: Connection, vault: Vault, which: Which, outcome: Outcome, words: str | None, fresh: Fresh
) -> Disputed:
    """The operator's decision, for good. Raises DisputeNotFound, StepRefused."""
    return await _take(tx, vault, which, f"resolve_for_{outcome}", "operator", fresh, words)


async def require_decidable(tx: Connection, vault: Vault, which: Which, outcome: Outcome, today: date) -> None:
    """Raises what decide_dispute would raise now, so that nothing is refunded under a decision that is refused."""
    after((await read_dispute(tx, vault, which, today)).standing.state, f"resolve_for_{outcome}")


async def _take(
    tx: Connection,
    vault: Vault,
    which: Which,
    step: str,
    party: str,
    fresh: Fresh,
    words: str | None,
    *,
    position: str | None = None,
    call_id: UUID | None = None,
) -> Disputed:
    row = await tx.fetchrow(_LOCK, which.participant_id, which.redemption_id, which.dispute_id)
    if row is None:
        raise DisputeNotFound
    now = fresh.clock()
    today = shanghai_day(now)
    stands = standing(row["state"], answer_by=row["answer_by"], decide_by=row["decide_by"], today=today)
    state = after(stands.state, step)
    if stands.state != row["state"]:  # nobody had written down that the deadline passed
        await _record(tx, vault, which, "lapse", stands.state, "rule", now)
    decide_by = decision_due(today) if step == "answer" else row["decide_by"]
    await tx.execute(_MOVE, which.participant_id, which.dispute_id, state, decide_by)
    await _record(tx, vault, which, step, state, party, now, words=words, position=position, call_id=call_id)
    return await read_dispute(tx, vault, which, today)


async def _record(
    tx: Connection,
    vault: Vault,
    which: Which,
    step: str,
    state: str,
    party: str,
    now: datetime,
    *,
    words: str | None = None,
    position: str | None = None,
    call_id: UUID | None = None,
) -> None:
    key = (which.participant_id, which.dispute_id)
    number = await tx.fetchval(_NUMBER, *key) + 1
    await tx.execute(_STEP, *key, number, step, state, party, position, call_id, now)
    if words and (sealing := await read_key(tx, vault, which.participant_id)):  # who was erased leaves no words
        await tx.execute(_WORDS, *key, number, seal_words(sealing, which.dispute_id, number, words))


async def read_dispute(tx: Connection, vault: Vault, which: Which, today: date) -> Disputed:
    """One dispute. Raises DisputeNotFound."""
    found = await tx.fetch(_ONE, which.participant_id, which.redemption_id, which.dispute_id)
    if not found:
        raise DisputeNotFound
    return (await _whole(tx, vault, found, today))[0]


async def read_disputes(
    tx: Connection, vault: Vault, participant_id: UUID, redemption_id: UUID, today: date
) -> list[Disputed]:
    """Every dispute about a redemption, the oldest first."""
    return await _whole(tx, vault, await tx.fetch(_OF_REDEMPTION, participant_id, redemption_id), today)


async def list_disputes(
    tx: Connection,
    vault: Vault,
    bank_id: int | None,
    *,
    open_only: bool,
    after: tuple[datetime, UUID],
    limit: int,
    today: date,
) -> list[Disputed]:
    """Disputes of a bank, or of all, in the order in which they were opened, from behind `after` on."""
    return await _whole(tx, vault, await tx.fetch(_OF_BANKS, bank_id, open_only, *after, limit), today)


async def _whole(tx: Connection, vault: Vault, rows: list[asyncpg.Record], today: date) -> list[Disputed]:
    steps = await _read_steps(tx, vault, {(row["participant_id"], row["dispute_id"]) for row in rows})
    return [_disputed(row, steps[row["participant_id"], row["dispute_id"]], today) for row in rows]


async def _read_steps(
    tx: Connection, vault: Vault, keys: Iterable[tuple[UUID, UUID]]
) -> dict[tuple[UUID, UUID], list[Step]]:
    found: dict[tuple[UUID, UUID], list[Step]] = {key: [] for key in keys}
    participants, disputes = [key[0] for key in found], [key[1] for key in found]
    for row in await tx.fetch(_STEPS, participants, disputes):
        participant_id, dispute_id, number, step, state, party, position, sealed, at, version, wrapped = row
        key = key_beside(vault, participant_id, version, wrapped)
        words = open_words(key, dispute_id, number, sealed) if key and sealed else None
        found[participant_id, dispute_id].append(Step(number, step, state, party, position, words, at))
    return found


def _disputed(row: asyncpg.Record, steps: list[Step], today: date) -> Disputed:
    stands = standing(row["state"], answer_by=row["answer_by"], decide_by=row["decide_by"], today=today)
    members = {name: value for name, value in row.items() if name != "state"}
    return Disputed(**members, standing=stands, steps=tuple(steps))


async def read_unrefunded(tx: Connection, which: Which) -> list[UUID]:
    """The captures of a redemption that nobody has taken back, the oldest first."""
    return [row["transfer_id"] for row in await tx.fetch(_UNREFUNDED, which.participant_id, which.redemption_id)]


async def require_owner(tx: Connection, bank_id: int, redemption_id: UUID) -> UUID:
    """Whose a redemption with this bank is. Raises DisputeNotFound where it is not the bank's."""
    owner: UUID | None = await tx.fetchval(_OWNER, redemption_id, bank_id)
    if owner is None:
        raise DisputeNotFound
    return owner

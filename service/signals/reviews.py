"""Reviews 复核: what a strong signal is about waits for somebody to look at it, and for no longer than a week.

While a review is open, so many points as the credits it is about brought cannot be held for a redemption. Nothing
moves in the ledger: the balance is what it was, holds that there are go on, and everything above that amount can be
spent. The participant reads why, and may answer. An operator releases the credits, or confirms that they were not
earned, and then they are reversed like any credit; if nobody decides in time the review ends by itself, in the
participant's favour.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

import asyncpg
import orjson

from service.clock import Fresh
from service.database import Connection
from service.quantification.document import Bilingual
from service.signals.opening import take_step
from service.signals.rules import rule_of
from service.vault import Vault, key_beside, open_words, read_key, seal_words

Outcome = Literal["release", "confirm"]
STATES = ("open", "released", "confirmed", "lapsed")
RELEASE_REASONS = ("explained", "rule_too_strict", "not_proven")
CONFIRM_REASONS = ("automated", "shared_account", "invented", "copied")


class ReviewNotFound(Exception):
    """No review of this id, or not the caller's."""


class ReviewEnded(Exception):
    """The review is over: `state` is what it ended as."""

    def __init__(self, state: str) -> None:
        super().__init__(state)
        self.state = state


class CreditsStand(Exception):
    """A credit of the review is not reversed, perhaps because it joined a moment ago: reverse it, and confirm again."""


@dataclass(frozen=True, slots=True)
class Signal:
    """A signal as it is told: the rule with its version, and in words what was found; without figures once those were
    erased.

    about   the day, or what else names it within its rule
    """

    signal_id: UUID
    rule: str
    version: int
    strength: str
    title: Bilingual
    told: Bilingual
    values: Mapping[str, str] | None
    found_at: datetime


@dataclass(frozen=True, slots=True)
class Step:
    """One step; `words` are None where nothing was written or it was erased."""

    number: int
    step: str
    party: str
    operator: str | None
    reason: str | None
    words: str | None
    recorded_at: datetime


@dataclass(frozen=True, slots=True)
class Reviewed:
    """A review with all that belongs to it, as of a moment: one whose time is over has lapsed, whether or not that was
    written down.

    credits   the credits it is about with their points; those that were reversed since say so by None
    """

    participant_id: UUID
    review_id: UUID
    state: str
    opened_at: datetime
    due_at: datetime
    ended_at: datetime | None
    signals: tuple[Signal, ...]
    credits: tuple[tuple[UUID, int | None], ...]
    steps: tuple[Step, ...]

    @property
    def points(self) -> int:
        """How many points it is about."""
        return sum(points or 0 for _, points in self.credits)


@dataclass(frozen=True, slots=True)
class Waiting:
    """The open review that a credit is under, and in words why."""

    review_id: UUID
    due_at: datetime
    told: tuple[Bilingual, ...]


_OF_CREDIT = """
    SELECT r.review_id, r.due_at, s.rule, s.version, v.document FROM service.review_credit c
    JOIN service.review r USING (participant_id, review_id)
    JOIN service.signal s USING (participant_id, review_id)
    LEFT JOIN service.signal_values v USING (participant_id, signal_id)
    WHERE c.participant_id = $1 AND c.activity_id = $2 AND r.state = 'open' AND r.due_at > $3
    ORDER BY s.found_at, s.signal_id
"""
_COLUMNS = "SELECT participant_id, review_id, state, opened_at, due_at, ended_at FROM service.review"
_OF_PERSON = _COLUMNS + " WHERE participant_id = $1 ORDER BY opened_at DESC, review_id LIMIT $2"
_ONE = _COLUMNS + " WHERE review_id = $1 AND ($2::uuid IS NULL OR participant_id = $2)"
_QUEUE = (
    _COLUMNS
    + """
    WHERE (NOT $1 OR state = 'open' AND due_at > $2) AND (opened_at, review_id) > ($3::timestamptz, $4::uuid)
    ORDER BY opened_at, review_id LIMIT $5
"""
)
_LOCK = _ONE + " FOR UPDATE"
_SIGNALS = """
    SELECT s.review_id, s.signal_id, s.rule, s.version, s.strength, v.document, s.found_at
    FROM service.signal s LEFT JOIN service.signal_values v USING (participant_id, signal_id)
    WHERE s.participant_id = ANY($1) AND s.review_id = ANY($2) ORDER BY s.found_at, s.signal_id
"""
_LATEST = """
    SELECT s.participant_id, s.review_id, s.signal_id, s.rule, s.version, s.strength, v.document, s.found_at
    FROM service.signal s LEFT JOIN service.signal_values v USING (participant_id, signal_id)
    ORDER BY s.found_at DESC, s.signal_id LIMIT $1
"""
_CREDITS = """
    SELECT c.review_id, c.activity_id, CASE WHEN r.reversal_id IS NULL THEN c.points END AS points
    FROM service.review_credit c
    LEFT JOIN ledger.reversed r ON r.participant_id = c.participant_id AND r.transfer_id = c.activity_id
    WHERE c.participant_id = ANY($1) AND c.review_id = ANY($2) ORDER BY c.activity_id
"""
_STEPS = """
    SELECT s.participant_id, s.review_id, s.number, s.step, s.party, s.operator, s.reason, t.sealed, s.recorded_at,
        k.kek_version, k.wrapped
    FROM service.review_step s LEFT JOIN service.review_text t USING (participant_id, review_id, number)
    LEFT JOIN vault.person_key k USING (participant_id)
    WHERE s.participant_id = ANY($1) AND s.review_id = ANY($2) ORDER BY s.number
"""
_STANDS = """
    SELECT EXISTS (SELECT FROM service.review_credit c WHERE c.participant_id = $1 AND c.review_id = $2 AND NOT EXISTS
        (SELECT FROM ledger.reversed v WHERE v.participant_id = c.participant_id AND v.transfer_id = c.activity_id))
"""
_WORDS = "INSERT INTO service.review_text (participant_id, review_id, number, sealed) VALUES ($1, $2, $3, $4)"
_END = "UPDATE service.review SET state = $3, ended_at = $4 WHERE participant_id = $1 AND review_id = $2"


async def read_own(tx: Connection, vault: Vault, participant_id: UUID, now: datetime, limit: int) -> list[Reviewed]:
    """A participant's reviews, the newest first."""
    return await _whole(tx, vault, await tx.fetch(_OF_PERSON, participant_id, limit), now)


async def read_review(
    tx: Connection, vault: Vault, review_id: UUID, now: datetime, participant_id: UUID | None = None
) -> Reviewed:
    """One review, of this participant where one is named. Raises ReviewNotFound."""
    rows = await tx.fetch(_ONE, review_id, participant_id)
    if not rows:
        raise ReviewNotFound
    return (await _whole(tx, vault, rows, now))[0]


async def read_of_credit(tx: Connection, participant_id: UUID, activity_id: UUID, now: datetime) -> Waiting | None:
    """The review that this credit waits for; None when there is none."""
    rows = await tx.fetch(_OF_CREDIT, participant_id, activity_id, now)
    if not rows:
        return None
    told = [describe(row["rule"], row["version"], _values(row["document"]))[1] for row in rows]
    return Waiting(rows[0]["review_id"], rows[0]["due_at"], tuple(told))


def _values(document: bytes | None) -> Mapping[str, str] | None:
    return orjson.loads(document) if document else None


async def list_reviews(
    tx: Connection, vault: Vault, *, open_only: bool, after: tuple[datetime, UUID], limit: int, now: datetime
) -> list[Reviewed]:
    """Everybody's reviews in the order in which they were opened, from behind `after` on."""
    return await _whole(tx, vault, await tx.fetch(_QUEUE, open_only, now, *after, limit), now)


async def answer_review(
    tx: Connection, vault: Vault, participant_id: UUID, review_id: UUID, words: str, fresh: Fresh
) -> Reviewed:
    """The participant says something to it. Raises ReviewNotFound, ReviewEnded."""
    now = fresh.clock()
    await _lock(tx, review_id, now, participant_id)
    number = await take_step(tx, participant_id, review_id, "answer", "participant", now)
    await _write(tx, vault, participant_id, review_id, number, words)
    return await read_review(tx, vault, review_id, now, participant_id)


async def decide_review(
    tx: Connection,
    vault: Vault,
    review_id: UUID,
    outcome: Outcome,
    reason: str,
    words: str,
    operator: str,
    fresh: Fresh,
) -> Reviewed:
    """The operator's decision, for good. To confirm, the caller reverses the credits first, so that decided is only
    what has been done.

    reason     one of RELEASE_REASONS or CONFIRM_REASONS; `words` say it to the participant
    operator   a code, no name

    Raises ReviewNotFound, ReviewEnded, CreditsStand.
    """
    now = fresh.clock()
    row = await _lock(tx, review_id, now)
    participant_id: UUID = row["participant_id"]
    if outcome == "confirm" and await tx.fetchval(_STANDS, participant_id, review_id):
        raise CreditsStand
    await tx.execute(_END, participant_id, review_id, "released" if outcome == "release" else "confirmed", now)
    number = await take_step(tx, participant_id, review_id, outcome, "operator", now, operator=operator, reason=reason)
    await _write(tx, vault, participant_id, review_id, number, words)
    return await read_review(tx, vault, review_id, now)


async def list_signals(tx: Connection, limit: int) -> list[tuple[UUID, UUID | None, Signal]]:
    """What was found of people last, weak signals too: of whom, and the review it is in."""
    return [
        (row["participant_id"], row["review_id"], _signal(*list(row)[2:])) for row in await tx.fetch(_LATEST, limit)
    ]


async def require_open(tx: Connection, vault: Vault, review_id: UUID, now: datetime) -> Reviewed:
    """A review that can be decided now. Raises ReviewNotFound, ReviewEnded."""
    found = await read_review(tx, vault, review_id, now)
    if found.state != "open":
        raise ReviewEnded(found.state)
    return found


async def _lock(tx: Connection, review_id: UUID, now: datetime, participant_id: UUID | None = None) -> asyncpg.Record:
    row = await tx.fetchrow(_LOCK, review_id, participant_id)
    if row is None:
        raise ReviewNotFound
    state = _standing(row, now)
    if state != "open":
        raise ReviewEnded(state)
    return row


async def _write(tx: Connection, vault: Vault, participant_id: UUID, review_id: UUID, number: int, words: str) -> None:
    key = await read_key(tx, vault, participant_id)
    if key is not None:  # of somebody who was erased no words are kept
        await tx.execute(_WORDS, participant_id, review_id, number, seal_words(key, review_id, number, words))


def _standing(row: asyncpg.Record, now: datetime) -> str:
    return "lapsed" if row["state"] == "open" and row["due_at"] <= now else str(row["state"])


async def _whole(tx: Connection, vault: Vault, rows: Sequence[asyncpg.Record], now: datetime) -> list[Reviewed]:
    if not rows:
        return []
    keys = ([row["participant_id"] for row in rows], [row["review_id"] for row in rows])
    signals: dict[UUID, list[Signal]] = {review_id: [] for review_id in keys[1]}
    for review_id, *about in await tx.fetch(_SIGNALS, *keys):
        signals[review_id].append(_signal(*about))
    credits: dict[UUID, list[tuple[UUID, int | None]]] = {review_id: [] for review_id in keys[1]}
    for review_id, activity_id, points in await tx.fetch(_CREDITS, *keys):
        credits[review_id].append((activity_id, points))
    steps: dict[UUID, list[Step]] = {review_id: [] for review_id in keys[1]}
    for row in await tx.fetch(_STEPS, *keys):
        participant_id, review_id, number, step, party, operator, reason, sealed, recorded_at, version, wrapped = row
        key = key_beside(vault, participant_id, version, wrapped)
        words = open_words(key, review_id, number, sealed) if key and sealed else None
        steps[review_id].append(Step(number, step, party, operator, reason, words, recorded_at))
    return [_reviewed(row, signals, credits, steps, now) for row in rows]


def _reviewed(
    row: asyncpg.Record,
    signals: Mapping[UUID, list[Signal]],
    credits: Mapping[UUID, list[tuple[UUID, int | None]]],
    steps: Mapping[UUID, list[Step]],
    now: datetime,
) -> Reviewed:
    review_id, state = row["review_id"], _standing(row, now)
    return Reviewed(
        row["participant_id"],
        review_id,
        state,
        row["opened_at"],
        row["due_at"],
        row["due_at"] if state == "lapsed" else row["ended_at"],
        tuple(signals[review_id]),
        tuple(credits[review_id]),
        tuple(steps[review_id]),
    )


def _signal(
    signal_id: UUID, name: str, version: int, strength: str, document: bytes | None, found_at: datetime
) -> Signal:
    values = _values(document)
    title, told = describe(name, version, values)
    return Signal(signal_id, name, version, strength, title, told, values, found_at)


def describe(name: str, version: int, values: Mapping[str, str] | None) -> tuple[Bilingual, Bilingual]:
    """The title of a rule, and its words about what was found, in both languages. Of figures that were erased, and of a
    rule that is no longer shipped, only the title is left."""
    rule = rule_of(name, version)
    if rule is None:
        return Bilingual(name, name), Bilingual("", "")
    if values is None:
        return rule.title, Bilingual("", "")
    return rule.title, Bilingual(rule.told.zh.format(**values), rule.told.en.format(**values))

"""Day manifests 日清单: a source closes each day with a signed list of what it sent, beside what was received.

The day of an event is the Asia/Shanghai day on which it arrived: the time in its activity's id, which a provider reads
in the `transfer_id` of its answer, so that both sides count an event to the same day (docs/decisions/0014). A manifest
is never changed: the next sequence number corrects it. Each is one leaf of the log. What names events by the
provider's ids is the signed text alone, which lies apart and may be erased.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import orjson
from sqlalchemy import Column, Date, DateTime, Integer, LargeBinary, Text
from sqlmodel import Field

from ledger.leaves import NONCE_BYTES
from ledger.notices import KeyFacts, ManifestFacts, key_leaf, manifest_leaf
from ledger.store import queue_leaf
from service.activities.intake import event_key
from service.activities.licences import Licence
from service.clock import SHANGHAI, Fresh
from service.database import Connection, ServiceTable
from service.jws import Jws, SignatureRefused, payload_of, raw_public_key, thumbprint, verify_jws
from service.keyring import Keyring

VERSION = "1"
MEASURES = ("credited", "refused", "reduction_mg", "points")
"""What both sides count; of what was sent without a final answer, and of repeats, the platform keeps nothing."""

CLOSES_AFTER = timedelta(minutes=5)
"""From a day's end until it can be closed: what arrived in its last moment has been posted by then, or never will."""

COUNTING_S = 300.0  # for a source with millions of people; posting does not wait for it
MOST_DAYS_NAMED = 366


class SourceKey(ServiceTable, table=True):
    """A source's public key, and when its signatures count. A key id stands for one key for ever."""

    __tablename__ = "source_key"
    source_id: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    key_id: str = Field(sa_column=Column(Text, primary_key=True))
    public_key: str = Field(sa_column=Column(Text, nullable=False))
    valid_from: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    valid_to: datetime | None = Field(sa_column=Column(DateTime(timezone=True)))
    registered_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))


class Manifest(ServiceTable, table=True):
    """日清单: that a source signed a statement of one day, under which key (its thumbprint), and what had been received
    of that day."""

    __tablename__ = "manifest"
    source_id: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    day: date = Field(sa_column=Column(Date, primary_key=True))
    sequence: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    digest: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    received: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    key_id: str = Field(sa_column=Column(Text, nullable=False))
    key: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    recorded_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))


class ManifestText(ServiceTable, table=True):
    """The signed statement as it came. It may be erased; then its digest stands for it."""

    __tablename__ = "manifest_text"
    source_id: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    day: date = Field(sa_column=Column(Date, primary_key=True))
    sequence: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    jws: str = Field(sa_column=Column(Text, nullable=False))


class SourceKeyConflict(Exception):
    """The key id stands for another key of this source, or for this one from another moment on or to an earlier end."""


class DayNotClosable(Exception):
    """The day is not over, or the source was not licensed yet; `opens` is when it can be closed, None for never."""

    def __init__(self, day: date, opens: datetime | None) -> None:
        super().__init__(day)
        self.day, self.opens = day, opens


class ManifestConflict(Exception):
    """Another manifest of this day has this sequence number; `digest` is its own, in hex."""

    def __init__(self, digest: str) -> None:
        super().__init__(digest)
        self.digest = digest


class ManifestOutOfSequence(Exception):
    """The day's next manifest has the sequence number `expected`."""

    def __init__(self, expected: int) -> None:
        super().__init__(expected)
        self.expected = expected


@dataclass(frozen=True, slots=True)
class Counts:
    """What became of a day's events of one scenario: how many, whole milligrams CO2e, whole points."""

    credited: int = 0
    refused: int = 0
    reduction_mg: int = 0
    points: int = 0


@dataclass(frozen=True, slots=True)
class Claimed:
    """What a source says it sent of one scenario. Events that got no final answer are in `sent` alone."""

    sent: int
    duplicate: int
    counts: Counts


@dataclass(frozen=True, slots=True)
class Statement:
    """The content of a manifest; `late` are ids of events of that day which no earlier manifest of it counted."""

    source: str
    day: date
    sequence: int
    scenarios: Mapping[str, Claimed]
    late: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StoredManifest:
    """A manifest as it was recorded, with what had been received of its day by then.

    jws      the signed text, None once it was erased
    key_id   the id of the key that signed it, and `key` that key's thumbprint, hex
    """

    day: date
    sequence: int
    digest: str
    jws: str | None
    key_id: str
    key: str
    received: Mapping[str, Counts]
    recorded_at: datetime


@dataclass(frozen=True, slots=True)
class RegisteredKey:
    """A source's public key as JWK text, and when its signatures count: from `valid_from`, before `valid_to`."""

    key_id: str
    public_key: str
    valid_from: datetime
    valid_to: datetime | None


@dataclass(frozen=True, slots=True)
class Gap:
    """One measure of one scenario on both sides."""

    scenario: str
    measure: str
    claimed: int
    received: int

    @property
    def difference(self) -> int:
        """What the source claims beyond what was received; negative when more was received than it claims."""
        return self.claimed - self.received


def closable_from(day: date) -> datetime:
    """The first moment at which a manifest of this day is taken, in UTC."""
    return (_begins(day + timedelta(days=1)) + CLOSES_AFTER).astimezone(UTC)


def compare(claimed: Mapping[str, Counts], received: Mapping[str, Counts]) -> dict[str, tuple[Gap, ...]]:
    """Every measure of every scenario that either side knows, sorted by scenario."""
    nothing = Counts()
    return {
        scenario: tuple(
            Gap(
                scenario,
                measure,
                getattr(claimed.get(scenario, nothing), measure),
                getattr(received.get(scenario, nothing), measure),
            )
            for measure in MEASURES
        )
        for scenario in sorted(claimed.keys() | received.keys())
    }


def received_document(source: str, day: date, received: Mapping[str, Counts]) -> bytes:
    """What was received, as RFC 8785 JSON of strings: its SHA-256 stands in the manifest's leaf."""
    scenarios = {
        scenario: {measure: str(getattr(counts, measure)) for measure in MEASURES}
        for scenario, counts in received.items()
    }
    document = {"day": day.isoformat(), "scenarios": scenarios, "source": source, "v": VERSION}
    return orjson.dumps(document, option=orjson.OPT_SORT_KEYS)


def _counts_of(document: bytes) -> dict[str, Counts]:
    scenarios: dict[str, dict[str, str]] = orjson.loads(document)["scenarios"]
    return {
        scenario: Counts(**{name: int(value) for name, value in counts.items()})
        for scenario, counts in scenarios.items()
    }


def _begins(day: date) -> datetime:
    return datetime.combine(day, time(), SHANGHAI)


def _first_id(day: date) -> UUID:
    """No activity that arrived on this day has a lower id: a UUIDv7 begins with its milliseconds."""
    return UUID(int=int(_begins(day).timestamp() * 1000) << 80)


# Without an index of its own, which every activity posted would pay for: the ids of a day are one range under each
# person the source was ever linked to. PostgreSQL takes that way, or reads the table once where it is short.
_RECEIVED = """
    SELECT a.scenario, count(*) FILTER (WHERE a.outcome <> 'refused') AS credited,
           count(*) FILTER (WHERE a.outcome = 'refused') AS refused,
           coalesce(sum(m.reduction_mg), 0)::int8 AS reduction_mg, coalesce(sum(m.points), 0)::int8 AS points
    FROM (SELECT DISTINCT participant_id FROM service.link WHERE source_id = $1) AS l
    JOIN service.activity a ON a.participant_id = l.participant_id
        AND a.activity_id >= $2 AND a.activity_id < $3 AND a.source_id = $1
    LEFT JOIN LATERAL (
        SELECT sum(amount) FILTER (WHERE asset = 'co2e_mg') AS reduction_mg,
               sum(amount) FILTER (WHERE asset = 'points') AS points
        FROM ledger.movement
        WHERE participant_id = a.participant_id AND transfer_id = a.activity_id
            AND from_account IN ('issuance', 'partner')
    ) AS m ON a.outcome <> 'refused'
    GROUP BY a.scenario
"""

_INSERT = """
    INSERT INTO service.manifest (source_id, day, sequence, digest, received, key_id, key, recorded_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (source_id, day, sequence) DO NOTHING RETURNING true
"""  # a conflict is not swallowed: close_day compares the two
_INSERT_TEXT = "INSERT INTO service.manifest_text (source_id, day, sequence, jws) VALUES ($1, $2, $3, $4)"

_MANIFESTS = """
    SELECT day, sequence, digest, jws, key_id, key, received, recorded_at
    FROM service.manifest LEFT JOIN service.manifest_text USING (source_id, day, sequence) WHERE source_id = $1
"""

# A day is to be closed if some licence, as it stood on that day, covered it.
_LICENSED = """
    l.valid_from <= d.day AND coalesce(l.valid_to, d.day) >= d.day
    AND (l.granted_at AT TIME ZONE 'Asia/Shanghai')::date <= d.day
    AND coalesce((l.superseded_at AT TIME ZONE 'Asia/Shanghai')::date, d.day) >= d.day
"""
_FIRST_DAY = """
    SELECT min(greatest(valid_from, (granted_at AT TIME ZONE 'Asia/Shanghai')::date)) FROM service.licence
    WHERE source_id = $1
"""
_OPEN_DAYS = f"""
    SELECT d.day, count(*) OVER () AS days
    FROM (SELECT generate_series($2::date, $3::date, interval '1 day')::date AS day) AS d
    WHERE EXISTS (SELECT FROM service.licence l WHERE l.source_id = $1 AND {_LICENSED})
        AND NOT EXISTS (SELECT FROM service.manifest m WHERE m.source_id = $1 AND m.day = d.day)
    ORDER BY d.day DESC LIMIT {MOST_DAYS_NAMED}
"""

_KEYS = "SELECT key_id, public_key, valid_from, valid_to FROM service.source_key WHERE source_id = $1"

_LOCK_SOURCE = "SELECT 1 FROM service.source WHERE source_id = $1 FOR UPDATE"
_REGISTER_KEY = """
    INSERT INTO service.source_key AS k (source_id, key_id, public_key, valid_from, valid_to, registered_at)
    VALUES ($1, $2, $3, $4, $5, clock_timestamp())
    ON CONFLICT (source_id, key_id) DO UPDATE SET valid_to = excluded.valid_to
        WHERE k.public_key = excluded.public_key AND k.valid_from = excluded.valid_from
            AND (k.valid_to IS NULL OR excluded.valid_to <= k.valid_to)
    RETURNING true
"""

_LATE = "SELECT key FROM service.event_key WHERE key = ANY($1) AND activity_id >= $2 AND activity_id < $3"


async def register_key(
    tx: Connection, licence: Licence, key: RegisteredKey, fresh: Fresh, clock_offset: timedelta
) -> None:
    """Register a source's public key, or end it, or let it end earlier: never later, and never again without an end.
    What changes is announced in the log. Call it inside a transaction.

    Raises SourceKeyConflict.
    """
    source_id = licence.source_id
    await tx.execute(_LOCK_SOURCE, source_id)
    before = await tx.fetchrow(_KEYS + " AND key_id = $2", source_id, key.key_id)
    if not await tx.fetchval(_REGISTER_KEY, source_id, key.key_id, key.public_key, key.valid_from, key.valid_to):
        raise SourceKeyConflict
    changes: list[tuple[str, datetime]] = []
    if before is None:
        changes.append(("added", key.valid_from))
    if key.valid_to is not None and (before is None or before["valid_to"] != key.valid_to):
        changes.append(("revoked", key.valid_to))
    if changes:
        now: datetime = await tx.fetchval("SELECT clock_timestamp() + $1::interval", clock_offset)
        for action, since in changes:
            await queue_leaf(tx, key_leaf(_announced(licence, key, action, since), now, fresh.random(NONCE_BYTES)))


def _announced(licence: Licence, key: RegisteredKey, action: str, since: datetime) -> KeyFacts:
    algorithm, public = raw_public_key(key.public_key)
    mark = thumbprint(key.public_key).hex()
    return KeyFacts(licence.programme, action, "source", licence.uri, mark, algorithm, public.hex(), since)


async def read_keys(tx: Connection, source_id: int) -> list[RegisteredKey]:
    """A source's keys, the newest first; those that have ended too."""
    rows = await tx.fetch(_KEYS + " ORDER BY valid_from DESC, key_id", source_id)
    return [RegisteredKey(**row) for row in rows]


async def verify_statement(tx: Connection, source_id: int, jws: Jws, now: datetime) -> RegisteredKey:
    """The source's own key of the statement's key id, valid now, under which it is signed. Raises SignatureRefused."""
    row = await tx.fetchrow(_KEYS + " AND key_id = $2", source_id, jws.key_id)
    if row is None:
        raise SignatureRefused("unknown-key")
    key = RegisteredKey(**row)
    if now < key.valid_from or (key.valid_to is not None and now >= key.valid_to):
        raise SignatureRefused("key-not-valid")
    verify_jws(jws, key.public_key)
    return key


async def count_received(tx: Connection, source_id: int, day: date) -> dict[str, Counts]:
    """What arrived from a source on an Asia/Shanghai day and was credited or finally refused, by scenario.

    Grams and points are those of the credits, as the source was answered, whatever became of them later.
    """
    await tx.execute(f"SET LOCAL statement_timeout = {int(COUNTING_S * 1000)}")
    first, end = _first_id(day), _first_id(day + timedelta(days=1))
    rows = await tx.fetch(_RECEIVED, source_id, first, end, timeout=COUNTING_S)
    return {row["scenario"]: Counts(*(row[measure] for measure in MEASURES)) for row in rows}


async def find_late(tx: Connection, keyring: Keyring, statement: Statement) -> set[str]:
    """Which of a statement's late events are known to have arrived on its day."""
    tags = {event_key(keyring, statement.source, event): event for event in statement.late}
    first, end = _first_id(statement.day), _first_id(statement.day + timedelta(days=1))
    return {tags[row["key"]] for row in await tx.fetch(_LATE, list(tags), first, end)}


async def find_repeat(tx: Connection, source_id: int, digest: bytes) -> StoredManifest | None:
    """The manifest of exactly these bytes, which was verified when it first came."""
    row = await tx.fetchrow(_MANIFESTS + " AND digest = $2", source_id, digest)
    return None if row is None else _stored(row)


async def read_manifests(tx: Connection, source_id: int, day: date) -> list[StoredManifest]:
    """Every manifest of a day, in their sequence: the last one counts."""
    rows = await tx.fetch(_MANIFESTS + " AND day = $2 ORDER BY sequence", source_id, day)
    return [_stored(row) for row in rows]


async def read_latest(tx: Connection, source_id: int, days: int) -> list[StoredManifest]:
    """The last manifest of each of the last so many days that have one, newest day first."""
    newest = _MANIFESTS.replace("SELECT", "SELECT DISTINCT ON (day)", 1) + " ORDER BY day DESC, sequence DESC LIMIT $2"
    return [_stored(row) for row in await tx.fetch(newest, source_id, days)]


def _stored(row: asyncpg.Record) -> StoredManifest:
    return StoredManifest(
        day=row["day"],
        sequence=row["sequence"],
        digest=row["digest"].hex(),
        jws=row["jws"],
        key_id=row["key_id"],
        key=row["key"].hex(),
        received=_counts_of(row["received"]),
        recorded_at=row["recorded_at"],
    )


async def read_open_days(tx: Connection, source_id: int, today: date) -> tuple[int, list[date]]:
    """How many days that are over have no manifest since the source's first licence, and the latest of them, newest
    first."""
    first = await tx.fetchval(_FIRST_DAY, source_id)
    rows = await tx.fetch(_OPEN_DAYS, source_id, first, today - timedelta(days=1)) if first else []
    return (rows[0]["days"] if rows else 0), [row["day"] for row in rows]


async def close_day(
    tx: Connection,
    licence: Licence,
    statement: Statement,
    jws: Jws,
    key: RegisteredKey,
    fresh: Fresh,
    clock_offset: timedelta,
) -> tuple[StoredManifest, bool]:
    """Record a verified manifest with what was received, and queue its leaf: once for a day and sequence number.

    key       under which it was verified
    returns   the manifest as recorded, and whether it is new: the same statement again finds the first one

    Raises DayNotClosable, ManifestConflict, ManifestOutOfSequence.
    """
    source_id, day, sequence = licence.source_id, statement.day, statement.sequence
    now: datetime = await tx.fetchval("SELECT clock_timestamp() + $1::interval", clock_offset)
    known = {stored.sequence: stored for stored in await read_manifests(tx, source_id, day)}
    if sequence in known:
        return _same(known[sequence], jws), False
    await _require_closable(tx, source_id, day, now)
    if sequence != len(known) + 1:
        raise ManifestOutOfSequence(len(known) + 1)
    received = await count_received(tx, source_id, day)
    document = received_document(licence.uri, day, received)
    mark = thumbprint(key.public_key)
    made = await tx.fetchval(_INSERT, source_id, day, sequence, jws.digest, document, key.key_id, mark, now)
    if not made:  # another request was quicker, and has committed
        stored = {each.sequence: each for each in await read_manifests(tx, source_id, day)}[sequence]
        return _same(stored, jws), False
    facts = ManifestFacts(
        source=licence.uri,
        programme=licence.programme,
        region=licence.region,
        day=day,
        sequence=sequence,
        digest=jws.digest.hex(),
        received=hashlib.sha256(document).hexdigest(),
        key=mark.hex(),
    )
    await tx.execute(_INSERT_TEXT, source_id, day, sequence, jws.text)
    await queue_leaf(tx, manifest_leaf(facts, now, fresh.random(NONCE_BYTES)))
    return StoredManifest(day, sequence, facts.digest, jws.text, key.key_id, facts.key, received, now), True


async def _require_closable(tx: Connection, source_id: int, day: date, now: datetime) -> None:
    first = await tx.fetchval(_FIRST_DAY, source_id)
    if first is None or day < first:
        raise DayNotClosable(day, None)
    if now < closable_from(day):
        raise DayNotClosable(day, closable_from(day))


def _same(stored: StoredManifest, jws: Jws) -> StoredManifest:
    """A statement that was signed again is the same: an ES256 signature differs each time. Once the text is erased only
    the very bytes are known again."""
    if stored.jws is None or payload_of(stored.jws) != jws.payload:
        raise ManifestConflict(stored.digest)
    return stored


def statement_payload(statement: Statement) -> dict[str, Any]:
    """The payload to sign, as docs/api.md describes it."""
    return {
        "v": VERSION,
        "source": statement.source,
        "day": statement.day.isoformat(),
        "sequence": statement.sequence,
        "scenarios": {
            scenario: {
                "sent": claimed.sent,
                "credited": claimed.counts.credited,
                "refused": claimed.counts.refused,
                "duplicate": claimed.duplicate,
                "reduction_mg": str(claimed.counts.reduction_mg),
                "points": str(claimed.counts.points),
            }
            for scenario, claimed in sorted(statement.scenarios.items())
        },
        "late": list(statement.late),
    }

"""Count everything once: who holds which claim, what overlaps, how much of a cap is used. Read under locks for a whole
batch, decided item by item in memory, written back in a statement per table.

The lock order is the house's: participants are locked before anything here is read, then subjects, then claims.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from uuid import UUID

from sqlalchemy import BigInteger, Column, Date, Text, Uuid
from sqlmodel import Field

from ledger.records import record
from service.activities.claims import Demands
from service.database import Connection, ServiceTable
from service.quantification.earning import window_start
from service.quantification.model import Cap
from service.quantification.periods import LONGEST_TRIP


class Tally(ServiceTable, table=True):
    """How much of a cap a participant has used in a day, month or year, by its first day; `carried` of it before they
    were erased and came back."""

    __tablename__ = "tally"
    participant_id: UUID = Field(sa_column=Column(Uuid, primary_key=True))
    cap: str = Field(sa_column=Column(Text, primary_key=True))
    window_start: date = Field(sa_column=Column(Date, primary_key=True))
    used: int = Field(sa_column=Column(BigInteger, nullable=False))
    carried: int = Field(sa_column=Column(BigInteger, nullable=False, server_default="0"))


@record
class Wanted:
    """What one activity wants, and for whom."""

    participant_id: UUID
    activity_id: UUID
    demands: Demands


@record
class Taken:
    """A span somebody has."""

    started_at: datetime
    ended_at: datetime
    use: str | None
    activity_id: UUID

    def collides(self, started_at: datetime, ended_at: datetime, use: str | None) -> bool:
        """Whether the two overlap, and not by the same use of the same thing."""
        return self.started_at < ended_at and self.ended_at > started_at and (use is None or use != self.use)


Holder = tuple[UUID, UUID]
"""A participant and the activity of theirs that was credited."""

Key = tuple[UUID, str, date]
"""A participant's cap in one window."""


@dataclass(slots=True)
class Counted:
    """What is taken, as the batch is decided: what was read under locks, and every item's changes to it.

    rows       by claim tag: participant and activity of its row, `inserted` if this transaction made it
    holders    by claim tag: whose it is as decided so far, None when it is free
    released   reversed in this batch, with their participants: what they hold is free
    kept       credited in this batch
    carried    caps of which some was used before their participant was erased and came back
    """

    key_version: int
    rows: dict[bytes, Holder] = field(default_factory=dict)
    inserted: set[bytes] = field(default_factory=set)
    holders: dict[bytes, Holder | None] = field(default_factory=dict)
    spans: dict[bytes, list[Taken]] = field(default_factory=lambda: defaultdict(list))
    presence: dict[tuple[UUID, str], list[Taken]] = field(default_factory=lambda: defaultdict(list))
    totals: dict[bytes, list[tuple[bytes, UUID]]] = field(default_factory=lambda: defaultdict(list))
    used: dict[Key, int] = field(default_factory=dict)
    changed: set[Key] = field(default_factory=set)
    released: dict[UUID, UUID] = field(default_factory=dict)
    kept: dict[UUID, Wanted] = field(default_factory=dict)
    carried: set[Key] = field(default_factory=set)

    def holder(self, tag: bytes) -> Holder | None:
        """Who has this claim now."""
        held = self.holders[tag]
        return None if held is None or held[1] in self.released else held

    def met(self) -> list[Holder]:
        """Who held one of the claims, or was there, before this batch."""
        held = {holder for tag, holder in self.rows.items() if tag not in self.inserted}
        there = {(key[0], one.activity_id) for key, taken in self.presence.items() for one in taken}
        return sorted(held | there)

    def overlapping(self, wanted: Wanted) -> list[UUID]:
        """The participant's own activities of the same group at the same time."""
        group, demands = wanted.demands.methodology.exclusive, wanted.demands
        if group is None:
            return []
        return [
            one.activity_id
            for one in self.presence[wanted.participant_id, group]
            if one.collides(demands.since, demands.until, None) and one.activity_id not in self.released
        ]

    def collision(self, wanted: Wanted, yielding: Collection[UUID] = ()) -> tuple[str, str, UUID | None] | None:
        """The first thing that stands against it: a refusal's slug, what completes it, and the activity that came
        first; None when all is free. `yielding` are activities that would give way to it."""
        demands = wanted.demands
        for tag, names in demands.claims:
            holder = self.holder(tag)
            if holder and holder[1] not in yielding:
                return "already-claimed", names, holder[1]
        for span in demands.spans:
            earlier = self._overlapping(self.spans[span.subject], demands, span.use, yielding)
            if earlier:
                return "overlaps-claim", span.names, earlier
        group = demands.methodology.exclusive
        if group:
            earlier = self._overlapping(self.presence[wanted.participant_id, group], demands, None, yielding)
            if earlier:
                return "overlaps-activity", group, earlier
        told: dict[bytes, bytes] = {}
        for tag, fingerprint, name in demands.totals:
            if told.setdefault(tag, fingerprint) != fingerprint:  # otherwise in one and the same report
                return "baseline-differs", name, None
            for other, activity_id in self.totals[tag]:
                if other != fingerprint and activity_id not in self.released and activity_id not in yielding:
                    return "baseline-differs", name, activity_id
        return None

    def _overlapping(
        self, taken: Iterable[Taken], demands: Demands, use: str | None, yielding: Collection[UUID]
    ) -> UUID | None:
        for one in taken:
            if one.activity_id in yielding or one.activity_id in self.released:
                continue
            if one.collides(demands.since, demands.until, use):
                return one.activity_id
        return None

    def take(self, wanted: Wanted) -> None:
        """Give the activity what it demands: nothing stood against it."""
        demands = wanted.demands
        mine = Taken(demands.since, demands.until, None, wanted.activity_id)
        for tag, _ in demands.claims:
            self.holders[tag] = (wanted.participant_id, wanted.activity_id)
        for span in demands.spans:
            self.spans[span.subject].append(Taken(demands.since, demands.until, span.use, wanted.activity_id))
        if demands.methodology.exclusive:
            self.presence[wanted.participant_id, demands.methodology.exclusive].append(mine)
        for tag, fingerprint, _ in demands.totals:
            self.totals[tag].append((fingerprint, wanted.activity_id))
        self.kept[wanted.activity_id] = wanted

    def release(self, participant_id: UUID, activity_id: UUID) -> None:
        """Take back whatever a reversed credit holds."""
        self.released[activity_id] = participant_id

    def room(self, participant_id: UUID, cap: Cap, name: str, day: date) -> int:
        """How much of the cap is left in the window of this day."""
        return max(0, cap.at_most - self.used.get((participant_id, name, window_start(cap.per, day)), 0))

    def count(self, participant_id: UUID, name: str, start: date, amount: int) -> None:
        """Use up, or with a negative amount give back, some of a cap."""
        key = (participant_id, name, start)
        self.used[key] = max(0, self.used.get(key, 0) + amount)
        self.changed.add(key)


# Subjects are made and then locked in the order of their tags, so that two batches meet at the first they share.
_MAKE_SUBJECTS = """
    INSERT INTO service.claim_subject (tag, key_version)
    SELECT tag, $2 FROM unnest($1::bytea[]) AS tag ORDER BY tag ON CONFLICT DO NOTHING
"""
_LOCK_SUBJECTS = "SELECT 1 FROM service.claim_subject WHERE tag = ANY($1) ORDER BY tag FOR UPDATE"

_TAKE_CLAIMS = """
    INSERT INTO service.claim (tag, key_version, participant_id, activity_id)
    SELECT tag, $4, participant_id, activity_id FROM unnest($1::bytea[], $2::uuid[], $3::uuid[])
        AS new (tag, participant_id, activity_id) ORDER BY tag
    ON CONFLICT (tag) DO NOTHING RETURNING tag
"""  # a conflict is not swallowed: who has it is read next
_HELD_CLAIMS = "SELECT tag, participant_id, activity_id FROM service.claim WHERE tag = ANY($1)"

_SPANS = """
    SELECT DISTINCT s.subject_tag, s.started_at, s.ended_at, s.use, s.activity_id
    FROM unnest($1::bytea[], $2::timestamptz[], $3::timestamptz[], $4::timestamptz[])
        AS w (tag, since, until, not_before)
    JOIN service.claim_span s ON s.subject_tag = w.tag AND s.started_at < w.until AND s.started_at >= w.not_before
        AND s.ended_at > w.since
"""
_PRESENCE = """
    SELECT DISTINCT p.participant_id, p.exclusive_group, p.started_at, p.ended_at, p.activity_id
    FROM unnest($1::uuid[], $2::text[], $3::timestamptz[], $4::timestamptz[]) AS w (participant_id, grp, since, until)
    JOIN service.presence p ON p.participant_id = w.participant_id AND p.exclusive_group = w.grp
        AND p.started_at < w.until AND p.started_at >= w.since - $5::interval AND p.ended_at > w.since
"""
_TOTALS = "SELECT tag, fingerprint, activity_id FROM service.reading_total WHERE tag = ANY($1)"
_TALLIES = """
    SELECT t.participant_id, t.cap, t.window_start, t.used, t.carried > 0 AS carried
    FROM unnest($1::uuid[], $2::text[], $3::date[]) AS w (participant_id, cap, window_start)
    JOIN service.tally t USING (participant_id, cap, window_start)
"""

_MOVE_CLAIMS = """
    UPDATE service.claim c SET participant_id = n.participant_id, activity_id = n.activity_id
    FROM unnest($1::bytea[], $2::uuid[], $3::uuid[], $4::uuid[]) AS n (tag, participant_id, activity_id, was)
    WHERE c.tag = n.tag AND c.activity_id = n.was
"""
_FREE_CLAIMS = "DELETE FROM service.claim WHERE tag = ANY($1)"
_RELEASE = (
    "DELETE FROM service.claim WHERE activity_id = ANY($1)",
    "DELETE FROM service.claim_span WHERE activity_id = ANY($1)",
    "DELETE FROM service.reading_total WHERE activity_id = ANY($1)",
)
_RELEASE_PRESENCE = "DELETE FROM service.presence WHERE participant_id = ANY($1) AND activity_id = ANY($2)"
_COUNT = """
    INSERT INTO service.tally (participant_id, cap, window_start, used)
    SELECT * FROM unnest($1::uuid[], $2::text[], $3::date[], $4::int8[])
    ON CONFLICT (participant_id, cap, window_start) DO UPDATE SET used = excluded.used
"""
_SPAN_COLUMNS = ("subject_tag", "started_at", "ended_at", "use", "participant_id", "activity_id")
_PRESENCE_COLUMNS = ("participant_id", "exclusive_group", "started_at", "ended_at", "activity_id")
_TOTAL_COLUMNS = ("tag", "key_version", "fingerprint", "participant_id", "activity_id")
_ALWAYS = datetime(1992, 1, 1, tzinfo=UTC)  # no document is in force before


async def look(tx: Connection, wanted: Sequence[Wanted], tallies: Iterable[Key], key_version: int) -> Counted:
    """Lock and read whatever these activities could meet. The participants are locked already."""
    counted = Counted(key_version)
    await _look_at_spans(tx, counted, wanted)
    await _take_claims(tx, counted, wanted)
    totals = sorted({tag for one in wanted for tag, _, _ in one.demands.totals})
    if totals:
        for tag, fingerprint, activity_id in await tx.fetch(_TOTALS, totals):
            counted.totals[tag].append((fingerprint, activity_id))
    present = [one for one in wanted if one.demands.methodology.exclusive]
    if present:
        rows = await tx.fetch(
            _PRESENCE,
            [one.participant_id for one in present],
            [one.demands.methodology.exclusive for one in present],
            [one.demands.since for one in present],
            [one.demands.until for one in present],
            LONGEST_TRIP,
        )
        for row in rows:
            counted.presence[row["participant_id"], row["exclusive_group"]].append(
                Taken(row["started_at"], row["ended_at"], None, row["activity_id"])
            )
    keys = sorted(set(tallies))
    if keys:
        for *key, used, carried in await tx.fetch(_TALLIES, *map(list, zip(*keys, strict=True))):
            participant_id, cap, start = key
            counted.used[participant_id, cap, start] = used
            if carried:
                counted.carried.add((participant_id, cap, start))
    return counted


async def read_tally(tx: Connection, key: Key) -> int:
    """How much of one cap a participant, who is locked, has used."""
    rows = await tx.fetch(_TALLIES, *([part] for part in key))
    return rows[0]["used"] if rows else 0


async def _look_at_spans(tx: Connection, counted: Counted, wanted: Sequence[Wanted]) -> None:
    spans = [(span, one.demands) for one in wanted for span in one.demands.spans]
    meters = {one.demands.meter for one in wanted if one.demands.meter}  # a month's total is told under a lock too
    subjects = sorted({span.subject for span, _ in spans} | meters)
    if not subjects:
        return
    await tx.execute(_MAKE_SUBJECTS, subjects, counted.key_version)
    await tx.execute(_LOCK_SUBJECTS, subjects)
    if not spans:
        return
    rows = await tx.fetch(
        _SPANS,
        [span.subject for span, _ in spans],
        [demands.since for _, demands in spans],
        [demands.until for _, demands in spans],
        # Only vehicles have many spans, all of them short: of other things some are of a month or a year.
        [demands.since - LONGEST_TRIP if "vehicle" in span.names else _ALWAYS for span, demands in spans],
    )
    for row in rows:
        counted.spans[row["subject_tag"]].append(
            Taken(row["started_at"], row["ended_at"], row["use"], row["activity_id"])
        )


async def _take_claims(tx: Connection, counted: Counted, wanted: Sequence[Wanted]) -> None:
    first: dict[bytes, Holder] = {}
    for one in wanted:
        for tag, _ in one.demands.claims:
            first.setdefault(tag, (one.participant_id, one.activity_id))
    if not first:
        return
    participants, activities = map(list, zip(*first.values(), strict=True))
    taken = await tx.fetch(_TAKE_CLAIMS, list(first), participants, activities, counted.key_version)
    counted.inserted = {row["tag"] for row in taken}
    counted.rows = {tag: first[tag] for tag in counted.inserted}
    counted.holders = dict.fromkeys(counted.inserted)
    others = first.keys() - counted.inserted
    if others:
        for tag, participant_id, activity_id in await tx.fetch(_HELD_CLAIMS, list(others)):
            counted.rows[tag] = counted.holders[tag] = (participant_id, activity_id)
    if first.keys() != counted.rows.keys():  # reversed between the two statements
        raise ClaimsMoved("a claim was given back while it was looked at")


class ClaimsMoved(Exception):
    """A claim changed hands while the batch looked at it: the batch is to be tried again."""


class HoldersToLock(ClaimsMoved):
    """What holds a claim will give way, and its participant is not locked: the batch is to be tried again with
    `participant_ids` among those it locks."""

    def __init__(self, participant_ids: AbstractSet[UUID]) -> None:
        super().__init__(f"claims of {len(participant_ids)} other participants give way")
        self.participant_ids = participant_ids


async def write(tx: Connection, counted: Counted) -> None:
    """Store what was taken and give back what was released, one statement per table."""
    await _write_claims(tx, counted)
    if counted.released:
        activities, participants = list(counted.released), list(counted.released.values())
        for statement in _RELEASE:
            await tx.execute(statement, activities)
        await tx.execute(_RELEASE_PRESENCE, participants, activities)
    kept = [one for activity_id, one in counted.kept.items() if activity_id not in counted.released]
    spans = [
        (span.subject, one.demands.since, one.demands.until, span.use, one.participant_id, one.activity_id)
        for one in kept
        for span in one.demands.spans
    ]
    await _copy(tx, "claim_span", _SPAN_COLUMNS, spans)
    present = [
        (one.participant_id, group, one.demands.since, one.demands.until, one.activity_id)
        for one in kept
        if (group := one.demands.methodology.exclusive)
    ]
    await _copy(tx, "presence", _PRESENCE_COLUMNS, present)
    totals = [
        (tag, counted.key_version, fingerprint, one.participant_id, one.activity_id)
        for one in kept
        for tag, fingerprint in {tag: fingerprint for tag, fingerprint, _ in one.demands.totals}.items()
    ]
    await _copy(tx, "reading_total", _TOTAL_COLUMNS, totals)
    if counted.changed:
        rows = [(*key, counted.used[key]) for key in sorted(counted.changed)]
        await tx.execute(_COUNT, *map(list, zip(*rows, strict=True)))


async def _write_claims(tx: Connection, counted: Counted) -> None:
    """Claims end with those the decisions gave them to; of a released activity only what somebody else took is kept."""
    final = {tag: counted.holder(tag) for tag in counted.rows}
    rows = counted.rows
    moved = sorted((tag, *holder, rows[tag][1]) for tag, holder in final.items() if holder and holder != rows[tag])
    if moved:
        status = await tx.execute(_MOVE_CLAIMS, *map(list, zip(*moved, strict=True)))
        if status != f"UPDATE {len(moved)}":  # two operators' records outranked one phone's at the same moment
            raise ClaimsMoved(f"{len(moved)} claims were to change hands, the database says {status}")
    free = [tag for tag in counted.inserted if final[tag] is None]
    if free:
        await tx.execute(_FREE_CLAIMS, free)


async def _copy(tx: Connection, table: str, columns: Sequence[str], rows: Sequence[tuple[object, ...]]) -> None:
    if rows:
        await tx.copy_records_to_table(table, schema_name="service", columns=columns, records=rows)

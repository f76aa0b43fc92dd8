"""The SQL that signals are found with: who had something credited, what they did, and a source's day.

It reads times, amounts and keyed tags, and no evidence: what somebody reported stays sealed to whoever looks for abuse.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from uuid import UUID

from service.activities.intake import Refusal
from service.clock import SHANGHAI, shanghai_day, uuid7
from service.database import Connection
from service.signals.drift import HOURS, SourceDay
from service.signals.finding import Act, Person
from service.signals.rules import LONGEST_WINDOW_DAYS

MOST_ACTS = 2_000  # of one person, the latest: who has more in five weeks has been found by then
LONGEST_ACT_DAYS = 3  # how long before its recording an activity's hours are still looked for
_LOWEST = bytes(10)

_FRESH_DAYS = """
    SELECT DISTINCT a.participant_id, a.day FROM ledger.leaf l
    JOIN service.activity a ON a.participant_id = l.participant_id AND a.activity_id = l.transfer_id
    WHERE l.log_index >= $1 AND l.log_index < $2
"""
_ACTS = """
    SELECT a.*, coalesce((SELECT sum(amount) FROM ledger.movement m WHERE m.participant_id = a.participant_id
        AND m.transfer_id = a.activity_id AND m.asset = 'co2e_mg'), 0)::int8 AS mg
    FROM unnest($1::uuid[]) AS w (participant_id),
    LATERAL (
        SELECT participant_id, activity_id, source_id, scenario, day, reason FROM service.activity
        WHERE participant_id = w.participant_id AND activity_id >= $2 AND day >= $3
        ORDER BY activity_id DESC LIMIT $4
    ) AS a
    WHERE NOT EXISTS (SELECT FROM ledger.reversed r
        WHERE r.participant_id = a.participant_id AND r.transfer_id = a.activity_id)
    ORDER BY a.day, a.activity_id
"""
_PRESENCE = """
    SELECT activity_id, started_at, ended_at FROM service.presence
    WHERE participant_id = ANY($1) AND started_at >= $2 AND started_at < $3
"""
_SPANS = "SELECT activity_id, subject_tag, started_at, ended_at FROM service.claim_span WHERE activity_id = ANY($1)"
_RIDDEN = """
    SELECT subject_tag, (started_at AT TIME ZONE 'Asia/Shanghai')::date AS day, count(*) AS rides
    FROM service.claim_span WHERE subject_tag = ANY($1) AND started_at >= $2 AND started_at < $3 GROUP BY 1, 2
"""
_ENROLLED = "SELECT participant_id, enrolled_at FROM service.participant WHERE participant_id = ANY($1)"
_USUAL = "SELECT source_id, max(usual_acts) AS usual FROM service.source_day WHERE day >= $1 GROUP BY source_id"

_SOURCES = "SELECT source_id FROM service.source ORDER BY source_id"
_MINE = """
    WITH mine AS (SELECT DISTINCT participant_id FROM service.link WHERE source_id = $1),
    act AS (
        SELECT a.participant_id, a.activity_id, a.scenario, a.day, a.outcome FROM mine
        JOIN service.activity a ON a.participant_id = mine.participant_id AND a.activity_id >= $2 AND a.activity_id < $3
            AND a.source_id = $1
    )
"""  # as day manifests find a source's day: one range of ids under each of its people
_SUMS = (
    _MINE
    + """
    , person AS (
        SELECT participant_id, count(*) FILTER (WHERE outcome = 'credited') AS credited,
            count(*) FILTER (WHERE outcome = 'refused') AS refused FROM act GROUP BY participant_id
    )
    SELECT coalesce(sum(credited), 0)::int8 AS credited, coalesce(sum(refused), 0)::int8 AS refused,
        coalesce(percentile_disc(0.99) WITHIN GROUP (ORDER BY credited) FILTER (WHERE credited > 0), 0)::int8 AS usual,
        (SELECT coalesce(sum(m.amount), 0)::int8 FROM act
            JOIN ledger.movement m ON m.participant_id = act.participant_id AND m.transfer_id = act.activity_id
                AND m.asset = 'co2e_mg' WHERE act.outcome = 'credited') AS mg
    FROM person
"""
)
_HOURS = (
    _MINE
    + """
    SELECT extract(hour FROM p.started_at AT TIME ZONE 'Asia/Shanghai')::int AS hour, count(*) AS acts FROM act
    JOIN service.presence p ON p.participant_id = act.participant_id AND p.activity_id = act.activity_id
        AND p.started_at >= $4 AND p.started_at < $5
    GROUP BY 1
"""
)
_SERIES = (
    _MINE
    + """
    SELECT participant_id, array_agg(activity_id ORDER BY activity_id) AS activities FROM act
    WHERE outcome = 'credited' AND scenario = ANY($4) GROUP BY participant_id HAVING count(*) >= $5
"""
)
_PAST = """
    SELECT day, credited, refused, mg, usual_acts, hours FROM service.source_day
    WHERE source_id = $1 AND day >= $2 AND day < $3
"""


@dataclass(frozen=True, slots=True)
class Looked:
    """A person with the days on which something of theirs was credited since the last look."""

    person: Person
    days: tuple[date, ...]


def lowest_id(day: date) -> UUID:
    """No activity that arrived on this day has a lower id."""
    return uuid7(datetime.combine(day, time(), SHANGHAI), _LOWEST)


async def read_people(tx: Connection, first: int, end: int, today: date) -> dict[UUID, Looked]:
    """Everybody of whom the leaves from index `first` up to `end` tell a credit, with what they did lately.

    An activity that was recorded, or happened, more than LONGEST_WINDOW_DAYS ago is left out.
    """
    fresh: dict[UUID, set[date]] = defaultdict(set)
    for participant_id, day in await tx.fetch(_FRESH_DAYS, first, end):
        fresh[participant_id].add(day)
    if not fresh:
        return {}
    looked_at = {day for days in fresh.values() for day in days}
    span = (min(looked_at) - timedelta(days=LONGEST_WINDOW_DAYS), max(looked_at))
    recorded_since = today - timedelta(days=LONGEST_WINDOW_DAYS)
    acts = await read_acts(tx, list(fresh), recorded_since=recorded_since, span=span, vehicles_on=fresh)
    vehicles = await _read_ridden(tx, (act for own in acts.values() for act in own))
    usual = {row["source_id"]: row["usual"] for row in await tx.fetch(_USUAL, today - timedelta(days=28))}
    enrolled = {
        row["participant_id"]: shanghai_day(row["enrolled_at"]) for row in await tx.fetch(_ENROLLED, list(fresh))
    }
    return {
        participant_id: Looked(
            Person(acts[participant_id], enrolled.get(participant_id), usual, vehicles), tuple(sorted(days))
        )
        for participant_id, days in fresh.items()
    }


async def read_acts(
    tx: Connection,
    participant_ids: Sequence[UUID],
    *,
    recorded_since: date,
    span: tuple[date, date],
    vehicles_on: Mapping[UUID, Collection[date]],
) -> dict[UUID, list[Act]]:
    """What these people did in a span of days, by day, without what was reversed.

    vehicles_on   days whose vehicles are wanted too, by person
    """
    first, last = span
    rows = await tx.fetch(_ACTS, participant_ids, lowest_id(recorded_since), span[0], MOST_ACTS)
    since_at, until_at = (datetime.combine(day, time(), SHANGHAI) for day in (first, last + timedelta(days=1)))
    times = {
        activity_id: (started, ended)
        for activity_id, started, ended in await tx.fetch(_PRESENCE, participant_ids, since_at, until_at)
    }
    looked_at = [row["activity_id"] for row in rows if row["day"] in vehicles_on.get(row["participant_id"], ())]
    vehicles: dict[UUID, bytes] = {}
    for activity_id, tag, started, ended in await tx.fetch(_SPANS, looked_at):
        vehicles[activity_id] = tag
        times.setdefault(activity_id, (started, ended))
    found: dict[UUID, list[Act]] = {participant_id: [] for participant_id in participant_ids}
    for row in rows:
        activity_id, reason = row["activity_id"], row["reason"]
        started, ended = times.get(activity_id, (None, None))
        slug = Refusal.stored(reason, {}, activity_id).slug if reason else None
        about = (row["source_id"], row["scenario"], row["day"], slug, row["mg"])
        found[row["participant_id"]].append(Act(activity_id, *about, started, ended, vehicles.get(activity_id)))
    return found


async def _read_ridden(tx: Connection, acts: Iterable[Act]) -> dict[tuple[bytes, date], int]:
    ridden = [(act.vehicle, act.day) for act in acts if act.vehicle]
    if not ridden:
        return {}
    first, last = min(day for _, day in ridden), max(day for _, day in ridden) + timedelta(days=1)
    span = (datetime.combine(day, time(), SHANGHAI) for day in (first, last))
    rows = await tx.fetch(_RIDDEN, sorted({vehicle for vehicle, _ in ridden}), *span)
    return {(row["subject_tag"], row["day"]): row["rides"] for row in rows}


async def read_source_ids(tx: Connection) -> list[int]:
    """Every registered source."""
    return [row["source_id"] for row in await tx.fetch(_SOURCES)]


async def read_source_day(tx: Connection, source_id: int, day: date) -> SourceDay:
    """What arrived from a source on a day that is over."""
    mine = (source_id, lowest_id(day), lowest_id(day + timedelta(days=1)))
    sums = await tx.fetchrow(_SUMS, *mine)
    assert sums is not None  # an aggregate always has a row
    begin = datetime.combine(day - timedelta(days=LONGEST_ACT_DAYS), time(), SHANGHAI)
    end = datetime.combine(day + timedelta(days=1), time(), SHANGHAI)
    hours = {row["hour"]: row["acts"] for row in await tx.fetch(_HOURS, *mine, begin, end)}
    return SourceDay(
        day,
        sums["credited"],
        sums["refused"],
        sums["mg"],
        sums["usual"],
        tuple(hours.get(hour, 0) for hour in range(HOURS)),
    )


async def read_past(tx: Connection, source_id: int, day: date, days: int) -> list[SourceDay]:
    """A source's days before this one."""
    rows = await tx.fetch(_PAST, source_id, day - timedelta(days=days), day)
    return [SourceDay(**{**row, "hours": tuple(row["hours"])}) for row in rows]


async def read_series(
    tx: Connection, source_id: int, day: date, scenarios: Sequence[str], least: int
) -> dict[UUID, list[Act]]:
    """Of everybody with at least so many credits of these scenarios that arrived from a source on a day: all they did
    lately on the days of those."""
    mine = (source_id, lowest_id(day), lowest_id(day + timedelta(days=1)))
    rows = await tx.fetch(_SERIES, *mine, list(scenarios), least)
    if not rows:
        return {}
    people = [row["participant_id"] for row in rows]
    wanted = {row["participant_id"]: set(row["activities"]) for row in rows}
    span = (day - timedelta(days=LONGEST_WINDOW_DAYS), day)
    acts = await read_acts(tx, people, recorded_since=day, span=span, vehicles_on={})
    return {each: [act for act in own if act.activity_id in wanted[each]] for each, own in acts.items()}

"""A source's key was in wrong hands: end it from a moment on, find what it signed since, and what of that still stands.

Nothing is taken back here: that is for the poster, under a participant's lock, a credit at a time. Asking again finds
what is left.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from uuid import UUID

from service.activities.licences import Licence
from service.clock import Fresh
from service.database import Connection
from service.manifests import RegisteredKey, read_keys, register_key

LOOKING_S = 300.0  # for a source with millions of people; posting does not wait for it
MOST_NAMED = 366  # of manifests and of calls that reported no activity
_EARLIER = timedelta(minutes=10)
"""An id bears the clock of the API process that made it, and the moment of reception the database's."""


class KeyNotFound(Exception):
    """The source has no key of this id."""


@dataclass(frozen=True, slots=True)
class StandingCredit:
    """A credit that rests on the key and has not been taken back: milligrams CO2e, points."""

    participant_id: UUID
    activity_id: UUID
    co2e_mg: int
    points: int


@dataclass(frozen=True, slots=True)
class OtherCall:
    """A call that reported no activity: a settlement, a retraction."""

    path: str
    received_at: datetime


@dataclass(frozen=True, slots=True)
class SignedSince:
    """What a key signed from a moment on.

    calls      reports that were taken
    credited   credits that they led to
    gone       of these, taken back before
    standing   the oldest of those that stand, as many as were asked for; `left` is how many there are in all
    others     calls that reported no activity, the newest, and manifests by their day and number: to be looked at
    """

    calls: int
    credited: int
    gone: int
    left: int
    standing: Sequence[StandingCredit]
    others: Sequence[OtherCall]
    manifests: Sequence[tuple[date, int]]


_DECIDE = """
    INSERT INTO service.key_revocation (source_id, key_id, revoked_from, decided_by, decided_at)
    VALUES ($1, $2, $3, $4, clock_timestamp() + $5::interval) ON CONFLICT DO NOTHING
"""  # the same decision again is no other
_DECIDED = """
    SELECT true FROM service.key_revocation WHERE source_id = $1 AND key_id = $2 AND revoked_from <= $3 LIMIT 1
"""

_KEY = "SELECT true FROM service.source_key WHERE source_id = $1 AND key_id = $2"
_CALLS = """
    SELECT count(*) FROM service.signed_report
    WHERE source_id = $1 AND key_id = $2 AND call_id >= $3 AND received_at >= $4 AND activities <> '{}'
"""
_OTHERS = f"""
    SELECT path, received_at FROM service.signed_report
    WHERE source_id = $1 AND key_id = $2 AND call_id >= $3 AND received_at >= $4 AND activities = '{{}}'
    ORDER BY call_id DESC LIMIT {MOST_NAMED}
"""
# An activity's id does not say whose it is: the ids since then are one range under each person the source was ever
# linked to, as when a day is counted (service/manifests.py).
_CREDITS = """
    WITH named AS MATERIALIZED (
        SELECT DISTINCT unnest(activities) AS activity_id FROM service.signed_report
        WHERE source_id = $1 AND key_id = $2 AND call_id >= $3 AND received_at >= $4
    ), credited AS MATERIALIZED (
        SELECT a.participant_id, a.activity_id, r.transfer_id IS NOT NULL AS gone
        FROM (SELECT DISTINCT participant_id FROM service.link WHERE source_id = $1) AS l
        JOIN service.activity a ON a.participant_id = l.participant_id AND a.activity_id >= $3
            AND a.source_id = $1 AND a.outcome = 'credited'
        JOIN named n ON n.activity_id = a.activity_id
        LEFT JOIN ledger.reversed r ON r.participant_id = a.participant_id AND r.transfer_id = a.activity_id
    ), counted AS (
        SELECT count(*) AS credited, count(*) FILTER (WHERE gone) AS gone FROM credited
    )
    SELECT c.credited, c.gone, s.* FROM counted c LEFT JOIN LATERAL (
        SELECT o.participant_id, o.activity_id, m.co2e_mg, m.points
        FROM (SELECT participant_id, activity_id FROM credited WHERE NOT gone ORDER BY activity_id LIMIT $5) AS o,
        LATERAL (
            SELECT coalesce(sum(amount) FILTER (WHERE asset = 'co2e_mg'), 0)::int8 AS co2e_mg,
                coalesce(sum(amount) FILTER (WHERE asset = 'points'), 0)::int8 AS points
            FROM ledger.movement WHERE participant_id = o.participant_id AND transfer_id = o.activity_id
        ) AS m
    ) AS s ON true
    ORDER BY s.activity_id
"""
_MANIFESTS = f"""
    SELECT day, sequence FROM service.manifest WHERE source_id = $1 AND key_id = $2 AND recorded_at >= $3
    ORDER BY day DESC, sequence DESC LIMIT {MOST_NAMED}
"""


async def is_decided(tx: Connection, source_id: int, key_id: str, since: datetime) -> bool:
    """Whether the key was revoked from this moment, or an earlier one, before."""
    return bool(await tx.fetchval(_DECIDED, source_id, key_id, since))


async def revoke_key(
    tx: Connection, licence: Licence, key_id: str, since: datetime, by: str, fresh: Fresh, offset: timedelta
) -> datetime:
    """End a key from a moment on, the log has a leaf of it, and write down who decided so; when it ends now. Again the
    same changes nothing, and a key that has ended earlier stays so. Call it inside a transaction.

    Raises KeyNotFound.
    """
    key = next((key for key in await read_keys(tx, licence.source_id) if key.key_id == key_id), None)
    if key is None:
        raise KeyNotFound
    ends = max(since, key.valid_from + timedelta(seconds=1))  # a key has counted for a moment, or was none
    if key.valid_to is None or ends < key.valid_to:
        ended = RegisteredKey(key.key_id, key.public_key, key.valid_from, ends)
        await register_key(tx, licence, ended, fresh, offset)
    else:
        ends = key.valid_to
    await tx.execute(_DECIDE, licence.source_id, key_id, since, by, offset)
    return ends


async def find_signed(tx: Connection, source_id: int, key_id: str, since: datetime, most: int) -> SignedSince:
    """What a key signed from a moment on, by when it was received: whoever has a key can sign any time into a call, and
    no other time of ours. Call it inside a transaction. Raises KeyNotFound."""
    if not await tx.fetchval(_KEY, source_id, key_id):
        raise KeyNotFound
    await tx.execute(f"SET LOCAL statement_timeout = {int(LOOKING_S * 1000)}")
    first = _first_id(since - _EARLIER)
    calls: int = await tx.fetchval(_CALLS, source_id, key_id, first, since, timeout=LOOKING_S)
    rows = await tx.fetch(_CREDITS, source_id, key_id, first, since, most, timeout=LOOKING_S)
    standing = [StandingCredit(*row[2:]) for row in map(tuple, rows) if row[2] is not None]
    others = await tx.fetch(_OTHERS, source_id, key_id, first, since)
    manifests = await tx.fetch(_MANIFESTS, source_id, key_id, since)
    credited, gone = rows[0]["credited"], rows[0]["gone"]
    return SignedSince(
        calls,
        credited,
        gone,
        credited - gone,
        standing,
        [OtherCall(*row) for row in others],
        [(row["day"], row["sequence"]) for row in manifests],
    )


def _first_id(moment: datetime) -> UUID:
    """No UUIDv7 of this moment or later is less."""
    return UUID(int=max(0, int(moment.timestamp() * 1000)) << 80)

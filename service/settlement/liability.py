"""What is owed: points outstanding by the day they expire on, points held, and how long each pool lasts at its burn.

A report for operators: it reads every open bucket and every redemption once, in one snapshot.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from service.clock import shanghai_day
from service.database import Connection
from service.redemption.pools import Pool, read_pools

BURN_DAYS = 30  # long enough for the weekly rhythm of payments, short enough to notice a campaign
FARTHEST = timedelta(days=36_525)  # a hundred years; a forecast beyond says no more than that it lasts
REPORT_S = 300.0  # for a programme with millions of people; posting does not wait for it


@dataclass(frozen=True, slots=True)
class Liability:
    """Points of a programme that somebody may still spend, as of one moment.

    by_expiry     available points by the last day on which they can be used, soonest first
    pending       credited and not settled; they have no last day yet
    held          reserved by holds that are alive
    held_ended    reserved by holds whose time has passed, to be given back
    lapsed_unwritten  available by the books, in buckets past their day: dead, and not written down yet
    debt          owed by participants
    closed        of by_expiry and pending, in accounts of people who were forgotten: nobody can use them
    """

    at: datetime
    programme: str
    by_expiry: Mapping[date, int]
    pending: int
    held: int
    held_ended: int
    lapsed_unwritten: int
    debt: int
    closed: int

    @property
    def available(self) -> int:
        """Everything that can be spent now."""
        return sum(self.by_expiry.values())


@dataclass(frozen=True, slots=True)
class PoolStatus:
    """How a pool stands and how long it lasts.

    held      of its budget in holds that are neither captured nor given back: points and fen
    paid      of its budget in captures that were not refunded
    burnt     captured and not refunded within the last `burn_days` days
    empty_on  the day on which it is empty at that burn; None when it is not in a hundred years, or nothing burns
    """

    pool: Pool
    held_points: int
    held_fen: int
    paid_points: int
    paid_fen: int
    burn_days: int
    burnt_points: int
    burnt_fen: int
    empty_on: date | None


_NOW = "SELECT clock_timestamp() + $1::interval"
_BY_EXPIRY = """
    SELECT b.expires_on, sum(b.available)::int8 AS points FROM ledger.bucket b
    JOIN ledger.account a ON a.participant_id = b.participant_id
    WHERE a.programme = $1 AND b.available > 0 AND b.expires_on >= $2 GROUP BY b.expires_on ORDER BY b.expires_on
"""
_SUMS = """
    SELECT coalesce(sum(points_available), 0)::int8 AS available, coalesce(sum(points_pending), 0)::int8 AS pending,
        coalesce(sum(points_debt), 0)::int8 AS debt
    FROM ledger.account WHERE programme = $1
"""
_HELD = """
    SELECT coalesce(sum(h.points_left) FILTER (WHERE h.expires_at > $2), 0)::int8 AS held,
        coalesce(sum(h.points_left) FILTER (WHERE h.expires_at <= $2), 0)::int8 AS ended
    FROM ledger.hold h JOIN ledger.account a ON a.participant_id = h.participant_id
    WHERE a.programme = $1 AND h.points_left > 0
"""
_CLOSED = """
    SELECT coalesce(sum(a.points_pending), 0)::int8 + coalesce(sum((SELECT sum(b.available) FROM ledger.bucket b
        WHERE b.participant_id = a.participant_id AND b.expires_on >= $2)), 0)::int8
    FROM service.erasure e JOIN ledger.account a USING (participant_id) WHERE a.programme = $1
"""
# Points and value are whole multiples of the units, so each step's part of them is exact.
_OF_POOLS = """
    SELECT pool, coalesce(sum(units_left * (points / units)), 0)::int8 AS held_points,
        coalesce(sum(units_left * (value_fen / units)), 0)::int8 AS held_fen,
        coalesce(sum((units_captured - units_refunded) * (points / units)), 0)::int8 AS paid_points,
        coalesce(sum((units_captured - units_refunded) * (value_fen / units)), 0)::int8 AS paid_fen
    FROM service.redemption WHERE pool = ANY($1) GROUP BY pool
"""
_BURNT = """
    SELECT r.pool, sum(CASE e.kind WHEN 'capture' THEN e.points ELSE -e.points END)::int8 AS points,
        sum(CASE e.kind WHEN 'capture' THEN e.value_fen ELSE -e.value_fen END)::int8 AS fen
    FROM service.bank b
    JOIN service.redemption_entry e ON e.bank_id = b.bank_id AND e.day > $2 AND e.kind IN ('capture', 'refund')
    JOIN service.redemption r ON r.participant_id = e.participant_id AND r.redemption_id = e.redemption_id
    WHERE r.pool = ANY($1) GROUP BY r.pool
"""
_NOTHING = dict.fromkeys(("held_points", "held_fen", "paid_points", "paid_fen", "points", "fen"), 0)


def forecast(left: int, burnt: int, days: int, today: date) -> date | None:
    """The day on which what is left is used up, if as much goes every day as went on average; None for no such day.

    left, burnt  of one budget, points or fen; `burnt` within `days` days
    """
    if burnt <= 0:
        return None
    lasts = -(-left * days // burnt)  # whole days, rounded up: on the last of them something is left in the morning
    return None if lasts > FARTHEST.days else today + timedelta(days=lasts)


async def read_liability(tx: Connection, programme: str, clock_offset: timedelta) -> Liability:
    """What is owed in points. Call it inside a read-only repeatable-read transaction, so that the sums agree."""
    await tx.execute(f"SET LOCAL statement_timeout = {int(REPORT_S * 1000)}")
    at: datetime = await tx.fetchval(_NOW, clock_offset)
    buckets = await tx.fetch(_BY_EXPIRY, programme, shanghai_day(at), timeout=REPORT_S)
    sums = await tx.fetchrow(_SUMS, programme, timeout=REPORT_S)
    held = await tx.fetchrow(_HELD, programme, at, timeout=REPORT_S)
    closed: int = await tx.fetchval(_CLOSED, programme, shanghai_day(at), timeout=REPORT_S)
    assert sums is not None
    assert held is not None
    by_expiry = {row["expires_on"]: row["points"] for row in buckets}
    return Liability(
        at=at,
        programme=programme,
        by_expiry=by_expiry,
        pending=sums["pending"],
        held=held["held"],
        held_ended=held["ended"],
        lapsed_unwritten=sums["available"] - sum(by_expiry.values()),
        debt=sums["debt"],
        closed=closed,
    )


async def read_pool_statuses(tx: Connection, today: date, funder: str | None = None) -> list[PoolStatus]:
    """Every pool, or those of a funder, by code. Call it inside a read-only repeatable-read transaction."""
    await tx.execute(f"SET LOCAL statement_timeout = {int(REPORT_S * 1000)}")
    pools = [pool for pool in await read_pools(tx) if funder in (None, pool.terms.funder)]
    codes = [pool.terms.pool for pool in pools]
    used = {row["pool"]: dict(row) for row in await tx.fetch(_OF_POOLS, codes, timeout=REPORT_S)}
    since = today - timedelta(days=BURN_DAYS)
    burnt = {row["pool"]: dict(row) for row in await tx.fetch(_BURNT, codes, since, timeout=REPORT_S)}
    return [
        _status(pool, used.get(pool.terms.pool, _NOTHING), burnt.get(pool.terms.pool, _NOTHING), today)
        for pool in pools
    ]


def _status(pool: Pool, used: Mapping[str, int], burnt: Mapping[str, int], today: date) -> PoolStatus:
    points, fen = burnt["points"], burnt["fen"]
    days = min(BURN_DAYS, (today - shanghai_day(pool.opened_at)).days + 1)  # a young pool burns since it was opened
    ends = [forecast(pool.left_points, points, days, today), forecast(pool.left_fen, fen, days, today)]
    return PoolStatus(
        pool=pool,
        held_points=used["held_points"],
        held_fen=used["held_fen"],
        paid_points=used["paid_points"],
        paid_fen=used["paid_fen"],
        burn_days=days,
        burnt_points=points,
        burnt_fen=fen,
        empty_on=min((end for end in ends if end is not None), default=None),
    )

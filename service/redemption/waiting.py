"""Waiting for a pool that is short 候补: whose terms say `queue` is served in turn, whose terms say `pro_rata` shares.

Nothing is held while somebody waits, so that the points stay free to be used otherwise. What was agreed is kept; when
the turn comes the hold is placed on those words, and whatever refuses a hold then ends the waiting with its reason.
Sharing happens whenever a pool that shares has something left: each of those who wait and could still pay gets the same
part of what they wish, in whole units and rounded down; where that is too little for the offer they go on waiting.

Nobody can stand in the way: a person waits for a pool once, for no more than they could pay for now and the pool could
ever pay, and whoever could no longer pay when their turn comes is passed over with the reason.
"""

import asyncio
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NoReturn
from uuid import UUID

import structlog

from service.activities.intake import Refusal
from service.banks.registry import read_bank
from service.clock import Fresh
from service.database import FAULTS, Connection
from service.database import Pool as Connections
from service.log.watch import PostingSuspended
from service.poster import DatabaseAway, Poster, QueueFull
from service.products.catalogue import Offers
from service.products.model import Facts, Offer, reasons
from service.redemption.commands import Redeemed
from service.redemption.placing import Agreed, ConsentTextDiffers, build_hold
from service.redemption.pools import Pool, read_pools

_log = structlog.get_logger(__name__)

WAITING_DAYS = 30  # a wish is not for ever: whoever still wants it says so again
EVERY_S = 2.0
AT_ONCE = 100  # looked at in one step
SHARED_AMONG = 100_000  # who waits for a pool that shares: all of them are looked at together
_SERVING = 7262022  # the advisory lock of whoever serves those who wait, for all pools
_PASSING: tuple[type[Exception], ...] = (*FAULTS, DatabaseAway, QueueFull, PostingSuspended)


class WishTooLarge(Exception):
    """More is wished than could ever be held: `reason` is the slug of the problem that a hold would end with."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class PoolNotShort(Exception):
    """There is nothing to wait for: the pool has what was asked, or its terms let nobody wait."""


class WishNotFound(Exception):
    """No such wish of this participant that still waits."""


@dataclass(frozen=True, slots=True)
class Wish:
    """Somebody who waits, or no longer does.

    state   waiting, placed, refused, left or expired; `reason` is the slug of what refused the hold
    ahead   how many wait before them, of one that waits; None otherwise
    """

    participant_id: UUID
    wish_id: UUID
    pool: str
    offer: str
    offer_version: int
    units: int
    points: int
    text_version: str
    given_at: datetime
    state: str
    reason: str | None
    redemption_id: UUID | None
    created_at: datetime
    expires_at: datetime
    ended_at: datetime | None
    ahead: int | None = None


_COLUMNS = (
    "w.participant_id, w.wish_id, w.pool, w.offer, w.offer_version, w.units, w.points, w.text_version, w.given_at, "
    "w.state, w.reason, w.redemption_id, w.created_at, w.expires_at, w.ended_at"
)
_JOIN = f"""
    INSERT INTO service.redemption_wish AS w
        (participant_id, wish_id, pool, offer, offer_version, units, points, text_version, given_at, state, created_at,
         expires_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 'waiting', $10, $11)
    ON CONFLICT (participant_id, pool) WHERE state = 'waiting' DO NOTHING RETURNING {_COLUMNS}
"""
_MINE = f"""
    SELECT {_COLUMNS}, CASE w.state WHEN 'waiting' THEN (SELECT count(*)::int8 FROM service.redemption_wish o
        WHERE o.pool = w.pool AND o.state = 'waiting' AND o.wish_id < w.wish_id) END AS ahead
    FROM service.redemption_wish w WHERE w.participant_id = $1 ORDER BY w.wish_id DESC LIMIT $2
"""
_WAITING = f"""
    SELECT {_COLUMNS} FROM service.redemption_wish w WHERE w.pool = $1 AND w.state = 'waiting'
    ORDER BY w.wish_id LIMIT $2
"""
_POOLS = "SELECT DISTINCT pool FROM service.redemption_wish WHERE state = 'waiting' ORDER BY pool"
_MINE_THERE = f"""
    SELECT {_COLUMNS} FROM service.redemption_wish w
    WHERE w.participant_id = $1 AND w.pool = $2 AND w.state = 'waiting'
"""
_ABLE = """
    SELECT a.participant_id FROM ledger.account a JOIN unnest($1::uuid[], $2::int8[]) AS w (participant_id, points)
    USING (participant_id) WHERE a.points_available >= w.points
"""
_END = """
    UPDATE service.redemption_wish SET state = $3, reason = $4, ended_at = $5
    WHERE participant_id = $1 AND wish_id = $2 AND state = 'waiting'
"""


async def join(
    tx: Connection, participant_id: UUID, offer: Offer, facts: Facts, agreed: Agreed, pool: Pool, fresh: Fresh
) -> Wish:
    """Begin to wait; who waits for this pool already goes on with what they said first. In a transaction.

    Raises ConsentTextDiffers, WishTooLarge, and PoolNotShort where a hold would not be refused for the pool.
    """
    if agreed.text_version != offer.text_version:
        raise ConsentTextDiffers
    there = await tx.fetchrow(_MINE_THERE, participant_id, offer.pool)
    if there is not None:
        return Wish(*there)
    _require_possible(offer, facts, agreed, pool)
    waits = await tx.fetch(_WAITING, offer.pool, 1)
    enough = pool.left_points >= agreed.points and pool.left_fen >= offer.value_fen(agreed.units)
    if pool.terms.shortage == "stop" or (enough and not waits):
        raise PoolNotShort
    now = fresh.clock()
    about = (offer.pool, offer.id, offer.version, agreed.units, agreed.points, agreed.text_version, agreed.given_at)
    row = await tx.fetchrow(_JOIN, participant_id, fresh.id(), *about, now, now + timedelta(days=WAITING_DAYS))
    row = row or await tx.fetchrow(_MINE_THERE, participant_id, offer.pool)  # said twice at the same moment
    if row is None:
        raise PoolNotShort  # and served in between
    return Wish(*row)


def _require_possible(offer: Offer, facts: Facts, agreed: Agreed, pool: Pool) -> None:
    terms, points, fen = pool.terms, agreed.points, offer.value_fen(agreed.units)
    if reasons(offer, facts, agreed.units):
        raise WishTooLarge("not-eligible")
    if points != offer.points(agreed.units, facts):
        raise WishTooLarge("price-changed")
    if points > facts.available_points:
        raise WishTooLarge("points-not-enough")
    if points > (terms.points_per_person_per_day or points):
        raise WishTooLarge("pool-person-limit")
    if points > (terms.points_per_day or points):
        raise WishTooLarge("pool-daily-limit")
    if points > max(pool.budget_points, pool.left_points) or fen > max(pool.budget_fen, pool.left_fen):
        raise WishTooLarge("pool-exhausted")


async def leave(tx: Connection, participant_id: UUID, wish_id: UUID, now: datetime) -> None:
    """Wait no longer. Raises WishNotFound when this wish does not wait."""
    if await tx.execute(_END, participant_id, wish_id, "left", None, now) == "UPDATE 0":
        raise WishNotFound


async def read_wishes(tx: Connection, participant_id: UUID, limit: int) -> list[Wish]:
    """What a participant waits for, or waited for, newest first."""
    return [Wish(*row) for row in await tx.fetch(_MINE, participant_id, limit)]


def shares(wishes: Sequence[Wish], value_fen: Mapping[UUID, int], points: int, fen: int) -> dict[UUID, int]:
    """Whole units for each wish where so many points and fen are shared among them: the same part of every wish, as
    large as both allow, rounded down.

    value_fen   what one unit of each wish costs the pool
    """
    wanted_points = sum(wish.points for wish in wishes)
    wanted_fen = sum(value_fen[wish.wish_id] * wish.units for wish in wishes)
    found = {}
    for wish in wishes:
        by_points = wish.units * points // wanted_points if wanted_points else wish.units
        by_fen = wish.units * fen // wanted_fen if wanted_fen else wish.units
        found[wish.wish_id] = min(wish.units, by_points, by_fen)
    return found


@dataclass(frozen=True, slots=True)
class Desk:
    """What waiting people are served with."""

    connections: Connections
    poster: Poster
    offers: Offers
    fresh: Fresh

    async def serve_all(self) -> int:
        """Serve every pool that somebody waits for; how many no longer wait. Others who serve at the same moment find
        that somebody does, and pass on."""
        async with self.connections.acquire() as connection:
            if not await connection.fetchval("SELECT pg_try_advisory_lock($1)", _SERVING):
                return 0
            try:
                codes = [row["pool"] for row in await connection.fetch(_POOLS)]
                return sum([await self._serve(connection, code) for code in codes])
            finally:
                await connection.execute("SELECT pg_advisory_unlock($1)", _SERVING)

    async def _serve(self, connection: Connection, code: str) -> int:
        """Serve those who wait for one pool; each step is a transaction of its own, so that nothing waits for it."""
        (pool,) = await read_pools(connection, [code])
        if pool.state != "open":
            return 0
        sharing = pool.terms.shortage == "pro_rata"
        waiting = [Wish(*row) for row in await connection.fetch(_WAITING, code, SHARED_AMONG if sharing else AT_ONCE)]
        now = self.fresh.clock()
        live = [wish for wish in waiting if wish.expires_at > now]
        for wish in waiting:
            if wish.expires_at <= now:
                await _end(connection, wish, "expired", now)
        served = await (self._share(connection, pool, live) if sharing else self._in_turn(connection, live))
        return len(waiting) - len(live) + served

    async def _in_turn(self, connection: Connection, waiting: Sequence[Wish]) -> int:
        served = 0
        for wish in waiting:
            outcome = await self._place(connection, wish, wish.units)
            if isinstance(outcome, Refusal):
                if outcome.slug in ("pool-exhausted", "pool-daily-limit"):
                    break  # nobody overtakes
                await _end(connection, wish, "refused", self.fresh.clock(), outcome.slug)
            served += 1  # a hold has ended the waiting in its own transaction
        return served

    async def _share(self, connection: Connection, pool: Pool, waiting: Sequence[Wish]) -> int:
        able = await connection.fetch(
            _ABLE, [wish.participant_id for wish in waiting], [wish.points for wish in waiting]
        )
        pay = {row["participant_id"] for row in able}
        served = 0
        for wish in waiting:
            if wish.participant_id not in pay:
                await _end(connection, wish, "refused", self.fresh.clock(), "points-not-enough")
                served += 1
        sharing = [wish for wish in waiting if wish.participant_id in pay]
        offers = {wish.wish_id: self._offer(wish) for wish in sharing}
        costs = {wish_id: offer.value_fen_per_unit if offer else 0 for wish_id, offer in offers.items()}
        parts = shares(sharing, costs, pool.left_points, pool.left_fen)
        for wish in sharing:
            offer = offers[wish.wish_id]
            if parts[wish.wish_id] < (offer.min_units if offer else 1):
                continue
            outcome = await self._place(connection, wish, parts[wish.wish_id])
            if isinstance(outcome, Refusal):
                if outcome.slug in ("pool-exhausted", "pool-daily-limit"):
                    continue
                await _end(connection, wish, "refused", self.fresh.clock(), outcome.slug)
            served += 1
        return served

    def _offer(self, wish: Wish) -> Offer | None:
        return self.offers.offer(wish.offer, wish.offer_version)

    async def _place(self, tx: Connection, wish: Wish, units: int) -> Redeemed | Refusal:
        offer = self._offer(wish)
        bank = await read_bank(tx, offer.bank) if offer else None
        if offer is None or bank is None:
            return Refusal("offer-not-listed", {})
        agreed = Agreed(units, wish.points // wish.units * units, wish.text_version, wish.given_at)
        by = (wish.wish_id, wish.units)
        command = build_hold(wish.participant_id, offer, bank.bank_id, agreed, None, self.fresh, None, *by)
        (outcome,) = await self.poster.post([command])
        assert isinstance(outcome, Redeemed | Refusal)
        return outcome


async def _end(tx: Connection, wish: Wish, state: str, now: datetime, reason: str | None = None) -> None:
    await tx.execute(_END, wish.participant_id, wish.wish_id, state, reason, now)


async def keep_serving(desk: Desk) -> NoReturn:
    """Serve for as long as the process does."""
    while True:
        await asyncio.sleep(random.uniform(0.5, 1.5) * EVERY_S)
        try:
            await desk.serve_all()
        except _PASSING as error:
            _log.warning("nobody who waits was served", because=type(error).__name__)

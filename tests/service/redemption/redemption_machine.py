"""A machine that redeems through the real poster and beside it in the reference model, and compares every answer and
every balance: holds, captures, releases and refunds among credits, their reversals, lapses and holds that die."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

import asyncpg
from anyio.from_thread import BlockingPortal
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from service.activities.intake import Refusal
from service.clock import Fresh, system_clock
from service.participants import exclude_postings
from service.poster import Poster
from service.posting import Outcome, Reverse, Reversed
from service.products.model import Offer
from service.reading import Balance, BalanceReader
from service.redemption.commands import CaptureHold, PlaceHold, Redeemed, RedemptionCommand, RefundCapture, ReleaseHold
from service.redemption.commands import Step as TakenStep
from service.redemption.pools import BudgetSpent, PoolState, read_pools, set_pool_state
from service.redemption.reading import accept
from service.redemption.sweeping import sweep_dead
from service.worker import drain
from tests.ledger.model import SHANGHAI, judged, month_end
from tests.running import Person, pooled, ride
from tests.service.redemption.redemption_model import Answer, Held, Model, Purse, Till
from tests.service.redemption.redemption_world import Market, call

T = TypeVar("T")

_PLACE = st.integers(0, 10**6)
_UNITS = st.sampled_from([2, 1, 3, 2, 4, 1, 9])
_KINDS = ["hold", "capture", "voided", "refund", "twice", "capture", "hold"]
_HOUR_S, _DAY_S = 3600, 86_400


@dataclass
class Moment:
    """A moment of the stories: what the clock says then, and a poster whose clock says so."""

    now: datetime
    offset: timedelta
    poster: Poster
    fresh: Fresh
    balances: BalanceReader

    @property
    def month(self) -> int:
        return self.now.year * 12 + self.now.month - 1


def moments(today: datetime) -> list[datetime]:
    """Two hours, a day, a new year, and the night in which the first buckets run out."""
    first = today.year * 12 + today.month  # the month after this one, so that no clock goes backwards
    day = month_end(first)
    noon = datetime(day.year, day.month, 15, 12, tzinfo=SHANGHAI)
    end = month_end(first + 24)
    night = datetime(end.year, end.month, end.day, 23, tzinfo=SHANGHAI)
    return [
        noon,
        noon + timedelta(hours=2),
        noon + timedelta(days=1),
        noon + timedelta(days=31),
        night,
        night + timedelta(minutes=90),
        night + timedelta(minutes=210),
        night + timedelta(days=45),
    ]


@dataclass
class World:
    """The real platform, and the moments of its stories."""

    portal: BlockingPortal
    market: Market
    moments: list[Moment]
    offers: dict[str, Offer] = field(default_factory=dict)

    def call(self, work: Callable[..., Awaitable[T]], *values: Any) -> T:
        """Run this in the API's event loop."""
        return self.portal.call(work, *values)

    def stand_at(self, number: int) -> Moment:
        """Let everything that is asked of the API happen at this moment."""
        moment, platform = self.moments[number], self.market.api.platform
        platform.poster, platform.fresh, platform.balances = moment.poster, moment.fresh, moment.balances
        return moment


async def open_moments(market: Market) -> list[Moment]:
    """A poster for each moment; they share the API's connections and rules."""
    platform, found = market.api.platform, []
    for now in moments(datetime.now(SHANGHAI)):
        offset = now - datetime.now(SHANGHAI)
        fresh = Fresh(system_clock(offset))
        poster = Poster(
            platform.pool, platform.rules, platform.vault, fresh, clock_offset=offset, lanes=2, queue_items=10_000
        )
        found.append(Moment(now, offset, poster, fresh, BalanceReader(platform.pool, fresh.clock)))
    return found


def told(outcome: Outcome) -> Answer:
    """An outcome in the model's words."""
    if isinstance(outcome, Refusal):
        return ("refused", outcome.slug)
    if isinstance(outcome, Reversed):
        return ("reversed", outcome.repeated)
    assert isinstance(outcome, Redeemed), outcome
    state = outcome.redemption
    now = (state.state, state.units_left, state.units_captured, state.units_refunded)
    rest = None if outcome.rest is None else _step(outcome.rest)
    return ("done", outcome.repeated, _step(outcome.step), rest, now)


def _step(step: TakenStep) -> Answer:
    amounts = (step.units, step.points, step.value_fen, step.co2e_mg, step.repaid_points, step.lapsed_points)
    return (step.kind, step.reason, *amounts)


class Redeeming(RuleBasedStateMachine):
    """One story of three people, two pools and three offers."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world, self.market = world, world.market
        self.model = Model()
        self.place_in_time = 0
        self.moment = world.stand_at(0)
        self.people: list[Person] = []
        self.credits: list[tuple[UUID, UUID, int, int, int]] = []
        self.sent: list[RedemptionCommand] = []
        self.offers: list[Offer] = []
        self.pools: list[str] = []

    @initialize(start=st.sampled_from(["rich", "poor", "two buckets", "night"]), short=st.booleans())
    def begin(self, start: str, short: bool) -> None:
        budget = (150, 1_700) if short else (10_000, 100_000)
        limits = {"points_per_day": 140, "points_per_person_per_day": 80}
        self.pools = [
            self.world.call(lambda: self.market.pool(*budget)),
            self.world.call(lambda: self.market.pool(10_000, 100_000, **limits)),
        ]
        self.model.tills = {self.pools[0]: Till(*budget), self.pools[1]: Till(10_000, 100_000, 140, 80)}
        passing = {
            "grams_mg_per_point": 500,
            "hold_seconds": 2 * _HOUR_S,
            "points_per_unit": 8,
            "value_fen_per_unit": 70,
        }
        capped = {"per_person_per_year": 12, "max_units": 10, "min_units": 2, "hold_seconds": 40 * _DAY_S}
        kinds: list[dict[str, Any]] = [{"hold_seconds": _HOUR_S}, passing, capped]
        for number, changes in enumerate(kinds):
            plain = self.world.offers.setdefault(str(number), self.world.call(lambda c=changes: self._offer(c)))
            self.offers += [replace(plain, pool=self.pools[0]), replace(plain, pool=self.pools[1])]
        self.people = [self.world.call(self.market.api.person) for _ in range(3)]
        self.model.purses = {UUID(one.participant_id): Purse() for one in self.people}
        for number in range(3 if start == "poor" else 6):
            self.earn(number, 4000)
        if start == "night":  # holds of points that run out at midnight, some of which die after it
            self.move_to(4)
            for number in range(5):
                self.ask(self.placing(number * 22 + 4, 2))
            self.reverse(0)
            self.move_to(5)
        if start == "two buckets":
            self.move_to(3)
            for number in range(3):
                self.earn(number, 1500)

    async def _offer(self, changes: dict[str, Any]) -> Offer:
        return await self.market.offer(self.pools[0], **changes)

    def move_to(self, number: int) -> None:
        self.place_in_time = number
        self.moment = self.world.stand_at(number)

    def person(self, place: int) -> Person:
        return self.people[place % len(self.people)]

    def held(self, place: int, kind: str = "") -> Held | None:
        """One of the redemptions, rather one with which this can be done."""
        mine = [one for purse in self.model.purses.values() for one in purse.redemptions.values()]
        alive = [one for one in mine if one.state == "held"]
        ready = [one for one in alive if one.accepted == (kind in ("capture", "voided"))]
        if kind == "refund":
            ready = [one for one in mine if one.captured > one.refunded]
        wanted = (mine if place % 7 == 6 else ready) or alive or mine
        return wanted[place % len(wanted)] if wanted else None

    def owner(self, held: Held) -> UUID:
        return next(who for who, purse in self.model.purses.items() if held.redemption_id in purse.redemptions)

    # What can be asked; each is a command that the platform and the model are both given.

    def placing(self, place: int, units: int, key: str | None = None, cheaper: bool = False) -> PlaceHold:
        offer, from_bank = self.offers[place % len(self.offers)], place % 4 != 3
        points = units * offer.points_per_unit - cheaper
        return self.market.place(self.person(place // 7), offer, units, points, key, from_bank=from_bank)

    def stepping(self, place: int, units: int, kind: str) -> RedemptionCommand | None:
        held = self.held(place, kind)
        if held is None:
            return None
        who, bank_id = self.owner(held), self.market.bank_id
        if place % 13 == 12:
            bank_id += 1  # another bank's call
        asked = f"{kind} {held.redemption_id} {units}"
        order = self.market.order("bank" if kind != "cancelled" else "participant", asked)
        ids, fresh_id = (who, held.redemption_id, order), self.moment.fresh.id()
        if kind == "capture":
            return CaptureHold(*ids, fresh_id, bank_id, None if units == 9 else units, place % 3 == 0)
        if kind == "refund":
            captures = list(held.captures) or [fresh_id]
            return RefundCapture(*ids, fresh_id, captures[place % len(captures)], "cancelled", bank_id)
        return ReleaseHold(*ids, fresh_id, kind, bank_id if kind == "voided" else None)

    def again(self, command: RedemptionCommand) -> RedemptionCommand:
        """The same call as its client repeats it: what is made fresh for each call is another."""
        fresh_id = self.moment.fresh.id()
        if isinstance(command, PlaceHold):
            return replace(command, redemption_id=fresh_id)
        return replace(command, transfer_id=fresh_id)

    def ask(self, *commands: RedemptionCommand) -> None:
        """At once; some order of them explains all the answers, and the model goes on as after it."""

        async def together() -> list[Outcome]:
            return [one for (one,) in await asyncio.gather(*(self.market.post(command) for command in commands))]

        answers = [told(outcome) for outcome in self.world.call(together)]
        self.sent += commands
        tried = []
        for order in itertools.permutations(range(len(commands))):
            model = deepcopy(self.model) if len(commands) > 1 else self.model
            expected = {place: model.do(commands[place], self.moment.now) for place in order}
            if [expected[place] for place in range(len(commands))] == answers:
                self.model = model
                return
            tried.append(expected)
        raise AssertionError(f"{commands}: the platform said {answers}, the model {tried}")

    @rule(place=_PLACE, units=_UNITS, cheaper=st.sampled_from([False] * 9 + [True]))
    def hold(self, place: int, units: int, cheaper: bool) -> None:
        self.ask(self.placing(place, units, cheaper=cheaper))

    @rule(place=_PLACE, units=_UNITS)
    def hold_and_capture_a_part(self, place: int, units: int) -> None:
        self.hold(place, units + 1, cheaper=False)
        self.end(place, units, "capture")

    @rule(place=_PLACE, units=_UNITS)
    def accept_one(self, place: int, units: int) -> None:
        held = self.held(place)
        if held is not None:
            self.world.call(self._accept, held)
            held.accepted |= held.state == "held" and self.moment.now < held.ends

    async def _accept(self, held: Held) -> None:
        async with self.market.api.platform.pool.acquire() as tx, tx.transaction(isolation="read_committed"):
            await accept(tx, self.owner(held), held.redemption_id, self.moment.fresh.id(), self.moment.offset)

    @rule(
        place=_PLACE,
        units=_UNITS,
        kind=st.sampled_from(["capture", "voided", "capture", "cancelled", "capture", "lapsed"]),
    )
    def end(self, place: int, units: int, kind: str) -> None:
        command = self.stepping(place, units, kind)
        if command is not None:
            self.ask(command)

    @rule(place=_PLACE)
    def refund(self, place: int) -> None:
        command = self.stepping(place, 1, "refund")
        if command is not None:
            self.ask(command)

    @precondition(lambda self: self.sent)
    @rule(place=_PLACE, other=st.booleans())
    def repeat(self, place: int, other: bool) -> None:
        """The same call again, as a client makes it: with fresh ids; or another one under its key."""
        command = self.sent[place % len(self.sent)]
        assert command.order.call is not None
        order = command.order
        if other:
            order = replace(order, call=call(command.order.call.client, command.order.call.key, "something else"))
        self.ask(replace(self.again(command), order=order))

    @rule(
        place=_PLACE,
        kinds=st.lists(st.sampled_from(_KINDS), min_size=2, max_size=4),
        units=_UNITS,
    )
    def at_once(self, place: int, kinds: Sequence[str], units: int) -> None:
        """Several calls at the same moment, some about the same hold, some the same call twice."""
        commands: list[RedemptionCommand] = []
        for number, kind in enumerate(kinds):
            if kind == "twice" and commands:
                commands.append(self.again(commands[-1]))
            elif kind in ("hold", "twice"):
                commands.append(self.placing(place + number * 7 * (place % 2), units))
            elif command := self.stepping(place + number * (place % 2), units, kind):
                commands.append(command)
        if commands:
            self.ask(*commands)

    @rule(place=_PLACE, metres=st.sampled_from([100, 500, 1000, 2000]))
    def earn(self, place: int, metres: int) -> None:
        person = self.person(place)
        km = f"{metres // 1000}.{metres % 1000:03}"
        (outcome,) = self.world.call(
            self.market.api.report, person.source, [ride(person.source, person.subject, km=km)]
        )
        worth = judged(metres, 720)
        assert not isinstance(worth, str)
        assert (outcome["reduction_mg"], outcome["points"]) == worth, outcome
        mg, points = worth
        who = UUID(person.participant_id)
        purse = self.model.purses[who]
        purse.lapse(self.moment.now.date())
        purse.earn(points, mg, month_end(self.moment.month + 24))
        self.credits.append((who, UUID(outcome["transfer_id"]), points, mg, self.moment.month + 24))

    @precondition(lambda self: self.credits)
    @rule(place=_PLACE)
    def reverse(self, place: int) -> None:
        who, credit_id, points, mg, month = self.credits.pop(place % len(self.credits))
        command = Reverse(who, credit_id, "posted_in_error", "operator", self.moment.fresh.id(), bytes(16))
        (outcome,) = self.world.call(self.moment.poster.post, [command])
        assert told(outcome) == ("reversed", False)
        purse = self.model.purses[who]
        purse.lapse(self.moment.now.date())
        purse.lose(points, mg, month_end(month))

    @rule(place=_PLACE, points=st.integers(-200, 200))
    def change_pool(self, place: int, points: int) -> None:
        pool = self.pools[place % 2]
        till = self.model.tills[pool]
        try:
            self.world.call(lambda: self.market.change(pool, points=points, fen=points * 10))
        except BudgetSpent:
            assert till.points + points < 0 or till.fen + points * 10 < 0
        else:
            till.points, till.fen = till.points + points, till.fen + points * 10

    @rule(place=_PLACE, state=st.sampled_from(["open"] * 5 + ["suspended"]))
    def suspend_pool(self, place: int, state: PoolState) -> None:
        pool = self.pools[place % 2]
        self.world.call(self._set_state, pool, state)
        self.model.tills[pool].open = state == "open"

    async def _set_state(self, pool: str, state: PoolState) -> None:
        async with self.market.api.platform.pool.acquire() as tx, tx.transaction(isolation="read_committed"):
            await exclude_postings(tx)
            await set_pool_state(tx, pool, state, by="op-1", fresh=self.market.api.platform.fresh)

    @rule(place=_PLACE)
    def wait(self, place: int) -> None:
        self.move_to(min(self.place_in_time + 1 + (place % 5 == 0), len(self.world.moments) - 1))

    @rule()
    def sweep(self) -> None:
        moment = self.moment

        async def swept() -> None:
            while await sweep_dead(self.market.api.platform.pool, moment.poster, moment.fresh, moment.offset):
                pass

        self.world.call(swept)
        for purse in self.model.purses.values():
            if any(one.state == "held" and moment.now >= one.ends for one in purse.redemptions.values()):
                purse.lapse(moment.now.date())
                self.model.bury(purse, moment.now)

    @invariant()
    def balances_agree(self) -> None:
        balances, pools = self.world.call(self._look)
        for (who, purse), found in zip(self.model.purses.items(), balances, strict=True):
            assert found is not None
            shown = (found.expiring, found.points_held, found.points_debt, found.reduction_mg, found.reduction_debt_mg)
            assert shown == self.model.seen(who, self.moment.now), purse
            assert found.points_available == sum(points for _, points in found.expiring)
            assert not (found.points_debt and found.points_available)
        for till, left in zip(self.model.tills.values(), pools, strict=True):
            assert left == (till.points, till.fen)
            assert min(left) >= 0

    async def _look(self) -> tuple[list[Balance | None], list[tuple[int, int]]]:
        balances = await asyncio.gather(*(self.moment.balances.read(who) for who in self.model.purses))
        async with self.market.api.platform.pool.acquire() as tx:
            pools = {pool.terms.pool: pool for pool in await read_pools(tx, list(self.model.tills))}
        return balances, [(pools[code].left_points, pools[code].left_fen) for code in self.model.tills]

    def teardown(self) -> None:
        differing = self.world.call(self._posted_less_what_left)
        assert differing == []

    async def _posted_less_what_left(self) -> list[asyncpg.Record]:
        async with pooled(self.market.database.sequencer) as pool:
            await drain(pool)
        async with self.market.api.platform.pool.acquire() as tx:
            return await tx.fetch(_POSTED, list(self.model.purses))


# available = posted - held - lapsed - redeemed, and what is owed is what was posted too little.
_POSTED = """
    SELECT a.participant_id, a.points_available, a.points_held, a.points_debt, s.*
    FROM ledger.account a, LATERAL (
        SELECT coalesce(sum(amount) FILTER (WHERE from_account = 'issuance'), 0)
                - coalesce(sum(amount) FILTER (WHERE to_account = 'issuance'), 0) AS posted,
            coalesce(sum(amount) FILTER (WHERE to_account = 'lapsed'), 0) AS lapsed,
            coalesce(sum(amount) FILTER (WHERE to_account = 'redeemed'), 0)
                - coalesce(sum(amount) FILTER (WHERE from_account = 'redeemed'), 0) AS redeemed
        FROM ledger.movement m WHERE m.participant_id = a.participant_id AND m.asset = 'points'
    ) AS s
    WHERE a.participant_id = ANY($1)
        AND a.points_available - a.points_debt <> s.posted - a.points_held - s.lapsed - s.redeemed
"""

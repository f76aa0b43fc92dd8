"""Pools that are short: nobody overtakes who waits, and who shares gets the same part."""

import asyncio
from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.products.facts import read_facts
from service.products.model import Offer
from service.redemption.placing import Agreed
from service.redemption.waiting import (
    Desk,
    PoolNotShort,
    Wish,
    WishNotFound,
    WishTooLarge,
    join,
    leave,
    read_wishes,
    shares,
)
from tests.conftest import Database
from tests.running import Api, Person
from tests.service.redemption.redemption_world import Market, open_market

pytestmark = pytest.mark.anyio
NOON = datetime(2026, 5, 1, 4, tzinfo=UTC)


@pytest.fixture
async def market(api: Api, database: Database) -> Market:
    return await open_market(api, database)


async def desk(market: Market) -> Desk:
    platform = market.api.platform
    async with platform.pool.acquire() as connection:
        await platform.offers.refresh(connection)
    return Desk(platform.pool, platform.poster, platform.offers, platform.fresh)


async def wait(market: Market, person: Person, offer: Offer, units: int) -> Wish:
    platform = market.api.platform
    words = Agreed(units, units * offer.points_per_unit, offer.text_version, NOON)
    pool = await market.state_of(offer.pool)
    participant_id = UUID(person.participant_id)
    async with platform.pool.acquire() as connection, connection.transaction():
        facts = (await read_facts(connection, participant_id, [offer.id], platform.fresh.clock()))[offer.id]
        return await join(connection, participant_id, offer, facts, words, pool, platform.fresh)


async def drained(market: Market, shortage: str) -> tuple[str, Offer]:
    """A pool that could pay for ten units, which somebody holds, and an offer on it."""
    pool = await market.pool(points=100, fen=1_000, shortage=shortage)
    offer = await market.offer(pool)
    await market.done(market.place(await market.person(rides=2), offer, 10))
    return pool, offer


async def wishes(market: Market, person: Person) -> list[Wish]:
    async with market.api.platform.pool.acquire() as connection:
        return await read_wishes(connection, UUID(person.participant_id), 10)


async def served(market: Market, *people: Person) -> None:
    """Until none of them waits any more: the API serves too, and whoever comes second finds it done."""
    serving = await desk(market)
    for _ in range(100):
        await serving.serve_all()
        if "waiting" not in {wish.state for person in people for wish in await wishes(market, person)}:
            return
        await asyncio.sleep(0.05)
    raise AssertionError("they wait for ever")


async def test_who_came_first_is_served_first(market: Market) -> None:
    pool = await market.pool(points=100, fen=10_000, shortage="queue")
    offer = await market.offer(pool)
    await market.done(market.place(await market.person(), offer, 7))
    first, second, third = [await market.person() for _ in range(3)]
    with pytest.raises(PoolNotShort):
        await wait(market, first, offer, 3)
    assert (await market.refused(market.place(first, offer, 4))).slug == "pool-exhausted"
    await wait(market, first, offer, 4)
    await wait(market, second, offer, 1)
    assert [wish.ahead for wish in await wishes(market, second)] == [1]
    serving = await desk(market)
    await serving.serve_all()  # there is enough for the second, who does not overtake
    assert [wish.state for wish in await wishes(market, second)] == ["waiting"]
    assert (await market.refused(market.place(third, offer, 1))).slug == "pool-exhausted"
    await market.change(pool, points=20)
    await asyncio.gather(*(serving.serve_all() for _ in range(4)))
    await served(market, first, second)
    (one,), (other,) = await wishes(market, first), await wishes(market, second)
    assert (one.state, other.state, one.redemption_id is None) == ("placed", "placed", False)
    assert (await market.state_of(pool)).left_points == 0
    assert (await market.api.balance(first.participant_id))["points"]["held"] == 40
    assert await market.findings() == []


async def test_who_leaves_is_passed_over(market: Market) -> None:
    pool, offer = await drained(market, "queue")
    first, second = [await market.person() for _ in range(2)]
    wish = await wait(market, first, offer, 1)
    await wait(market, second, offer, 1)
    platform = market.api.platform
    async with platform.pool.acquire() as connection:
        await leave(connection, UUID(first.participant_id), wish.wish_id, platform.fresh.clock())
        with pytest.raises(WishNotFound):
            await leave(connection, UUID(first.participant_id), wish.wish_id, platform.fresh.clock())
    await market.change(pool, points=10, fen=100)
    await served(market, second)
    assert [one.state for one in await wishes(market, first)] == ["left"]
    assert [one.state for one in await wishes(market, second)] == ["placed"]


async def test_who_can_no_longer_pay_ends_with_the_reason(market: Market) -> None:
    pool, offer = await drained(market, "queue")
    other = await market.offer(await market.pool())
    person = await market.person()
    await wait(market, person, offer, 7)
    await market.done(market.place(person, other, 7))
    await market.change(pool, points=100, fen=10_000)
    await served(market, person)
    (wish,) = await wishes(market, person)
    assert (wish.state, wish.reason) == ("refused", "points-not-enough")


async def test_who_waits_shares_alike(market: Market) -> None:
    pool, offer = await drained(market, "pro_rata")
    people = [await market.person() for _ in range(3)]
    for person, units in zip(people, (6, 4, 2), strict=True):
        await wait(market, person, offer, units)
    await (await desk(market)).serve_all()
    assert {wish.state for person in people for wish in await wishes(market, person)} == {"waiting"}
    await market.change(pool, points=60, fen=100_000)
    await served(market, *people)
    held = [(await market.api.balance(person.participant_id))["points"]["held"] for person in people]
    assert held == [30, 20, 10]
    assert (await market.state_of(pool)).left_points == 0
    assert await market.findings() == []


@given(st.lists(st.tuples(st.integers(1, 50), st.integers(1, 20), st.integers(0, 30)), max_size=8), st.data())
def test_shares_never_exceed_what_there_is(wanted: list[tuple[int, int, int]], data: st.DataObject) -> None:
    ended = (None, None, NOON, NOON, None)
    found = [
        Wish(UUID(int=n), UUID(int=n), "p", "o", 1, units, units * price, "t", NOON, "waiting", *ended)
        for n, (units, price, _) in enumerate(wanted)
    ]
    costs = {UUID(int=n): fen for n, (_, _, fen) in enumerate(wanted)}
    points, fen = data.draw(st.integers(0, 3000)), data.draw(st.integers(0, 3000))
    parts = shares(found, costs, points, fen)
    assert all(0 <= parts[wish.wish_id] <= wish.units for wish in found)
    assert sum(wish.points // wish.units * parts[wish.wish_id] for wish in found) <= points or not found
    assert sum(costs[wish.wish_id] * parts[wish.wish_id] for wish in found) <= fen or not any(costs.values())
    if points >= sum(wish.points for wish in found) and fen >= sum(costs[w.wish_id] * w.units for w in found):
        assert parts == {wish.wish_id: wish.units for wish in found}


async def test_nobody_stands_in_the_way(market: Market) -> None:
    pool, offer = await drained(market, "pro_rata")
    greedy, modest = await market.person(), await market.person()
    for units, reason in ((8, "points-not-enough"), (1_000_000, "not-eligible"), (0, "not-eligible")):
        with pytest.raises(WishTooLarge) as refused:
            await wait(market, greedy, offer, units)
        assert refused.value.reason == reason
    first = await wait(market, greedy, offer, 7)
    assert (await wait(market, greedy, offer, 7)).wish_id == first.wish_id
    await wait(market, modest, offer, 1)
    other = await market.offer(await market.pool())
    await market.done(market.place(greedy, other, 1))  # the seven can no longer be paid for
    await market.change(pool, points=10, fen=100)
    await served(market, greedy, modest)
    assert [(wish.state, wish.reason) for wish in await wishes(market, greedy)] == [("refused", "points-not-enough")]
    assert [wish.state for wish in await wishes(market, modest)] == ["placed"]

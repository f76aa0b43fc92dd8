"""Holds, captures, releases and refunds as the poster does them: what moves, what is refused, what is given back."""

import pytest

from tests.conftest import Database
from tests.running import Api
from tests.service.redemption.redemption_world import Market, open_market

pytestmark = pytest.mark.anyio


@pytest.fixture
async def market(api: Api, database: Database) -> Market:
    return await open_market(api, database)


async def test_a_hold_is_captured(market: Market) -> None:
    pool = await market.pool(points=1000, fen=20_000)
    offer, person = await market.offer(pool), await market.person()
    held = await market.done(market.place(person, offer, 5))
    assert (held.redemption.state, held.step.points, held.step.value_fen) == ("held", 50, 500)
    balance = (await market.api.balance(person.participant_id))["points"]
    assert (balance["available"], balance["held"]) == (20, 50)
    left = await market.state_of(pool)
    assert (left.left_points, left.left_fen) == (950, 19_500)
    part = await market.done(market.capture(held, 2))
    assert (part.redemption.state, part.redemption.units_left, part.step.points) == ("held", 3, 20)
    rest = await market.done(market.capture(held, 1, final=True))
    assert rest.rest is not None
    assert (rest.redemption.state, rest.rest.points) == ("captured", 20)
    balance = (await market.api.balance(person.participant_id))["points"]
    assert (balance["available"], balance["held"]) == (40, 0)
    left = await market.state_of(pool)
    assert (left.left_points, left.left_fen) == (970, 19_700)
    back = await market.done(market.refund(part))
    assert (back.redemption.units_refunded, back.redemption.state) == (2, "captured")
    last = await market.done(market.refund(rest))
    assert last.redemption.state == "refunded"
    balance = (await market.api.balance(person.participant_id))["points"]
    assert (balance["available"], balance["held"]) == (70, 0)
    assert (await market.state_of(pool)).left_points == 1000
    assert await market.findings() == []

"""A farm of bots: it earns what its accounts earn, and what is out of the ordinary cannot be spent."""

import os
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from tests.api.bankers import open_bank
from tests.api.test_redemptions import Shop
from tests.conftest import Database, clone
from tests.running import Api, problem_of
from tests.service.redemption.redemption_world import BANK, open_market
from tests.service.signals.riding import Looker, docked, looking, morning

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def database(template: Database) -> Database:
    return clone(template, f"farm_{os.urandom(6).hex()}")


@pytest.fixture(scope="module")
async def shop(api: Api, database: Database) -> Shop:
    return Shop(await open_market(api, database), await open_bank(api, BANK))


@pytest.fixture
async def looker(api: Api, database: Database) -> AsyncIterator[Looker]:
    async with looking(api, database) as looker:
        yield looker


async def test_a_bot_that_rides_all_day_cannot_spend_it(shop: Shop, looker: Looker) -> None:
    bot, offer = await looker.person(), await shop.offer()
    times = [morning() + timedelta(minutes=12 * number) for number in range(60)]
    rides = [docked(bot.source, bot.subject, at, 600, km=f"1.{317 * n % 997:03d}") for n, at in enumerate(times)]
    outcomes = await shop.api.report(bot.source, rides)
    assert {outcome["outcome"] for outcome in outcomes} == {"credited"}  # each ride is a good one by itself
    await looker.look()
    (review,) = await looker.reviews(bot)
    assert "acts-a-day" in {signal["rule"] for signal in review["signals"]}
    balance = (await shop.api.balance(bot.participant_id))["points"]
    assert balance["under_review"] == balance["available"] > 0
    assert problem_of(await shop.redeem(bot, offer, 1), "under-review")["available"] == str(balance["available"])


async def test_honest_neighbours_of_a_bot_spend_as_ever(shop: Shop, looker: Looker) -> None:
    neighbour, offer = await looker.person(), await shop.offer()
    await looker.rode(neighbour, ["1.204", "3.881"])
    await looker.look()
    assert await looker.reviews(neighbour) == []
    assert (await shop.redeem(neighbour, offer, 1)).status_code == 201


async def test_a_bot_in_two_places_is_credited_in_one(looker: Looker) -> None:
    bot, begins = await looker.person(), morning()
    events = [docked(bot.source, bot.subject, begins + timedelta(seconds=n), 600) for n in range(20)]
    outcomes = [each["outcome"] for each in await looker.api.report(bot.source, events)]
    assert (outcomes.count("credited"), outcomes.count("refused")) == (1, 19)

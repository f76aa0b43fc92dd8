"""kill -9 of the API, the worker and PostgreSQL while points are redeemed: what was answered is there, once."""

import asyncio
import random
import time
from pathlib import Path

import pytest

from tests.story.clients import Served, room, slow_commits
from tests.story.shoppers import Shoppers, assert_books_agree
from tests.story.test_crashes import (
    RECOVERS_WITHIN_S,
    Victim,
    kill_api,
    kill_api_and_postgresql,
    kill_postgresql,
    kill_worker,
    stall_commits,
)

pytestmark = [pytest.mark.anyio, pytest.mark.soak]

PROGRESS = 12  # answers after which the platform counts as recovered
ROUNDS = 3  # of every victim once, in random order
VICTIMS: list[Victim] = [kill_api, kill_worker, kill_postgresql, kill_api_and_postgresql, stall_commits]


async def _progress(shoppers: Shoppers, shopping: "asyncio.Task[None]") -> None:
    wanted, give_up = len(shoppers.answers) + PROGRESS, time.monotonic() + RECOVERS_WITHIN_S
    while len(shoppers.answers) < wanted:
        if shopping.done():
            shopping.result()
        assert time.monotonic() < give_up, f"no answers any more: {shoppers.statuses}, {shoppers.lost} lost"
        await asyncio.sleep(0.02)


async def _redeem_and_kill(directory: Path, victims: list[Victim], seed: int) -> Shoppers:
    print(f"seed {seed}")
    chance = random.Random(seed)
    served = Served(directory / "data", api_processes="2")
    await asyncio.to_thread(served.start)
    try:
        shoppers = Shoppers(served, seed)
        await shoppers.open()
        await asyncio.sleep(2)  # the board is read once a second
        await slow_commits(served)
        stopping = asyncio.Event()
        shopping = asyncio.create_task(shoppers.shop(stopping))
        try:
            for victim in victims:
                await _progress(shoppers, shopping)
                await asyncio.sleep(chance.uniform(0, 0.5))
                await asyncio.to_thread(victim, served, chance)
            await _progress(shoppers, shopping)
        finally:
            stopping.set()
            await shopping
        await assert_books_agree(shoppers, served.auditor_url)
    except BaseException:
        print(served.errors())
        raise
    finally:
        await asyncio.to_thread(served.end)
    return shoppers


async def test_what_was_redeemed_is_there_once_after_many_kills() -> None:
    seed = random.SystemRandom().getrandbits(32)
    chance = random.Random(seed)
    order = [victim for _ in range(ROUNDS) for victim in chance.sample(VICTIMS, len(VICTIMS))]
    with room() as directory:
        shoppers = await _redeem_and_kill(directory, order, seed)
    kinds = {kind for kind, _, _ in shoppers.steps.values()}
    assert kinds == {"hold", "capture", "release", "refund"}
    assert shoppers.lost, "no kill was felt: the test tests nothing"
    print(f"{len(shoppers.answers)} calls, {dict(shoppers.statuses)}, {shoppers.lost} without an answer; lost 0")

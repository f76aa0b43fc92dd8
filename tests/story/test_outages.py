"""Servers that hang or go away while 16 clients post: no provider sees an error, nothing is lost or doubled."""

import asyncio
import random
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager

import httpx
import pytest
import redis

from service.embedded import start_embedded
from service.worker import drain
from tests.running import pooled
from tests.story.clients import (
    Providers,
    Served,
    assert_ledger_holds_what_was_answered,
    gone,
    kill,
    room,
    running,
    slow_commits,
)

pytestmark = pytest.mark.anyio

ANSWERED_WITHIN_S = 5.0  # no benchmark: that nobody waits for a server that does not answer
# What the cache's loss may cost a request: the limiter waits twice its time limit at most, 0.1 s together (held exactly
# in tests/api/test_rate_limit.py); the rest is for a busy machine.
CACHE_AWAY_COSTS_S = 2.5
NOTICED_WITHIN_S = 20.0
HUNG_FOR_S = 2.0


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    """A platform with one API process, so that /v1/health/ready speaks of the process that the clients use."""
    with room() as directory, Served(directory / "data") as platform:
        yield platform


@asynccontextmanager
async def clients_posting(served: Served) -> AsyncIterator[Providers]:
    """16 clients for the length of the block; afterwards every answer was a good one, and the ledger has them all."""
    seed = random.SystemRandom().getrandbits(32)
    print(f"seed {seed}")
    providers, stopping = Providers(served, seed), asyncio.Event()
    await providers.enrol()
    posting = asyncio.create_task(providers.post(stopping))
    try:
        await more_answers(providers)
        yield providers
        await more_answers(providers)
    finally:
        stopping.set()
        await posting
    assert_no_error(providers)
    await assert_ledger_holds_what_was_answered(providers, served.auditor_url)


def assert_no_error(providers: Providers) -> None:
    """Good answers only: credited, known before, a batch's outcomes, or a condition that was not met."""
    assert set(providers.statuses) <= {200, 201, 422}, providers.statuses
    assert providers.lost == 0
    assert providers.slowest_s < ANSWERED_WITHIN_S


async def more_answers(providers: Providers) -> None:
    wanted = len(providers.answers) + 50
    await until(lambda: asyncio.sleep(0, len(providers.answers) >= wanted), "the clients are not answered")


async def until(reached: Callable[[], Awaitable[bool]], otherwise: str) -> None:
    give_up = time.monotonic() + NOTICED_WITHIN_S
    while not await reached():
        assert time.monotonic() < give_up, otherwise
        await asyncio.sleep(0.05)


async def rate_limits(served: Served) -> str:
    """What the platform says of its rate limits: `shared`, or `local` while each process decides alone."""
    async with httpx.AsyncClient(base_url=served.url, timeout=10) as client:
        answer = await client.get("/v1/health/ready")
    assert answer.status_code == 200, answer.text
    return str(answer.json()["rate_limits"])


async def until_limits_are(served: Served, expected: str) -> None:
    async def reached() -> bool:
        return await rate_limits(served) == expected

    await until(reached, f"the rate limits are not said to be {expected}")


async def assert_anybody_is_answered(served: Served) -> None:
    """Who has no token is charged to an address, by the same limiter: read at once, and a bad token refused at once."""
    began = time.monotonic()
    async with httpx.AsyncClient(base_url=served.url, timeout=10) as client:
        assert (await client.get("/v1/problems")).status_code == 200
        refused = await client.get("/v1/sources/me", headers={"Authorization": "Bearer a.b.c"})
    assert refused.status_code == 401
    assert time.monotonic() - began < CACHE_AWAY_COSTS_S


async def test_everything_in_the_cache_is_flushed_again_and_again(served: Served) -> None:
    ports, passwords = served.secrets()
    await until_limits_are(served, "shared")
    async with clients_posting(served):
        with redis.Redis(port=ports["redis"], password=passwords["redis"]) as cache:
            for _ in range(20):
                cache.flushall()
                cache.script_flush()
                await asyncio.sleep(0.05)
    await until_limits_are(served, "shared")


async def test_a_cache_that_hangs_and_comes_back(served: Served) -> None:
    await until_limits_are(served, "shared")
    async with clients_posting(served) as providers:
        stopped = running(served.valkey)
        kill(stopped, signal.SIGSTOP)
        try:
            await until_limits_are(served, "local")
            providers.slowest_s = 0.0
            await more_answers(providers)
            await assert_anybody_is_answered(served)
        finally:
            kill(stopped, signal.SIGCONT)
        await until_limits_are(served, "shared")
        assert providers.slowest_s < CACHE_AWAY_COSTS_S


async def test_a_cache_that_is_killed_is_started_again(served: Served) -> None:
    await until_limits_are(served, "shared")
    async with clients_posting(served):
        before = running(served.valkey)
        kill(before, signal.SIGKILL)
        await until(lambda: asyncio.sleep(0, bool(set(served.valkey()) - set(before))), "it is not started again")
        await until_limits_are(served, "shared")


async def test_a_database_that_hangs_makes_requests_wait_and_then_succeed(served: Served) -> None:
    async with clients_posting(served) as providers:
        stopped = running(served.postgres)
        began = time.monotonic()
        kill(stopped, signal.SIGSTOP)
        try:
            answered = await quiet(providers)
            await asyncio.sleep(began + HUNG_FOR_S - time.monotonic())
            assert len(providers.answers) == answered, "an answer without a database"
        finally:
            kill(stopped, signal.SIGCONT)
    assert providers.slowest_s > HUNG_FOR_S / 2


async def quiet(providers: Providers) -> int:
    """How many answers there are once what was on its way has arrived."""
    answered = -1
    while answered < len(providers.answers):
        answered = len(providers.answers)
        await asyncio.sleep(0.4)
    return answered


async def test_told_to_stop_it_answers_what_it_accepted() -> None:
    """SIGTERM while clients post: whoever was told of a credit has it, and whoever has one was told."""
    with room() as directory:
        with Served(directory / "data") as served:
            providers, stopping = Providers(served, seed=1), asyncio.Event()
            await providers.enrol()
            await slow_commits(served)
            posting = asyncio.create_task(providers.post(stopping))
            await more_answers(providers)
            providers.patient = False
            below = served.everyone()
            status = await asyncio.to_thread(served.end)
            stopping.set()
            await posting
        assert status == 130
        assert gone(below)
        assert set(providers.statuses) <= {200, 201, 422}, providers.statuses
        with start_embedded(served.data_dir) as servers:
            async with pooled(servers.urls.sequencer) as pool:
                await drain(pool)
            await assert_ledger_holds_what_was_answered(providers, servers.urls.auditor)

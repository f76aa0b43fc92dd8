"""The limiter against the real server: exact, all or nothing, and bounded when the server is hung, emptied or gone."""

import asyncio
import math
import os
import random
import signal
import time
from collections.abc import Iterator

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from api.problems import Problem
from api.rate_limit import Decision, LimitBook, Limits, LocalQuotas, Policy, RateLimiter, build_rate_limiter
from api.rate_limit.quota import SECOND, Use, decide, partition_of
from service.embedded.processes import account_for, free_port
from service.embedded.valkey import Cache
from service.settings import Settings

TIMEOUT = 0.05
PK = partition_of("client")
SLACK = 0.25  # seconds a busy machine may add

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cache]:
    home = tmp_path_factory.mktemp("valkey")
    cache = Cache(home, account_for(home), free_port(None), "a-password")
    cache.bring_up(keep_port=False)
    try:
        yield cache
    finally:
        _signal(cache, signal.SIGCONT)
        cache.stop()


@pytest.fixture(autouse=True)
def _emptied(server: Cache) -> None:
    with redis.Redis.from_url(server.url) as client:
        client.flushall()


def limits(requests: int = 100, items: int = 1000, *, per_second: int = 1) -> Limits:
    return Limits.of(Policy("requests", per_second, requests), Policy("items", per_second, items))


def _signal(cache: Cache, number: signal.Signals) -> None:
    assert cache.server is not None
    os.kill(cache.server.pid, number)


async def connected(server: Cache, given: Limits, **options: float) -> RateLimiter:
    limiter = RateLimiter(LimitBook(given), server.url, timeout=TIMEOUT, retry=options.get("retry", 0.1))
    await limiter.start()
    assert limiter.shared
    return limiter


async def until_shared(limiter: RateLimiter, *, shared: bool) -> None:
    deadline = time.monotonic() + 5
    while limiter.shared is not shared:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


async def test_two_thousand_at_once_through_two_limiters_leave_exactly_the_limit(server: Cache) -> None:
    one, two = await connected(server, limits()), await connected(server, limits())
    decisions = await asyncio.gather(*((one if turn % 2 else two).check("client") for turn in range(2000)))
    assert sum(decision.allowed for decision in decisions) == 100
    assert not any(decision.local for decision in decisions)
    assert (await one.check("another")).allowed
    await one.close()
    await two.close()


async def test_both_quotas_are_charged_or_neither(server: Cache) -> None:
    limiter = await connected(server, limits(requests=3, items=10))
    costs = [10, 1, 0, 11]
    decisions = [await limiter.check("client", cost) for cost in costs]
    assert [decision.violated for decision in decisions] == [0, 2, 0, 2]
    assert (
        decisions[1].headers()["RateLimit"] == f'"requests";r=2;t=1{PK}, "items";r=0;t=10{PK}'
    )  # the refused one cost nothing
    assert [decision.never for decision in decisions] == [False, False, False, True]
    assert (await limiter.check("client", 0)).allowed
    assert (await limiter.check("client", 1)).violated == 3
    await limiter.close()


async def test_one_gathered_batch_is_decided_in_order_of_arrival(server: Cache) -> None:
    limiter = await connected(server, limits(items=10))
    costs = [4, 7, 6, 1, 0]
    decisions = await asyncio.gather(*(limiter.check("client", cost) for cost in costs))
    assert [decision.allowed for decision in decisions] == [True, False, True, False, True]
    await limiter.close()


async def test_the_script_and_the_local_limiter_decide_alike(server: Cache) -> None:
    chance = random.Random(7)
    for requests in (1, 3, 40, 1000):
        limiter = await connected(server, limits(requests=requests, items=500))
        asked = [(chance.choice((0, 0, 1, 20, 499, 501)), chance.choice((1, 1, 2, 10, 100))) for _ in range(60)]
        asked.insert(0, (0, 100))  # the dearest call can be made under the smallest quota
        name = f"client {requests}"
        shared = await asyncio.gather(*(limiter.check(name, items, units) for items, units in asked))
        local = LocalQuotas({name: limits(requests=requests, items=500)}.__getitem__)
        alone = [local.check(name, items, 0, units) for items, units in asked]
        assert [decision.violated for decision in shared] == [decision.violated for decision in alone]
        assert [decision.retry_after for decision in shared] == [decision.retry_after for decision in alone]
        assert shared[0].headers() | {"RateLimit-Scope": "local"} == alone[0].headers()
        assert alone[0].allowed
        await limiter.close()


async def test_time_gives_quota_back(server: Cache) -> None:
    limiter = await connected(server, limits(requests=5, per_second=20))
    assert [(await limiter.check("client")).allowed for _ in range(6)] == [True] * 5 + [False]
    await asyncio.sleep(0.06)
    assert (await limiter.check("client")).allowed
    assert not (await limiter.check("client")).allowed
    await limiter.close()


async def test_use_is_forgotten_when_it_has_been_given_back(server: Cache) -> None:
    limiter = await connected(server, limits(per_second=20))
    await limiter.check("client")
    with redis.Redis.from_url(server.url) as client:
        (key,) = client.keys()
        assert key == b"tanpuhui:limit:{client}"
        assert 0 < client.pttl(key) <= 50
    await limiter.close()


async def test_headers_and_the_problem(server: Cache) -> None:
    limiter = await connected(server, limits(requests=2, items=100))
    headers = await limiter.require("client", 40)
    assert headers == {
        "RateLimit-Policy": f'"requests";q=2;w=2{PK}, "items";q=100;w=100{PK}',
        "RateLimit": f'"requests";r=1;t=1{PK}, "items";r=60;t=40{PK}',
    }
    with pytest.raises(Problem) as caught:
        await limiter.require("client", 65)
    problem = caught.value
    assert problem.status == 429
    assert problem.headers["Retry-After"] == "5"
    document = problem.render("en")
    assert document["type"] == "https://iana.org/assignments/http-problem-types#quota-exceeded"
    assert document["violated-policies"] == ["items"]
    with pytest.raises(Problem) as caught:
        await limiter.require("client", 101)
    assert "Retry-After" not in caught.value.headers  # waiting does not help
    await limiter.close()


async def test_a_hung_server_costs_one_time_limit_and_then_nothing(server: Cache) -> None:
    limiter = await connected(server, limits())
    await limiter.check("client")
    _signal(server, signal.SIGSTOP)
    try:
        began = time.monotonic()
        first = await asyncio.gather(*(limiter.check("client") for _ in range(50)))
        assert TIMEOUT <= time.monotonic() - began < 2 * TIMEOUT + SLACK
        assert all(decision.local for decision in first)
        began = time.monotonic()
        later = [await limiter.check("client") for _ in range(60)]
        assert time.monotonic() - began < SLACK
        assert sum(decision.allowed for decision in [*first, *later]) == 100  # this process's own limit holds
        assert later[0].headers()["RateLimit-Scope"] == "local"
    finally:
        _signal(server, signal.SIGCONT)
    await until_shared(limiter, shared=True)
    assert not (await limiter.check("client")).local
    await limiter.close()


async def test_a_killed_server_is_noticed_at_once_and_found_again(server: Cache) -> None:
    limiter = await connected(server, limits())
    _signal(server, signal.SIGKILL)
    began = time.monotonic()
    decisions = await asyncio.gather(*(limiter.check("client") for _ in range(20)))
    assert time.monotonic() - began < TIMEOUT + SLACK
    assert all(decision.allowed and decision.local for decision in decisions)
    assert server.server is not None
    while server.server.alive():  # noqa: ASYNC110 - a process tells nobody that it ended
        await asyncio.sleep(0.01)
    server.bring_up(keep_port=True)
    await until_shared(limiter, shared=True)
    assert not (await limiter.check("client")).local
    await limiter.close()


async def test_an_emptied_server_and_lost_scripts_are_no_failure(server: Cache) -> None:
    limiter = await connected(server, limits())
    await asyncio.gather(*(limiter.check("client") for _ in range(100)))
    assert not (await limiter.check("client")).allowed
    with redis.Redis.from_url(server.url) as client:
        client.flushall()
        client.script_flush()
    clients = ["client", "other", "client"]
    decisions = await asyncio.gather(*(limiter.check(client) for client in clients))
    assert all(decision.allowed and not decision.local for decision in decisions)
    assert decisions[2].headers()["RateLimit"].startswith('"requests";r=98;')  # charged once each
    await limiter.close()


async def test_a_server_that_refuses_to_work_is_a_server_that_is_away(server: Cache) -> None:
    limiter = await connected(server, limits(), retry=60)
    with redis.Redis.from_url(server.url) as client:
        client.set("tanpuhui:limit:{client}", "nonsense")
        assert (await limiter.check("client")).local
    await limiter.close()


async def test_without_a_server_the_limit_is_shared_out(server: Cache) -> None:
    nobody = f"redis://127.0.0.1:{free_port(None)}"
    for limiter in (
        RateLimiter(LimitBook(limits()), None, processes=4),
        RateLimiter(LimitBook(limits()), nobody, processes=4, retry=60),
    ):
        await limiter.start()
        decisions = [await limiter.check("client") for _ in range(100)]
        assert sum(decision.allowed for decision in decisions) == 25
        assert all(decision.local for decision in decisions)
        await limiter.close()


async def test_a_client_that_goes_away_harms_no_other(server: Cache) -> None:
    limiter = await connected(server, limits())
    checks = [asyncio.create_task(limiter.check("client")) for _ in range(10)]
    await asyncio.sleep(0)
    for check in checks[::2]:
        check.cancel()
    outcomes = await asyncio.gather(*checks, return_exceptions=True)
    assert [isinstance(outcome, Decision) for outcome in outcomes] == [False, True] * 5
    await limiter.close()


async def test_settings_describe_the_limiter() -> None:
    limiter = build_rate_limiter(Settings(api_processes=2))
    headers = await limiter.require("client", 1)
    assert headers["RateLimit-Policy"] == f'"requests";q=10000;w=2{PK}, "items";q=20000;w=2{PK}'  # half of each, alone
    await limiter.close()


rates = st.integers(1, 1_000_000)
bursts = st.integers(1, 10_000)


@given(rates, bursts, st.integers(1, 20_000))
def test_a_quota_allows_its_burst_exactly_and_says_when_it_is_back(rate: int, burst: int, cost: int) -> None:
    given = Limits.of(Policy("requests", 1, 1), Policy("items", rate, burst))
    decision = Decision(given, cost, *decide(given, Use(0, 0), cost), True)
    assert decision.allowed is (cost <= burst)
    assert decision.never is (cost > burst)
    if decision.allowed:
        again = Decision(given, cost, *decide(given, Use(0, decision.use.items), cost), True)
        assert again.allowed is (2 * cost <= burst)
        if not again.allowed:
            waited = Use(0, max(0, again.use.items - again.retry_after * SECOND))
            assert decide(given, waited, cost)[0] == 0
    assert given.items is not None
    assert given.items.unit_ns == math.ceil(SECOND / rate)


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 2 * SECOND)), max_size=40))
def test_over_any_time_no_more_passes_than_burst_and_rate(steps: list[tuple[int, int]]) -> None:
    given = Limits.of(Policy("requests", 1000, 1000), Policy("items", 10, 20))
    quotas = LocalQuotas(lambda _: given)
    now, passed = 0, 0
    for cost, pause in steps:
        now += pause
        passed += cost if quotas.check("client", cost, now).allowed else 0
    assert passed <= 20 + 10 * now / SECOND


def test_the_local_limiter_forgets_the_clients_seen_longest_ago(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.rate_limit.quota.MOST_CLIENTS", 2)
    quotas = LocalQuotas(lambda _: limits(requests=1))
    assert [quotas.check(client, 0, 0).allowed for client in ("a", "b", "c", "b", "a")] == [
        True,
        True,
        True,
        False,
        True,
    ]

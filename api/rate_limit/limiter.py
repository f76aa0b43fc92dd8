"""The shared limiter: one script in a Redis-compatible server, requests gathered, and a local limiter when it is away.

At most one round trip is on its way; requests that arrive meanwhile share the next one. So the cost per request falls
as load grows, and nobody waits for more than two time limits: whoever the server does not answer in time is decided
locally, and while it stays away nobody waits at all.
"""

import asyncio
import time
from collections.abc import Sequence
from hashlib import sha1
from typing import Any, NamedTuple

import structlog
from redis.asyncio import ConnectionPool
from redis.exceptions import RedisError

from api.observability.metrics import LIMITER_LOCAL, count_limit_decisions
from api.rate_limit.book import LimitBook
from api.rate_limit.nodes import Nodes, open_nodes
from api.rate_limit.quota import Decision, LocalQuotas, Use

log = structlog.get_logger("tanpuhui.rate_limit")

# KEYS[1] a client's use, as "<time in microseconds> <requests ns> <items ns>"
# ARGV    request_ns, requests_full, item_ns, items_full, and "units:items" of each request in order of arrival
# Answers "violated requests items" for each, comma-separated: one string is read faster than an array of numbers.
# Numbers stay below 2^53, so Lua's doubles hold them exactly; %.0f because Lua would write large ones with an exponent.
_SCRIPT = b"""
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local requests, items = 0, 0
local kept = redis.call('GET', KEYS[1])
if kept then
  local at, r, i = string.match(kept, '^(%d+) (%d+) (%d+)$')
  local back = math.max(0, now - at) * 1000
  requests, items = math.max(0, r - back), math.max(0, i - back)
end
local request_ns, requests_full = tonumber(ARGV[1]), tonumber(ARGV[2])
local item_ns, items_full = tonumber(ARGV[3]), tonumber(ARGV[4])
local answers = {}
for units, sent in string.gmatch(ARGV[5], '(%d+):(%d+)') do
  local cost = tonumber(sent)
  local r, i = requests + math.min(tonumber(units) * request_ns, requests_full), items + cost * item_ns
  local violated = 0
  if r > requests_full then violated = 1 end
  if cost > 0 and i > items_full then violated = violated + 2 end
  if violated == 0 then requests, items = r, i end
  answers[#answers + 1] = string.format('%d %.0f %.0f', violated, requests, items)
end
local life = math.ceil(math.max(requests, items) / 1000000)
if life > 0 then
  redis.call('SET', KEYS[1], string.format('%.0f %.0f %.0f', now, requests, items), 'PX', life)
end
return table.concat(answers, ',')
"""
_SHA = sha1(_SCRIPT, usedforsecurity=False).hexdigest()


class _Waiting(NamedTuple):
    client: str
    items: int
    units: int
    answer: asyncio.Future[Decision]


class RateLimiter:
    """Both quotas of a client in one decision. `check` never raises: a limiter in trouble must not stop a report.

    book        whose limits are which
    redis_url   None: this process always decides alone
    processes   how many processes share the limits when each must decide alone
    timeout     seconds a decision may wait for the server
    retry       seconds between attempts to reach a server that is away
    """

    def __init__(
        self, book: LimitBook, redis_url: str | None, *, processes: int = 1, timeout: float = 0.05, retry: float = 1.0
    ) -> None:
        self.book = book
        self._timeout = timeout
        self._retry = retry
        self._local = LocalQuotas(lambda client: book.of(client).shared_by(processes))
        self._pool = ConnectionPool.from_url(redis_url, protocol=2, socket_timeout=None) if redis_url else None
        self._nodes: Nodes | None = None
        self._waiting: list[_Waiting] = []
        self._flight: asyncio.Task[None] | None = None
        self._probe: asyncio.Task[None] | None = None
        self._went_away = float("-inf")

    @property
    def shared(self) -> bool:
        """Whether decisions are shared between processes just now."""
        return self._nodes is not None

    async def start(self) -> None:
        """Connect before the first request. A server that is away delays the start by a second and is tried again."""
        if self._pool is not None and not await self._connect():
            self._stay_local("the server does not answer")

    async def check(self, client: str, items: int = 0, units: int = 1) -> Decision:
        """Charge one request, as so many units, and its items to a client."""
        if self._nodes is None:
            decision = self._local.check(client, items, time.monotonic_ns(), units)
            count_limit_decisions("local", [decision.allowed])
            return decision
        answer: asyncio.Future[Decision] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(client, items, units, answer))
        if self._flight is None:
            self._flight = asyncio.create_task(self._fly())
        return await answer

    async def require(self, client: str, items: int = 0, units: int = 1) -> dict[str, str]:
        """The RateLimit headers of a request that may pass. Raises Problem quota-exceeded for one that may not."""
        decision = await self.check(client, items, units)
        if decision.violated:
            raise decision.problem()
        return decision.headers()

    async def close(self) -> None:
        """Let waiting decisions finish, then disconnect."""
        if self._probe is not None:
            self._probe.cancel()
        if self._flight is not None:
            await asyncio.wait([self._flight])
        await self._disconnect()

    async def _fly(self) -> None:
        """Round trips until nobody waits."""
        try:
            while self._waiting:
                batch, self._waiting = self._waiting, []
                await self._decide(batch)
        finally:
            self._flight = None

    async def _decide(self, batch: list[_Waiting]) -> None:
        decisions: list[Decision] | None = None
        if self._nodes is not None:
            try:
                async with asyncio.timeout(self._timeout):
                    decisions = await self._ask(self._nodes, batch)
            except Exception as error:  # whatever it is, those who wait for it are answered
                await self._disconnect()
                self._stay_local(f"{type(error).__name__}: {error}")
        if decisions is None:
            now = time.monotonic_ns()
            decisions = [self._local.check(client, items, now, units) for client, items, units, _ in batch]
            count_limit_decisions("local", [decision.violated == 0 for decision in decisions])
        else:
            count_limit_decisions("shared", [decision.violated == 0 for decision in decisions])
        for waiting, decision in zip(batch, decisions, strict=True):
            if not waiting.answer.done():  # a client that went away cancelled it
                waiting.answer.set_result(decision)

    async def _ask(self, nodes: Nodes, batch: Sequence[_Waiting]) -> list[Decision]:
        by_client: dict[str, list[int]] = {}
        for place, waiting in enumerate(batch):
            by_client.setdefault(waiting.client, []).append(place)
        calls = [self._call(client, [batch[place] for place in places]) for client, places in by_client.items()]
        replies = await nodes.ask(calls)
        decisions: dict[int, Decision] = {}
        for (client, places), reply in zip(by_client.items(), replies, strict=True):
            limits = self.book.of(client)
            if isinstance(reply, RedisError):
                raise reply
            for place, part in zip(places, reply.split(b","), strict=True):
                violated, requests, items = part.split()
                use, asked = Use(int(requests), int(items)), batch[place]
                decisions[place] = Decision(limits, asked.items, int(violated), use, False, asked.units, client)
        return [decisions[place] for place in range(len(batch))]

    def _call(self, client: str, asked: Sequence[_Waiting]) -> tuple[Any, ...]:
        limits = self.book.of(client)
        numbers = (limits.request_ns, limits.requests_full, limits.item_ns, limits.items_full)
        costs = " ".join(f"{waiting.units}:{waiting.items}" for waiting in asked)
        return ("EVALSHA", _SHA, 1, limit_key(client), *numbers, costs)

    async def _connect(self) -> bool:
        """Connect, load the script, and see that the server answers within the time limit."""
        assert self._pool is not None
        self._nodes = await open_nodes(self._pool, _SCRIPT, self._timeout)
        if self._nodes is not None:
            LIMITER_LOCAL.set(0)
        return self._nodes is not None

    async def _disconnect(self) -> None:
        nodes, self._nodes = self._nodes, None
        if nodes is not None:
            await nodes.close()

    def _stay_local(self, why: str) -> None:
        LIMITER_LOCAL.set(1)
        log.warning("rate limits are local now: each process grants its share", why=why)
        now = time.monotonic()
        pause = self._retry if now - self._went_away < 10 * self._retry else 0.0  # a restart is over at once
        self._went_away = now
        self._probe = asyncio.create_task(self._come_back(pause))

    async def _come_back(self, pause: float) -> None:
        await asyncio.sleep(pause)
        while not await self._connect():  # noqa: ASYNC110 - the event is in another program
            await asyncio.sleep(self._retry)
        log.info("rate limits are shared again")


def limit_key(client: str) -> str:
    """The one key of a client: a script call touches no other, so it stays on one node of a cluster. What stands
    between the braces is all that is hashed into a slot; a brace in the name itself would end it early."""
    return f"tanpuhui:limit:{{{client.replace('{', '%7B').replace('}', '%7D')}}}"

"""Remember proofs of possession, so that none is used twice: here in the process, and for all processes in Redis.

Redis is asked in a bounded time; proofs that arrive while a question is on its way share the next one. While it is
away, each process remembers alone, and a metric says so: a proof could then be used once in each process within its
minute, for the one call it was made for.
"""

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple

import structlog
from redis.asyncio import ConnectionPool
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import RedisError

from api.auth.dpop import Proof
from api.observability.metrics import PROOFS_FORGOTTEN, PROOFS_LOCAL

MOST_REMEMBERED = 300_000  # proofs, about 150 bytes each; older ones Redis still knows
CONNECT_TIMEOUT = 1.0  # seconds; nobody waits for a connection but the task that makes it

_log = structlog.get_logger("tanpuhui.auth")


class _Asked(NamedTuple):
    key: str
    milliseconds: int
    answer: asyncio.Future[bool]


class ProofMemory:
    """Says of each proof whether it is new; `start` it in the process that serves, `close` it at the end.

    redis_url   None: this process remembers alone
    timeout     seconds that a proof may wait for Redis
    retry       seconds before a Redis that did not answer is asked again
    """

    def __init__(self, redis_url: str | None, *, timeout: float = 0.05, retry: float = 1.0) -> None:
        self._timeout = timeout
        self._retry = retry
        self._used: OrderedDict[bytes, float] = OrderedDict()
        self._pool = ConnectionPool.from_url(redis_url, protocol=2, socket_timeout=None) if redis_url else None
        self._connection: AbstractConnection | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._asked: list[_Asked] = []
        self._flight: asyncio.Task[None] | None = None

    @property
    def shared(self) -> bool:
        """Whether what one process remembers all of them know just now."""
        return self._connection is not None

    async def start(self) -> None:
        """Connect before the first request. A server that is away is tried again in the background."""
        if self._pool is not None and not await self._connect():
            self._remember_alone("the server does not answer")

    async def is_new(self, proof: Proof, now: float) -> bool:
        """Remember a proof; False for one that was used before. Never raises."""
        digest = hashlib.sha256(f"{proof.jkt} {proof.jti}".encode("ascii")).digest()
        known = self._used.get(digest)
        if known is not None and now <= known:
            return False
        self._remember(digest, proof.until, now)  # before anything is awaited: of two at once one is first
        if self._connection is None:
            return True
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        # One key a call, so any node of a cluster can have it; it lives as long as the proof could be sent again.
        key = f"tanpuhui:proof:{{{digest.hex()[:32]}}}"
        self._asked.append(_Asked(key, max(1, int((proof.until - now) * 1000) + 1), answer))
        if self._flight is None:
            self._flight = asyncio.create_task(self._fly())
        return await answer

    async def close(self) -> None:
        """Let waiting proofs finish, then disconnect."""
        if self._connecting is not None:
            self._connecting.cancel()
        if self._flight is not None:
            await asyncio.wait([self._flight])
        await self._disconnect()

    def _remember(self, digest: bytes, until: float, now: float) -> None:
        self._used[digest] = until
        self._used.move_to_end(digest)
        while self._used:  # in the order of arrival, which is nearly that of their ends
            oldest = next(iter(self._used.values()))
            if len(self._used) > MOST_REMEMBERED:
                PROOFS_FORGOTTEN.inc()
            elif oldest >= now:
                break
            self._used.popitem(last=False)

    async def _fly(self) -> None:
        """Round trips until nobody waits."""
        try:
            while self._asked:
                batch, self._asked = self._asked, []
                first = await self._first_anywhere(batch)
                for asked, new in zip(batch, first, strict=True):
                    if not asked.answer.done():  # a client that went away cancelled it
                        asked.answer.set_result(new)
        finally:
            self._flight = None

    async def _first_anywhere(self, batch: Sequence[_Asked]) -> list[bool]:
        """Whether Redis had none of them; what it does not answer in time is new as far as this process knows."""
        if self._connection is None:
            return [True] * len(batch)
        try:
            async with asyncio.timeout(self._timeout):
                return await _set_new(self._connection, batch)
        except Exception as error:  # whatever it is, those who wait for it are answered
            await self._disconnect()
            self._remember_alone(type(error).__name__)
            return [True] * len(batch)

    async def _connect(self) -> bool:
        assert self._pool is not None
        connection: AbstractConnection = self._pool.make_connection()  # type: ignore[no-untyped-call]  # no types there
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                await connection.connect()  # type: ignore[no-untyped-call]  # no types there
        except (RedisError, OSError, TimeoutError):
            await connection.disconnect(nowait=True)
            return False
        self._connection = connection
        PROOFS_LOCAL.set(0)
        return True

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.disconnect(nowait=True)

    def _remember_alone(self, why: str) -> None:
        PROOFS_LOCAL.set(1)
        _log.warning("proofs are remembered by each process alone", because=why)
        self._connecting = asyncio.create_task(self._come_back())

    async def _come_back(self) -> None:
        await asyncio.sleep(self._retry)
        while not await self._connect():  # noqa: ASYNC110 - the event is in another program
            await asyncio.sleep(self._retry)


async def _set_new(connection: AbstractConnection, batch: Sequence[_Asked]) -> list[bool]:
    """One round trip: each key is set unless it is there already, which is the answer. Raises RedisError."""
    calls = [("SET", asked.key, b"", "NX", "PX", asked.milliseconds) for asked in batch]
    await connection.send_packed_command(connection.pack_commands(calls), check_health=False)
    return [await connection.read_response(disable_decoding=True) is not None for _ in batch]

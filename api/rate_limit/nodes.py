"""Connections to the limiter's server, or to a cluster's nodes: a script call goes to the node that has its key."""

import asyncio
from bisect import bisect_right
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from redis.asyncio import ConnectionPool
from redis.asyncio.connection import AbstractConnection
from redis.crc import key_slot
from redis.exceptions import NoScriptError, RedisError

CONNECT_TIMEOUT = 1.0  # seconds; nobody waits for a connection but the task that makes it

Call = tuple[Any, ...]  # EVALSHA, the digest, 1, its key, and what the script takes


class Nodes:
    """Every node that has keys, with the script loaded. A server alone is one node, and no slot is looked at.

    firsts   the first slot of each range, in order; the range reaches to the next
    owners   which of the connections has the range
    """

    def __init__(
        self, script: bytes, connections: Sequence[AbstractConnection], firsts: Sequence[int], owners: Sequence[int]
    ) -> None:
        self._script = script
        self._connections = connections
        self._firsts, self._owners = firsts, owners

    async def ask(self, calls: Sequence[Call]) -> list[Any]:
        """The replies to these calls, in their order: one round trip to each node, all at once. An error reply stands
        in its place, so none is left unread; a node whose scripts were flushed is given them again."""
        if len(self._connections) == 1:
            return await self._ask_one(self._connections[0], calls)
        shares: dict[int, list[int]] = {}
        for place, call in enumerate(calls):
            shares.setdefault(self._owner(call[3]), []).append(place)
        answers = await asyncio.gather(
            *(
                self._ask_one(self._connections[node], [calls[place] for place in places])
                for node, places in shares.items()
            )
        )
        found: dict[int, Any] = {}
        for places, replies in zip(shares.values(), answers, strict=True):
            found.update(zip(places, replies, strict=True))
        return [found[place] for place in range(len(calls))]

    async def close(self) -> None:
        for connection in self._connections:
            await connection.disconnect(nowait=True)

    def _owner(self, key: str) -> int:
        return self._owners[bisect_right(self._firsts, _slot(key)) - 1]

    async def _ask_one(self, connection: AbstractConnection, calls: Sequence[Call]) -> list[Any]:
        replies = await round_trip(connection, calls)
        lost = [place for place, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
        if lost:  # nothing was charged
            _, *again = await round_trip(
                connection, [("SCRIPT", "LOAD", self._script), *(calls[place] for place in lost)]
            )
            for place, reply in zip(lost, again, strict=True):
                replies[place] = reply
        return replies


@lru_cache(maxsize=20_000)
def _slot(key: str) -> int:
    return key_slot(key.encode("utf-8"))


async def open_nodes(pool: ConnectionPool, script: bytes, patience_s: float) -> Nodes | None:
    """Connect to the server that the pool names and, where it is a node of a cluster, to the others that have keys.

    None unless every one of them answers a call within `patience_s` seconds. When slots move later their old node says
    so; that is a failure like another, after which this is called again.
    """
    opened: list[AbstractConnection] = []
    usable = False
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT):
            first: AbstractConnection = pool.make_connection()  # type: ignore[no-untyped-call]  # no types there
            opened.append(first)
            await first.connect()  # type: ignore[no-untyped-call]  # no types there
            (ranges,) = await round_trip(first, [("CLUSTER", "SLOTS")])
            alone = isinstance(ranges, RedisError)  # a server without cluster support
            firsts, owners = [0], [0]
            if not alone:
                firsts, owners, others = _map(ranges, pool)
                if not firsts or firsts[0] != 0:
                    return None
                await first.disconnect(nowait=True)
                opened[:] = others
                for connection in opened:
                    await connection.connect()  # type: ignore[no-untyped-call]  # no types there
            for connection in opened:
                (loaded,) = await round_trip(connection, [("SCRIPT", "LOAD", script)])
                if isinstance(loaded, RedisError):
                    return None
        async with asyncio.timeout(patience_s):
            for (pong,) in await asyncio.gather(*(round_trip(connection, [("PING",)]) for connection in opened)):
                if isinstance(pong, RedisError):
                    return None
        usable = True
        return Nodes(script, opened, firsts, owners)
    except (RedisError, OSError, TimeoutError):
        return None
    finally:
        if not usable:
            for connection in opened:
                await connection.disconnect(nowait=True)


def _map(ranges: Sequence[Any], pool: ConnectionPool) -> tuple[list[int], list[int], list[AbstractConnection]]:
    """The ranges of CLUSTER SLOTS: where each begins, which connection has it, and the connections, not opened yet."""
    places: dict[tuple[str, int], int] = {}
    firsts, owners = [], []
    for first, _last, primary, *_replicas in sorted(ranges, key=lambda each: int(each[0])):
        host = primary[0].decode("ascii") or pool.connection_kwargs["host"]  # empty: where we are connected already
        firsts.append(int(first))
        owners.append(places.setdefault((host, int(primary[1])), len(places)))
    settings = dict(pool.connection_kwargs)
    others = [pool.connection_class(**{**settings, "host": host, "port": port}) for host, port in places]
    return firsts, owners, others


async def round_trip(connection: AbstractConnection, calls: Sequence[Call]) -> list[Any]:
    """Send all calls at once and read every reply; an error reply is returned in its place, so none is left unread."""
    await connection.send_packed_command(connection.pack_commands(calls), check_health=False)
    replies: list[Any] = []
    for _ in calls:
        try:
            replies.append(await connection.read_response(disable_decoding=True))
        except RedisError as error:
            if not connection.is_connected:
                raise
            replies.append(error)
    return replies

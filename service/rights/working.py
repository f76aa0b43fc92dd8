"""The job that goes on with erasures wherever they stopped. Several processes that do find little to do twice."""

import asyncio
import random
from dataclasses import dataclass
from typing import NoReturn
from uuid import UUID

import structlog

from service.clock import Fresh, shanghai_day
from service.database import FAULTS, Pool
from service.keyring import Keyring
from service.log.watch import PostingSuspended
from service.poster import DatabaseAway, Poster, QueueFull
from service.redemption.commands import Order, ReleaseHold
from service.rights.erasure import Erasure, State, finish, read_erasure, read_open, read_unaccepted, remove_all
from service.rights.erasure import watch_manifests as watch
from service.rights.tombstones import expire

_log = structlog.get_logger(__name__)

EVERY_S = 2.0
AT_ONCE = 100
WATCHED_EVERY_S = 3_600.0
FIRST_AFTER_S = 60.0  # of its start, for a process that is started every day
_PASSING: tuple[type[Exception], ...] = (*FAULTS, DatabaseAway, QueueFull, PostingSuspended)


@dataclass(frozen=True, slots=True)
class Eraser:
    """What an erasure needs besides its participant."""

    pool: Pool
    poster: Poster
    keyring: Keyring
    fresh: Fresh

    async def go_on(self, participant_id: UUID) -> Erasure:
        """Take an erasure as far as it goes now: give back what no bank has accepted, remove everything unless a bank
        holds points, go through what is left. Raises ErasureNotAsked, and what the poster raises."""
        async with self.pool.acquire() as connection:
            unaccepted = await read_unaccepted(connection, participant_id)
        if unaccepted:
            # One that a bank accepts meanwhile is refused, and waited for.
            order = Order("participant")
            await self.poster.post(
                [ReleaseHold(participant_id, hold, order, self.fresh.id(), "cancelled") for hold in unaccepted]
            )
        state = await self._step(participant_id)
        if state == "erasing":
            async with self.pool.acquire() as connection, connection.transaction():
                await finish(connection, participant_id, self.keyring)
        async with self.pool.acquire() as connection:
            return await read_erasure(connection, participant_id)

    async def _step(self, participant_id: UUID) -> State:
        async with self.pool.acquire() as connection, connection.transaction():
            return await remove_all(connection, participant_id)

    async def go_on_with_all(self) -> int:
        """Go on with those that wait, up to AT_ONCE; how many came to their end."""
        async with self.pool.acquire() as connection:
            waiting = await read_open(connection, AT_ONCE)
        return sum([(await self.go_on(participant_id)).state == "done" for participant_id in waiting])

    async def look_back(self) -> None:
        """What comes due by itself: manifests that came after an erasure, tombstones whose time is over."""
        async with self.pool.acquire() as connection, connection.transaction():
            await watch(connection, self.keyring)
            await expire(connection, shanghai_day(self.fresh.clock()))


async def keep_erasing(eraser: Eraser) -> NoReturn:
    """Go on with erasures for as long as the process serves."""
    loop = asyncio.get_running_loop()
    looked_back = loop.time() - WATCHED_EVERY_S + FIRST_AFTER_S
    while True:
        await asyncio.sleep(random.uniform(0.5, 1.5) * EVERY_S)
        try:
            await eraser.go_on_with_all()
            if loop.time() - looked_back > WATCHED_EVERY_S:
                looked_back = loop.time()
                await eraser.look_back()
        except _PASSING as error:
            _log.warning("erasures wait", because=type(error).__name__)

"""Write down that holds are dead. They are dead without it: this gives the points back to be seen, and to the pool."""

import asyncio
import random
from datetime import timedelta
from typing import NoReturn

import structlog

from service.activities.intake import Refusal
from service.clock import Fresh
from service.database import FAULTS, Pool
from service.log.watch import PostingSuspended
from service.poster import DatabaseAway, Poster, QueueFull
from service.redemption.commands import Order, ReleaseHold
from service.redemption.reading import read_dead

_log = structlog.get_logger(__name__)

_PASSING: tuple[type[Exception], ...] = (*FAULTS, DatabaseAway, QueueFull, PostingSuspended)
EVERY_S = 2.0
AT_ONCE = 500


async def sweep_dead(pool: Pool, poster: Poster, fresh: Fresh, offset: timedelta) -> int:
    """Release dead holds, up to AT_ONCE; how many were."""
    async with pool.acquire() as connection:
        dead = await read_dead(connection, offset, AT_ONCE)
    if not dead:
        return 0
    outcomes = await poster.post([ReleaseHold(*ids, Order("rule"), fresh.id(), "lapsed") for ids in dead])
    # What is dead goes back before anything is asked of it, so that each is told that it has ended.
    return sum(isinstance(one, Refusal) and one.slug == "hold-ended" for one in outcomes)


async def keep_sweeping(pool: Pool, poster: Poster, fresh: Fresh, offset: timedelta) -> NoReturn:
    """Sweep for as long as the process serves. Several processes that do find little to do twice."""
    while True:
        await asyncio.sleep(random.uniform(0.5, 1.5) * EVERY_S)
        try:
            while await sweep_dead(pool, poster, fresh, offset) == AT_ONCE:
                pass
        except _PASSING as error:
            _log.warning("dead holds were not released, they stay dead", because=type(error).__name__)

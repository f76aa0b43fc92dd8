"""The loops behind the log: give queued leaves their places, then fold the system totals. Safe to run twice, safe to
kill at any point."""

import asyncio
import random
from collections.abc import Awaitable, Callable

import structlog
from prometheus_client import Counter

from ledger.log_store import fold, read_status, sequence
from service.database import FAULTS, Connection, Pool

_log = structlog.get_logger(__name__)

IDLE_S = 0.05  # between looks at the queue: a leaf has its place within a tenth of a second of its commit
FOLDED_EVERY_S = 0.2  # the totals of the system accounts are for people, and a few large steps cost less than many
BEHIND = 2_000  # leaves in one step: after so many there are more, and the next step is taken at once
RESTED_S = 1.0  # after a failure
LAST_WITHIN_S = 5.0  # when told to stop

SEQUENCED = Counter("tanpuhui_sequenced_leaves", "Leaves given a place in the log")
FOLDED = Counter("tanpuhui_folded_leaves", "Leaves whose movements are in the system totals")

Step = Callable[[Connection], Awaitable[int]]


async def run_worker(pool: Pool, stopping: asyncio.Event, *others: Awaitable[None]) -> None:
    """Run every loop until `stopping` is set; each finishes the transaction it is in, and what still waits gets its
    place. `others` are loops that run beside these and end with them."""
    await asyncio.gather(
        _loop(pool, "sequence", sequence, SEQUENCED, IDLE_S, stopping),
        _loop(pool, "fold", fold, FOLDED, FOLDED_EVERY_S, stopping),
        *others,
    )
    try:
        async with asyncio.timeout(LAST_WITHIN_S):
            await drain(pool)
    except FAULTS as error:  # it waits for the next worker
        _log.warning("leaves are left in the queue", because=type(error).__name__)


async def _loop(pool: Pool, name: str, step: Step, counter: Counter, pause_s: float, stopping: asyncio.Event) -> None:
    """Take the step, and rest between steps unless there is more than one takes: a step of a few leaves costs as much
    as one of hundreds."""
    while not stopping.is_set():
        try:
            async with pool.acquire() as connection, connection.transaction(isolation="read_committed"):
                done = await step(connection)
            counter.inc(done)
            if done < BEHIND:
                await pause(stopping, pause_s)
        except FAULTS as error:
            # Whatever it was, the transaction is undone and the queue is as it was: wait, and look again.
            _log.warning("log step failed", step=name, because=type(error).__name__, detail=str(error))
            await pool.expire_connections()
            await pause(stopping, random.uniform(0.5, 1.5) * RESTED_S)


async def pause(stopping: asyncio.Event, seconds: float) -> None:
    """Wait so long, or until `stopping` is set."""
    try:
        await asyncio.wait_for(stopping.wait(), seconds)
    except TimeoutError:
        return


async def drain(pool: Pool) -> int:
    """Sequence and fold until nothing waits; return the log's size. For commands and tests that need the log up to
    date."""
    for step in (sequence, fold):
        while True:
            async with pool.acquire() as connection, connection.transaction(isolation="read_committed"):
                if not await step(connection):
                    break
    async with pool.acquire() as connection:
        return (await read_status(connection)).size

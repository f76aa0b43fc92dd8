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

IDLE_S = 0.05  # between looks at an empty queue: a leaf has its place within a tenth of a second of its commit
RESTED_S = 1.0  # after a failure

SEQUENCED = Counter("tanpuhui_sequenced_leaves", "Leaves given a place in the log")
FOLDED = Counter("tanpuhui_folded_leaves", "Leaves whose movements are in the system totals")

Step = Callable[[Connection], Awaitable[int]]


async def run_worker(pool: Pool, stopping: asyncio.Event) -> None:
    """Run every loop until `stopping` is set; each finishes the transaction it is in."""
    await asyncio.gather(
        _loop(pool, "sequence", sequence, SEQUENCED, stopping), _loop(pool, "fold", fold, FOLDED, stopping)
    )


async def _loop(pool: Pool, name: str, step: Step, counter: Counter, stopping: asyncio.Event) -> None:
    while not stopping.is_set():
        try:
            async with pool.acquire() as connection, connection.transaction(isolation="read_committed"):
                done = await step(connection)
            counter.inc(done)
            if done:
                continue
            await _pause(stopping, IDLE_S)
        except FAULTS as error:
            # Whatever it was, the transaction is undone and the queue is as it was: wait, and look again.
            _log.warning("log step failed", step=name, because=type(error).__name__, detail=str(error))
            await pool.expire_connections()
            await _pause(stopping, random.uniform(0.5, 1.5) * RESTED_S)


async def _pause(stopping: asyncio.Event, seconds: float) -> None:
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

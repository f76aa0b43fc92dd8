"""The publisher's loop: a checkpoint for what was added, every so often; again and again whatever happens.

One publisher leads, the one that has the database's lock of that name; another one waits until it ends.
"""

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress

import structlog
from prometheus_client import Counter, Gauge

from ledger.log_store import read_status
from ledger.store import Connection
from service.clock import Clock
from service.database import FAULTS, Pool
from service.log.announcing import announce_keys
from service.log.cosigning import show_cosigned
from service.log.epochs import open_first
from service.log.guard import GuardHeld, GuardUnusable
from service.log.keys import SigningKeyUnusable
from service.log.publish import NOT_BEGUN, Log, Published, publish
from service.worker import pause

_log = structlog.get_logger(__name__)

RESTED_S = 1.0  # after a failure
LAST_WITHIN_S = 5.0  # when told to stop: for what was answered to come under a last checkpoint

_LEAD = "SELECT pg_try_advisory_lock($1)"
_YIELD = "SELECT pg_advisory_unlock($1)"
LEADER = 0x7A9F_6C1D_0B3E_5A27  # any number that nobody else locks

PUBLISHED = Counter("tanpuhui_published_entries", "Entries of the log that a signed checkpoint covers")
REFUSED = Gauge("tanpuhui_log_refused", "1 while nothing is signed or posted because history may differ, else 0")


async def run_publisher(
    pool: Pool, open_log: Callable[[], Log], programme: str, clock: Clock, interval_s: float, stopping: asyncio.Event
) -> None:
    """Publish until `stopping` is set, then once more.

    open_log   the log as it is to be signed now: asked again before each step, as its keys may change

    Raises SigningKeyUnusable at the start, when the key cannot be used.
    """
    open_log()
    while not stopping.is_set():
        try:
            async with pool.acquire() as connection:
                if not await connection.fetchval(_LEAD, LEADER):
                    await pause(stopping, RESTED_S)
                    continue
                try:
                    await _publish_on(connection, open_log, programme, clock, interval_s, stopping)
                finally:
                    await connection.fetchval(_YIELD, LEADER)
        except FAULTS as error:
            _log.warning("publishing failed", because=type(error).__name__, detail=str(error))
            await pool.expire_connections()
            await pause(stopping, random.uniform(0.5, 1.5) * RESTED_S)


async def _publish_on(
    connection: Connection,
    open_log: Callable[[], Log],
    programme: str,
    clock: Clock,
    interval_s: float,
    stopping: asyncio.Event,
) -> None:
    """As long as the database answers."""
    said = ""
    while True:
        last = stopping.is_set()
        done, fault = await _step(connection, open_log, programme, clock)
        REFUSED.set(bool(fault))
        if fault and fault != said:
            _log.error("the log is not signed", because=fault, see="docs/operations.md")
        said = fault
        PUBLISHED.inc(done.added if done else 0)
        if last:
            await _finish(connection, open_log, programme, clock, done)
            return
        await pause(stopping, RESTED_S if fault else interval_s)


async def _step(
    connection: Connection, open_log: Callable[[], Log], programme: str, clock: Clock
) -> tuple[Published | None, str]:
    """One step, and why nothing was signed; empty when all is well."""
    try:
        done = await step(connection, open_log(), programme, clock)
    except GuardHeld:
        return None, ""  # an operator opens an epoch just now
    except (SigningKeyUnusable, FileNotFoundError) as error:
        return None, str(error)
    return done, " ".join(filter(None, (done.refused, done.detail)))


async def _finish(
    connection: Connection, open_log: Callable[[], Log], programme: str, clock: Clock, done: Published | None
) -> None:
    """Wait for what the worker still gives a place to, and sign that too: not for long, and not against a fault."""
    loop = asyncio.get_running_loop()
    give_up = loop.time() + LAST_WITHIN_S
    while done is not None and done.refused is None and loop.time() < give_up:
        status = await read_status(connection)
        if not status.queued and status.size == done.size:
            return
        await asyncio.sleep(0.1)
        done, _ = await _step(connection, open_log, programme, clock)


async def step(connection: Connection, log: Log, programme: str, clock: Clock) -> Published:
    """Publish once; a ledger that has no log yet begins its first. Raises GuardHeld, SigningKeyUnusable."""
    now = clock()
    with suppress(GuardUnusable):  # publish() says so where everybody sees it
        await announce_keys(connection, log, programme, now)
    published = await publish(connection, log, now)
    if published.refused == NOT_BEGUN:
        await open_first(connection, log, programme, now)
        published = await publish(connection, log, now)
    if published.refused is None:
        signed = log.guard.read()
        assert signed is not None
        log.show_keys(signed.epoch, now)
        await show_cosigned(log)
    return published

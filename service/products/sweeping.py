"""The worker's look at the board: what its evidence no longer carries is taken down, with the reason, in the log."""

import asyncio
from contextlib import suppress

import structlog

from service.database import FAULTS, Pool
from service.products.listing import Desk, sweep_listings

_log = structlog.get_logger(__name__)

LOOKED_EVERY_S = 30.0  # nothing past its day can be held anyhow: what waits is the leaf that says so

_GOES_ON = "SELECT refused IS NULL FROM ledger.log_state"


async def run_listing_sweeps(pool: Pool, desk: Desk, stopping: asyncio.Event) -> None:
    """Look again and again, until `stopping` is set. Nothing is taken down while the log is refused."""
    while not stopping.is_set():
        try:
            async with pool.acquire() as connection, connection.transaction(isolation="read_committed"):
                taken = await sweep_listings(connection, desk) if await connection.fetchval(_GOES_ON) else 0
            if taken:
                _log.info("listings are taken down", listings=taken)
        except FAULTS as error:
            _log.error("the board could not be swept", because=type(error).__name__, detail=str(error))
        with suppress(TimeoutError):
            await asyncio.wait_for(stopping.wait(), LOOKED_EVERY_S)

"""Forget what linking and signing in need only for a while: requests for links, and which tokens were exchanged."""

import asyncio
import random
from typing import NoReturn

import structlog

from service.database import FAULTS, Pool
from service.linking.asking import sweep_link_requests
from service.persons import sweep_exchanged

_log = structlog.get_logger(__name__)

SWEPT_EVERY_S = 300.0


async def keep_links_swept(pool: Pool) -> NoReturn:
    """Sweep for as long as the process serves; several that do take turns."""
    while True:
        await asyncio.sleep(random.uniform(0.5, 1.5) * SWEPT_EVERY_S)
        try:
            async with pool.acquire() as connection:
                await sweep_link_requests(connection)
                await sweep_exchanged(connection)
        except FAULTS as error:
            _log.warning("requests for links were not swept, they only take room", because=type(error).__name__)

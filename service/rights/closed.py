"""Whose tokens are no longer taken: participants who asked to be forgotten, known to every process within a second."""

import asyncio
import random
from typing import NoReturn
from uuid import UUID

import structlog

from service.database import FAULTS, Connection, Pool

_log = structlog.get_logger(__name__)

EVERY_S = 0.5
_RECENT = """
    SELECT participant_id FROM service.erasure WHERE asked_at > clock_timestamp() - interval '25 hours'
"""  # no token lives longer than a day


class Closed:
    """The participants whose tokens could still be good and are refused."""

    def __init__(self) -> None:
        self._known: set[UUID] = set()

    def __contains__(self, participant_id: UUID) -> bool:
        return participant_id in self._known

    def add(self, participant_id: UUID) -> None:
        """Refuse a participant from now on in this process."""
        self._known.add(participant_id)

    async def refresh(self, connection: Connection) -> None:
        """Learn of those who asked in other processes."""
        self._known |= {row["participant_id"] for row in await connection.fetch(_RECENT)}


async def keep_closed_fresh(pool: Pool, closed: Closed) -> NoReturn:
    """Refresh for as long as the process serves."""
    while True:
        await asyncio.sleep(random.uniform(0.5, 1.5) * EVERY_S)
        try:
            async with pool.acquire() as connection:
                await closed.refresh(connection)
        except FAULTS as error:
            _log.warning("who asked to be forgotten was not looked at", because=type(error).__name__)

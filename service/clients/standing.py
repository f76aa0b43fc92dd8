"""Which tokens of the platform's own are refused before their end: kept in each process, and fresh within a second."""

import asyncio
import random
from datetime import datetime
from typing import NoReturn

import structlog

from service.database import FAULTS, Connection, Pool

REFRESH_S = 0.5
SWEPT_EVERY_S = 60.0

_log = structlog.get_logger(__name__)

# Whatever has ended is refused anyway; LEEWAY of the authenticator is within the minute.
_REVOKED = "SELECT jti FROM service.token_revoked WHERE expires_at > clock_timestamp() - interval '1 minute' ORDER BY 1"
_CLIENTS = """
    SELECT client_id, state = 'suspended' AS suspended, extract(epoch FROM tokens_from)::int8 AS tokens_from
    FROM service.oauth_client WHERE state = 'suspended' OR tokens_from > clock_timestamp() - interval '2 hours'
    ORDER BY client_id
"""  # no token lives for two hours, so an older moment refuses none
_REVOKE = """
    INSERT INTO service.token_revoked (jti, client_id, expires_at) VALUES ($1, $2, $3) ON CONFLICT (jti) DO NOTHING
"""  # a token is revoked once, however often that is asked for
_USE = """
    INSERT INTO service.assertion_used (client_id, jti, expires_at) VALUES ($1, $2, $3)
    ON CONFLICT (client_id, jti) DO NOTHING RETURNING clock_timestamp()
"""
_SWEEP = (
    "DELETE FROM service.assertion_used WHERE expires_at < clock_timestamp() - interval '10 minutes'",
    "DELETE FROM service.token_revoked WHERE expires_at < clock_timestamp() - interval '10 minutes'",
)


class Standing:
    """What is refused. `version` rises whenever that changes, so that what was verified before is looked at again."""

    def __init__(self) -> None:
        self.version = 0
        self._revoked: frozenset[str] = frozenset()
        self._clients: dict[str, tuple[bool, int]] = {}

    async def refresh(self, connection: Connection) -> None:
        """Read what the database knows now."""
        revoked = frozenset(row["jti"] for row in await connection.fetch(_REVOKED))
        clients = {
            row["client_id"]: (row["suspended"], row["tokens_from"] or 0) for row in await connection.fetch(_CLIENTS)
        }
        if revoked != self._revoked or clients != self._clients:
            self._revoked, self._clients, self.version = revoked, clients, self.version + 1

    def refuses(self, client_id: str, jti: str, issued: float) -> bool:
        """Whether a token is revoked, its client is suspended, or all tokens of then are revoked."""
        suspended, tokens_from = self._clients.get(client_id, (False, 0))
        return jti in self._revoked or suspended or issued < tokens_from


async def revoke_token(tx: Connection, jti: str, client_id: str, expires_at: datetime) -> None:
    """Refuse a token from now on, in every process within a second."""
    await tx.execute(_REVOKE, jti, client_id, expires_at)


async def use_assertion(tx: Connection, client_id: str, jti: str, expires_at: datetime) -> datetime | None:
    """Use up an assertion; the database's time, or None for one that was used before."""
    used: datetime | None = await tx.fetchval(_USE, client_id, jti, expires_at)
    return used


async def keep_standing_fresh(pool: Pool, standing: Standing) -> NoReturn:
    """Refresh for as long as the process serves. While the database is away the last known stands: nobody could have
    revoked anything."""
    while True:
        await asyncio.sleep(REFRESH_S)
        try:
            async with pool.acquire() as connection:
                await standing.refresh(connection)
        except FAULTS as error:
            _log.warning("revocations could not be read, the last known stand", because=type(error).__name__)


async def keep_access_swept(pool: Pool) -> NoReturn:
    """Forget what has expired, for as long as the process serves; several that do take turns."""
    while True:
        await asyncio.sleep(random.uniform(0.5, 1.5) * SWEPT_EVERY_S)
        try:
            async with pool.acquire() as connection:
                await sweep_access(connection)
        except FAULTS as error:
            _log.warning("old assertions were not swept, they only take room", because=type(error).__name__)


async def sweep_access(tx: Connection) -> int:
    """Forget assertions and revocations whose time is over; how many."""
    return sum([int((await tx.execute(statement)).split()[-1]) for statement in _SWEEP])

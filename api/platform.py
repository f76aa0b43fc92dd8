"""What one API process holds, put together once and handed to every route."""

import asyncio
from dataclasses import dataclass, field

from api.auth import Authenticator
from api.rate_limit import RateLimiter
from service.activities.intake import Licence
from service.activities.rules import RuleBook
from service.activities.store import read_licence
from service.clock import Fresh
from service.database import LOST, Pool
from service.keyring import Keyring
from service.poster import Poster
from service.reading import BalanceReader
from service.settings import Settings

LICENCE_STALE_S = 60.0
LICENCE_FRESH_S = 1.0  # how long a change to a source's registration may take to be seen by every process


@dataclass(slots=True)
class Platform:
    """The parts of a running process. Routes reach it as `request.app.state.platform`."""

    settings: Settings
    pool: Pool
    poster: Poster
    rules: RuleBook
    keyring: Keyring
    fresh: Fresh
    authenticator: Authenticator
    limiter: RateLimiter
    balances: BalanceReader
    licences: dict[str, tuple[float, Licence | None]] = field(default_factory=dict)

    async def licence(self, uri: str) -> Licence | None:
        """The registration of a source, at most LICENCE_FRESH_S old; None when there is none.

        While the database is away one of the last LICENCE_STALE_S does: the poster waits for the database in any case.
        """
        now = asyncio.get_running_loop().time()
        seen = self.licences.get(uri)
        if seen is None or now - seen[0] > LICENCE_FRESH_S:
            try:
                async with self.pool.acquire() as connection:
                    seen = self.licences[uri] = (now, await read_licence(connection, uri))
            except LOST:
                if seen is None or now - seen[0] > LICENCE_STALE_S:
                    raise
        return seen[1]

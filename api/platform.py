"""What one API process holds, put together once and handed to every route."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from datetime import date
from typing import Any, TypeVar
from uuid import UUID

from api.auth import Authenticator
from api.oauth.citizens import Citizens
from api.observability import observe_licences
from api.rate_limit import RateLimiter
from service.activities.licences import Licence, current_run, days_left
from service.activities.rules import RuleBook
from service.activities.store import read_licence
from service.banks.calls import KeptCall
from service.banks.registry import RegisteredBank, read_bank
from service.clients.standing import Standing
from service.clients.token_keys import TokenKeys
from service.clock import Fresh, shanghai_day
from service.database import LOST, Pool
from service.gathering import Gatherer
from service.keyring import Keyring
from service.linking.texts import ConsentTexts
from service.log.watch import Watch
from service.poster import Poster
from service.products.catalogue import Offers
from service.reading import BalanceReader
from service.reports.keeping import KeptReport
from service.reports.registry import Signer, read_signer
from service.rights.closed import Closed
from service.rights.working import Eraser
from service.settings import Settings
from service.vault import Vault

Found = TypeVar("Found")

COUNTED_AT_ONCE = 2  # days of sources: long reads, which must not take the poster's connections
MOST_STREAMS = 64  # of events; each looks into the database twice a second
LICENCE_STALE_S = 60.0
LICENCE_FRESH_S = 1.0  # how long a change to a source's registration may take to be seen by every process
BANK_FRESH_S = 1.0  # the same of a bank's, its keys included
SIGNER_FRESH_S = 1.0  # and of whether a source signs, and of its keys


@dataclass(slots=True)
class Platform:
    """The parts of a running process. Routes reach it as `request.app.state.platform`."""

    settings: Settings
    pool: Pool
    poster: Poster
    rules: RuleBook
    keyring: Keyring
    vault: Vault
    closed: Closed
    eraser: Eraser
    fresh: Fresh
    authenticator: Authenticator
    token_keys: TokenKeys
    standing: Standing
    limiter: RateLimiter
    balances: BalanceReader
    watch: Watch
    calls: Gatherer[KeptCall, bool]
    reports: Gatherer[KeptReport, bool]
    owners: Gatherer[tuple[UUID, int], UUID | None]
    texts: ConsentTexts
    citizens: Citizens | None
    counting: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(COUNTED_AT_ONCE))
    streams: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(MOST_STREAMS))
    licences: dict[str, tuple[float, Licence | None]] = field(default_factory=dict)
    banks: dict[str, tuple[float, RegisteredBank | None]] = field(default_factory=dict)
    signers: dict[str, tuple[float, Signer | None]] = field(default_factory=dict)
    flights: dict[tuple[str, str], asyncio.Task[Any]] = field(default_factory=dict)
    offers: Offers = field(default_factory=Offers)

    async def licence(self, uri: str) -> Licence | None:
        """The registration of a source, at most LICENCE_FRESH_S old; None when there is none.

        While the database is away one of the last LICENCE_STALE_S does: the poster waits for the database in any case.
        """
        seen = self.licences.get(uri)
        if seen is None or asyncio.get_running_loop().time() - seen[0] > LICENCE_FRESH_S:
            try:
                seen = self.licences[uri] = await self._once(uri, self._ask_licence)
            except LOST:
                if seen is None or asyncio.get_running_loop().time() - seen[0] > LICENCE_STALE_S:
                    raise
        return seen[1]

    async def bank(self, uri: str) -> RegisteredBank | None:
        """The registration of a bank with its keys, at most BANK_FRESH_S old; None when there is none."""
        seen = self.banks.get(uri)
        if seen is None or asyncio.get_running_loop().time() - seen[0] > BANK_FRESH_S:
            seen = self.banks[uri] = await self._once(uri, self._ask_bank)
        return seen[1]

    async def signer(self, uri: str) -> Signer | None:
        """A source as one who signs, at most SIGNER_FRESH_S old; None when there is none.

        While the database is away one of the last LICENCE_STALE_S does, as with its licence; a nonce could not be
        used up then, so nothing signed is taken.
        """
        seen = self.signers.get(uri)
        if seen is None or asyncio.get_running_loop().time() - seen[0] > SIGNER_FRESH_S:
            try:
                seen = self.signers[uri] = await self._once(uri, self._ask_signer)
            except LOST:
                if seen is None or asyncio.get_running_loop().time() - seen[0] > LICENCE_STALE_S:
                    raise
        return seen[1]

    async def _once(self, uri: str, ask: Callable[[str], Coroutine[Any, Any, Found]]) -> tuple[float, Found]:
        """What is asked, and since when it is known. One asks, and all who come meanwhile have the answer, or what was
        raised: whoever serves hundreds a second would else ask dozens of times whenever a second is over."""
        key = (ask.__name__, uri)
        flight = self.flights.get(key)
        if flight is None:
            flight = self.flights[key] = asyncio.create_task(self._timed(ask(uri)))
            flight.add_done_callback(lambda _: self.flights.pop(key, None))
        found: tuple[float, Found] = await asyncio.shield(flight)
        return found

    async def _timed(self, asked: Coroutine[Any, Any, Found]) -> tuple[float, Found]:
        began = asyncio.get_running_loop().time()
        return began, await asked

    async def _ask_licence(self, uri: str) -> Licence | None:
        async with self.pool.acquire() as connection:
            licence = await read_licence(connection, uri, self.today())
        if licence is not None:
            self.observe(licence)
        return licence

    async def _ask_bank(self, uri: str) -> RegisteredBank | None:
        async with self.pool.acquire() as connection:
            return await read_bank(connection, uri)

    async def _ask_signer(self, uri: str) -> Signer | None:
        async with self.pool.acquire() as connection:
            return await read_signer(connection, uri)

    def today(self) -> date:
        """The day it is in Asia/Shanghai."""
        return shanghai_day(self.fresh.clock())

    def observe(self, licence: Licence) -> None:
        """Show operators how long the licences that were just read still last."""
        today = self.today()
        left = {scenario: days_left(current_run(spans, today), today) for scenario, spans in licence.spans.items()}
        observe_licences(licence.uri, left)

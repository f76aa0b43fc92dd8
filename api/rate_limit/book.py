"""Whose limits are which: defaults by kind of caller, and what operators have set for single clients, kept fresh."""

import asyncio
from typing import NoReturn

import structlog

from api.rate_limit.quota import Limits, Policy
from service.database import FAULTS, Connection, Pool
from service.limits import LimitChange, read_changes
from service.settings import Settings

REFRESH_S = 0.5  # so every process follows a change within a second

_log = structlog.get_logger("tanpuhui.rate_limit")


class LimitBook:
    """The limits of every name that is charged.

    clients        of machines and staff, unless something else is set for one
    participants   of a person
    addresses      of a network address, for what carries no valid token
    """

    def __init__(self, clients: Limits, participants: Limits | None = None, addresses: Limits | None = None) -> None:
        self.clients = clients
        self.participants = participants or clients
        self.addresses = addresses or clients
        self._set: dict[str, Limits] = {}
        self._newest = 0

    @classmethod
    def from_settings(cls, settings: Settings) -> "LimitBook":
        return cls(
            limits_of(
                settings.rate_requests_per_second,
                settings.rate_requests_burst,
                settings.rate_items_per_second,
                settings.rate_items_burst,
            ),
            limits_of(
                settings.participant_requests_per_second,
                settings.participant_requests_burst,
                settings.participant_items_per_second,
                settings.participant_items_burst,
            ),
            Limits.of(Policy("address", settings.address_requests_per_second, settings.address_requests_burst)),
        )

    def of(self, client: str) -> Limits:
        """The limits of a client, by the name the limiter knows it by."""
        found = self._set.get(client)
        if found is not None:
            return found
        if client.startswith("participant:"):
            return self.participants
        return self.addresses if client.startswith("address:") else self.clients

    async def refresh(self, connection: Connection) -> None:
        """Take in what was set since the last look."""
        for change in await read_changes(connection, after=self._newest):
            self._take(change)

    def _take(self, change: LimitChange) -> None:
        self._newest = change.limit_id
        if change.quotas is None:
            self._set.pop(change.client, None)
        else:
            self._set[change.client] = limits_of(*change.quotas)


def limits_of(requests_per_second: int, requests_burst: int, items_per_second: int, items_burst: int) -> Limits:
    """The limits of a client that sends requests and items."""
    return Limits.of(
        Policy("requests", requests_per_second, requests_burst), Policy("items", items_per_second, items_burst)
    )


async def keep_limits_fresh(pool: Pool, book: LimitBook) -> NoReturn:
    """Refresh for as long as the process serves. While the database is away the last known limits stand."""
    while True:
        await asyncio.sleep(REFRESH_S)
        try:
            async with pool.acquire() as connection:
                await book.refresh(connection)
        except FAULTS as error:
            _log.warning("limits could not be read, the last known stand", because=type(error).__name__)

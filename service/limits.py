"""Limits that operators set for single clients. Each change is a row; the newest of a client is what holds.

A client without a row, or whose newest row says nothing, has the limits of the settings. The limits keep the platform
answering; what may be earned or spent is never bounded here but in the rules and in the ledger.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import BigInteger, Column, DateTime, Identity, Index, Integer, Text
from sqlmodel import Field

from service.database import Connection, ServiceTable

MOST_PER_SECOND = 1_000_000
MOST_BURST = 10_000_000
_LOCK = 7262031  # the advisory lock of who writes a limit: rows become visible in the order of their numbers


class ClientLimit(ServiceTable, table=True):
    """One change of a client's limits; all four figures are empty where the client goes back to the settings'."""

    __tablename__ = "client_limit"
    __table_args__ = (Index("client_limit_client_index", "client", "limit_id"),)
    limit_id: int = Field(sa_column=Column(BigInteger, Identity(always=True), primary_key=True))
    client: str = Field(sa_column=Column(Text, nullable=False))
    requests_per_second: int | None = Field(sa_column=Column(Integer))
    requests_burst: int | None = Field(sa_column=Column(Integer))
    items_per_second: int | None = Field(sa_column=Column(Integer))
    items_burst: int | None = Field(sa_column=Column(Integer))
    changed_by: str = Field(sa_column=Column(Text, nullable=False))
    changed_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))


class Quotas(NamedTuple):
    """A client's own limits: units a second, lasting, and at once."""

    requests_per_second: int
    requests_burst: int
    items_per_second: int
    items_burst: int


@dataclass(frozen=True, slots=True)
class LimitChange:
    """What was set for a client; `quotas` None takes it back."""

    limit_id: int
    client: str
    quotas: Quotas | None
    changed_by: str
    changed_at: datetime


_FIELDS = """limit_id, client, requests_per_second, requests_burst, items_per_second, items_burst, changed_by,
    changed_at"""
_CHANGES = f"SELECT {_FIELDS} FROM service.client_limit WHERE limit_id > $1 ORDER BY limit_id"
_CURRENT = f"""
    SELECT {_FIELDS} FROM (
        SELECT DISTINCT ON (client) {_FIELDS} FROM service.client_limit
        WHERE client > $1 ORDER BY client, limit_id DESC
    ) AS newest WHERE requests_burst IS NOT NULL ORDER BY client LIMIT $2
"""
_OF_ONE = f"SELECT {_FIELDS} FROM service.client_limit WHERE client = $1 ORDER BY limit_id DESC LIMIT 1"
_SET = f"""
    INSERT INTO service.client_limit (client, requests_per_second, requests_burst, items_per_second, items_burst,
        changed_by, changed_at)
    VALUES ($1, $2, $3, $4, $5, $6, clock_timestamp()) RETURNING {_FIELDS}
"""


async def read_changes(tx: Connection, *, after: int) -> list[LimitChange]:
    """Every change whose number is above `after`, in their order."""
    return [_change(tuple(row.values())) for row in await tx.fetch(_CHANGES, after)]


async def read_limits(tx: Connection, *, after: str = "", limit: int) -> list[LimitChange]:
    """The clients that have limits of their own, by name."""
    return [_change(tuple(row.values())) for row in await tx.fetch(_CURRENT, after, limit)]


async def set_limit(tx: Connection, client: str, quotas: Quotas | None, *, by: str) -> LimitChange | None:
    """Give a client limits of its own, or take them back; the change that holds now, None where nothing was ever set.

    The same again changes nothing. Inside the caller's transaction, whose end makes it known to every process.
    """
    await tx.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
    row = await tx.fetchrow(_OF_ONE, client)
    newest = None if row is None else _change(tuple(row.values()))
    if (None if newest is None else newest.quotas) == quotas:
        return newest
    row = await tx.fetchrow(_SET, client, *(quotas or (None,) * 4), by)
    assert row is not None  # an INSERT that returns
    return _change(tuple(row.values()))


def _change(row: tuple[object, ...]) -> LimitChange:
    limit_id, client, *quotas, changed_by, changed_at = row
    own = None if quotas[0] is None else Quotas(*quotas)  # type: ignore[arg-type]  # four integers, as the table checks
    return LimitChange(limit_id, client, own, changed_by, changed_at)  # type: ignore[arg-type]  # as the table declares

"""Connections to PostgreSQL, and what the service's SQLModel tables share."""

from collections.abc import Mapping
from typing import TypeAlias
from urllib.parse import urlsplit, urlunsplit

import asyncpg
from sqlalchemy import MetaData
from sqlmodel import SQLModel

Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"
Connection: TypeAlias = "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"

# A lost server must not hold a request for ever, and a forgotten transaction must not hold its locks.
_SERVER_SETTINGS: Mapping[str, str] = {
    "statement_timeout": "30s",
    "lock_timeout": "10s",
    "idle_in_transaction_session_timeout": "60s",
    "timezone": "UTC",
    "jit": "off",  # every statement here is short: compiling one costs more than running it
}


class ServiceTable(SQLModel):
    """A table of schema `service`. The class describes it and validates nothing: input is parsed at the edge, the rest
    is CHECKed."""

    metadata = MetaData(schema="service")


LOST: tuple[type[Exception], ...] = (
    OSError,  # includes ConnectionError and TimeoutError
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # what the driver calls a connection that died inside one of its own calls
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
    asyncpg.TooManyConnectionsError,
    asyncpg.QueryCanceledError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.InsufficientResourcesError,
    asyncpg.ReadOnlySQLTransactionError,  # connected to a standby: the primary is being replaced
)
"""The server is away, or going: whether what was asked has happened is not known."""

FAULTS: tuple[type[Exception], ...] = (*LOST, asyncpg.PostgresError)
"""Whatever a database can answer with."""


async def _keep(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    """Between users of a connection nothing is reset: all state here ends with its transaction, and the RESET of the
    driver's default would be a second round trip for every read. A transaction whose end was cancelled ends here."""
    if connection.is_in_transaction():
        await connection.execute("ROLLBACK")


async def open_pool(url: str, *, name: str, size: int) -> Pool:
    """A pool of at most `size` connections; `name` is what an operator sees in pg_stat_activity."""
    return await asyncpg.create_pool(
        url,
        min_size=1,
        max_size=size,
        timeout=10,
        command_timeout=40,  # past the server's own limit: this one is for a server that hangs
        reset=_keep,
        server_settings={**_SERVER_SETTINGS, "application_name": name},
    )


def migration_url(url: str) -> str:
    """The same server for Alembic, which connects through psycopg."""
    return urlunsplit(urlsplit(url)._replace(scheme="postgresql+psycopg"))


class SchemaOutdated(Exception):
    """The database's schema is not the one this code needs."""


async def require_schema(connection: "Connection | asyncpg.Connection[asyncpg.Record]", expected: str) -> None:
    """Raises SchemaOutdated unless the newest migration applied is `expected`; says what to do."""
    known = await connection.fetchval("SELECT to_regclass('public.schema_version') IS NOT NULL")
    found = await connection.fetchval("SELECT version_num FROM public.schema_version") if known else None
    if found != expected:
        raise SchemaOutdated(
            f"the database is at schema {found or 'none'}, this version needs {expected}: run `tanpuhui migrate`"
        )

"""Keep a process's side of the vault true: the file of key-encryption keys is read again when it was changed, and the
data keys of whom somebody erased are forgotten."""

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from typing import NoReturn

import asyncpg
import structlog

from service.database import FAULTS, Connection, Pool
from service.vault.master import VaultError, check_value
from service.vault.vault import Vault

_log = structlog.get_logger(__name__)

_PASSING: tuple[type[Exception], ...] = (*FAULTS, VaultError)
FRESH_S = 1.0  # how long a process may still remember the data key of somebody who was erased
LOOKED_BACK = timedelta(minutes=2)  # past the longest transaction: a key is told of by when it was destroyed
FORGET_ALL_S = 60.0  # without the database nobody says who was erased

_KNOWN = "SELECT kek_version, check_value FROM vault.kek WHERE destroyed_at IS NULL"
_ADOPT = """
    INSERT INTO vault.kek (kek_version, check_value, adopted_at) VALUES ($1, $2, clock_timestamp())
    ON CONFLICT DO NOTHING
"""
_DESTROYED = "SELECT participant_id FROM vault.key_destroyed WHERE destroyed_at > clock_timestamp() - $1::interval"


async def read_known(connection: "Connection | asyncpg.Connection[asyncpg.Record]") -> Mapping[int, bytes]:
    """The key-encryption keys that wrap something in this database, by version: their check values."""
    return {row["kek_version"]: row["check_value"] for row in await connection.fetch(_KNOWN)}


async def require_vault(connection: "Connection | asyncpg.Connection[asyncpg.Record]", vault: Vault) -> None:
    """Raises VaultError unless the file holds every key-encryption key of this database; says what to restore."""
    known = await read_known(connection)
    faults = [f"version {version} is missing" for version in sorted(known.keys() - vault.versions)]
    for version in sorted(known.keys() & vault.versions):
        if check_value(vault.master(version)) != known[version]:
            faults.append(f"version {version} is another key")
    if faults:
        raise VaultError(
            f"{vault.path} is not the file this database was sealed with ({'; '.join(faults)}): put the platform's "
            "present file there (TANPUHUI_VAULT_KEY_FILE). Without it identities and evidence stay shut; balances, "
            "journal and log do not need it"
        )


async def adopt_vault(connection: Connection, vault: Vault) -> None:
    """Have a new database wrap its data keys under the newest key of the file. Raises VaultError where the database is
    of another file."""
    async with connection.transaction(isolation="read_committed"):
        if not await connection.fetchval("SELECT EXISTS (SELECT FROM vault.kek)"):
            newest = max(vault.versions)
            await connection.execute(_ADOPT, newest, check_value(vault.master(newest)))
        await require_vault(connection, vault)  # another process may have been first, with another file


async def refresh(pool: Pool, vault: Vault) -> None:
    """One look at the file and at whose keys were destroyed lately."""
    vault.reload()
    async with pool.acquire() as connection:
        vault.drop(row["participant_id"] for row in await connection.fetch(_DESTROYED, LOOKED_BACK))


async def keep_vault_fresh(pool: Pool, vault: Vault) -> NoReturn:
    """Refresh for as long as the process serves."""
    loop = asyncio.get_running_loop()
    last = loop.time()
    while True:
        await asyncio.sleep(FRESH_S / 2)
        try:
            await refresh(pool, vault)
            last = loop.time()
        except _PASSING as error:
            _log.warning("the vault could not be refreshed", because=type(error).__name__, detail=str(error))
            if loop.time() - last > FORGET_ALL_S:
                vault.drop_all()

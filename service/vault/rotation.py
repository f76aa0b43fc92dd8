"""Change the key-encryption key: every data key that is left is wrapped under a new one, and the old one is destroyed.

Whoever was erased before has no data key any more, and where an old backup still has it, it is wrapped under a key that
is nowhere: with each rotation what older backups hold of anybody becomes unreadable. So rotate after erasures, and take
a backup right after; the days between two rotations are the longest that an erasure takes to reach the backups.

It may be stopped at any point and run again, while the platform runs.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import asyncpg

from service.database import Connection
from service.reports.erasing import rewrap_bodies
from service.vault.master import VaultError, add_master, check_value, remove_masters
from service.vault.vault import Vault

AT_ONCE = 1_000  # data keys of one transaction
SETTLED_S = 2.0  # twice as long as a process needs to see the new file: then nobody reads by the old key any more

_NEWEST = "SELECT max(kek_version) FROM vault.kek WHERE retired_at IS NULL"
_ADOPT = "INSERT INTO vault.kek (kek_version, check_value, adopted_at) VALUES ($1, $2, clock_timestamp())"
_RETIRE = "UPDATE vault.kek SET retired_at = clock_timestamp() WHERE kek_version < $1 AND retired_at IS NULL"
_OLD = """
    SELECT participant_id, kek_version, wrapped FROM vault.person_key
    WHERE participant_id > $1 AND kek_version < $2 ORDER BY participant_id LIMIT $3 FOR UPDATE
"""
_WRAP = """
    UPDATE vault.person_key AS k SET kek_version = $2, wrapped = new.wrapped
    FROM unnest($1::uuid[], $3::bytea[]) AS new (participant_id, wrapped) WHERE k.participant_id = new.participant_id
"""
_LEFT = """
    SELECT EXISTS (SELECT FROM vault.person_key WHERE kek_version < $1)
        OR EXISTS (SELECT FROM service.signed_report WHERE kek_version < $1)
"""
_DESTROYED = "UPDATE vault.kek SET destroyed_at = clock_timestamp() WHERE kek_version < $1 AND destroyed_at IS NULL"
_STATUS = """
    SELECT c.kek_version, c.adopted_at, c.retired_at, c.destroyed_at,
        (SELECT count(*) FROM vault.person_key k WHERE k.kek_version = c.kek_version) AS data_keys
    FROM vault.kek c ORDER BY c.kek_version
"""
_TURN = 7262021  # the advisory lock of whoever rotates
_FIRST = "00000000-0000-0000-0000-000000000000"


@dataclass(frozen=True, slots=True)
class Rotated:
    """What a rotation did: the version that wraps now, how many data keys it wrapped again, and the versions that were
    taken out of the file and destroyed."""

    version: int
    wrapped: int
    destroyed: tuple[int, ...]


def prepare(vault: Vault) -> int:
    """Put a new key into the file, for every machine to have before it is used; its version. Raises VaultError."""
    version = add_master(vault.path)
    vault.reload()
    return version


async def rotate(
    connection: "Connection | asyncpg.Connection[asyncpg.Record]",
    vault: Vault,
    *,
    settled_s: float = SETTLED_S,
    on_progress: Callable[[int], None] = lambda _: None,
) -> Rotated:
    """Have the file's newest key wrap everything, a new one where the newest is in use already, and destroy the others.

    Raises VaultError, also while another rotation is under way.
    """
    if not await connection.fetchval("SELECT pg_try_advisory_lock($1)", _TURN):
        raise VaultError("another rotation is under way: wait for its end")
    try:
        return await _rotate(connection, vault, settled_s, on_progress)
    finally:
        await connection.execute("SELECT pg_advisory_unlock($1)", _TURN)


async def _rotate(
    connection: "Connection | asyncpg.Connection[asyncpg.Record]",
    vault: Vault,
    settled_s: float,
    on_progress: Callable[[int], None],
) -> Rotated:
    live: int | None = await connection.fetchval(_NEWEST)
    if live is None:
        raise VaultError("the database knows no key-encryption key yet: start the platform once")
    version = max(vault.versions)
    if await connection.fetchval(_LEFT, live):  # a rotation that was stopped is ended first
        version = live
    elif version <= live:
        version = prepare(vault)
    if version > live:
        await connection.execute(_ADOPT, version, check_value(vault.master(version)))
    await connection.execute(_RETIRE, version)  # waits for whoever is wrapping under what it retires
    done = 0
    while await connection.fetchval(_LEFT, version):
        done += await _wrap_all(connection, vault, version, on_progress)
    await asyncio.sleep(settled_s)
    destroyed = remove_masters(vault.path, version)
    vault.reload()
    await connection.execute(_DESTROYED, version)
    return Rotated(version, done, tuple(destroyed))


async def _wrap_all(
    connection: "Connection | asyncpg.Connection[asyncpg.Record]",
    vault: Vault,
    version: int,
    on_progress: Callable[[int], None],
) -> int:
    last, done = _FIRST, 0
    while True:
        async with connection.transaction(isolation="read_committed"):
            rows = await connection.fetch(_OLD, last, version, AT_ONCE)
            if not rows:
                break
            again = [vault.wrap(row["participant_id"], version, vault.unwrap(*row))[0] for row in rows]
            await connection.execute(_WRAP, [row["participant_id"] for row in rows], version, again)
        last, done = rows[-1]["participant_id"], done + len(rows)
        on_progress(done)
    people = done
    return people + await rewrap_bodies(connection, vault, version, lambda more: on_progress(people + more))


async def read_status(
    connection: "Connection | asyncpg.Connection[asyncpg.Record]", vault: Vault
) -> list[Mapping[str, object]]:
    """Every key-encryption key that was ever used: since when, retired and destroyed when, how many data keys it wraps,
    and whether the file has it."""
    return [{**row, "in_file": row["kek_version"] in vault.versions} for row in await connection.fetch(_STATUS)]

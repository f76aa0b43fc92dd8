"""Take bodies of signed calls out: of people who are forgotten, and when their time is over; and let those that stay
follow the key-encryption key.

A call may tell of a thousand people, and its body cannot be told apart: when one of them is forgotten the whole body
goes. What it said of the others is in their evidence; what is lost is that an auditor could see their source's own
words. The signature base and the signature stay, which name nobody.
"""

from collections.abc import Callable
from datetime import datetime
from uuid import UUID

import asyncpg

from service.database import Connection
from service.vault.vault import Vault

AT_ONCE = 500

_TAKEN_OUT = """
    SET body = NULL, body_key = NULL, kek_version = NULL, subject_tags = '{}', body_erased_at = clock_timestamp()
"""
_SUBJECTS = "SELECT subject_tag FROM service.link WHERE participant_id = $1"
_OF_SUBJECTS = f"""
    UPDATE service.signed_report {_TAKEN_OUT} WHERE subject_tags && $1::bytea[] AND body IS NOT NULL
"""
_OLD = f"""
    WITH old AS (
        SELECT call_id FROM service.signed_report WHERE body IS NOT NULL AND received_at < $1
        ORDER BY received_at LIMIT $2 FOR UPDATE SKIP LOCKED
    )
    UPDATE service.signed_report r {_TAKEN_OUT} FROM old WHERE r.call_id = old.call_id
"""
_COUNT_OLD = "SELECT count(*) FROM service.signed_report WHERE body IS NOT NULL AND received_at < $1"
_WRAPPED = """
    SELECT call_id, kek_version, body_key FROM service.signed_report
    WHERE call_id > $1 AND kek_version < $2 ORDER BY call_id LIMIT $3 FOR UPDATE
"""
_REWRAP = """
    UPDATE service.signed_report r SET body_key = new.body_key, kek_version = $3
    FROM unnest($1::uuid[], $2::bytea[]) AS new (call_id, body_key) WHERE r.call_id = new.call_id
"""


async def erase_bodies_of(tx: Connection, participant_id: UUID) -> int:
    """Take out the body of every call that tells of somebody, under any id by which a source knows them; how many.

    Their links still have to say under which: unname them afterwards.
    """
    tags = [row["subject_tag"] for row in await tx.fetch(_SUBJECTS, participant_id)]
    return int((await tx.execute(_OF_SUBJECTS, tags)).split()[-1]) if tags else 0


async def count_old_bodies(tx: Connection, before: datetime) -> int:
    """How many bodies came before a moment."""
    count: int = await tx.fetchval(_COUNT_OLD, before)
    return count


async def erase_old_bodies(tx: Connection, before: datetime, at_once: int = AT_ONCE) -> int:
    """Take out the oldest bodies of those that came before a moment; how many. Call it until there are none."""
    return int((await tx.execute(_OLD, before, at_once)).split()[-1])


async def rewrap_bodies(
    connection: "Connection | asyncpg.Connection[asyncpg.Record]",
    vault: Vault,
    version: int,
    on_progress: Callable[[int], None] = lambda _: None,
    at_once: int = AT_ONCE,
) -> int:
    """Wrap the keys of bodies under this version of the key-encryption keys, in transactions of its own; how many were
    under an older one. Raises VaultError."""
    last, done = UUID(int=0), 0
    while True:
        async with connection.transaction(isolation="read_committed"):
            rows = await connection.fetch(_WRAPPED, last, version, at_once)
            if not rows:
                return done
            again = [vault.wrap(row["call_id"], version, vault.unwrap(*row))[0] for row in rows]
            await connection.execute(_REWRAP, [row["call_id"] for row in rows], again, version)
        last, done = rows[-1]["call_id"], done + len(rows)
        on_progress(done)

"""What evidence tells, laid open for the queries of a check, in a table of the transaction's own."""

from collections.abc import AsyncIterator
from datetime import datetime

import asyncpg
import orjson

from ledger.check import Finding
from service.vault import Vault, open_evidence
from service.vault.vault import SealBroken

AT_ONCE = 5_000  # rows in memory

_TABLE = """
    CREATE TEMPORARY TABLE opened_evidence (
        participant_id uuid, activity_id uuid, since timestamptz, until timestamptz, named text[]
    ) ON COMMIT DROP
"""
_SEALED = """
    SELECT participant_id, activity_id, e.sealed, k.kek_version, k.wrapped
    FROM service.evidence e JOIN vault.person_key k USING (participant_id)
"""


async def lay_open(connection: asyncpg.Connection, vault: Vault | None) -> AsyncIterator[Finding]:
    """Fill `pg_temp.opened_evidence` with the hours of every activity and the names of the things it names, as far as
    the evidence is there; what does not open is a finding each.

    It lives as long as the transaction, in the server's memory and its temporary files. Raises VaultError.
    """
    await connection.execute(_TABLE)
    if vault is not None:
        rows: list[tuple[object, ...]] = []
        async for row in connection.cursor(_SEALED, prefetch=AT_ONCE):
            participant_id, activity_id, sealed, version, wrapped = row
            try:
                document = open_evidence(vault.key(participant_id, version, wrapped), activity_id, sealed).document
            except SealBroken:
                about = f"{participant_id} {activity_id}"
                yield Finding("evidence", about, "does not open", "what was sealed under the participant's key")
                continue
            rows.append((participant_id, activity_id, *_told(document)))
            if len(rows) == AT_ONCE:
                await _put(connection, rows)
                rows = []
        await _put(connection, rows)
    await connection.execute("ANALYZE pg_temp.opened_evidence")


def _told(document: bytes) -> tuple[datetime, datetime, list[str]]:
    said = orjson.loads(document)
    named = [*said.get("references", ()), *(["vehicle"] if "vehicle" in said else [])]
    return datetime.fromisoformat(said["started_at"]), datetime.fromisoformat(said["ended_at"]), named


async def _put(connection: asyncpg.Connection, rows: list[tuple[object, ...]]) -> None:
    if rows:
        await connection.copy_records_to_table("opened_evidence", records=rows)

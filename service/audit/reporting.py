"""What sources signed, out of the database for a bundle: the calls that one range of the log's credits rests on."""

from base64 import b64encode
from collections.abc import AsyncIterator, Mapping, Sequence
from uuid import UUID

import asyncpg
import orjson

from service.audit.source import RANGE
from service.database import Pool
from service.reports.keeping import open_body
from service.vault.vault import Vault

AT_ONCE = 256  # entries
BODIES_AT_ONCE = 8  # calls of a thousand events each, some megabytes in all

_CREDITS = """
    SELECT log_index, transfer_id FROM ledger.leaf
    WHERE log_index >= $1 AND log_index < $2 AND participant_id IS NOT NULL
        AND position('"kind":"credit"'::bytea IN leaf) > 0
    ORDER BY log_index
"""
_CALLS = "SELECT call_id, activities FROM service.signed_report WHERE activities && $1::uuid[]"
_WHOLE = """
    SELECT r.call_id, r.key_id, r.method, r.path, r.signature_base, r.signature, r.content_digest, r.body, r.body_key,
        r.kek_version, k.public_key
    FROM service.signed_report r LEFT JOIN service.source_key k USING (source_id, key_id)
    WHERE r.call_id = ANY($1)
"""


async def report_lines(pool: Pool, vault: Vault, number: int, size: int) -> AsyncIterator[bytes]:
    """The signed reports behind the credits of one range of entries below `size`: a line for each, in the order of the
    first entry that it is behind. Nothing is held open between two pieces."""
    first, end = number * RANGE, min((number + 1) * RANGE, size)
    places = await _places(pool, first, end)
    activities = list(places)
    for start in range(0, len(activities), AT_ONCE):
        piece = activities[start : start + AT_ONCE]
        begins = {places[activity] for activity in piece}
        async with pool.acquire() as connection:
            calls = await connection.fetch(_CALLS, piece)
        behind = {
            call["call_id"]: sorted(places[activity] for activity in call["activities"] if activity in places)
            for call in calls
        }
        # A batch is behind entries of several pieces: it is told of with the first of them.
        wanted = sorted((entries[0], call_id) for call_id, entries in behind.items() if entries[0] in begins)
        for some in range(0, len(wanted), BODIES_AT_ONCE):
            named = [call_id for _, call_id in wanted[some : some + BODIES_AT_ONCE]]
            async with pool.acquire() as connection:
                rows = {row["call_id"]: row for row in await connection.fetch(_WHOLE, named)}
            yield b"".join(_line(vault, rows[call_id], behind[call_id]) for call_id in named)


async def _places(pool: Pool, first: int, end: int) -> Mapping[UUID, int]:
    """The entries of a range's credits, by activity."""
    places: dict[UUID, int] = {}
    for begins in range(first, end, AT_ONCE * 16):
        async with pool.acquire() as connection:
            rows = await connection.fetch(_CREDITS, begins, min(end, begins + AT_ONCE * 16))
        places.update((row["transfer_id"], row["log_index"]) for row in rows)
    return places


def _line(vault: Vault, row: asyncpg.Record, entries: Sequence[int]) -> bytes:
    body = open_body(vault, row["call_id"], row["kek_version"], row["body_key"], row["body"])
    line = {
        "base": row["signature_base"].decode("utf-8", "replace"),  # what was signed is ASCII; what is not shows itself
        "body": None if body is None else b64encode(body).decode("ascii"),
        "content_digest": row["content_digest"],
        "entries": [str(entry) for entry in entries],
        "jwk": None if row["public_key"] is None else orjson.loads(row["public_key"]),
        "kid": row["key_id"],
        "method": row["method"],
        "path": row["path"],
        "signature": row["signature"].hex(),
    }
    return orjson.dumps(line, option=orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE)

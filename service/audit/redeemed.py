"""What of redemptions comes out of the database for a bundle: documents that the log names by their digest, the calls
that banks signed, banks' keys."""

from base64 import b64encode
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import orjson

from ledger.leaves import utc_second
from service.audit.source import RANGE
from service.database import Connection, Pool

AT_ONCE = 256  # entries

# A digest is one document's, whatever it is: products, offers, the terms of pools, statements.
_DOCUMENT = """
    SELECT document FROM service.listing_document WHERE digest = $1
    UNION ALL SELECT document FROM service.pool WHERE terms = $1
    UNION ALL SELECT document FROM service.bank_statement WHERE digest = $1
    LIMIT 1
"""

# Only a hold and its steps have units: the other leaves are passed by without a look-up. The call by which a bank
# closed a day is found by the day.
_CALLS = """
    SELECT l.log_index, c.key_id, c.method, c.path, c.signature_base, c.signature, c.content_digest, c.body,
        k.public_key
    FROM ledger.leaf l,
    LATERAL (SELECT call_id FROM service.redemption_entry
        WHERE participant_id = l.participant_id AND transfer_id = l.transfer_id AND call_id IS NOT NULL OFFSET 0) AS e
    JOIN service.signed_call c USING (call_id)
    LEFT JOIN service.bank_key k USING (bank_id, key_id)
    WHERE l.log_index >= $1 AND l.log_index < $2 AND position('"units":"'::bytea IN l.leaf) > 0
    UNION ALL
    SELECT l.log_index, c.key_id, c.method, c.path, c.signature_base, c.signature, c.content_digest, c.body,
        k.public_key
    FROM ledger.leaf l,
    LATERAL (SELECT CASE WHEN position('"kind":"statement"'::bytea IN l.leaf) > 0
        THEN convert_from(l.leaf, 'UTF8')::jsonb END AS told OFFSET 0) AS s
    JOIN service.bank b ON b.uri = s.told ->> 'bank',
    LATERAL (SELECT call_id FROM service.day_closing
        WHERE bank_id = b.bank_id AND day = (s.told ->> 'day')::date AND side = 'bank'
        ORDER BY number DESC LIMIT 1) AS d
    JOIN service.signed_call c USING (call_id)
    LEFT JOIN service.bank_key k USING (bank_id, key_id)
    WHERE l.log_index >= $1 AND l.log_index < $2 AND l.participant_id IS NULL
        AND s.told ->> 'signature' IS NOT NULL
    ORDER BY 1
"""

_KEYS = """
    SELECT b.uri, k.key_id, k.public_key, k.valid_from, k.valid_to
    FROM service.bank_key k JOIN service.bank b USING (bank_id) ORDER BY b.uri, k.valid_from, k.key_id
"""


async def read_document(tx: Connection, digest: str) -> bytes | None:
    """The bytes of a document of this digest; None when there is none."""
    document: bytes | None = await tx.fetchval(_DOCUMENT, bytes.fromhex(digest))
    return document


async def call_lines(pool: Pool, number: int, size: int) -> AsyncIterator[bytes]:
    """The signed calls that one range of entries below `size` names: a line for each entry."""
    first, end = number * RANGE, min((number + 1) * RANGE, size)
    while first < end:
        upto = min(end, first + AT_ONCE)
        async with pool.acquire() as connection:
            rows = await connection.fetch(_CALLS, first, upto)
        if rows:
            yield b"".join(map(_call_line, rows))
        first = upto


def _call_line(row: asyncpg.Record) -> bytes:
    line = {
        "base": row["signature_base"].decode("utf-8", "replace"),  # what was signed is ASCII; what is not shows itself
        "body": None if row["body"] is None else b64encode(row["body"]).decode("ascii"),  # None: it was erased
        "content_digest": row["content_digest"],
        "index": str(row["log_index"]),
        "jwk": None if row["public_key"] is None else orjson.loads(row["public_key"]),
        "kid": row["key_id"],
        "method": row["method"],
        "path": row["path"],
        "signature": row["signature"].hex(),
    }
    return orjson.dumps(line, option=orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE)


async def read_bank_keys(tx: Connection) -> list[dict[str, Any]]:
    """Every public key of every bank, and from when to when its signatures count."""
    return [
        {
            "bank": row["uri"],
            "kid": row["key_id"],
            "jwk": orjson.loads(row["public_key"]),
            "from": utc_second(row["valid_from"]),
            "to": None if row["valid_to"] is None else utc_second(row["valid_to"]),
        }
        for row in await tx.fetch(_KEYS)
    ]

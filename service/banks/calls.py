"""Keep what banks signed: the nonce is used up and the call is on record in one statement."""

import asyncio
import random
from collections.abc import Sequence
from datetime import timedelta
from typing import NamedTuple, NoReturn
from uuid import UUID

import structlog

from service.database import FAULTS, Connection, Pool

_log = structlog.get_logger(__name__)

SWEPT_EVERY_S = 60.0
NONCES_KEPT = timedelta(minutes=30)
"""Longer than any signature is taken: five minutes, and what the clocks of the machines may differ by."""


class KeptCall(NamedTuple):
    """A verified call: `signature_base` and `signature` are RFC 9421's, `body` is what `content_digest` is of.

    lasting   kept for good, as what moves points or closes a day; else where it can be erased
    """

    call_id: UUID
    bank_id: int
    key_id: str
    nonce: str
    method: str
    path: str
    signature_base: bytes
    signature: bytes
    content_digest: str
    body: bytes
    lasting: bool


# Of two that came together with one nonce the first is kept.
_KEEP = """
    WITH came AS (
        SELECT DISTINCT ON (bank_id, nonce) * FROM unnest($1::uuid[], $2::int4[], $3::text[], $4::text[], $5::text[],
            $6::text[], $7::bytea[], $8::bytea[], $9::text[], $10::bytea[], $11::bool[]) WITH ORDINALITY
            AS c (call_id, bank_id, key_id, nonce, method, path, base, signature, digest, body, lasting, place)
        ORDER BY bank_id, nonce, place
    ), used AS (
        INSERT INTO service.bank_nonce (bank_id, nonce, seen_at)
        SELECT bank_id, nonce, clock_timestamp() FROM came ORDER BY bank_id, nonce
        ON CONFLICT DO NOTHING RETURNING bank_id, nonce
    ), taken AS (
        SELECT came.*, clock_timestamp() + $12::interval AS received_at FROM came JOIN used USING (bank_id, nonce)
    ), calls AS (
        INSERT INTO service.signed_call
            (call_id, bank_id, key_id, method, path, signature_base, signature, content_digest, body, received_at)
        SELECT call_id, bank_id, key_id, method, path, base, signature, digest, body, received_at FROM taken
        WHERE lasting
    ), words AS (
        INSERT INTO service.signed_word
            (call_id, bank_id, key_id, method, path, signature_base, signature, content_digest, body, received_at)
        SELECT call_id, bank_id, key_id, method, path, base, signature, digest, body, received_at FROM taken
        WHERE NOT lasting
    )
    SELECT call_id FROM taken
"""
_SWEEP = "DELETE FROM service.bank_nonce WHERE seen_at < clock_timestamp() - $1::interval"


async def keep_calls(tx: Connection, calls: Sequence[KeptCall], offset: timedelta) -> list[bool]:
    """Record calls; False for each whose nonce was used before, of which nothing is recorded."""
    columns = zip(*calls, strict=True)
    kept = {row["call_id"] for row in await tx.fetch(_KEEP, *map(list, columns), offset)}
    return [call.call_id in kept for call in calls]


async def sweep_nonces(tx: Connection) -> int:
    """Forget nonces whose signatures are too old to be taken; how many."""
    return int((await tx.execute(_SWEEP, NONCES_KEPT)).split()[-1])


async def keep_nonces_swept(pool: Pool) -> NoReturn:
    """Sweep for as long as the process serves; several that do take turns."""
    while True:
        await asyncio.sleep(random.uniform(0.5, 1.5) * SWEPT_EVERY_S)
        try:
            async with pool.acquire() as connection:
                await sweep_nonces(connection)
        except FAULTS as error:
            _log.warning("old nonces were not swept, they only take room", because=type(error).__name__)

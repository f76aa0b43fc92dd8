"""Keep what sources signed: the nonce is used up and the call is on record in one statement, its body sealed.

The body of a call has a key of its own, wrapped as a person's data key is (service/vault): it tells of several people,
so it can be nobody's. Whoever takes the body out takes the key with it.
The body of a call that names somebody who is not linked to the source is not kept: nobody has agreed to that.
"""

import asyncio
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import NoReturn
from uuid import UUID

import structlog

from service.database import FAULTS, Connection, Pool
from service.vault.keys import live_version
from service.vault.vault import DataKey, Vault

_log = structlog.get_logger(__name__)

BODY = b"report"
SWEPT_EVERY_S = 60.0
NONCES_KEPT = timedelta(minutes=30)
"""Longer than any signature is taken: five minutes, and what the clocks of the machines may differ by."""

_TRIES = 3  # of sealing under a key-encryption key that is retired meanwhile: one is retired a year


class VersionsChange(Exception):
    """Key-encryption keys were retired each time between sealing and storing."""


@dataclass(frozen=True, slots=True)
class KeptReport:
    """A verified call: `signature_base` and `signature` are RFC 9421's, `body` is what `content_digest` is of.

    activities   the ids under which its events are stored, where they are new and are judged
    subjects     tags of the people that it tells of, by which the body is found when one of them is forgotten
    body         None of a call of which only the signature is kept
    """

    call_id: UUID
    source_id: int
    key_id: str
    nonce: str
    method: str
    path: str
    signature_base: bytes
    signature: bytes
    content_digest: str
    body: bytes | None
    activities: tuple[UUID, ...] = ()
    subjects: frozenset[bytes] = frozenset()


# A body that names anybody who is not linked now is not stored at all: of them nothing may be kept.
# Of two that came together with one nonce the first is kept. The version of the key-encryption key is locked until the
# end, so that a rotation that retires it waits for whoever seals under it; where it was retired before, nothing is
# kept.
_KEEP = """
    WITH live AS (
        SELECT kek_version FROM vault.kek WHERE retired_at IS NULL ORDER BY kek_version DESC LIMIT 1 FOR SHARE
    ), came AS (
        SELECT DISTINCT ON (source_id, nonce) c.*, NOT EXISTS (
            SELECT FROM unnest(subjects::bytea[]) AS named (tag) WHERE NOT EXISTS (
                SELECT FROM service.link l
                WHERE l.source_id = c.source_id AND l.subject_tag = named.tag AND l.withdrawn_at IS NULL
            )
        ) AS of_linked
        FROM unnest($1::uuid[], $2::int4[], $3::text[], $4::text[], $5::text[],
            $6::text[], $7::bytea[], $8::bytea[], $9::text[], $10::bytea[], $11::bytea[], $12::text[],
            $13::text[]) WITH ORDINALITY
            AS c (call_id, source_id, key_id, nonce, method, path, base, signature, digest, body, body_key, activities,
                subjects, place)
        WHERE (SELECT kek_version FROM live) = $15
        ORDER BY source_id, nonce, place
    ), used AS (
        INSERT INTO service.source_nonce (source_id, nonce, seen_at)
        SELECT source_id, nonce, clock_timestamp() FROM came ORDER BY source_id, nonce
        ON CONFLICT DO NOTHING RETURNING source_id, nonce
    ), taken AS (
        INSERT INTO service.signed_report (call_id, source_id, key_id, method, path, signature_base, signature,
            content_digest, body, body_key, kek_version, activities, subject_tags, received_at)
        SELECT call_id, source_id, key_id, method, path, base, signature, digest,
            CASE WHEN of_linked THEN body END, CASE WHEN of_linked THEN body_key END,
            CASE WHEN of_linked AND body IS NOT NULL THEN $15 END, activities::uuid[],
            CASE WHEN of_linked THEN subjects::bytea[] ELSE '{}' END, clock_timestamp() + $14::interval
        FROM came JOIN used USING (source_id, nonce)
        RETURNING call_id
    )
    SELECT (SELECT kek_version FROM live) AS version, array(SELECT call_id FROM taken) AS taken
"""
_SWEEP = "DELETE FROM service.source_nonce WHERE seen_at < clock_timestamp() - $1::interval"


class ReportKeeper:
    """Keeps calls as one statement; remembers which key-encryption key wraps new keys."""

    def __init__(self, vault: Vault, offset: timedelta) -> None:
        """`offset` moves the platform's clock."""
        self._vault, self._offset = vault, offset
        self._version: int | None = None

    async def keep(self, tx: Connection, reports: Sequence[KeptReport]) -> list[bool]:
        """Record calls; False for each whose nonce was used before, of which nothing is recorded.

        Raises VaultError, VersionsChange.
        """
        for _ in range(_TRIES):
            if self._version is None or self._version not in self._vault.versions:  # or it was destroyed meanwhile
                self._version = await live_version(tx)
            version = self._version
            columns = zip(*(self._row(report, version) for report in reports), strict=True)
            row = await tx.fetchrow(_KEEP, *map(list, columns), self._offset, version)
            assert row is not None
            if row["version"] == version:
                taken = set(row["taken"])
                return [report.call_id in taken for report in reports]
            self._version = row["version"]
        raise VersionsChange

    def _row(self, report: KeptReport, version: int) -> tuple[object, ...]:
        body = wrapped = None
        if report.body is not None:
            wrapped, key = self._vault.new_key(report.call_id, version)
            body = key.seal(BODY, b"", report.body)
        activities = _array(map(str, report.activities))
        subjects = _array(f'"\\\\x{tag.hex()}"' for tag in (report.subjects if body else ()))
        call = report.call_id, report.source_id, report.key_id, report.nonce, report.method, report.path
        signed = report.signature_base, report.signature, report.content_digest
        return *call, *signed, body, wrapped, activities, subjects


def _array(items: Iterable[str]) -> str:
    """An array as PostgreSQL writes one: a list of lists would have to be a rectangle."""
    return f"{{{','.join(items)}}}"


def open_body(
    vault: Vault, call_id: UUID, kek_version: int | None, body_key: bytes | None, body: bytes | None
) -> bytes | None:
    """The body of a stored call; None where it was taken out. Raises VaultError, SealBroken.

    A call's key is used once, so it is not remembered as people's are.
    """
    if body is None or body_key is None or kek_version is None:
        return None
    return DataKey(call_id, vault.unwrap(call_id, kek_version, body_key)).open(BODY, b"", body)


async def sweep_source_nonces(tx: Connection) -> int:
    """Forget nonces whose signatures are too old to be taken; how many."""
    return int((await tx.execute(_SWEEP, NONCES_KEPT)).split()[-1])


async def keep_source_nonces_swept(pool: Pool) -> NoReturn:
    """Sweep for as long as the process serves; several that do take turns."""
    while True:
        await asyncio.sleep(random.uniform(0.5, 1.5) * SWEPT_EVERY_S)
        try:
            async with pool.acquire() as connection:
                await sweep_source_nonces(connection)
        except FAULTS as error:
            _log.warning("old nonces of sources were not swept", because=type(error).__name__)

"""Erasure 注销与删除: somebody is forgotten, and every entry of the ledger and the log still checks.

It is asked for once and for good. `asked`: in the transaction that says so every link, consent and sign-in ends, and
what caps were used is remembered under a tombstone; nothing is posted for them from then on but the end of what was
begun. `waiting`: a bank holds points that it has accepted, and may capture or void them until their time is over.
`erasing`: nothing is held any more, and in one transaction everything that could say who this was is removed and
their key destroyed; what a provider signed about several people is gone through last. `done`.

Every step can be taken again after a crash, and by several processes at once: each looks under a lock.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Literal
from uuid import UUID

import orjson

from service.activities.intake import event_key
from service.clock import Fresh, shanghai_day
from service.database import Connection
from service.jws import payload_of
from service.keyring import Keyring
from service.participants import ParticipantNotFound, exclude_postings
from service.reports.erasing import erase_bodies_of
from service.rights.guardians import end_guardianships
from service.rights.removing import AT_LAST, AT_ONCE, remove
from service.rights.tombstones import bury
from service.settlement.disputes import Which, withdraw_dispute
from service.vault import Vault, destroy_key

AskedBy = Literal["participant", "guardian", "operator"]
State = Literal["asked", "waiting", "erasing", "done"]

MANIFESTS_WATCHED = timedelta(days=60)  # a source may still name an event of a day that was reported late
_MANIFESTS_AT_ONCE = 200
_EVER = datetime(1992, 1, 1, tzinfo=UTC)  # no manifest is older


class NotAPerson(Exception):
    """An organisation has no right to be forgotten: its account is public business, and names nobody."""


class ErasureNotAsked(Exception):
    """This participant did not ask to be forgotten."""


@dataclass(frozen=True, slots=True)
class Erasure:
    """How far somebody's erasure has come."""

    participant_id: UUID
    asked_at: datetime
    asked_by: AskedBy
    state: State
    ended_at: datetime | None


_COLUMNS = "participant_id, asked_at, asked_by, state, ended_at"
_LOCK = "SELECT kind FROM ledger.account WHERE participant_id = $1 FOR UPDATE"
_ASK = f"""
    INSERT INTO service.erasure (participant_id, asked_at, asked_by, state)
    VALUES ($1, clock_timestamp(), $2, 'asked') ON CONFLICT (participant_id) DO NOTHING RETURNING {_COLUMNS}
"""  # a conflict is an erasure that was asked for before: it goes on as it is
_READ = f"SELECT {_COLUMNS} FROM service.erasure WHERE participant_id = $1"
_OPEN = "SELECT participant_id FROM service.erasure WHERE state <> 'done' ORDER BY asked_at LIMIT $1"
_MOVE = "UPDATE service.erasure SET state = $2 WHERE participant_id = $1 AND state <> $2"
_END = "UPDATE service.erasure SET state = 'done', ended_at = clock_timestamp() WHERE participant_id = $1"
_STEP = """
    INSERT INTO service.erasure_step (participant_id, class, removed, recorded_at)
    VALUES ($1, $2, $3, clock_timestamp())
"""
_HELD = "SELECT true FROM ledger.hold WHERE participant_id = $1 AND points_left > 0 LIMIT 1"
_UNACCEPTED = """
    SELECT redemption_id FROM service.redemption
    WHERE participant_id = $1 AND state = 'held' AND accepted_at IS NULL ORDER BY redemption_id
"""
_DISPUTED = """
    SELECT redemption_id, dispute_id FROM service.dispute
    WHERE participant_id = $1 AND state IN ('opened', 'answered', 'overdue')
"""
_SOURCES = "SELECT DISTINCT source_id FROM service.activity WHERE participant_id = $1"
_MANIFESTS = """
    SELECT s.uri, m.source_id, m.day, m.sequence, t.jws
    FROM service.manifest m JOIN service.manifest_text t USING (source_id, day, sequence)
    JOIN service.source s ON s.source_id = m.source_id
    WHERE m.source_id = ANY($1) AND m.recorded_at > $2 AND m.sequence > 1
        AND (m.source_id, m.day, m.sequence) > ($3, $4, $5)
    ORDER BY m.source_id, m.day, m.sequence LIMIT $6
"""  # a first manifest names no event: late ones alone are listed
_THEIRS = "SELECT true FROM service.event_key WHERE key = ANY($1) AND participant_id = $2 LIMIT 1"
_DROP_TEXT = "DELETE FROM service.manifest_text WHERE source_id = $1 AND day = $2 AND sequence = $3"
_WATCHED = "SELECT participant_id, ended_at FROM service.erasure WHERE ended_at > clock_timestamp() - $1::interval"


async def ask_erasure(tx: Connection, vault: Vault, participant_id: UUID, asked_by: AskedBy, fresh: Fresh) -> Erasure:
    """Begin to forget somebody; who asked before is told how far it has come. In a transaction, as its first lock.

    Waits for what is being posted, so that nothing is recorded for them after it. Raises ParticipantNotFound,
    NotAPerson.
    """
    known = await tx.fetchrow(_READ, participant_id)
    if known is not None:  # whoever asks many times holds nobody up
        return Erasure(**known)
    await exclude_postings(tx)
    kind = await tx.fetchval(_LOCK, participant_id)
    if kind is None:
        raise ParticipantNotFound
    if kind != "citizen":
        raise NotAPerson
    row = await tx.fetchrow(_ASK, participant_id, asked_by)
    if row is None:
        return await read_erasure(tx, participant_id)
    await bury(tx, participant_id, shanghai_day(fresh.clock()))
    for redemption_id, dispute_id in await tx.fetch(_DISPUTED, participant_id):
        await withdraw_dispute(tx, vault, Which(participant_id, redemption_id, dispute_id), None, fresh)
    await end_guardianships(tx, participant_id)
    await tx.execute(_STEP, participant_id, "reports", await erase_bodies_of(tx, participant_id))
    for removal in AT_ONCE:
        await tx.execute(_STEP, participant_id, removal.name, await remove(tx, removal, participant_id))
    return Erasure(**row)


async def read_erasure(tx: Connection, participant_id: UUID) -> Erasure:
    """How far it has come. Raises ErasureNotAsked."""
    row = await tx.fetchrow(_READ, participant_id)
    if row is None:
        raise ErasureNotAsked
    return Erasure(**row)


async def read_open(tx: Connection, limit: int) -> list[UUID]:
    """Who waits to be forgotten, the longest first."""
    return [row["participant_id"] for row in await tx.fetch(_OPEN, limit)]


async def read_unaccepted(tx: Connection, participant_id: UUID) -> list[UUID]:
    """Their holds that no bank has accepted: nobody but they could use them, so they are given back at once."""
    return [row["redemption_id"] for row in await tx.fetch(_UNACCEPTED, participant_id)]


async def remove_all(tx: Connection, participant_id: UUID) -> State:
    """Remove everything, if nothing is held for them any more; how far it has come then. In a transaction.

    A capture, a void and a refund take the participant's lock as this does: what a bank was given is used before, or
    was given back. Raises ErasureNotAsked.
    """
    await tx.fetchval(_LOCK, participant_id)
    erasure = await read_erasure(tx, participant_id)
    if erasure.state in ("erasing", "done"):
        return erasure.state
    if await tx.fetchval(_HELD, participant_id):
        await tx.execute(_MOVE, participant_id, "waiting")
        return "waiting"
    for removal in AT_LAST:
        await tx.execute(_STEP, participant_id, removal.name, await remove(tx, removal, participant_id))
    await destroy_key(tx, participant_id)
    await tx.execute(_MOVE, participant_id, "erasing")
    return "erasing"


async def finish(tx: Connection, participant_id: UUID, keyring: Keyring) -> State:
    """Go through what providers signed about several people, and be done. In a transaction. Raises
    ErasureNotAsked."""
    await tx.fetchval(_LOCK, participant_id)
    erasure = await read_erasure(tx, participant_id)
    if erasure.state != "erasing":
        return erasure.state
    removed = await remove_manifest_texts(tx, participant_id, keyring, _EVER)
    await tx.execute(_STEP, participant_id, "manifests", removed)
    await tx.execute(_END, participant_id)
    return "done"


async def remove_manifest_texts(tx: Connection, participant_id: UUID, keyring: Keyring, since: datetime) -> int:
    """Delete the texts of day manifests, recorded after `since`, that list an event of this participant by the source's
    own id; how many. Their digests stand in the log."""
    sources = [row["source_id"] for row in await tx.fetch(_SOURCES, participant_id)]
    removed, last = 0, (0, date.min, 0)
    while sources:
        rows = await tx.fetch(_MANIFESTS, sources, since, *last, _MANIFESTS_AT_ONCE)
        for row in rows:
            keys = _late_keys(row["jws"], row["uri"], keyring)
            last = row["source_id"], row["day"], row["sequence"]
            if keys and await tx.fetchval(_THEIRS, keys, participant_id):
                await tx.execute(_DROP_TEXT, *last)
                removed += 1
        if len(rows) < _MANIFESTS_AT_ONCE:
            break
    return removed


def _late_keys(jws: str, source_uri: str, keyring: Keyring) -> Sequence[bytes]:
    return [event_key(keyring, source_uri, event) for event in orjson.loads(payload_of(jws)).get("late", ())]


async def watch_manifests(tx: Connection, keyring: Keyring) -> int:
    """Look again whether a manifest that came after an erasure lists an event of whoever was erased lately; how many
    texts were deleted for it."""
    removed = 0
    for participant_id, ended_at in await tx.fetch(_WATCHED, MANIFESTS_WATCHED):
        removed += await remove_manifest_texts(tx, participant_id, keyring, ended_at)
    return removed

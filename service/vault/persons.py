"""Persons and their identities. A tag of who somebody is at the identity provider names one participant; what else is
known of them is sealed.

The application's role may write an identity and may not select one: it is read through `vault.read_identity`, one at a
time, which writes down whose was read and what for.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID

import asyncpg
import orjson

from service.database import Connection
from service.vault.keys import KEY_COLUMNS, KEY_JOIN, read_key
from service.vault.master import VaultError
from service.vault.vault import Vault

_IDENTITY = b"identity"

State = Literal["active", "erased"]


class PersonKnown(Exception):
    """This tag stands for another participant already, or this participant for another person."""


@dataclass(frozen=True, slots=True)
class Person:
    """Whom a person's tag stands for; of an erased one the tag is kept only as long as its state is."""

    participant_id: UUID
    state: State


_KEEP = """
    INSERT INTO vault.person (person_tag, key_version, participant_id, state) VALUES ($1, $2, $3, 'active')
    ON CONFLICT (person_tag) DO UPDATE SET participant_id = excluded.participant_id, state = 'active'
        WHERE person.state = 'erased' RETURNING true
"""  # any other conflict is said: PersonKnown. Who comes back after an erasure is a new participant
_FIND = "SELECT participant_id, state FROM vault.person WHERE person_tag = $1"
_MARK = "UPDATE vault.person SET state = $2 WHERE person_tag = $1"
_WRITE = """
    INSERT INTO vault.identity (participant_id, sealed, updated_at) VALUES ($1, $2, clock_timestamp())
    ON CONFLICT (participant_id) DO UPDATE SET sealed = $2, updated_at = clock_timestamp()
"""
_READ = f"""
    SELECT vault.read_identity($1, $2) AS sealed, {KEY_COLUMNS}
    FROM (SELECT $1::uuid AS participant_id) AS i {KEY_JOIN} = i.participant_id
"""
_FORGET = "DELETE FROM vault.identity WHERE participant_id = $1"


async def keep_person(
    tx: Connection,
    vault: Vault,
    participant_id: UUID,
    person_tag: bytes,
    identity: Mapping[str, Any],
    *,
    key_version: int,
) -> None:
    """Remember that a person is this participant, and who they are. Their data key is there: `enrol` makes it.

    person_tag   the keyring's tag, purpose `person`, of issuer and subject; `key_version` is `keyring.lasting`
    identity     what is known of them, as JSON takes it

    Raises PersonKnown when the tag stands for another already; the transaction is then to be rolled back.
    """
    if not await tx.fetchval(_KEEP, person_tag, key_version, participant_id):
        known = await find_person(tx, person_tag)
        if known is None or known.participant_id != participant_id:
            raise PersonKnown
    await write_identity(tx, vault, participant_id, identity)


async def find_person(tx: Connection, person_tag: bytes) -> Person | None:
    """Whom a person's tag stands for; None for somebody who was never here."""
    row = await tx.fetchrow(_FIND, person_tag)
    return None if row is None else Person(row["participant_id"], row["state"])


async def mark_person(tx: Connection, person_tag: bytes, state: State) -> None:
    """Say what became of a person."""
    await tx.execute(_MARK, person_tag, state)


async def write_identity(tx: Connection, vault: Vault, participant_id: UUID, identity: Mapping[str, Any]) -> None:
    """Put a participant's identity in the place of what was known before. Raises VaultError without a data key."""
    key = await read_key(tx, vault, participant_id)
    if key is None:
        raise VaultError(f"participant {participant_id} has no data key: it was destroyed, or never made")
    text = orjson.dumps(dict(identity), option=orjson.OPT_SORT_KEYS)
    await tx.execute(_WRITE, participant_id, key.seal(_IDENTITY, b"", text))


async def read_identity(tx: Connection, vault: Vault, participant_id: UUID, *, purpose: str) -> dict[str, Any] | None:
    """What is known of who a participant is; None where nothing is, or it was erased.

    purpose   a code such as `profile`: it is written down with whose identity was read, in this transaction, which is
              therefore not a read-only one
    """
    row: asyncpg.Record | None = await tx.fetchrow(_READ, participant_id, purpose)
    if row is None or row["sealed"] is None or row["wrapped"] is None:
        return None
    key = vault.key(participant_id, row["kek_version"], row["wrapped"])
    identity: dict[str, Any] = orjson.loads(key.open(_IDENTITY, b"", row["sealed"]))
    return identity


async def forget_identity(tx: Connection, participant_id: UUID) -> None:
    """Delete a participant's identity."""
    await tx.execute(_FORGET, participant_id)

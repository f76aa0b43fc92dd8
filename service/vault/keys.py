"""Data keys in the database: made at enrolment, read beside what they seal, destroyed for good."""

from collections.abc import Collection, Mapping, Sequence
from uuid import UUID

from service.database import Connection
from service.vault.master import VaultError
from service.vault.vault import DataKey, Vault

KEY_COLUMNS = "k.kek_version, k.wrapped"
KEY_JOIN = "LEFT JOIN vault.person_key k ON k.participant_id"
"""Reads the owner's wrapped key beside a row: `f"{KEY_JOIN} = e.participant_id"`."""

# Locked, so that a rotation that retires the version waits for whoever wraps under it. A version that was retired
# meanwhile is seen no more, and the next look finds its successor.
_LIVE = "SELECT kek_version FROM vault.kek WHERE retired_at IS NULL ORDER BY kek_version DESC LIMIT 1 FOR SHARE"
_LOOKS = 3

_MAKE = """
    INSERT INTO vault.person_key (participant_id, kek_version, wrapped)
    SELECT new.participant_id, $2, new.wrapped FROM unnest($1::uuid[], $3::bytea[]) AS new (participant_id, wrapped)
"""
_READ = "SELECT participant_id, kek_version, wrapped FROM vault.person_key WHERE participant_id = ANY($1)"
_DESTROY = "DELETE FROM vault.person_key WHERE participant_id = $1 RETURNING true"
_DESTROYED = """
    INSERT INTO vault.key_destroyed (participant_id, destroyed_at) VALUES ($1, clock_timestamp()) ON CONFLICT DO NOTHING
"""  # a conflict is a key that was destroyed before


async def live_version(tx: Connection) -> int:
    """The version of the key-encryption key that wraps new data keys; it stays so until the transaction ends. Raises
    VaultError."""
    for _ in range(_LOOKS):
        version: int | None = await tx.fetchval(_LIVE)
        if version is not None:
            return version
    raise VaultError("the database knows no key-encryption key: start the platform once with its file in place")


async def make_key(tx: Connection, vault: Vault, participant_id: UUID) -> DataKey:
    """A data key for a new participant, in the transaction that enrols them. Raises VaultError."""
    return (await make_keys(tx, vault, [participant_id]))[participant_id]


async def make_keys(tx: Connection, vault: Vault, participant_ids: Sequence[UUID]) -> Mapping[UUID, DataKey]:
    """Data keys for new participants, one statement for all. Raises VaultError."""
    if not participant_ids:
        return {}
    version = await live_version(tx)
    made = {participant_id: vault.new_key(participant_id, version) for participant_id in participant_ids}
    await tx.execute(_MAKE, list(made), version, [wrapped for wrapped, _ in made.values()])
    return {participant_id: key for participant_id, (_, key) in made.items()}


async def read_keys(tx: Connection, vault: Vault, participant_ids: Collection[UUID]) -> Mapping[UUID, DataKey]:
    """The data keys of these participants; those whose key was destroyed are absent. Raises VaultError."""
    rows = await tx.fetch(_READ, list(participant_ids)) if participant_ids else ()
    return {owner: vault.key(owner, version, wrapped) for owner, version, wrapped in rows}


async def read_key(tx: Connection, vault: Vault, participant_id: UUID) -> DataKey | None:
    """A participant's data key; None where it was destroyed. Raises VaultError."""
    return (await read_keys(tx, vault, [participant_id])).get(participant_id)


async def destroy_key(tx: Connection, participant_id: UUID) -> bool:
    """Destroy a participant's data key, and with it whatever was sealed under it; whether there was one.

    Every process forgets it within a second of the commit. Postings rest on it: take `exclude_postings` first.
    """
    destroyed: bool | None = await tx.fetchval(_DESTROY, participant_id)
    await tx.execute(_DESTROYED, participant_id)
    return bool(destroyed)

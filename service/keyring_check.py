"""Notice that a database and a keyring do not belong together, before anything is tagged by the wrong keys.

Under another first key every event, every claim and every person would be new: all that was credited could be credited
again. So the database remembers a check value of each version, from which nothing follows about the key.
"""

from collections.abc import Mapping

import asyncpg
from sqlalchemy import Column, LargeBinary, SmallInteger
from sqlmodel import Field

from service.database import Connection, ServiceTable
from service.keyring import Keyring, KeyringError


class KeyringCheck(ServiceTable, table=True):
    """A version of the keyring that has tagged something here, and its check value. Append-only."""

    __tablename__ = "keyring_check"
    key_version: int = Field(sa_column=Column(SmallInteger, primary_key=True, autoincrement=False))
    check_value: bytes = Field(sa_column=Column(LargeBinary, nullable=False))


_READ = "SELECT key_version, check_value FROM service.keyring_check"

_REMEMBER = """
    INSERT INTO service.keyring_check (key_version, check_value) SELECT * FROM unnest($1::int2[], $2::bytea[])
    ON CONFLICT DO NOTHING
"""


def check_value(keyring: Keyring, version: int) -> bytes:
    """What a database remembers of a version: 32 bytes."""
    return keyring.tag("check", b"", version)


def keyring_faults(keyring: Keyring, known: Mapping[int, bytes]) -> list[str]:
    """What is wrong with a keyring for a database that knows these check values by version; empty when it is the
    database's."""
    faults = []
    for version in sorted(known):
        if version not in keyring.keys:
            faults.append(f"version {version} is missing")
        elif check_value(keyring, version) != known[version]:
            faults.append(f"version {version} is another key")
    if known and keyring.lasting < min(known):
        faults.append(f"version {keyring.lasting} comes before the first, {min(known)}, which is the first for ever")
    return faults


async def read_check_values(connection: "Connection | asyncpg.Connection[asyncpg.Record]") -> dict[int, bytes]:
    """The check values the database knows, by version."""
    return {row["key_version"]: row["check_value"] for row in await connection.fetch(_READ)}


async def require_keyring(connection: Connection, keyring: Keyring) -> None:
    """Raises KeyringError unless the keyring is the one this database's tags were made with; says what to restore."""
    faults = keyring_faults(keyring, await read_check_values(connection))
    if faults:
        raise KeyringError(
            f"the keyring is not the one this database was written with ({'; '.join(faults)}): restore the platform's "
            "keyring from its own backup and name it in TANPUHUI_KEYRING_FILE. Under another keyring everything that "
            "was credited could be credited again"
        )


async def adopt_keyring(connection: Connection, keyring: Keyring) -> None:
    """Have the database remember the versions it does not know yet, of a keyring that is its own.

    Raises KeyringError: then nothing is remembered.
    """
    async with connection.transaction(isolation="read_committed"):
        await require_keyring(connection, keyring)
        versions = sorted(keyring.keys)
        await connection.execute(_REMEMBER, versions, [check_value(keyring, version) for version in versions])
        await require_keyring(connection, keyring)  # another process may have been first, with another keyring

"""A database and a keyring that do not belong together are noticed before anything is tagged by the wrong keys."""

import asyncio
from pathlib import Path

import asyncpg
import pytest

from api.commands.ledger import check_everything
from api.processes.working import work
from service.keyring import Keyring, KeyringError, create_private_file
from service.keyring_check import adopt_keyring, check_value, keyring_faults, read_check_values, require_keyring
from service.settings import Settings
from tests.conftest import Database
from tests.running import KEYRING, pooled, running_api

pytestmark = pytest.mark.anyio

ONE, TWO, THREE = bytes(32), bytes([1]) * 32, bytes([2]) * 32


async def test_a_database_remembers_the_keyring_it_was_first_opened_with(fresh_database: Database) -> None:
    first, rotated = Keyring(1, {1: ONE}), Keyring(2, {1: ONE, 2: TWO})
    async with pooled(fresh_database.app) as pool, pool.acquire() as connection:
        await require_keyring(connection, first)
        assert await read_check_values(connection) == {}
        for _ in range(2):
            await adopt_keyring(connection, first)
        assert await read_check_values(connection) == {1: check_value(first, 1)}
        await adopt_keyring(connection, rotated)
        assert await read_check_values(connection) == {1: check_value(first, 1), 2: check_value(rotated, 2)}


@pytest.mark.parametrize(
    ("keyring", "fault"),
    [
        (Keyring(1, {1: TWO, 2: TWO}), "version 1 is another key"),
        (Keyring(1, {1: ONE, 2: THREE, 3: ONE}), "version 2 is another key"),
        (Keyring(2, {2: TWO}), "version 1 is missing"),
        (Keyring(1, {1: ONE}), "version 2 is missing"),
        (Keyring(2, {0: THREE, 1: ONE, 2: TWO}), "version 0 comes before the first, 1"),
    ],
)
async def test_another_keyring_is_refused_and_leaves_nothing(
    fresh_database: Database, keyring: Keyring, fault: str
) -> None:
    async with pooled(fresh_database.app) as pool, pool.acquire() as connection:
        await adopt_keyring(connection, Keyring(2, {1: ONE, 2: TWO}))
        known = await read_check_values(connection)
        with pytest.raises(KeyringError, match=f"{fault}.*: restore the platform's keyring from its own backup"):
            await adopt_keyring(connection, keyring)
        assert await read_check_values(connection) == known
    assert any(fault in said for said in keyring_faults(keyring, known))


async def test_of_two_keyrings_at_once_one_is_the_database_s(fresh_database: Database) -> None:
    rings = [Keyring(1, {1: ONE}), Keyring(1, {1: TWO, 2: THREE})]

    async def adopt(ring: Keyring) -> bool:
        async with pooled(fresh_database.app, 1) as pool, pool.acquire() as connection:
            try:
                await adopt_keyring(connection, ring)
            except KeyringError:
                return False
            return True

    kept = await asyncio.gather(*(adopt(ring) for ring in rings * 4))
    (winner,) = {place % 2 for place, done in enumerate(kept) if done}
    assert sum(kept) == 4
    async with pooled(fresh_database.auditor) as pool, pool.acquire() as connection:
        ring = rings[winner]
        assert await read_check_values(connection) == {version: check_value(ring, version) for version in ring.keys}


async def test_no_process_starts_on_another_keyring_s_database(fresh_database: Database, tmp_path: Path) -> None:
    async with running_api(fresh_database.app, None, tmp_path / "a"):
        pass
    path = tmp_path / "b" / "keyring.json"
    create_private_file(path, KEYRING.replace(b"YSBrZXk", b"YSBLZXk"))
    with pytest.raises(KeyringError, match="version 1 is another key"):
        async with running_api(fresh_database.app, None, path.parent):
            pass
    with pytest.raises(KeyringError, match="version 1 is another key"):
        await work(Settings(database_url=fresh_database.sequencer, keyring_file=path))
    found = (await check_everything(fresh_database.auditor, path, None)).findings
    assert [(finding.check, finding.about) for finding in found] == [("keyring", "version 1 is another key")]
    for right in (tmp_path / "a" / "keyring.json", None):
        assert (await check_everything(fresh_database.auditor, right, None)).findings == ()


async def test_what_a_database_remembers_nobody_changes(database: Database) -> None:
    forbidden = {
        database.app: ("UPDATE service.keyring_check SET check_value = ''", "DELETE FROM service.keyring_check"),
        database.sequencer: (
            "INSERT INTO service.keyring_check VALUES (7, '')",
            "SELECT subject_tag FROM service.link",
        ),
    }
    for url, statements in forbidden.items():
        async with pooled(url, 1) as pool, pool.acquire() as connection:
            for statement in statements:
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await connection.execute(statement)

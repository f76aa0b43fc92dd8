"""The log's keys: a file that only the publisher reads, and leaves that say which key counts from when on."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ledger.errors import NoteInvalid
from ledger.leaf_reading import read_leaf
from ledger.log_store import sequence
from ledger.notes import parse_note, parse_verifier, verify_note
from service.clock import Clock
from service.database import Connection
from service.log.epochs import open_further
from service.log.files import VERIFIER_KEY
from service.log.guard import Guard
from service.log.keys import (
    SigningKeyUnusable,
    create_signing_key,
    decode_signing_key,
    encode_signing_key,
    load_signing_keys,
    rotate_signing_key,
)
from service.log.loop import step
from service.log.publish import Log

pytestmark = pytest.mark.anyio

NOW = datetime(2026, 11, 22, 8, tzinfo=UTC)
ORIGIN = "log.example.org/log"


def opened(directory: Path) -> Log:
    keys = load_signing_keys(directory / "log.key", ORIGIN)
    return Log(ORIGIN, directory / "log", Guard(directory / "guard"), keys.current, keys.former)


def at(now: datetime) -> Clock:
    return lambda: now


async def published(connection: Connection, directory: Path, now: datetime) -> None:
    """Steps of the publisher, with the sequencer between them, until nothing is left to do."""
    for _ in range(4):
        assert (await step(connection, opened(directory), "demo", at(now))).refused is None
        async with connection.transaction():
            await sequence(connection)


async def announced(connection: Connection) -> list[tuple[str, str, str, str]]:
    """Action, name, key and since of every key leaf, in order."""
    rows = await connection.fetch("SELECT leaf FROM ledger.leaf ORDER BY log_index")
    leaves = [read_leaf(row["leaf"]) for row in rows]
    return [
        (leaf["action"], leaf["name"], leaf["public_key"], leaf["since"]) for leaf in leaves if leaf["kind"] == "key"
    ]


def signed_by(log: Log, epoch: int = 1) -> set[bytes]:
    note = log.files_of(epoch).read_checkpoint()
    assert note is not None
    keys = [parse_verifier(line) for line in (log.directory / VERIFIER_KEY).read_text("utf-8").split()]
    return {key.public for key in verify_note(parse_note(note), keys).signers}


async def test_a_rotation_signs_with_both_keys_and_then_with_the_new_one(
    connection: Connection, tmp_path: Path
) -> None:
    first = create_signing_key(tmp_path / "log.key", ORIGIN).current.verifier
    await published(connection, tmp_path, NOW)
    assert signed_by(opened(tmp_path)) == {first.public}
    until = NOW + timedelta(days=7)
    second = rotate_signing_key(tmp_path / "log.key", ORIGIN, until).current.verifier
    assert (tmp_path / "log.key").stat().st_mode & 0o777 == 0o600
    await published(connection, tmp_path, NOW + timedelta(hours=1))
    assert signed_by(opened(tmp_path)) == {first.public, second.public}
    await published(connection, tmp_path, until - timedelta(seconds=1))
    assert signed_by(opened(tmp_path)) == {first.public, second.public}
    await published(connection, tmp_path, until)
    assert signed_by(opened(tmp_path)) == {second.public}
    assert await announced(connection) == [
        ("added", ORIGIN, first.public.hex(), "2026-11-22T08:00:00Z"),
        ("added", ORIGIN, second.public.hex(), "2026-11-22T09:00:00Z"),
        ("revoked", ORIGIN, first.public.hex(), "2026-11-29T08:00:00Z"),
    ]
    for path in (tmp_path / "log" / VERIFIER_KEY, tmp_path / "log" / "epoch-1" / VERIFIER_KEY):
        assert path.read_text("utf-8").split() == [str(second), str(first)]  # the current one first


async def test_a_publisher_killed_after_announcing_does_not_announce_again(
    connection: Connection, tmp_path: Path
) -> None:
    create_signing_key(tmp_path / "log.key", ORIGIN)
    await published(connection, tmp_path, NOW)
    rotate_signing_key(tmp_path / "log.key", ORIGIN, NOW + timedelta(days=1))
    for now in (NOW, NOW + timedelta(days=1)):
        for _ in range(2):  # the leaf waits in the queue, then it has its place; the guard knows of neither
            await step(connection, opened(tmp_path), "demo", at(now))
            async with connection.transaction():
                await sequence(connection)
        await published(connection, tmp_path, now)
    assert [action for action, *_ in await announced(connection)] == ["added", "added", "revoked"]


async def test_a_key_that_nobody_announced_signs_nothing(connection: Connection, tmp_path: Path) -> None:
    first = create_signing_key(tmp_path / "log.key", ORIGIN).current.verifier
    await published(connection, tmp_path, NOW)
    (tmp_path / "log.key").unlink()
    other = create_signing_key(tmp_path / "log.key", ORIGIN).current.verifier
    with pytest.raises(SigningKeyUnusable, match="restore the file"):
        await step(connection, opened(tmp_path), "demo", at(NOW))
    done = await open_further(connection, opened(tmp_path), "demo", "key-lost", NOW)
    await published(connection, tmp_path, NOW)
    assert signed_by(opened(tmp_path), epoch=2) == {other.public}
    assert await announced(connection) == [
        ("added", ORIGIN, first.public.hex(), "2026-11-22T08:00:00Z"),
        ("added", done.origin, other.public.hex(), "2026-11-22T08:00:00Z"),
        ("revoked", ORIGIN, first.public.hex(), "2026-11-22T08:00:00Z"),
    ]


def test_a_key_file_is_read_strictly_and_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "log.key"
    with pytest.raises(SigningKeyUnusable, match="log key new"):
        load_signing_keys(path, ORIGIN)
    keys = create_signing_key(path, ORIGIN)
    assert create_signing_key(path, ORIGIN).current.verifier == keys.current.verifier
    with pytest.raises(SigningKeyUnusable, match="and this log is other"):
        load_signing_keys(path, "other")
    line = encode_signing_key(keys.current)
    assert decode_signing_key(line).verifier == keys.current.verifier
    for wrong in ("", line[:-4], line.replace("PRIVATE", "PUBLIC"), line.replace(ORIGIN, "log.example.org/other")):
        with pytest.raises(NoteInvalid):
            decode_signing_key(wrong)
    for below in (line, f"{line} until soon", f"{line} until 2026-11-22", "x until 2026-12-01T00:00:00Z"):
        path.write_text(f"{line}\n{below}\n")
        with pytest.raises(SigningKeyUnusable, match="not a file of signing keys") as error:
            load_signing_keys(path, ORIGIN)
        assert line.rpartition("+")[2] not in str(error.value)
    path.write_text(line)
    path.chmod(0o604)
    with pytest.raises(SigningKeyUnusable, match="chmod 600"):
        load_signing_keys(path, ORIGIN)

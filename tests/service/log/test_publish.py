"""Leaves become tiles and signed checkpoints; nothing is signed that does not go on from what was signed before."""

import json
import os
import secrets
import shutil
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import asyncpg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.checkpoint import parse_checkpoint
from ledger.leaf_reading import read_leaf
from ledger.log_store import sequence
from ledger.merkle import edge_of, leaf_hash, root_of
from ledger.notes import ED25519, generate_signer, parse_note, verify_note
from ledger.tiles import Growth, Tile, decode_bundle, new_bundles, subtree_reader, tiles_of
from service.database import Connection
from service.log.epochs import EpochNotOpened, open_first, open_further
from service.log.files import FilesDiffer, LogFiles
from service.log.guard import Guard, GuardHeld, Signed
from service.log.publish import NOT_BEGUN, Log, publish
from service.log.refusals import (
    FILES_DIFFER,
    GUARD_AHEAD,
    GUARD_BEHIND,
    GUARD_MISSING,
    GUARD_UNUSABLE,
    HISTORY_DIFFERS,
)

pytestmark = pytest.mark.anyio

NOW = datetime(2026, 11, 22, 8, tzinfo=UTC)
ORIGIN = "log.example.org/log"


@pytest.fixture
def log(tmp_path: Path) -> Log:
    signer = generate_signer(ORIGIN, ED25519, secrets.token_bytes(32))
    return Log(ORIGIN, tmp_path / "log", Guard(tmp_path / "elsewhere" / "guard"), signer)


async def add(connection: Connection, count: int) -> None:
    """Leaves that are nobody's, numbered by the sequencer."""
    leaves = [(secrets.token_bytes(40),) for _ in range(count)]
    await connection.executemany("INSERT INTO ledger.leaf_queue (leaf) VALUES ($1)", leaves)
    while await in_transaction(connection):
        pass


async def in_transaction(connection: Connection) -> int:
    async with connection.transaction():
        return await sequence(connection)


async def begun(connection: Connection, log: Log) -> None:
    assert (await publish(connection, log, NOW)).refused == NOT_BEGUN
    assert await open_first(connection, log, "demo", NOW)
    assert await open_first(connection, log, "demo", NOW) is None  # another publisher, a moment later
    await add(connection, 0)


async def leaves_of(connection: Connection) -> list[bytes]:
    return [row[0] for row in await connection.fetch("SELECT leaf FROM ledger.leaf ORDER BY log_index")]


async def require_whole(connection: Connection, log: Log, epoch: int = 1) -> int:
    """The files say exactly what the leaves are: checkpoint, every tile, every bundle. The size."""
    files, leaves = log.files_of(epoch), await leaves_of(connection)
    note = files.read_checkpoint()
    assert note is not None
    checkpoint = parse_checkpoint(verify_note(parse_note(note), [log.signers(epoch, NOW)[0].verifier]).text)
    assert checkpoint.origin == log.origin_of(epoch)
    hashes = [leaf_hash(leaf) for leaf in leaves[: checkpoint.size]]
    assert (
        checkpoint.root
        == root_of(hashes)
        == edge_of(checkpoint.size, subtree_reader(checkpoint.size, files.read)).root()
    )
    made: dict[Tile, bytes] = {}
    growth = Growth(0, made.__getitem__)
    for leaf in hashes:
        made.update(growth.add(leaf))
    made.update(growth.partial())
    for tile in tiles_of(checkpoint.size):
        assert (files.directory / tile.path).read_bytes() == made[tile]
    found = [entry for tile in new_bundles(0, checkpoint.size) for entry in decode_bundle(files.read(tile), tile.width)]
    assert found == leaves[: checkpoint.size]
    kept = await connection.fetchval(
        "SELECT note FROM ledger.checkpoint WHERE epoch = $1 AND size = $2", epoch, checkpoint.size
    )
    assert kept == note
    return checkpoint.size


async def test_every_step_signs_what_was_added_and_serves_it_whole(connection: Connection, log: Log) -> None:
    await begun(connection, log)
    first = [read_leaf(leaf) for leaf in await leaves_of(connection)]
    assert [(leaf["kind"], leaf.get("origin", leaf.get("name"))) for leaf in first] == [
        ("epoch", ORIGIN),
        ("key", ORIGIN),
    ]
    size = 0
    for count in (0, 1, 252, 1, 1, 300, 2_000):
        await add(connection, count)
        published = await publish(connection, log, NOW)
        assert (published.added, published.refused) == (published.size - size, None)
        size = published.size
        assert await require_whole(connection, log) == size
    assert size == 2 + 2_555
    assert (await publish(connection, log, NOW)).added == 0
    assert [row[0] for row in await connection.fetch("SELECT size FROM ledger.checkpoint ORDER BY size")] == [
        2, 3, 255, 256, 257, 557, 2_557,
    ]  # fmt: skip
    partial = [path for path in log.files_of(1).directory.rglob("*") if path.parent.name.endswith(".p")]
    assert {path.parent.name for path in partial} == {"000.p", "009.p"}  # of full tiles the partial ones are gone


async def test_a_step_that_was_killed_anywhere_is_made_good(connection: Connection, log: Log) -> None:
    await begun(connection, log)
    await add(connection, 400)
    await publish(connection, log, NOW)
    await add(connection, 400)
    before = log.guard.read()
    await publish(connection, log, NOW)
    after, files = log.guard.read(), log.files_of(1)
    assert before
    assert before.note
    assert after
    # killed before the guard was written: the same tiles, the same signature
    log.guard.write(before)
    await drop_checkpoints_above(connection, before.size)
    files.write_checkpoint(before.note)
    assert (await publish(connection, log, NOW)).added == 400
    assert log.guard.read() == after
    # killed after it: what the guard has is shown
    await drop_checkpoints_above(connection, before.size)
    files.write_checkpoint(before.note)
    assert await publish(connection, log, NOW) == type(await publish(connection, log, NOW))(after.size)
    await require_whole(connection, log)
    # with half of the tiles gone to the next step
    await add(connection, 700)
    await publish(connection, log, NOW)
    assert await require_whole(connection, log) == 1_502


async def drop_checkpoints_above(connection: Connection, size: int) -> None:
    """As if the database had not been told: nothing but the owner's superuser could do it."""
    await change(connection, f"DELETE FROM ledger.checkpoint WHERE size > {size}")


async def change(connection: Connection, *statements: str) -> None:
    """Do what the journal's own guards refuse, as only the superuser can."""
    database: str = await connection.fetchval("SELECT current_database()")
    url: str = json.loads(os.environ["TANPUHUI_TEST_URLS"])["admin"]
    admin = await asyncpg.connect(url, database=database)
    await admin.execute("SET session_replication_role = replica")
    for statement in statements:
        await admin.execute(statement)
    await admin.close()


async def test_two_publishers_by_mistake_write_one_log(connection: Connection, log: Log) -> None:
    await begun(connection, log)
    with log.guard.held(), pytest.raises(GuardHeld):
        await publish(connection, log, NOW)
    await add(connection, 3)
    await publish(connection, log, NOW)
    await require_whole(connection, log)


async def refused(connection: Connection) -> str | None:
    code: str | None = await connection.fetchval("SELECT refused FROM ledger.log_state")
    return code


async def test_a_restored_backup_signs_nothing_until_it_has_what_was_promised(connection: Connection, log: Log) -> None:
    await begun(connection, log)
    await add(connection, 300)
    await publish(connection, log, NOW)
    lost = await connection.fetch("SELECT log_index, leaf FROM ledger.leaf WHERE log_index >= 290 ORDER BY log_index")
    await change(
        connection,
        "DELETE FROM ledger.leaf WHERE log_index >= 290",
        "UPDATE ledger.log_head SET size = 290",
        "DELETE FROM ledger.checkpoint",
    )
    assert (await publish(connection, log, NOW)).refused == GUARD_AHEAD == await refused(connection)
    # posted on, past what was promised: other leaves stand in the places of the lost ones
    await add(connection, 30)
    assert (await publish(connection, log, NOW)).refused == HISTORY_DIFFERS == await refused(connection)
    await change(connection, "DELETE FROM ledger.leaf WHERE log_index >= 290", "UPDATE ledger.log_head SET size = 302")
    await connection.executemany(
        "INSERT INTO ledger.leaf (log_index, leaf) VALUES ($1, $2)", [tuple(row) for row in lost]
    )
    await add(connection, 5)
    assert (await publish(connection, log, NOW)).refused is None
    assert await refused(connection) is None
    assert await require_whole(connection, log) == 307


async def test_a_further_epoch_keeps_what_it_can_and_says_so(connection: Connection, log: Log) -> None:
    await begun(connection, log)
    with pytest.raises(EpochNotOpened):
        await open_further(connection, log, "demo", "restored-backup", NOW)
    await add(connection, 300)
    await publish(connection, log, NOW)
    former = log.files_of(1).read_checkpoint()
    assert former
    await change(connection, "DELETE FROM ledger.leaf WHERE log_index >= 290", "UPDATE ledger.log_head SET size = 290")
    await add(connection, 30)
    assert (await publish(connection, log, NOW)).refused == HISTORY_DIFFERS
    opened = await open_further(connection, log, "demo", "restored-backup", NOW)
    assert (opened.number, opened.origin, opened.kept) == (2, f"{ORIGIN}/epoch-2", 290)
    assert await refused(connection) is None
    await add(connection, 1)
    assert (await publish(connection, log, NOW)).size == 290 + 30 + 2 + 1
    await require_whole(connection, log, epoch=2)
    assert log.files_of(1).read_checkpoint() == former
    told = read_leaf((await leaves_of(connection))[320])
    assert (told["kind"], told["former"]["kept"], told["former"]["size"]) == ("epoch", "290", "302")


async def test_an_opener_that_was_killed_between_database_and_guard(connection: Connection, log: Log) -> None:
    await begun(connection, log)
    log.guard.path.unlink()
    await add(connection, 1)
    assert (await publish(connection, log, NOW)).size == 3
    assert await refused(connection) is None
    assert log.guard.read() == Signed(1, log.files_of(1).read_checkpoint())


async def test_a_guard_that_is_lost_old_or_broken_stops_the_signing(connection: Connection, log: Log) -> None:
    await begun(connection, log)
    await add(connection, 1)
    await publish(connection, log, NOW)
    earlier = log.guard.read()
    assert earlier
    await add(connection, 1)
    await publish(connection, log, NOW)
    latest = log.guard.read()
    assert latest
    log.guard.write(earlier)
    assert (await publish(connection, log, NOW)).refused == GUARD_BEHIND == await refused(connection)
    log.guard.path.unlink()
    assert (await publish(connection, log, NOW)).refused == GUARD_MISSING == await refused(connection)
    for broken in ("", "{}", '{"epoch": 0, "note": null}', '{"epoch": 1, "note": "x"}', "[1]"):
        log.guard.path.write_text(broken)
        published = await publish(connection, log, NOW)
        assert published.refused == GUARD_UNUSABLE == await refused(connection)
        assert "not a guard's file" in published.detail
    # lost together with the database's own memory of what was signed: what is served tells
    log.guard.path.unlink()
    await drop_checkpoints_above(connection, -1)
    assert (await publish(connection, log, NOW)).refused == GUARD_MISSING
    log.guard.write(earlier)
    assert (await publish(connection, log, NOW)).refused == GUARD_BEHIND
    log.guard.write(latest)
    assert (await publish(connection, log, NOW)).refused is None
    assert await refused(connection) is None


async def test_a_tile_or_an_entry_that_was_changed_is_never_signed_over(connection: Connection, log: Log) -> None:
    await begun(connection, log)
    await add(connection, 10)
    await publish(connection, log, NOW)
    # the last entry that was signed, another one instead
    await change(connection, "UPDATE ledger.leaf SET leaf = 'other' WHERE log_index = 11")
    await add(connection, 1)
    assert (await publish(connection, log, NOW)).refused == HISTORY_DIFFERS
    assert await refused(connection) == HISTORY_DIFFERS


async def test_an_entry_under_the_last_bundle_that_was_changed_is_found(connection: Connection, log: Log) -> None:
    await begun(connection, log)
    await add(connection, 10)
    await publish(connection, log, NOW)
    await change(connection, "UPDATE ledger.leaf SET leaf = 'other' WHERE log_index = 7")
    await add(connection, 1)
    assert (await publish(connection, log, NOW)).refused == HISTORY_DIFFERS == await refused(connection)


async def test_a_tile_that_was_changed_or_cut_is_not_built_on(connection: Connection, log: Log) -> None:
    await begun(connection, log)
    await add(connection, 10)
    await publish(connection, log, NOW)
    tile = log.files_of(1).directory / Tile(0, 0, 12).path
    sound = tile.read_bytes()
    for broken in (sound[:-1], sound[:32] + bytes(32) + sound[64:]):
        tile.write_bytes(broken)
        await add(connection, 1)
        assert (await publish(connection, log, NOW)).refused in (FILES_DIFFER, HISTORY_DIFFERS)
        assert await refused(connection) is not None
    tile.write_bytes(sound)
    assert (await publish(connection, log, NOW)).refused is None
    await require_whole(connection, log)


async def test_files_that_are_lost_are_made_again_from_the_leaves(connection: Connection, log: Log) -> None:
    await begun(connection, log)
    await add(connection, 300)
    await publish(connection, log, NOW)
    await add(connection, 400)
    await publish(connection, log, NOW)
    (log.files_of(1).directory / Tile(0, 1).path).unlink()  # not looked at again, so it is an auditor who misses it
    shutil.rmtree(log.directory)
    assert (await publish(connection, log, NOW)).refused is None
    assert await require_whole(connection, log) == 702
    assert len(log.files_of(1).read(Tile(1, 0, 1))) == 32  # of an earlier size: cut out of a wider one
    shutil.rmtree(log.directory)
    await add(connection, 5)
    await publish(connection, log, NOW)
    assert await require_whole(connection, log) == 707
    # of other leaves other files: those are not what was signed
    shutil.rmtree(log.directory)
    await change(connection, "UPDATE ledger.leaf SET leaf = 'other' WHERE log_index = 100")
    assert (await publish(connection, log, NOW)).refused is not None
    assert log.files_of(1).read_checkpoint() is None


async def test_an_epoch_goes_on_from_what_is_left_of_guard_database_and_files(connection: Connection, log: Log) -> None:
    await begun(connection, log)
    for _ in range(3):
        await add(connection, 100)
        await publish(connection, log, NOW)
    former = log.guard.read()
    assert former
    assert former.note
    log.guard.path.unlink()
    assert (await publish(connection, log, NOW)).refused == GUARD_MISSING
    # a restored database that has not grown, whose files show more than it knows
    await change(
        connection,
        "DELETE FROM ledger.leaf WHERE log_index >= 290",
        "UPDATE ledger.log_head SET size = 290",
        "DELETE FROM ledger.checkpoint WHERE size > 102",
    )
    cosigned = former.note + "\u2014 witness.example AAAAAAAAAAAA\n"
    log.files_of(1).write_checkpoint(cosigned)
    opened = await open_further(connection, log, "demo", "guard-lost", NOW)
    assert (opened.number, opened.signed, opened.kept) == (2, 302, 290)
    await add(connection, 0)
    assert (await publish(connection, log, NOW)).size == 292
    told = read_leaf((await leaves_of(connection))[290])
    assert told["former"]["checkpoint"] == sha256(former.note.encode()).hexdigest()
    # and once more, with the tiles lost: as far as a checkpoint shows
    await add(connection, 8)
    await publish(connection, log, NOW)
    await add(connection, 8)
    await publish(connection, log, NOW)
    shutil.rmtree(log.directory)
    await change(connection, "UPDATE ledger.leaf SET leaf = 'other' WHERE log_index = 305")
    opened = await open_further(connection, log, "demo", "files-lost", NOW)
    assert (opened.number, opened.signed, opened.kept) == (3, 308, 300)
    await add(connection, 0)
    assert (await publish(connection, log, NOW)).refused is None
    await require_whole(connection, log, epoch=3)


def test_files_that_differ_are_left_alone(tmp_path: Path) -> None:
    files, tile = LogFiles(tmp_path), Tile(0, 0, 3)
    files.write([(tile, b"x" * 96)])
    files.write([(tile, b"x" * 96)])
    with pytest.raises(FilesDiffer, match="other bytes"):
        files.write([(tile, b"y" * 96)])
    assert files.read(tile) == b"x" * 96
    assert files.read(tile._replace(width=3)) == b"x" * 96
    assert files.read(Tile(0, 0, 2)) == b"x" * 64
    with pytest.raises(FileNotFoundError):
        files.read(Tile(0, 0, 4))
    whole = bytes(range(256)) * 32
    files.write([(tile.whole, whole)])
    files.drop_partial(tile.whole)
    assert files.read(tile) == whole[:96]
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["000"]
    shutil.rmtree(tmp_path)


@given(st.lists(st.integers(0, 700), min_size=1, max_size=6))
def test_a_tree_grown_in_any_steps_has_the_same_tiles(steps: list[int]) -> None:
    made: dict[Tile, bytes] = {}
    size = 0
    for step in steps:
        growth = Growth(size, made.__getitem__)
        for number in range(size, size + step):
            made.update(growth.add(leaf_hash(number.to_bytes(4, "big"))))
        made.update(growth.partial())
        size += step
        expected = [leaf_hash(number.to_bytes(4, "big")) for number in range(size)]
        assert edge_of(size, subtree_reader(size, made.__getitem__)).root() == root_of(expected)
        assert all(tile in made for tile in tiles_of(size))

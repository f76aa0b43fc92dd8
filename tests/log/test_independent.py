"""A second implementation, written from the formats alone, reads our logs, bundles and proofs as we do."""

import json
import secrets
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from random import Random

import pytest

from ledger.errors import ProofInvalid, TileInvalid
from ledger.log_store import sequence
from ledger.merkle import (
    Subtree,
    consistency_proof,
    edge_of,
    inclusion_proof,
    leaf_hash,
    root_of,
    verify_consistency,
    verify_inclusion,
)
from ledger.notes import ED25519, generate_signer
from ledger.tiles import Growth, Tile, new_bundles, parse_path, subtree_reader, tiles_of
from service.database import Connection
from service.log.epochs import open_first
from service.log.guard import Guard
from service.log.publish import Log, publish
from tests.audit.audited import export, filled, world_on
from tests.conftest import Database
from tests.log import independent
from tests.log.bundles import LogWriter, rewrite, signer_of
from tests.running import pooled

MOST = 300  # beyond 256 there is a second level of tiles
ENTRIES = [f"entry {number}".encode() for number in range(MOST)]
LEAVES = [leaf_hash(entry) for entry in ENTRIES]
TREE = independent.Tree([independent.leaf(entry) for entry in ENTRIES])


@cache
def subtree(level: int, number: int) -> bytes:
    """Ours, of the whole tree."""
    return root_of(LEAVES[number << level : (number + 1) << level])


def holds(verify: Callable[..., None], *arguments: object) -> bool:
    try:
        verify(*arguments)
    except ProofInvalid:
        return False
    return True


def changed(random: Random, proof: Sequence[bytes]) -> list[bytes]:
    """A proof with something else about it."""
    other = list(proof)
    at = random.randrange(len(other) + 1)
    match random.randrange(4):
        case 0 if at < len(other):
            other[at] = bytes([other[at][0] ^ 1]) + other[at][1:]
        case 1 if other:
            del other[min(at, len(other) - 1)]
        case 2 if len(other) > 1:
            other = [*other[1:], other[0]]
        case _:
            other.insert(at, secrets.token_bytes(32))
    return other


def test_roots_are_the_same_for_every_size() -> None:
    for size in range(MOST + 1):
        assert TREE.root(size) == root_of(LEAVES[:size]) == edge_of(size, subtree).root(), size


def test_inclusion_proofs_are_the_same_for_every_entry_of_every_size() -> None:
    random = Random(5)
    for size in range(1, MOST + 1):
        root = TREE.root(size)
        for index in range(size):
            proof = inclusion_proof(index, size, subtree)
            assert proof == TREE.path(index, size), (index, size)
            if size > 40 and random.randrange(20):
                continue
            verify_inclusion(LEAVES[index], index, size, proof, root)
            assert independent.includes(index, size, LEAVES[index], proof, root)
            other = changed(random, proof)
            told = holds(verify_inclusion, LEAVES[index], index, size, other, root)
            assert not told, (index, size, other)
            assert not independent.includes(index, size, LEAVES[index], other, root)


def test_a_proof_is_of_one_place_and_one_size() -> None:
    """Both say the same of every proof in every other place; they differ in no case."""
    for size in range(1, 20):
        for index in range(size):
            proof = TREE.path(index, size)
            for place in range(size + 2):
                for other in range(1, size + 3):
                    ours = holds(verify_inclusion, LEAVES[index], place, other, proof, TREE.root(size))
                    theirs = independent.includes(place, other, LEAVES[index], proof, TREE.root(size))
                    assert ours == theirs, (index, size, place, other)
                    assert ours or (place, other) != (index, size)


def test_consistency_proofs_are_the_same_between_all_sizes() -> None:
    random = Random(6)
    for new in range(1, MOST + 1):
        for old in range(1, new + 1):
            proof = consistency_proof(old, new, subtree)
            assert proof == TREE.proof(old, new), (old, new)
            if new > 40 and random.randrange(20):
                continue
            roots = TREE.root(old), TREE.root(new)
            verify_consistency(old, new, *roots, proof)
            assert independent.continues(old, new, *roots, proof)
            other = changed(random, proof)
            assert not holds(verify_consistency, old, new, *roots, other), (old, new, other)
            assert not independent.continues(old, new, *roots, other)
            false = secrets.token_bytes(32)
            for pair in ((roots[0], false), (false, roots[1])):
                assert not holds(verify_consistency, old, new, *pair, proof)
                assert not independent.continues(old, new, *pair, proof)


def test_nothing_is_shown_from_an_empty_tree_nor_backwards() -> None:
    for old, new in ((0, 5), (5, 4), (0, 0)):
        assert not holds(verify_consistency, old, new, TREE.root(old), TREE.root(new), [])
        assert not independent.continues(old, new, TREE.root(old), TREE.root(new), [])


def reader_of(files: dict[str, bytes], size: int) -> Subtree:
    return subtree_reader(size, lambda tile: files[tile.path])


@pytest.mark.parametrize("size", [*range(1, MOST + 1, 13), 255, 256, 257, 511, 512, 513, 65_536, 65_537, 66_049])
def test_tiles_and_bundles_are_the_same(size: int) -> None:
    entries = [number.to_bytes(4, "big") for number in range(size)]
    files = independent.tiles(entries)
    growth = Growth(0, lambda tile: b"")
    made = {tile.path: content for entry in entries for tile, content in growth.add(leaf_hash(entry))}
    made |= {tile.path: content for tile, content in growth.partial()}
    assert made == {path: content for path, content in files.items() if "entries" not in path}
    assert {tile.path for tile in (*tiles_of(size), *new_bundles(0, size))} == set(files)
    tree = independent.Tree([independent.leaf(entry) for entry in entries])
    read = reader_of(files, size)
    assert edge_of(size, read).root() == tree.root(size)
    for index in {0, size // 3, size - 1}:
        assert inclusion_proof(index, size, read) == tree.path(index, size)
    for old in {1, size // 2 or 1, size}:
        assert consistency_proof(old, size, read) == tree.proof(old, size)


@pytest.mark.parametrize("number", [0, 7, 999, 1_000, 1_234_067, 999_999, 1_000_000, 36_028_797_018_963_967])
@pytest.mark.parametrize("width", [1, 17, 255, 256])
def test_paths_are_the_same(number: int, width: int) -> None:
    for level in (None, 0, 1, 7):
        path = independent.tile_path("entries" if level is None else level, number, width)
        assert (Tile(level, number, width).path, parse_path(path)) == (path, Tile(level, number, width))


def test_a_path_beyond_what_a_size_can_say_is_no_tile() -> None:
    with pytest.raises(TileInvalid):
        parse_path(independent.tile_path(0, 1 << 55))


@pytest.mark.parametrize("sizes", [(1,), (5, 255, 256), (256, 257, 600)])
def test_a_log_written_by_tests_is_in_order(sizes: Sequence[int], tmp_path: Path) -> None:
    writer = LogWriter(tmp_path, signer_of())
    for number in range(sizes[-1]):
        writer.add(f"entry {number}".encode())
    writer.close()
    read = independent.fsck(tmp_path, str(signer_of().verifier))
    assert (read.wrong, read.size, read.root) == ([], sizes[-1], writer.checkpoint.root)


# Real ones.


async def sequenced(connection: Connection) -> int:
    async with connection.transaction():
        return await sequence(connection)


@pytest.mark.anyio
async def test_a_published_log_is_in_order_at_every_size(fresh_database: Database, tmp_path: Path) -> None:
    signer = generate_signer("log.example.org/log", ED25519, secrets.token_bytes(32))
    log = Log(signer.name, tmp_path / "log", Guard(tmp_path / "elsewhere" / "guard"), signer)
    now = datetime(2026, 11, 22, 8, tzinfo=UTC)
    async with pooled(fresh_database.sequencer) as pool, pool.acquire() as publisher:
        await publish(publisher, log, now)
        await open_first(publisher, log, "demo", now)
        for more in (1, 3, 250, 1, 1, 255, 90):
            rows = [(secrets.token_bytes(40),) for _ in range(more)]
            await publisher.executemany("INSERT INTO ledger.leaf_queue (leaf) VALUES ($1)", rows)
            while await sequenced(publisher):
                pass
            step = await publish(publisher, log, now)
            assert step.refused is None
            read = independent.fsck(log.directory / "epoch-1", str(signer.verifier))
            assert (read.wrong, read.size) == ([], step.size)
            leaves = await publisher.fetch("SELECT leaf FROM ledger.leaf ORDER BY log_index")
            assert [row["leaf"] for row in leaves] == read.entries


@pytest.mark.anyio
async def test_an_exported_bundle_is_in_order(fresh_database: Database, tmp_path: Path) -> None:
    (tmp_path / "platform").mkdir()
    async with world_on(fresh_database, tmp_path / "platform") as world:
        await filled(world)
        await export(world, tmp_path / "bundle", parquet=False)
    assert independent.look_at(tmp_path / "bundle") == []
    entry = independent.fsck(tmp_path / "bundle/log", (tmp_path / "bundle/log.vkey").read_text().strip()).entries[-1]
    assert json.loads(entry)["kind"] in {"manifest", "seal", "maturity", "reversal", "key"}


def test_a_played_bundle_with_seals_is_in_order(honest: Path) -> None:
    assert independent.look_at(honest) == []


@pytest.mark.parametrize(("before", "after"), [(b'"counter":"2"', b'"counter":"3"'), (b'"amount":"', b'"amount":"1')])
def test_the_second_reader_finds_things_too(before: bytes, after: bytes, honest: Path, tmp_path: Path) -> None:
    def credits_changed(entries: list[bytes]) -> list[bytes]:
        return [one.replace(before, after) if b'"kind":"credit"' in one else one for one in entries]

    rewrite(honest, tmp_path / "bundle", credits_changed)
    assert independent.look_at(tmp_path / "bundle")

"""The log's formats by example: what was published elsewhere is accepted, what is not of its form is refused.

tests/vectors/log.json serves any implementation. Ours and the second reader of tests/log/independent.py are both held
against it, so that an example that is wrong itself does not stand.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from ledger.checkpoint import parse_checkpoint, parse_proof
from ledger.errors import LedgerError, NoteInvalid, ProofInvalid, TileInvalid
from ledger.merkle import leaf_hash, root_of, verify_consistency, verify_inclusion
from ledger.notes import COSIGNATURE, ED25519, generate_signer, parse_note, parse_verifier, verify_note
from ledger.tiles import Tile, decode_bundle, encode_bundle, parse_path
from tests.log import independent
from tests.log.independent import Wrong

VECTORS: dict[str, Any] = json.loads((Path(__file__).parents[1] / "vectors/log.json").read_bytes())
TREE = VECTORS["tree"]
LEAVES = [leaf_hash(bytes.fromhex(entry)) for entry in TREE["leaves"]]


def each(*names: str) -> pytest.MarkDecorator:
    found: Any = VECTORS
    for name in names:
        found = found[name]
    return pytest.mark.parametrize("one", found)


def unhex(values: list[str]) -> list[bytes]:
    return [bytes.fromhex(value) for value in values]


def test_the_roots_of_the_reference_tree() -> None:
    for size, root in enumerate(TREE["roots"]):
        assert root_of(LEAVES[:size]).hex() == root
        assert independent.Tree(LEAVES).root(size).hex() == root


@each("tree", "inclusion")
def test_an_inclusion_proof(one: dict[str, Any]) -> None:
    index, size, proof = one["index"], one["size"], unhex(one["proof"])
    verify_inclusion(LEAVES[index], index, size, proof, bytes.fromhex(TREE["roots"][size]))
    assert independent.Tree(LEAVES).path(index, size) == proof


@each("tree", "bad_inclusion")
def test_what_is_no_inclusion_proof(one: dict[str, Any]) -> None:
    proof, root = unhex(one["proof"]), bytes.fromhex(one["root"])
    with pytest.raises(ProofInvalid):
        verify_inclusion(LEAVES[5], one["index"], one["size"], proof, root)
    assert not independent.includes(one["index"], one["size"], LEAVES[5], proof, root)


@each("tree", "consistency")
def test_a_consistency_proof(one: dict[str, Any]) -> None:
    proof, roots = unhex(one["proof"]), unhex([TREE["roots"][one["old"]], TREE["roots"][one["new"]]])
    verify_consistency(one["old"], one["new"], roots[0], roots[1], proof)
    assert independent.Tree(LEAVES).proof(one["old"], one["new"]) == proof


@each("tree", "bad_consistency")
def test_what_is_no_consistency_proof(one: dict[str, Any]) -> None:
    proof, old, new = unhex(one["proof"]), bytes.fromhex(one["old_root"]), bytes.fromhex(one["new_root"])
    with pytest.raises(ProofInvalid):
        verify_consistency(one["old"], one["new"], old, new, proof)
    assert not independent.continues(one["old"], one["new"], old, new, proof)


def test_an_entry_of_somebody_elses_log_of_58_million() -> None:
    one = VECTORS["large"]
    verified = verify_note(parse_note(one["note"]), [parse_verifier(one["key"])])
    proof, root = unhex(one["proof"]), bytes.fromhex(one["root"])
    assert independent.checkpoint(verified.text)[1:] == (one["size"], root)
    entry = leaf_hash(one["entry"].encode())
    verify_inclusion(entry, one["index"], one["size"], proof, root)
    assert independent.includes(one["index"], one["size"], entry, proof, root)
    for index, size in ((one["index"] + 1, one["size"]), (one["index"], 2**62)):
        with pytest.raises(ProofInvalid):
            verify_inclusion(entry, index, size, proof, root)
        assert not independent.includes(index, size, entry, proof, root)


@each("keys", "good")
def test_a_verifier_key(one: dict[str, Any]) -> None:
    key = parse_verifier(one["key"])
    assert (key.name, key.id.hex(), key.kind, key.public.hex()) == (one["name"], one["id"], one["kind"], one["public"])
    assert str(key) == one["key"]
    assert independent.key(one["key"]).public == key.public


@each("keys", "bad")
def test_what_is_no_verifier_key(one: dict[str, Any]) -> None:
    with pytest.raises(NoteInvalid):
        parse_verifier(one["key"])
    with pytest.raises(Wrong):
        independent.key(one["key"])


def test_no_part_of_a_key_is_a_key() -> None:
    """As Go's own tests have it: neither a part, nor the key with any one byte raised."""
    key = VECTORS["keys"]["good"][0]["key"]
    parts = {key[start:end] for start in range(len(key)) for end in range(start, len(key) + 1)} - {key}
    raised = {key[:at] + chr(ord(key[at]) + 1) + key[at + 1 :] for at in range(len(key))}
    for text in parts | raised:
        with pytest.raises(NoteInvalid):
            parse_verifier(text)
        with pytest.raises(Wrong):
            independent.key(text)


def test_signing_gives_the_published_bytes() -> None:
    one = VECTORS["signing"]
    assert generate_signer(one["name"], ED25519, bytes.fromhex(one["seed"])).sign(one["text"]) == one["line"]
    one = VECTORS["cosigning"]
    signer = generate_signer(one["name"], COSIGNATURE, bytes.fromhex(one["seed"]))
    assert signer.cosign(one["text"], one["time"]) == one["line"]


@each("notes", "good")
def test_a_note(one: dict[str, Any]) -> None:
    verified = verify_note(parse_note(one["note"]), map(parse_verifier, one["keys"]))
    assert verified.text == one["text"]
    assert sorted(key.name for key in verified.signers) == one["signers"]
    assert verified.seen_at == one["seen_at"]
    assert independent.open_note(one["note"].encode(), map(independent.key, one["keys"]))[0] == one["text"]


@each("notes", "bad")
def test_what_is_no_note_by_these_keys(one: dict[str, Any]) -> None:
    with pytest.raises(NoteInvalid):
        verify_note(parse_note(one["note"]), map(parse_verifier, one["keys"]))
    with pytest.raises(Wrong):
        independent.open_note(one["note"].encode(), map(independent.key, one["keys"]))


@pytest.mark.parametrize("raw", [b"\xff", b"a\n\n\xe2\x80\x94 b AAAAAAAA\xff\n", b"\xed\xa0\x80\n\n", b"x" * 1_000_001])
def test_bytes_that_are_no_text(raw: bytes) -> None:
    with pytest.raises(NoteInvalid):
        parse_note(raw)
    with pytest.raises(Wrong):
        independent.split_note(raw)


@each("checkpoints", "good")
def test_a_checkpoint(one: dict[str, Any]) -> None:
    read = parse_checkpoint(one["text"])
    assert (read.origin, read.size, read.root.hex()) == (one["origin"], one["size"], one["root"])
    assert list(read.extensions) == one["extensions"]
    assert str(read) == one["text"]
    assert independent.checkpoint(one["text"]) == (read.origin, read.size, read.root)


@each("checkpoints", "bad")
def test_what_is_no_checkpoint(one: dict[str, Any]) -> None:
    with pytest.raises(NoteInvalid):
        parse_checkpoint(one["text"])
    with pytest.raises(Wrong):
        independent.checkpoint(one["text"])


def proves(proof: str, key: str, entry: bytes) -> tuple[int, bytes | None]:
    """Ours: everything that a receipt's reader does but the leaf's form."""
    read = parse_proof(proof)
    verified = verify_note(parse_note(read.note), [parse_verifier(key)])
    read.verify(leaf_hash(entry), parse_checkpoint(verified.text))
    return read.index, read.extra


@each("proofs", "good")
def test_an_offline_proof(one: dict[str, Any]) -> None:
    index, extra = proves(one["proof"], one["key"], bytes.fromhex(one["entry"]))
    assert (index, None if extra is None else extra.hex()) == (one["index"], one["extra"])
    assert str(parse_proof(one["proof"])) == one["proof"]


@each("proofs", "bad_form")
def test_what_is_no_offline_proof(one: dict[str, Any]) -> None:
    with pytest.raises(NoteInvalid):
        parse_proof(one["proof"])


@each("proofs", "bad")
def test_an_offline_proof_of_something_else(one: dict[str, Any]) -> None:
    with pytest.raises(LedgerError):
        proves(one["proof"], one["key"], bytes.fromhex(one["entry"]))


@each("paths", "good")
def test_a_path(one: dict[str, Any]) -> None:
    tile = Tile(one["level"], one["number"], one["width"])
    assert (tile.path, parse_path(one["path"])) == (one["path"], tile)
    assert independent.tile_path("entries" if tile.level is None else tile.level, *tile[1:]) == one["path"]


@each("paths", "bad")
def test_what_is_no_path(one: str) -> None:
    with pytest.raises(TileInvalid):
        parse_path(one)


@each("bundles", "good")
def test_an_entry_bundle(one: dict[str, Any]) -> None:
    entries, raw = unhex(one["entries"]), bytes.fromhex(one["bytes"])
    assert (encode_bundle(entries), decode_bundle(raw, len(entries))) == (raw, entries)
    assert independent.split_entries(raw) == entries


@each("bundles", "bad")
def test_what_is_no_entry_bundle(one: dict[str, Any]) -> None:
    with pytest.raises(TileInvalid):
        decode_bundle(bytes.fromhex(one["bytes"]), one["width"])

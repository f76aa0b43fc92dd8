"""Verifying a receipt: a `.tlog-proof` file that carries its entry, held against a key that one already trusts.

Nothing in the file is believed before it is proved: first the entry is hashed, then the checkpoint's signature and name
are verified, then the witnesses, then the path from the entry to the signed root.

A balance receipt proves a balance at the end of a day in two such steps: from the participant's record to the root that
a seal names, and from that seal's leaf to the log's signed root.
"""

import base64
import binascii
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from ledger.checkpoint import (
    MOST_HASHES,
    Checkpoint,
    decode_hash,
    encode_hash,
    parse_checkpoint,
    parse_proof,
    parse_size,
)
from ledger.errors import LeafInvalid, NoteInvalid, ProofInvalid
from ledger.leaf_reading import read_leaf
from ledger.leaves import VERSION
from ledger.merkle import leaf_hash, verify_inclusion
from ledger.notes import ED25519, Verified, VerifierKey, parse_note, verify_note
from ledger.seals import SealedBalance, read_sealed_record

Witnessed = Callable[[Verified], None]
"""Raises NoteInvalid unless enough witnesses cosigned."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a receipt proves: this entry stands at this place of the log of that checkpoint.

    fields    of the entry, a leaf of version 1
    seen_at   when each witness saw the checkpoint, in seconds since 1970, by name
    """

    entry: bytes
    fields: dict[str, Any]
    index: int
    checkpoint: Checkpoint
    seen_at: dict[str, int]


@dataclass(frozen=True, slots=True)
class BalanceReceipt:
    """What a balance receipt proves: this balance is among those that the seal of a day covers, and that seal stands in
    the log as its own receipt says. `record` is the balance as it is sealed."""

    record: bytes
    balance: SealedBalance
    seal: Receipt


@dataclass(frozen=True, slots=True)
class SealedProof:
    """What a balance receipt carries: a seal's leaf, a participant's record, and the path from it to the seal's root.

    index, size   the record's place in the seal's tree, and how many records that has
    """

    entry: bytes
    record: bytes
    index: int
    size: int
    hashes: tuple[bytes, ...]

    def encode(self) -> bytes:
        """As canonical JSON."""
        fields = {
            "entry": _base64(self.entry),
            "index": str(self.index),
            "proof": list(map(encode_hash, self.hashes)),
            "record": _base64(self.record),
            "size": str(self.size),
            "v": VERSION,
        }
        return json.dumps(fields, separators=(",", ":")).encode("ascii")


def parse_sealed(extra: bytes) -> SealedProof:
    """Take what a balance receipt carries apart; nothing in it is verified. Raises NoteInvalid."""
    try:
        fields = json.loads(extra.decode("ascii"))
        hashes = tuple(map(decode_hash, fields["proof"]))
        proof = SealedProof(
            _bytes(fields["entry"]),
            _bytes(fields["record"]),
            parse_size(fields["index"]),
            parse_size(fields["size"]),
            hashes,
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise NoteInvalid("this is not what a balance receipt carries") from None
    if proof.encode() != extra or len(hashes) > MOST_HASHES:
        raise NoteInvalid("what a balance receipt carries is not in its one form")
    return proof


def verify_receipt(
    text: str, keys: Iterable[VerifierKey], witnessed: Witnessed | None = None, entry: bytes | None = None
) -> Receipt:
    """Verify the receipt of an entry.

    keys    the log's, and those of witnesses
    entry   the record one holds oneself; by default the one in the file

    Raises NoteInvalid, ProofInvalid, LeafInvalid; the message says what does not hold.
    """
    known = tuple(keys)
    proof = parse_proof(text)
    own = proof.extra if entry is None else entry
    if own is None:
        raise NoteInvalid("this receipt does not carry its entry: give the record that it is for")
    verified = verify_note(parse_note(proof.note), known)
    checkpoint = parse_checkpoint(verified.text)
    signers = [key for key in verified.signers if key.kind == ED25519]
    if checkpoint.origin not in {key.name for key in signers}:
        raise NoteInvalid(f"the log {checkpoint.origin} did not sign this checkpoint with a key that is known")
    if witnessed is not None:
        witnessed(verified)
    proof.verify(leaf_hash(own), checkpoint)
    return Receipt(own, read_leaf(own), proof.index, checkpoint, verified.seen_at)


def verify_balance_receipt(
    text: str, keys: Iterable[VerifierKey], witnessed: Witnessed | None = None
) -> BalanceReceipt:
    """Verify a balance receipt, as `verify_receipt` does one of an entry.

    Raises NoteInvalid, ProofInvalid, LeafInvalid; the message says what does not hold.
    """
    extra = parse_proof(text).extra
    if extra is None:
        raise NoteInvalid("this receipt carries no balance")
    carried = parse_sealed(extra)
    seal = verify_receipt(text, keys, witnessed, carried.entry)
    if seal.fields["kind"] != "seal":
        raise LeafInvalid(f"the entry is no seal but a {seal.fields['kind']}")
    if str(carried.size) != seal.fields["participants"]:
        raise ProofInvalid(f"the seal is of {seal.fields['participants']} balances, not of {carried.size}")
    root = bytes.fromhex(seal.fields["root"])
    verify_inclusion(leaf_hash(carried.record), carried.index, carried.size, carried.hashes, root)
    return BalanceReceipt(carried.record, read_sealed_record(carried.record), seal)


def verify_any(text: str, keys: Iterable[VerifierKey], witnessed: Witnessed | None = None) -> Receipt | BalanceReceipt:
    """Verify a receipt of either kind, told by what it carries. Raises what those raise."""
    known = tuple(keys)
    try:
        parse_sealed(parse_proof(text).extra or b"")
    except NoteInvalid:
        return verify_receipt(text, known, witnessed)
    return verify_balance_receipt(text, known, witnessed)


def _base64(raw: bytes) -> str:
    return base64.b64encode(raw).decode("ascii")


def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError("base64 is expected") from error

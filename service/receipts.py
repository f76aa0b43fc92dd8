"""Receipts: that one entry is in the signed log, or one balance under a day's seal in it, in a form that anybody
verifies offline (C2SP tlog-proof)."""

from dataclasses import dataclass
from datetime import date
from pathlib import Path
from uuid import UUID

from ledger.checkpoint import Proof, parse_checkpoint
from ledger.errors import TransferNotFound
from ledger.journal import no_balances
from ledger.merkle import inclusion_proof, leaf_hash
from ledger.notes import parse_note
from ledger.receipts import SealedProof
from ledger.seals import SealedBalance, sealed_record
from ledger.store import Connection
from ledger.tiles import subtree_reader
from service.log.files import FilesDiffer, LogFiles
from service.log.seal_files import find_leaf, seal_files
from service.participants import ParticipantNotFound

_ENTRY = "SELECT log_index, leaf FROM ledger.leaf WHERE participant_id = $1 AND transfer_id = $2"
_EXISTS = "SELECT 1 FROM ledger.transfer WHERE participant_id = $1 AND transfer_id = $2"
_EPOCH = "SELECT epoch FROM ledger.log_state"

_PROGRAMME = "SELECT programme FROM ledger.account WHERE participant_id = $1"
_SEAL = """
    SELECT day, size, participants FROM ledger.seal WHERE programme = $1 AND ($2::date IS NULL OR day = $2)
    ORDER BY day DESC LIMIT 1
"""
# The leaf of a seal stands shortly behind the entries it covers.
_SEAL_LEAF = """
    SELECT log_index, leaf FROM ledger.leaf
    WHERE log_index >= $1 AND participant_id IS NULL AND position($2::bytea IN leaf) > 0
        AND position('"kind":"seal"'::bytea IN leaf) > 0 AND position($3::bytea IN leaf) > 0
    ORDER BY log_index LIMIT 1
"""
_LINES = """
    SELECT t.counter, m.asset, m.from_account, m.to_account, m.amount, m.expires_on
    FROM ledger.leaf l JOIN ledger.transfer t USING (participant_id, transfer_id)
    JOIN ledger.movement m USING (participant_id, transfer_id)
    WHERE l.participant_id = $1 AND l.transfer_id IS NOT NULL AND l.log_index < $2
"""


class SealNotFound(Exception):
    """No seal of that day covers the participant."""


@dataclass(frozen=True, slots=True)
class SealedEntry:
    """A participant's record under a day's seal, and that seal's leaf with its place in the log."""

    programme: str
    day: date
    participants: int
    participant_id: UUID
    record: bytes
    log_index: int
    leaf: bytes


async def read_entry(tx: Connection, participant_id: UUID, transfer_id: UUID) -> tuple[int, bytes] | None:
    """A transfer's place in the log and its bytes there; None as long as it has none. Raises TransferNotFound."""
    row = await tx.fetchrow(_ENTRY, participant_id, transfer_id)
    if row is not None:
        return row["log_index"], row["leaf"]
    if await tx.fetchval(_EXISTS, participant_id, transfer_id) is None:
        raise TransferNotFound(transfer_id)
    return None


async def read_epoch(tx: Connection) -> int:
    """The number of the log that is being written; 0 before the first."""
    epoch: int = await tx.fetchval(_EPOCH)
    return epoch


def receipt_of(files: LogFiles, index: int, entry: bytes) -> Proof | None:
    """The receipt of an entry under the checkpoint of this moment; None when no checkpoint covers it yet.

    It carries the entry itself, so that the file alone can be verified: what is in it is believed once its hash leads
    to the signed root. Raises TileInvalid, FileNotFoundError when the log's files are damaged.
    """
    note = files.read_checkpoint()
    if note is None:
        return None
    size = parse_checkpoint(parse_note(note).text).size
    if index >= size:
        return None
    return Proof(index, tuple(inclusion_proof(index, size, subtree_reader(size, files.read))), note, entry)


async def read_sealed_entry(tx: Connection, participant_id: UUID, day: date | None) -> SealedEntry | None:
    """A participant's record under the seal of a day, by default the latest; None as long as the seal's leaf has no
    place in the log. Raises ParticipantNotFound, SealNotFound."""
    programme = await tx.fetchval(_PROGRAMME, participant_id)
    if programme is None:
        raise ParticipantNotFound
    seal = await tx.fetchrow(_SEAL, programme, day)
    balance = await _balance_at(tx, participant_id, seal["size"]) if seal else None
    if seal is None or balance is None:
        raise SealNotFound
    named = f'"day":"{seal["day"]}"'.encode(), f'"programme":"{programme}"'.encode()
    leaf = await tx.fetchrow(_SEAL_LEAF, seal["size"], *named)
    if leaf is None:
        return None
    record = sealed_record(balance)
    return SealedEntry(
        programme, seal["day"], seal["participants"], participant_id, record, leaf["log_index"], leaf["leaf"]
    )


async def _balance_at(tx: Connection, participant_id: UUID, size: int) -> SealedBalance | None:
    """What the first `size` entries of the log leave a participant; None without a transfer among them."""
    balances, buckets, counter = no_balances(), dict[date, int](), 0
    for row in await tx.fetch(_LINES, participant_id, size):
        counter = max(counter, row["counter"])
        for account, change in ((row["to_account"], row["amount"]), (row["from_account"], -row["amount"])):
            key = (row["asset"], account)
            if key in balances:
                balances[key] += -change if account == "debt" else change
            if account == "available" and row["expires_on"]:
                buckets[row["expires_on"]] = buckets.get(row["expires_on"], 0) + change
    return SealedBalance(participant_id, counter, balances, buckets) if counter else None


def balance_receipt_of(log: LogFiles, log_dir: Path, sealed: SealedEntry) -> Proof | None:
    """The balance receipt under the checkpoint of this moment; None when no checkpoint covers the seal yet, or its tree
    is still being written.

    Raises FilesDiffer when the record is not in the tree, TileInvalid, FileNotFoundError when the log's files are
    damaged.
    """
    files, size = seal_files(log_dir, sealed.programme, sealed.day), sealed.participants
    if not files.directory.is_dir():
        return None
    index = find_leaf(files, size, leaf_hash(sealed.record), sealed.participant_id)
    if index is None:
        raise FilesDiffer(files.directory)
    path = tuple(inclusion_proof(index, size, subtree_reader(size, files.read)))
    extra = SealedProof(sealed.leaf, sealed.record, index, size, path).encode()
    return receipt_of(log, sealed.log_index, extra)

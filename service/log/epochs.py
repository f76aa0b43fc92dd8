"""A log of this ledger begins: the first by itself, a further one after an incident, by an operator's decision."""

import secrets
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256

from ledger.checkpoint import Checkpoint, parse_checkpoint
from ledger.errors import NoteInvalid, TileInvalid
from ledger.leaves import NONCE_BYTES
from ledger.merkle import Edge, leaf_hash
from ledger.notes import VerifierKey, parse_note
from ledger.notices import EpochFacts, FormerLog, epoch_leaf
from ledger.store import Connection
from ledger.tiles import WIDTH, Tile, decode_tile
from service.log.announcing import key_notice, shown_keys
from service.log.files import LogFiles
from service.log.guard import GuardUnusable, Signed
from service.log.integrate import read_leaves
from service.log.publish import Log, newest_shown

_HEAD = "SELECT s.epoch, h.size FROM ledger.log_state s, ledger.log_head h"
_NEWEST = "SELECT epoch, note FROM ledger.checkpoint ORDER BY epoch DESC, size DESC LIMIT 1"
_SIZES = "SELECT note FROM ledger.checkpoint WHERE epoch = $1 AND size <= $2 ORDER BY size"
_BEGIN = "UPDATE ledger.log_state SET epoch = $1, refused = NULL WHERE epoch < $1"
_QUEUE = "INSERT INTO ledger.leaf_queue (leaf) VALUES ($1)"


class EpochNotOpened(Exception):
    """No epoch may begin now; the message says why."""


@dataclass(frozen=True, slots=True)
class Opened:
    """An epoch that began: under what name, and how many of the entries that the former log had signed it keeps."""

    number: int
    origin: str
    signed: int = 0
    kept: int = 0


async def open_first(connection: Connection, log: Log, programme: str, now: datetime) -> Opened | None:
    """Begin the first epoch of a ledger that has none; None when somebody else just did. Raises GuardHeld."""
    with log.guard.held():
        return await _open(connection, log, EpochFacts(programme, 1, log.origin_of(1)), now, [])


async def open_further(connection: Connection, log: Log, programme: str, reason: str, now: datetime) -> Opened:
    """Begin a new epoch: the former log stays as it was signed, and says no more.

    reason   a code, such as `restored-backup` or `key-compromised`

    The former log is taken from the guard, and where that is lost or old from what else shows what was signed.

    Raises EpochNotOpened when there is no former log, GuardHeld, LeavesMissing.
    """
    with log.guard.held():
        head = await connection.fetchrow(_HEAD)
        assert head is not None
        last = await _last_signed(connection, log)
        if last is None or last.note is None:
            raise EpochNotOpened("nothing was signed in this epoch yet: a further one goes on from a signed log")
        promised = parse_checkpoint(parse_note(last.note).text)
        kept = await _kept(connection, log.files_of(last.epoch), last.epoch, min(promised.size, head["size"]))
        number = max(last.epoch, head["epoch"]) + 1
        checkpoint = sha256(last.note.encode()).hexdigest()
        former = FormerLog(promised.origin, promised.size, promised.root.hex(), checkpoint, kept)
        still = {signer.verifier.public for signer in log.signers(last.epoch, now)}
        gone = [key for key in shown_keys(log, last) if key.public not in still]
        opened = await _open(
            connection, log, EpochFacts(programme, number, log.origin_of(number), former, reason), now, gone
        )
        if opened is None:
            raise EpochNotOpened("another epoch began at this moment: look at `tanpuhui log status`")
        return opened


async def _open(
    connection: Connection, log: Log, facts: EpochFacts, now: datetime, gone: list[VerifierKey]
) -> Opened | None:
    """The database first, then the guard; killed between the two, the next step of publishing moves the guard on."""
    async with connection.transaction():
        if await connection.execute(_BEGIN, facts.number) != "UPDATE 1":
            return None
        await connection.execute(_QUEUE, epoch_leaf(facts, now, secrets.token_bytes(NONCE_BYTES)))
        for signer in log.signers(facts.number, now):
            await connection.execute(_QUEUE, key_notice(signer.verifier, facts.programme, "added", now, now))
        for key in gone:
            await connection.execute(_QUEUE, key_notice(key, facts.programme, "revoked", now, now))
    log.guard.write(Signed(facts.number, None))
    former = facts.former
    return Opened(facts.number, facts.origin, former.size if former else 0, former.kept if former else 0)


async def _last_signed(connection: Connection, log: Log) -> Signed | None:
    """The last checkpoint of this ledger's logs that anything still shows: the guard, the database or the files."""
    found: list[Signed] = []
    try:
        guarded = log.guard.read()
    except GuardUnusable:
        guarded = None
    if guarded is not None and guarded.note is not None:
        found.append(guarded)
    newest = await connection.fetchrow(_NEWEST)
    if newest is not None:
        found.append(Signed(newest["epoch"], newest["note"]))
    shown = None
    with suppress(NoteInvalid):
        shown = newest_shown(log.directory)
    if shown is not None:
        note = log.files_of(shown[0]).read_checkpoint()
        assert note is not None
        found.append(Signed(shown[0], without_cosignatures(note, shown[1])))
    return max(found, key=lambda signed: (signed.epoch, signed.size), default=None)


def without_cosignatures(note: str, checkpoint: Checkpoint) -> str:
    """The note as the log alone signed it: the lines of others, which came later, left out."""
    head, _, lines = note.rpartition("\n\n")
    own = [line for line in lines.splitlines() if line.split(" ")[1:2] == [checkpoint.origin]]
    return f"{head}\n\n" + "".join(f"{line}\n" for line in own)


async def _kept(connection: Connection, files: LogFiles, epoch: int, size: int) -> int:
    """How many of the first `size` entries that were signed the database still has as they were. Where the tiles are
    lost, as many as the largest checkpoint shows that its leaves lead to."""
    index, hashes = 0, list[bytes]()
    try:
        async for leaf in read_leaves(connection, 0, size):
            number, place = divmod(index, WIDTH)
            if place == 0:
                width = min(WIDTH, size - number * WIDTH)
                hashes = decode_tile(files.read(Tile(0, number, width)), width)
            if leaf_hash(leaf) != hashes[place]:
                break
            index += 1
    except (FileNotFoundError, TileInvalid):
        return await _kept_by_checkpoints(connection, epoch, size)
    return index


async def _kept_by_checkpoints(connection: Connection, epoch: int, size: int) -> int:
    roots = {}
    for row in await connection.fetch(_SIZES, epoch, size):
        checkpoint = parse_checkpoint(parse_note(row["note"]).text)
        roots[checkpoint.size] = checkpoint.root
    edge, kept = Edge(), 0
    async for leaf in read_leaves(connection, 0, max(roots, default=0)):
        edge.append(leaf_hash(leaf))
        if edge.size in roots:
            if edge.root() != roots[edge.size]:
                break
            kept = edge.size
    return kept

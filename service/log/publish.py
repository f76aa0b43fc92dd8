"""Sign what the log has become, if it goes on from what was signed before; show it when everything under it is durable.

One step does it all and may be killed anywhere: tiles are made again with the same bytes, the guard is written before
anybody sees a checkpoint, and what the guard has and the database or the files lack is put there first.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import asyncpg

from ledger.checkpoint import Checkpoint, parse_checkpoint
from ledger.errors import NoteInvalid, TileInvalid
from ledger.merkle import edge_of, leaf_hash
from ledger.notes import Signer, parse_note
from ledger.store import Connection
from ledger.tiles import WIDTH, Tile, decode_tile, subtree_reader
from service.log import refusals
from service.log.files import VERIFIER_KEY, FilesDiffer, LogFiles, write_durably
from service.log.guard import Guard, GuardUnusable, Signed
from service.log.integrate import LeavesDiffer, LeavesMissing, integrate
from service.log.keys import FormerKey, signing_at
from service.log.refusals import GUARD_AHEAD, GUARD_BEHIND, GUARD_MISSING, HISTORY_DIFFERS
from service.witness.asking import Witnesses

_STATE = "SELECT s.epoch, s.refused, h.size FROM ledger.log_state s, ledger.log_head h"
_NEWEST = "SELECT epoch, size FROM ledger.checkpoint ORDER BY epoch DESC, size DESC LIMIT 1"
_LEAF = "SELECT leaf FROM ledger.leaf WHERE log_index = $1"
_ANNOUNCING = """
    SELECT EXISTS (SELECT 1 FROM ledger.leaf_queue
        WHERE participant_id IS NULL AND position('"holder":"log"'::bytea IN leaf) > 0)
"""
_REFUSE = "UPDATE ledger.log_state SET refused = $1 WHERE refused IS DISTINCT FROM $1"
_KEEP = """
    INSERT INTO ledger.checkpoint (epoch, size, note, signed_at) VALUES ($1, $2, $3, $4)
    ON CONFLICT (epoch, size) DO NOTHING
"""

NOT_BEGUN = "not-begun"  # no refusal: the first epoch may be opened
_EPOCH = "epoch-"

_CODES: Mapping[type[Exception], str] = {
    GuardUnusable: refusals.GUARD_UNUSABLE,
    FilesDiffer: refusals.FILES_DIFFER,
    TileInvalid: refusals.FILES_DIFFER,
    NoteInvalid: refusals.FILES_DIFFER,
    LeavesDiffer: HISTORY_DIFFERS,
    LeavesMissing: refusals.LEAVES_MISSING,
}


@dataclass(frozen=True, slots=True)
class Log:
    """What a publisher works with.

    origin     name of the first epoch's log; a further one's is `origin/epoch-n`
    directory  where the files of all epochs lie
    former     keys that were rotated out
    witnesses  who is asked to cosign; where they are to be a quorum, service/log/cosigning.py shows a checkpoint
    """

    origin: str
    directory: Path
    guard: Guard
    signer: Signer = field(repr=False)
    former: tuple[FormerKey, ...] = field(default=(), repr=False)
    witnesses: Witnesses | None = field(default=None, repr=False)

    @property
    def waits(self) -> bool:
        """Whether a checkpoint is shown by whoever asks the witnesses, and not as soon as it is signed."""
        return self.witnesses is not None and self.witnesses.policy.quorum is not None

    def origin_of(self, epoch: int) -> str:
        return origin_of(self.origin, epoch)

    def files_of(self, epoch: int) -> LogFiles:
        return files_of(self.directory, epoch)

    def signers(self, epoch: int, now: datetime) -> list[Signer]:
        """Whoever signs this epoch's log, the current key first; each under the log's own name."""
        return signing_at(self.origin_of(epoch), self.signer, self.former, now)

    def key_ids(self, epoch: int, now: datetime) -> set[bytes]:
        """The ids of these keys."""
        return {signer.verifier.id for signer in self.signers(epoch, now)}

    def show_keys(self, epoch: int, now: datetime) -> None:
        """Put the verifier keys where the API and commands find them, the current one first; those that are no longer
        in use stay, for the checkpoints and receipts that they signed."""
        current = [str(signer.verifier) for signer in self.signers(epoch, now)]
        for path in (self.directory / VERIFIER_KEY, self.directory / f"{_EPOCH}{epoch}" / VERIFIER_KEY):
            known = path.read_text("utf-8").split() if path.exists() else []
            lines = [*current, *(line for line in known if line not in current)]
            if lines != known:
                write_durably(path, "".join(f"{line}\n" for line in lines).encode())


@dataclass(frozen=True, slots=True)
class Published:
    """What one step did: `size` is what is signed now, `added` the entries that came with it, `refused` why nothing
    was signed, a code of refusals.py, and `detail` what was found."""

    size: int
    added: int = 0
    refused: str | None = None
    detail: str = ""


def origin_of(origin: str, epoch: int) -> str:
    """The name of an epoch's log, given that of the first."""
    return origin if epoch == 1 else f"{origin}/{_EPOCH}{epoch}"


def files_of(directory: Path, epoch: int) -> LogFiles:
    """The files of an epoch's log, among those of all."""
    return LogFiles(directory / f"{_EPOCH}{epoch}")


def newest_shown(directory: Path) -> tuple[int, Checkpoint] | None:
    """The checkpoint of the newest epoch that shows one, and that epoch; None before the first. No signature is
    verified. Raises NoteInvalid."""
    numbers = (path.name.removeprefix(_EPOCH) for path in directory.glob(f"{_EPOCH}*"))
    for epoch in sorted((int(number) for number in numbers if number.isdecimal()), reverse=True):
        note = files_of(directory, epoch).read_checkpoint()
        if note is not None:
            return epoch, parse_checkpoint(parse_note(note).text)
    return None


async def publish(connection: Connection, log: Log, now: datetime) -> Published:
    """One step: sign the log as it is, when it has grown. Nothing is held open in the database meanwhile.

    Raises GuardHeld when another publisher signs.
    """
    try:
        with log.guard.held():
            return await _publish(connection, log, now)
    except tuple(_CODES) as error:
        code = next(code for kind, code in _CODES.items() if isinstance(error, kind))
        await connection.execute(_REFUSE, code)
        return Published(0, refused=code, detail=str(error))


async def _publish(connection: Connection, log: Log, now: datetime) -> Published:
    last = log.guard.read()
    if last is not None and log.key_ids(last.epoch, now) != last.key_ids and await connection.fetchval(_ANNOUNCING):
        return Published(last.size)  # a key signs once the leaf that announces it has its place
    state = await connection.fetchrow(_STATE)
    assert state is not None
    newest = await _newest(connection, log)
    if _opened_since(last, state["epoch"], newest):
        log.guard.write(Signed(state["epoch"], None))
        return await _publish(connection, log, now)
    fault = _fault(last, newest, state)
    if fault == NOT_BEGUN:
        return Published(0, refused=fault)
    if fault or last is None:
        await connection.execute(_REFUSE, fault)
        return Published(last.size if last else 0, refused=fault)
    try:
        done = await _go_on(connection, log, last, state["size"], now)
    except FileNotFoundError:  # the files are made of the leaves: what is lost is made again
        files = log.files_of(last.epoch)
        await integrate(connection, files, 0, last.size)
        done = await _go_on(connection, log, last, state["size"], now)
    await connection.execute(_REFUSE, done.refused)
    return done


async def _go_on(connection: Connection, log: Log, last: Signed, new: int, now: datetime) -> Published:
    files, old = log.files_of(last.epoch), last.size
    if not await _same_end(connection, files, old):
        return Published(old, refused=HISTORY_DIFFERS)
    await _catch_up(connection, log, last, now)
    if new == old and last.note is not None:
        return Published(old)
    await integrate(connection, files, old, new)
    if last.checkpoint and _root(files, old, new) != last.checkpoint.root:
        return Published(old, refused=HISTORY_DIFFERS)
    text = str(Checkpoint(log.origin_of(last.epoch), new, _root(files, new)))
    lines = [signer.sign(text) for signer in log.signers(last.epoch, now)]
    signed = Signed(last.epoch, f"{text}\n{''.join(lines)}")
    log.guard.write(signed)
    await _catch_up(connection, log, signed, now)
    return Published(new, added=new - old)


def _root(files: LogFiles, size: int, within: int | None = None) -> bytes:
    """The root of the first `size` entries, out of the tiles of a log of `within`."""
    return edge_of(size, subtree_reader(within or size, files.read)).root()


async def _newest(connection: Connection, log: Log) -> tuple[int, int]:
    """Epoch and size of what is known to be signed, whatever the guard says; zeros when nothing is."""
    row = await connection.fetchrow(_NEWEST)
    shown = newest_shown(log.directory)
    return max((row["epoch"], row["size"]) if row else (0, 0), (shown[0], shown[1].size) if shown else (0, 0))


def _opened_since(last: Signed | None, epoch: int, newest: tuple[int, int]) -> bool:
    """Whether an epoch was opened in the database, and its opener killed before it moved the guard on."""
    return epoch == (last.epoch if last else 0) + 1 and newest[0] < epoch


def _fault(last: Signed | None, newest: tuple[int, int], state: asyncpg.Record) -> str | None:
    """Why this database may not go on from what was signed, as far as the numbers tell; None when it may."""
    epoch = state["epoch"]
    if last is None:
        return GUARD_MISSING if newest[0] or epoch else NOT_BEGUN
    if last.epoch > epoch or (last.epoch == epoch and last.size > state["size"]):
        return GUARD_AHEAD
    return GUARD_BEHIND if last.epoch < epoch or newest > (last.epoch, last.size) else None


async def _same_end(connection: Connection, files: LogFiles, size: int) -> bool:
    """Whether the last entry that was signed is still the one it was.

    Enough to tell a restored database that has grown past the guard: a leaf bears a random nonce, so what was posted in
    the place of a lost one is another.
    """
    if size == 0:
        return True
    number, place = divmod(size - 1, WIDTH)
    signed = decode_tile(files.read(Tile(0, number, place + 1)), place + 1)[place]
    leaf = await connection.fetchval(_LEAF, size - 1)
    return leaf is not None and leaf_hash(leaf) == signed


async def _catch_up(connection: Connection, log: Log, signed: Signed, now: datetime) -> None:
    """Put what the guard has where everybody looks: the table of all checkpoints, and the file that is served.

    Raises FileNotFoundError, FilesDiffer where the tiles below it are not there yet.
    """
    if signed.checkpoint is None:
        return
    await connection.execute(_KEEP, signed.epoch, signed.size, signed.note, now)
    files = log.files_of(signed.epoch)
    shown = files.read_checkpoint()
    if shown is None or not shown.startswith(f"{signed.checkpoint}\n"):  # cosignatures may stand behind it
        assert signed.note is not None
        if _root(files, signed.size) != signed.checkpoint.root:
            raise FilesDiffer(files.directory)
        if not log.waits:
            files.write_checkpoint(signed.note)

"""How the log stands: what is in the database, what is signed, what the guard says, and why nothing is signed if so."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from ledger.errors import NoteInvalid
from ledger.log_store import LogStatus, read_status
from ledger.notes import parse_note
from ledger.policy import Policy
from ledger.store import Connection
from service.log.cosigning import lines_shown
from service.log.files import VERIFIER_KEY
from service.log.guard import Guard, GuardUnusable
from service.log.publish import files_of, origin_of

_STATE = "SELECT epoch, refused FROM ledger.log_state"
_SIGNED = "SELECT size, signed_at FROM ledger.checkpoint WHERE epoch = $1 ORDER BY size DESC LIMIT 1"


@dataclass(frozen=True, slots=True)
class PolicyReport:
    """What the witness policy asks for, and whether the checkpoint that is shown has it; `missing` are those of its
    witnesses who have not cosigned that one."""

    quorum: str | None
    met: bool
    missing: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LogReport:
    """The log of the epoch that is being written.

    prefix     where it is served, below the platform's address
    vkeys      its verifier keys, the current one first; then those of former keys and epochs
    signed     entries under the last checkpoint, and `signed_at` when that was made; None before the first
    cosigners  who signed the checkpoint that is shown, beside the log itself; nobody's signature is verified
    policy     the same by the witness policy, verified; None without one
    """

    origin: str
    prefix: str
    epoch: int
    refused: str | None
    counts: LogStatus
    signed: int | None
    signed_at: datetime | None
    vkeys: tuple[str, ...]
    cosigners: tuple[str, ...]
    policy: PolicyReport | None = None

    @property
    def unsigned(self) -> int:
        """Entries that wait for a checkpoint, or still for their place."""
        return self.counts.size + self.counts.queued - (self.signed or 0)


@dataclass(frozen=True, slots=True)
class GuardReport:
    """What the guard says, as this process sees it.

    state  `agrees`, `ahead`, `behind`, `missing`, `unreadable`
    """

    path: Path
    state: str
    epoch: int | None = None
    size: int | None = None


async def report_log(connection: Connection, origin: str, directory: Path, policy: Policy | None = None) -> LogReport:
    """How the log of this name stands, whose files lie in `directory`."""
    state = await connection.fetchrow(_STATE)
    assert state is not None
    epoch: int = state["epoch"]
    signed = await connection.fetchrow(_SIGNED, epoch)
    name = origin_of(origin, max(epoch, 1))
    return LogReport(
        origin=name,
        prefix="/log" if epoch <= 1 else f"/log/epoch-{epoch}",
        epoch=epoch,
        refused=state["refused"],
        counts=await read_status(connection),
        signed=signed["size"] if signed else None,
        signed_at=signed["signed_at"] if signed else None,
        vkeys=read_vkeys(directory),
        cosigners=_cosigners(directory, epoch, name),
        policy=_policy(directory, epoch, policy) if policy else None,
    )


def read_guard(guard: Guard) -> tuple[int, int] | None:
    """Epoch and size of what the guard has, zeros where there is none; None when it cannot be read."""
    try:
        found = guard.read()
    except GuardUnusable:
        return None
    return (found.epoch, found.size) if found else (0, 0)


def report_guard(guard: Guard, before: tuple[int, int] | None, log: LogReport) -> GuardReport:
    """What the guard says of this log. `before` was read before the log was: that one may not be ahead, and the one of
    now not behind."""
    after = read_guard(guard)
    if before is None or after is None:
        return GuardReport(guard.path, "unreadable")
    if after == (0, 0):
        return GuardReport(guard.path, "missing" if log.epoch else "agrees")
    behind = after < (log.epoch, log.signed or 0)
    state = "ahead" if before > (log.epoch, log.counts.size) else "behind" if behind else "agrees"
    return GuardReport(guard.path, state, *after)


def read_vkeys(directory: Path) -> tuple[str, ...]:
    """The log's verifier keys, the current one first; none before the publisher has begun."""
    try:
        return tuple((directory / VERIFIER_KEY).read_text("utf-8").split())
    except OSError:
        return ()


def _policy(directory: Path, epoch: int, policy: Policy) -> PolicyReport:
    try:
        note = files_of(directory, epoch).read_checkpoint()
        lines = lines_shown(note, parse_note(note).text, policy) if note else {}
    except (OSError, NoteInvalid):
        lines = {}
    met = policy.met_by(witness.key for witness in lines)
    return PolicyReport(policy.quorum, met, tuple(each.name for each in policy.witnesses if each not in lines))


def _cosigners(directory: Path, epoch: int, origin: str) -> tuple[str, ...]:
    try:
        note = files_of(directory, epoch).read_checkpoint()
        lines = parse_note(note).signatures if note else ()
    except (OSError, NoteInvalid):
        return ()
    return tuple(dict.fromkeys(line.name for line in lines if line.name != origin))

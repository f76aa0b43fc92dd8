"""Show a signed checkpoint together with the lines of those who witnessed it.

Where the policy asks for a quorum, a checkpoint is shown once the quorum has cosigned it, or when the time for that is
over: nobody's credit waits longer for a witness. Nothing is held while the witnesses are asked, neither a transaction
nor the guard; if another publisher signed something later in the meantime, that is what stays shown.
"""

from collections.abc import Iterable
from contextlib import aclosing

import structlog

from ledger.checkpoint import Checkpoint
from ledger.errors import NoteInvalid
from ledger.merkle import consistency_proof
from ledger.policy import Policy, Witness
from ledger.tiles import subtree_reader
from service.log.files import LogFiles
from service.log.guard import GuardHeld, GuardUnusable, Signed
from service.log.publish import Log
from service.witness.asking import Proof, Question, Witnesses
from service.witness.protocol import seen_at

_log = structlog.get_logger(__name__)


async def show_cosigned(log: Log) -> None:
    """Ask the witnesses about what was last signed, and show it with their lines. Raises OSError."""
    try:
        signed = log.guard.read()
    except GuardUnusable:
        return  # publish() says so where everybody sees it
    if log.witnesses is None or signed is None or signed.note is None or signed.checkpoint is None:
        return
    witnesses, files, text = log.witnesses, log.files_of(signed.epoch), str(signed.checkpoint)
    lines = {**lines_shown(files.read_checkpoint(), text, witnesses.policy), **witnesses.lines_over(text)}
    whom = [witness for witness in witnesses.awake() if witness not in lines]
    if not _enough(witnesses.policy, [*lines, *whom]):
        _show(log, signed, lines)  # those who could be asked are too few to wait for
    question = Question(signed.checkpoint, signed.note, _proof(files, signed.checkpoint))
    async with aclosing(witnesses.ask(question, whom)) as answers:
        async for witness in answers:
            missed = not _enough(witnesses.policy, lines)
            lines[witness] = witnesses.lines_over(text)[witness]
            if missed and _enough(witnesses.policy, lines):
                _show(log, signed, lines)
    _show(log, signed, lines)
    _say(witnesses, signed.checkpoint, lines)


def lines_shown(note: str | None, text: str, policy: Policy) -> dict[Witness, str]:
    """The lines of the policy's witnesses under a note as it is shown, verified; none of another checkpoint."""
    found: dict[Witness, str] = {}
    if note is None or not note.startswith(f"{text}\n"):
        return found
    for line in note.removeprefix(f"{text}\n").splitlines(keepends=True):
        for witness in policy.witnesses:
            try:
                if witness not in found and seen_at(text, line, witness.key) is not None:
                    found[witness] = line
            except NoteInvalid:  # damaged: it is asked for again
                continue
    return found


def _enough(policy: Policy, cosigners: Iterable[Witness]) -> bool:
    return policy.met_by(witness.key for witness in cosigners)


def _show(log: Log, signed: Signed, lines: dict[Witness, str]) -> None:
    """Show it, own lines first and those of witnesses in the order of the policy, unless something later was signed."""
    assert log.witnesses is not None
    files = log.files_of(signed.epoch)
    note = (signed.note or "") + "".join(
        lines[witness] for witness in log.witnesses.policy.witnesses if witness in lines
    )
    try:
        if files.read_checkpoint() == note:
            return
        with log.guard.held():
            if log.guard.read() == signed:
                files.write_checkpoint(note)
    except (GuardHeld, GuardUnusable):
        return  # whoever holds it does not hold it long, and the next step shows what is missing


def _proof(files: LogFiles, checkpoint: Checkpoint) -> Proof:
    return lambda old: consistency_proof(old, checkpoint.size, subtree_reader(checkpoint.size, files.read))


def _say(witnesses: Witnesses, checkpoint: Checkpoint, lines: dict[Witness, str]) -> None:
    missed = not _enough(witnesses.policy, lines)
    if missed and not witnesses.missed:
        _log.error(
            "the checkpoint is shown without its quorum of witnesses",
            quorum=witnesses.policy.quorum,
            cosigned=[witness.name for witness in lines],
            size=checkpoint.size,
        )
    elif witnesses.missed and not missed:
        _log.info("the quorum of witnesses cosigns again", quorum=witnesses.policy.quorum, size=checkpoint.size)
    witnesses.missed = missed

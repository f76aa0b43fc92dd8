"""A witness: it cosigns a checkpoint of a log that goes on from what it cosigned before, and never goes back."""

import threading
from collections.abc import Iterable
from dataclasses import dataclass

from ledger.checkpoint import Checkpoint
from ledger.errors import NoteInvalid, ProofInvalid
from ledger.merkle import EMPTY_ROOT, verify_consistency
from ledger.notes import ED25519, Signer, VerifierKey, verify_note
from service.witness.memory import Memory
from service.witness.protocol import SIZE_TYPE, parse_submission

TEXT = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Answer:
    """What is answered over HTTP.

    about     what it was about, for the witness's own log
    evidence  a signed checkpoint that did not go on from what was seen: perhaps one of two histories
    """

    status: int
    body: str
    media_type: str = TEXT
    about: str = ""
    evidence: str | None = None


class Witness:
    """One witness over the logs that it knows, each by the keys under its origin."""

    def __init__(self, signer: Signer, logs: Iterable[VerifierKey], memory: Memory) -> None:
        self.signer = signer
        self._keys: dict[str, list[VerifierKey]] = {}
        for key in logs:
            if key.kind != ED25519:
                raise NoteInvalid(f"{key.name} is a witness's key and not a log's: give the log's verifier key")
            self._keys.setdefault(key.name, []).append(key)
        self._memory = memory
        self._lock = threading.Lock()

    def require_memory(self) -> None:
        """That what was seen of every log can be read. Raises WitnessUnusable."""
        for origin in self._keys:
            self._memory.read(origin)

    def add_checkpoint(self, body: bytes, now: int) -> Answer:
        """Answer a request; `now` is in seconds since 1970. May be called from several threads.

        Raises WitnessUnusable, OSError when what was seen cannot be read or kept; nothing is cosigned then.
        """
        try:
            submission = parse_submission(body)
        except NoteInvalid as error:
            return _refused(400, str(error))
        checkpoint = submission.checkpoint
        keys = self._keys.get(checkpoint.origin)
        if keys is None:
            return _refused(404, f"this witness does not know the log {checkpoint.origin}")
        try:
            verify_note(submission.note, keys)
        except NoteInvalid as error:
            return _refused(403, str(error))
        if submission.old > checkpoint.size:
            return _refused(400, f"old {submission.old} is larger than the checkpoint, which is of {checkpoint.size}")
        with self._lock:  # from the look at what was seen until the new one is durable: of two with one old, one wins
            seen = self._memory.read(checkpoint.origin)
            size = 0 if seen is None else seen.size
            if submission.old != size:
                return Answer(409, f"{size}\n", SIZE_TYPE, f"old {submission.old}, and {size} was cosigned")
            try:
                _require_growth(seen, checkpoint, submission.proof)
            except ProofInvalid as error:
                return Answer(422, f"{error}\n", about=str(error), evidence=submission.text)
            if seen != checkpoint:
                self._memory.write(checkpoint.origin, submission.text)
        line = self.signer.cosign(submission.note.text, now)
        return Answer(200, line, about=f"{checkpoint.origin} of {checkpoint.size} entries")


def _require_growth(seen: Checkpoint | None, new: Checkpoint, proof: tuple[bytes, ...]) -> None:
    """Raises ProofInvalid unless the new checkpoint begins with what was seen."""
    if new.size == 0 and new.root != EMPTY_ROOT:
        raise ProofInvalid("an empty log has another root")
    if seen is not None and seen.size:
        verify_consistency(seen.size, new.size, seen.root, new.root, proof)
    elif proof:
        raise ProofInvalid("behind old 0 no proof is needed: send none")


def _refused(status: int, because: str) -> Answer:
    return Answer(status, f"{because}\n", about=because)

"""Logs as a witness meets them: histories in memory, which may fork, each with its checkpoints and proofs."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ledger.checkpoint import Checkpoint
from ledger.merkle import consistency_proof, leaf_hash, root_of
from ledger.notes import COSIGNATURE, ED25519, Signer, generate_signer
from service.witness.protocol import encode_submission

ORIGIN = "log.example.org/log"


def signer_of(name: str = ORIGIN, kind: int = ED25519, seed: int = 1) -> Signer:
    """A key, the same each time."""
    return generate_signer(name, kind, bytes([seed] * 32))


def witness_key(name: str, seed: int) -> Signer:
    return signer_of(name, COSIGNATURE, seed)


@dataclass(frozen=True)
class History:
    """The entries of one log, and who signs it."""

    entries: tuple[bytes, ...]
    signer: Signer

    def forked(self, at: int, mark: bytes = b"other") -> "History":
        """Another history of the same log, from this entry on."""
        rest = [mark + entry for entry in self.entries[at:]]
        return replace(self, entries=(*self.entries[:at], *rest))

    def root(self, size: int) -> bytes:
        return root_of(map(leaf_hash, self.entries[:size]))

    def text(self, size: int) -> str:
        return str(Checkpoint(self.signer.name, size, self.root(size)))

    def note(self, size: int) -> str:
        text = self.text(size)
        return f"{text}\n{self.signer.sign(text)}"

    def proof(self, old: int, new: int) -> list[bytes]:
        """From this history's own first entries; none where there can be none."""
        if old > new:
            return []
        return consistency_proof(old, new, lambda level, number: self.subtree(level, number))

    def subtree(self, level: int, number: int) -> bytes:
        return root_of(map(leaf_hash, self.entries[number << level : (number + 1) << level]))

    def submission(self, old: int, new: int, proof: Sequence[bytes] | None = None) -> bytes:
        return encode_submission(old, self.proof(old, new) if proof is None else proof, self.note(new))


def history(size: int = 40, signer: Signer | None = None) -> History:
    return History(tuple(f"entry {number}".encode() for number in range(size)), signer or signer_of())

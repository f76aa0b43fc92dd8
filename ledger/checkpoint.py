"""A checkpoint: the log's name, size and root under a signature; and the offline proof that rests on one.

C2SP tlog-checkpoint and tlog-proof. No extension lines are written; where another log has some, they are kept.
"""

import base64
import binascii
import re
from collections.abc import Sequence
from dataclasses import dataclass

from ledger.errors import NoteInvalid
from ledger.merkle import HASH_BYTES, MAX_SIZE, verify_inclusion
from ledger.notes import require_name

PROOF_HEADER = "c2sp.org/tlog-proof@v1"
MOST_HASHES = 63

_NUMBER = re.compile(r"0|[1-9][0-9]{0,18}")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a log promises: `root` is the root hash of its first `size` entries."""

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    def __str__(self) -> str:
        """The text that is signed."""
        lines = [self.origin, str(self.size), encode_hash(self.root), *self.extensions]
        return "\n".join(lines) + "\n"


@dataclass(frozen=True, slots=True)
class Proof:
    """That one entry is in the log, to be verified offline; `note` is the signed checkpoint as it was served.

    extra  what else the writer put in. Nothing protects it
    """

    index: int
    hashes: tuple[bytes, ...]
    note: str
    extra: bytes | None = None

    def __str__(self) -> str:
        extra = [] if self.extra is None else [f"extra {base64.b64encode(self.extra).decode()}"]
        lines = [PROOF_HEADER, *extra, f"index {self.index}", *map(encode_hash, self.hashes)]
        return "\n".join(lines) + "\n\n" + self.note

    def verify(self, leaf: bytes, checkpoint: Checkpoint) -> None:
        """That the entry with this leaf hash is in the log of a checkpoint whose signatures were verified before.
        Raises ProofInvalid."""
        verify_inclusion(leaf, self.index, checkpoint.size, self.hashes, checkpoint.root)


def parse_checkpoint(text: str) -> Checkpoint:
    """A checkpoint's text, without signatures. Raises NoteInvalid."""
    lines = text[:-1].split("\n")
    if not text.endswith("\n") or len(lines) < 3:
        raise NoteInvalid("a checkpoint is the log's name, its size and its root, a line each")
    origin, size, root, *extensions = lines
    require_name(origin)
    number = parse_size(size)
    if any(not line for line in extensions):
        raise NoteInvalid("an extension line of a checkpoint is not empty")
    return Checkpoint(origin, number, decode_hash(root), tuple(extensions))


def parse_size(text: str) -> int:
    """A tree's size or an index, as decimal digits without sign or leading zero. Raises NoteInvalid."""
    if not _NUMBER.fullmatch(text) or int(text) > MAX_SIZE:
        raise NoteInvalid(f"a size is a decimal number up to {MAX_SIZE}, without a leading zero, not {text[:40]!r}")
    return int(text)


def parse_proof(text: str) -> Proof:
    """A `.tlog-proof` file, nothing in it verified. Raises NoteInvalid."""
    head, found, note = text.partition("\n\n")
    lines = head.split("\n")
    if not found or lines[0] != PROOF_HEADER:
        raise NoteInvalid(f"a proof begins with the line {PROOF_HEADER}, not {lines[0][:100]!r}")
    extra = None
    if len(lines) > 1 and lines[1].startswith("extra "):
        extra = _decoded(lines.pop(1).removeprefix("extra "))
    if len(lines) < 2 or not lines[1].startswith("index "):
        raise NoteInvalid("a proof names its entry in a line such as: index 17")
    index, hashes = parse_size(lines[1].removeprefix("index ")), lines[2:]
    if len(hashes) > MOST_HASHES:
        raise NoteInvalid(f"a proof has at most {MOST_HASHES} hashes, not {len(hashes)}")
    return Proof(index, tuple(map(decode_hash, hashes)), note, extra)


def encode_hash(raw: bytes) -> str:
    """A hash in standard base64."""
    return base64.b64encode(raw).decode("ascii")


def decode_hash(text: str) -> bytes:
    """A hash of 32 bytes in standard base64, in its one form. Raises NoteInvalid."""
    raw = _decoded(text)
    if len(raw) != HASH_BYTES:
        raise NoteInvalid(f"a hash is {HASH_BYTES} bytes in base64, not {text[:60]!r}")
    return raw


def decode_hashes(lines: Sequence[str]) -> tuple[bytes, ...]:
    """Hashes, one a line, at most 63. Raises NoteInvalid."""
    if len(lines) > MOST_HASHES:
        raise NoteInvalid(f"a proof has at most {MOST_HASHES} hashes, not {len(lines)}")
    return tuple(map(decode_hash, lines))


def _decoded(text: str) -> bytes:
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raw = None
    if raw is None or base64.b64encode(raw).decode() != text:
        raise NoteInvalid(f"base64 is expected, in its one form, not {text[:60]!r}")
    return raw

"""What a log sends to a witness: what it thinks the witness saw, the proof from there, and the signed checkpoint."""

from collections.abc import Sequence
from dataclasses import dataclass

from ledger.checkpoint import Checkpoint, decode_hashes, encode_hash, parse_checkpoint, parse_size
from ledger.errors import NoteInvalid
from ledger.notes import Note, VerifierKey, parse_note, verify_note

PATH = "/add-checkpoint"
SIZE_TYPE = "text/x.tlog.size"
MOST_BYTES = 65_536  # of a request: 63 hashes are 3 kB, and a hundred signatures of every kind in use fit


@dataclass(frozen=True, slots=True)
class Submission:
    """A request as it was read; nothing in it is verified.

    old   size of the checkpoint that the witness cosigned last, as the sender knows it
    text  the whole signed checkpoint, byte for byte
    """

    old: int
    proof: tuple[bytes, ...]
    text: str
    note: Note
    checkpoint: Checkpoint


def encode_submission(old: int, proof: Sequence[bytes], note: str) -> bytes:
    """The body of a request."""
    lines = [f"old {old}", *map(encode_hash, proof)]
    return ("\n".join(lines) + "\n\n" + note).encode()


def parse_submission(body: bytes) -> Submission:
    """Read the body of a request. Raises NoteInvalid."""
    try:
        head, found, text = body.decode("utf-8").partition("\n\n")
    except UnicodeDecodeError:
        raise NoteInvalid("a request is UTF-8") from None
    first, *hashes = head.split("\n")
    if not found or not first.startswith("old "):
        raise NoteInvalid("a request is a line such as `old 17`, hashes a line each, an empty line and a checkpoint")
    old, proof, note = parse_size(first.removeprefix("old ")), decode_hashes(hashes), parse_note(text)
    return Submission(old, proof, text, note, parse_checkpoint(note.text))


def seen_at(text: str, line: str, key: VerifierKey) -> int | None:
    """When a witness saw a checkpoint, in seconds since 1970, by its line under this text; None for the line of anybody
    else. Raises NoteInvalid for a line under the witness's name and key that is none of its cosignatures."""
    note = parse_note(f"{text}\n{line}")
    if [(signature.name, signature.key_id) for signature in note.signatures] != [(key.name, key.id)]:
        return None
    time = verify_note(note, [key]).seen_at.get(key.name)
    if not time:
        raise NoteInvalid(f"{key.name} does not say when it saw the checkpoint")
    return time

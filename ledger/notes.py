"""Signed notes, their keys, and cosignatures of witnesses (C2SP signed-note and tlog-cosignature).

A note is a text that ends in a line feed, an empty line, and signature lines. A signature covers the text with its last
line feed and without the empty line. Ed25519 alone is written; lines of other kinds are passed over when read.
"""

import base64
import binascii
import re
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ledger.errors import NoteInvalid

ED25519 = 0x01
COSIGNATURE = 0x04  # Ed25519 over the text and the time at which it was seen
MOST_BYTES = 1_000_000
MOST_SIGNATURES = 100  # as Go's sumdb/note: far more than anybody's quorum
LATEST_TIME = (1 << 63) - 1

_DASH = "\u2014 "
_KEY = re.compile(r"([^+]+)\+([0-9a-f]{8})\+([A-Za-z0-9+/=]+)")
_CONTROL = re.compile("[\x00-\x09\x0b-\x1f]")
_PUBLIC_BYTES = 32
_SIGNATURE_BYTES = 64
_TIME_BYTES = 8


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A public key under a name: `kind` ED25519 signs notes, COSIGNATURE is a witness's."""

    name: str
    kind: int
    public: bytes

    @property
    def id(self) -> bytes:
        """Four bytes that name the key in a signature line."""
        return sha256(self.name.encode() + b"\n" + bytes([self.kind]) + self.public).digest()[:4]

    def __str__(self) -> str:
        return f"{self.name}+{self.id.hex()}+{_base64(bytes([self.kind]) + self.public)}"

    def verify(self, text: str, signature: bytes) -> int | None:
        """The time of a cosignature, in seconds since 1970; None for a plain signature. Raises NoteInvalid."""
        seen_at, signed = None, text.encode()
        if self.kind == COSIGNATURE:
            seen_at = int.from_bytes(signature[:_TIME_BYTES], "big")
            signature, signed = signature[_TIME_BYTES:], cosigned(text, seen_at)
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(signature, signed)
        except InvalidSignature:
            raise NoteInvalid(f"the signature by {self.name} is not over this text") from None
        return seen_at


@dataclass(frozen=True, slots=True)
class Signer:
    """A key that signs notes (ED25519) or cosigns checkpoints (COSIGNATURE). It never prints its seed."""

    name: str
    kind: int
    key: Ed25519PrivateKey

    @property
    def verifier(self) -> VerifierKey:
        return VerifierKey(self.name, self.kind, self.key.public_key().public_bytes_raw())

    def __repr__(self) -> str:
        return f"Signer({self.verifier})"

    def sign(self, text: str) -> str:
        """The signature line over a text. Raises NoteInvalid for a text no note can have."""
        require_text(text)
        return self._line(self.key.sign(text.encode()))

    def cosign(self, text: str, seen_at: int) -> str:
        """The line by which a witness says that it saw this checkpoint at a time, in seconds since 1970."""
        require_text(text)
        return self._line(seen_at.to_bytes(_TIME_BYTES, "big") + self.key.sign(cosigned(text, seen_at)))

    def _line(self, signature: bytes) -> str:
        return f"{_DASH}{self.name} {_base64(self.verifier.id + signature)}\n"


@dataclass(frozen=True, slots=True)
class Signature:
    """One line under a note."""

    name: str
    key_id: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class Note:
    """A note as it was read; nothing in it is verified."""

    text: str
    signatures: tuple[Signature, ...]


@dataclass(frozen=True, slots=True)
class Verified:
    """Who signed a note: the keys that verified, and for a witness when it saw the text, in seconds since 1970."""

    text: str
    signers: tuple[VerifierKey, ...]
    seen_at: dict[str, int]


def generate_signer(name: str, kind: int, seed: bytes) -> Signer:
    """A signer from 32 secret bytes. Raises NoteInvalid for a name no key can have."""
    require_name(name)
    return Signer(name, kind, Ed25519PrivateKey.from_private_bytes(seed))


def parse_verifier(text: str) -> VerifierKey:
    """A verifier key `name+id+key`; the base64 may hold further `+`. Raises NoteInvalid."""
    found = _KEY.fullmatch(text)
    if found is None:
        raise NoteInvalid(f"a verifier key is name+id+key, not {text[:100]!r}")
    name, key_id, encoded = found.groups()
    require_name(name)
    raw = _decoded(encoded)
    if raw is None or len(raw) != 1 + _PUBLIC_BYTES or raw[0] not in (ED25519, COSIGNATURE):
        raise NoteInvalid(f"the key of {name} is not one of Ed25519 (type 1) or a witness's (type 4)")
    key = VerifierKey(name, raw[0], raw[1:])
    if key.id.hex() != key_id:
        raise NoteInvalid(f"the id of the key of {name} is {key.id.hex()}, not {key_id}")
    return key


def parse_note(note: str | bytes) -> Note:
    """Take a note apart. The text ends at the last empty line. Raises NoteInvalid."""
    raw = note.encode() if isinstance(note, str) else note
    if len(raw) > MOST_BYTES:
        raise NoteInvalid(f"a note has at most {MOST_BYTES} bytes, not {len(raw)}")
    try:
        whole = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise NoteInvalid("a note is UTF-8") from error
    if _CONTROL.search(whole):
        raise NoteInvalid("a note holds no control character but the line feed")
    text, found, lines = whole.rpartition("\n\n")
    if not found or not lines.endswith("\n"):
        raise NoteInvalid("a note is a text, an empty line and signature lines, the last of which ends in a line feed")
    signatures = [_signature(line) for line in lines[:-1].split("\n")]
    if len(signatures) > MOST_SIGNATURES:
        raise NoteInvalid(f"a note has at most {MOST_SIGNATURES} signatures, not {len(signatures)}")
    return Note(text + "\n", tuple(signatures))


def verify_note(note: Note, keys: Iterable[VerifierKey]) -> Verified:
    """Which of these keys signed it. Lines of unknown keys are passed over, a key counts once.

    Raises NoteInvalid when a line of a known key does not verify, and when no known key signed at all.
    """
    known = {(key.name, key.id): key for key in keys}
    signers: dict[VerifierKey, None] = {}
    seen_at: dict[str, int] = {}
    for line in note.signatures:
        key = known.get((line.name, line.key_id))
        if key is None or key in signers:
            continue
        time = key.verify(note.text, line.signature)
        signers[key] = None
        if time is not None:
            seen_at[key.name] = time
    if not signers:
        names = ", ".join(sorted({key.name for key in known.values()})) or "nobody"
        raise NoteInvalid(f"none of the keys that are known ({names}) signed this note")
    return Verified(note.text, tuple(signers), seen_at)


def cosigned(text: str, seen_at: int) -> bytes:
    """The bytes a witness signs. Raises NoteInvalid for a time out of range."""
    if not 0 <= seen_at <= LATEST_TIME:
        raise NoteInvalid(f"a cosignature's time is in seconds since 1970, not {seen_at}")
    return f"cosignature/v1\ntime {seen_at}\n{text}".encode()


def require_text(text: str) -> None:
    """Raises NoteInvalid for what cannot be signed as a note."""
    if not text.endswith("\n") or _CONTROL.search(text):
        raise NoteInvalid("a note's text ends in a line feed and holds no other control character")


def require_name(name: str) -> None:
    """Raises NoteInvalid for a key's name with a space or a plus in it, and for an empty one."""
    if not name or "+" in name or any(letter.isspace() for letter in name) or _CONTROL.search(name):
        raise NoteInvalid(f"a key's name has neither spaces nor plus signs: {name[:100]!r}")


def _signature(line: str) -> Signature:
    name, found, encoded = line.removeprefix(_DASH).partition(" ")
    raw = _decoded(encoded)
    if not line.startswith(_DASH) or not found or raw is None or len(raw) < 5:
        raise NoteInvalid(f"a signature line is a dash, a name and base64, not {line[:100]!r}")
    require_name(name)
    return Signature(name, raw[:4], raw[4:])


def _decoded(encoded: str) -> bytes | None:
    try:
        raw = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        return None
    return raw if _base64(raw) == encoded else None  # one text for one value


def _base64(raw: bytes) -> str:
    return base64.b64encode(raw).decode("ascii")

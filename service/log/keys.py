"""The log's signing keys: a file of its own, read by the publisher alone.

The first line is the key that signs, in the form that Go's sumdb/note writes, so that other tools can read it:
`PRIVATE+KEY+<name>+<id>+<base64 of the type and the seed>`. Below it stand keys that were rotated out, each with the
moment until which it signs beside the first: `… until 2026-12-01T00:00:00Z`. Mode 0600.
"""

import base64
import binascii
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from ledger.errors import NoteInvalid
from ledger.leaves import utc_second
from ledger.notes import ED25519, Signer, generate_signer
from service.keyring import create_private_file, readable_by_others
from service.log.files import flush_folder

_PREFIX = "PRIVATE+KEY+"
_SEED_BYTES = 32
_UNTIL = " until "


class SigningKeyUnusable(Exception):
    """The log's key cannot be used; the message says what to do."""


@dataclass(frozen=True, slots=True)
class FormerKey:
    """A key that was rotated out: it signs beside its successor before `until`, and no more from then on."""

    signer: Signer
    until: datetime


@dataclass(frozen=True, slots=True)
class SigningKeys:
    """What a key's file holds."""

    current: Signer
    former: tuple[FormerKey, ...] = ()


def create_signing_key(path: Path, origin: str) -> SigningKeys:
    """Make a key under the log's name, and return it. An existing file is never replaced.

    Raises SigningKeyUnusable, NoteInvalid for a name that no key can have.
    """
    signer = generate_signer(origin, ED25519, secrets.token_bytes(_SEED_BYTES))
    create_private_file(path, _content(SigningKeys(signer)))
    return load_signing_keys(path, origin)


def rotate_signing_key(path: Path, origin: str, until: datetime) -> SigningKeys:
    """Make a further key that signs from now on; the one before it signs beside it until then.

    Raises SigningKeyUnusable.
    """
    keys = load_signing_keys(path, origin)
    signer = generate_signer(origin, ED25519, secrets.token_bytes(_SEED_BYTES))
    rotated = SigningKeys(signer, (FormerKey(keys.current, until.replace(microsecond=0)), *keys.former))
    beside = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    owner = path.stat()
    create_private_file(beside, _content(rotated))
    if os.geteuid() == 0:  # an operator as root: the publisher's user still has to read it
        os.chown(beside, owner.st_uid, owner.st_gid)
    beside.replace(path)
    flush_folder(path.parent)
    return rotated


def load_signing_keys(path: Path, origin: str) -> SigningKeys:
    """Read a key's file. Raises SigningKeyUnusable."""
    try:
        first, *others = path.read_text("utf-8").strip().split("\n")
    except (OSError, UnicodeDecodeError):
        raise SigningKeyUnusable(
            f"no signing key at {path}: put the log's key there, or make one for a new log with `tanpuhui log key new`"
        ) from None
    if readable_by_others(path):
        raise SigningKeyUnusable(f"the log's key {path} may be read by every user of this machine: chmod 600 it")
    try:
        keys = SigningKeys(decode_signing_key(first), tuple(map(_former, others)))
    except NoteInvalid as error:
        raise SigningKeyUnusable(f"{path} is not a file of signing keys: {error}") from None
    names = {keys.current.name, *(key.signer.name for key in keys.former)}
    if names != {origin}:
        raise SigningKeyUnusable(
            f"{path} holds keys of {', '.join(sorted(names))}, and this log is {origin}: put its own key there, or set "
            "TANPUHUI_LOG_ORIGIN back to the name that the log has for good"
        )
    return keys


def encode_signing_key(signer: Signer) -> str:
    """A key as a line of the file."""
    raw = bytes([signer.kind]) + signer.key.private_bytes_raw()
    return f"{_PREFIX}{signer.name}+{signer.verifier.id.hex()}+{base64.b64encode(raw).decode()}"


def decode_signing_key(text: str, kind: int = ED25519) -> Signer:
    """Read such a line of a key of this kind. Raises NoteInvalid; the message never holds the key."""
    name, _, rest = text.removeprefix(_PREFIX).partition("+")
    key_id, _, encoded = rest.partition("+")
    try:
        raw = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if not text.startswith(_PREFIX) or len(raw) != 1 + _SEED_BYTES or raw[0] != kind:
        raise NoteInvalid(f"{_PREFIX}name+id+key of an Ed25519 key is expected, type {kind}")
    signer = generate_signer(name, kind, raw[1:])
    if signer.verifier.id.hex() != key_id:
        raise NoteInvalid(f"the id of the key of {name} is {signer.verifier.id.hex()}, not {key_id[:8]!r}")
    return signer


def under(signer: Signer, origin: str) -> Signer:
    """The same key under the name of an epoch's log: a checkpoint is signed under the name that it bears."""
    return Signer(origin, signer.kind, signer.key)


def _content(keys: SigningKeys) -> bytes:
    former = [f"{encode_signing_key(key.signer)}{_UNTIL}{utc_second(key.until)}" for key in keys.former]
    return "\n".join([encode_signing_key(keys.current), *former, ""]).encode()


def _former(line: str) -> FormerKey:
    text, found, until = line.partition(_UNTIL)
    try:
        moment = datetime.strptime(until, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError:
        found = ""
    if not found:
        raise NoteInvalid("a line below the first ends in: until, and a moment such as 2026-12-01T00:00:00Z")
    return FormerKey(decode_signing_key(text), moment)


def signing_at(origin: str, current: Signer, former: Sequence[FormerKey], now: datetime) -> list[Signer]:
    """Whoever signs the log of this name at a moment, the current key first."""
    return [under(current, origin), *(under(key.signer, origin) for key in former if now < key.until)]

"""The platform's secret HMAC keys, versioned, in a file of their own.

Event keys, subjects and fingerprints are kept for ever but only as HMAC-SHA-256, so whoever holds the database alone
learns nothing from them. That holds only while the keys live elsewhere: never in the database, never in its backup.

The file is JSON: {"current": 2, "keys": {"1": "<base64 of 32 bytes>", "2": "..."}}. What tells a repeat from something
new (events, subjects, fingerprints, claims) is tagged under the first version for ever: the same event under two keys
would be two events, and would be credited twice. Rotation adds a version, makes it `current`, and serves what is
short-lived (cursors) or kept with the version it was made under (webhook secrets). A database remembers whose keyring
it was written with (service/keyring_check.py).
"""

import base64
import hashlib
import hmac
import json
import os
import secrets
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Literal

Purpose = Literal["event", "subject", "fingerprint", "claim", "cursor", "check", "webhook", "person", "pairwise"]

KEY_BYTES = 32


class KeyringError(Exception):
    """The keyring cannot be used; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Keyring:
    """Secret keys by version. Each purpose has a derived key, so a tag of one kind is never valid as another."""

    current: int
    keys: Mapping[int, bytes] = field(repr=False)
    _keyed: "dict[tuple[str, int | None], tuple[hashlib._Hash, hashlib._Hash]]" = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        if self.current not in self.keys:
            raise KeyringError(
                f"the keyring's current version {self.current} is not among its keys {sorted(self.keys)}: add it"
            )
        short = sorted(version for version, key in self.keys.items() if len(key) != KEY_BYTES)
        if short:
            raise KeyringError(
                f"keys of a keyring have {KEY_BYTES} bytes; versions {short} have another length: replace them"
            )
        object.__setattr__(self, "keys", MappingProxyType(dict(self.keys)))

    @property
    def versions(self) -> tuple[int, ...]:
        """Newest first: the order in which a stored tag is looked for."""
        return tuple(sorted(self.keys, reverse=True))

    def key(self, version: int) -> bytes:
        """The root key of a version. For tags use `tag`. Raises KeyringError for an unknown version."""
        try:
            return self.keys[version]
        except KeyError:
            raise KeyringError(
                f"the keyring has versions {sorted(self.keys)}, not {version}: restore the missing key"
            ) from None

    @property
    def lasting(self) -> int:
        """The version of every tag that must be found again for ever: the first, whatever is current."""
        return min(self.keys)

    def tag(self, purpose: Purpose, message: bytes, version: int | None = None) -> bytes:
        """HMAC-SHA-256 of `message` under the key of one purpose: 32 bytes. The caller keeps a message's parts apart.

        The key of a purpose is HMAC-SHA-256(root key, "tanpuhui/" purpose). Without a version it is `current` for
        cursors and `lasting` for everything else.
        """
        hashes = self._keyed.get((purpose, version)) or self._prepare(purpose, version)
        inner, outer = hashes[0].copy(), hashes[1].copy()
        inner.update(message)
        outer.update(inner.digest())
        return outer.digest()

    def _prepare(self, purpose: Purpose, version: int | None) -> "tuple[hashlib._Hash, hashlib._Hash]":
        """The two hashes of RFC 2104 with their padded key already in: three tags an activity are a fifth of the price.

        A test holds tag() against the standard library's hmac.
        """
        default = self.current if purpose == "cursor" else self.lasting
        root = self.key(default if version is None else version)
        key = hmac.digest(root, b"tanpuhui/" + purpose.encode("ascii"), "sha256").ljust(64, b"\0")
        inner, outer = (hashlib.sha256(bytes(byte ^ pad for byte in key)) for pad in (0x36, 0x5C))
        self._keyed[purpose, version] = inner, outer
        return inner, outer


def load_keyring(path: Path) -> Keyring:
    """Read a keyring file. Raises KeyringError if it is missing, malformed, or open to every user of the machine."""
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        raise KeyringError(
            f"no keyring at {path}: put the platform's keyring there, or create one for a new platform"
        ) from None
    if readable_by_others(path):
        raise KeyringError(f"the keyring {path} may be read by every user of this machine: chmod 600 it")
    try:
        document = json.loads(text)
        keys = {int(version): base64.b64decode(key, validate=True) for version, key in document["keys"].items()}
        current = document["current"]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise KeyringError(f'{path} is not a keyring: expected {{"current": 1, "keys": {{"1": "<base64>"}}}}') from None
    if type(current) is not int:
        raise KeyringError(f'"current" in {path} is a whole number, the version for new tags')
    return Keyring(current, keys)


def create_keyring(path: Path) -> Keyring:
    """Create a keyring with one random key, readable by its owner alone, and return it.

    An existing file is never replaced: its keys are what stored tags were made with. Two processes that race end with
    the same keyring, the one that was first.
    """
    document = {"current": 1, "keys": {"1": base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode("ascii")}}
    create_private_file(path, json.dumps(document, indent=2).encode("utf-8") + b"\n")
    return load_keyring(path)


def create_private_file(path: Path, content: bytes) -> bool:
    """Write a new file of mode 0600, complete or not at all. False if it was already there, which is left as it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, path)  # unlike a rename, a link refuses to replace
    except FileExistsError:
        return False
    finally:
        draft.unlink()
    return True


def readable_by_others(path: Path) -> bool:
    """Whether users outside the file's owner and group may touch it. A secret mounted for a group is usual."""
    return bool(path.stat().st_mode & stat.S_IRWXO)

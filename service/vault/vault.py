"""The process's side of the vault: key-encryption keys, the data keys in use, and how a text is sealed.

A sealed text is a version byte, a nonce of 96 random bits, and AES-256-GCM's ciphertext with its tag of 128 bits. What
it is, whose, and of which row is authenticated with it, so that a row put in another's place does not open. The nonce
is random, not the row's id: a batch that is tried again seals the same row again, perhaps with another text, and two
texts under one nonce would show each other and the authentication key. Random ones meet after 2^32 texts of one person
with a chance of 2^-33; a person has some thousands a year.

A text beyond COMPRESSED_BEYOND bytes is deflated first, for what is sealed no database compresses.
"""

import os
import secrets
import zlib
from collections.abc import Iterable
from pathlib import Path
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from service.keyring import KEY_BYTES
from service.vault.master import VaultError, load_master_file

NONCE_BYTES = 12
_PLAIN, _DEFLATED = b"\x01", b"\x02"
COMPRESSED_BEYOND = 2_048  # bytes, as PostgreSQL does: rides are shorter, a year of half-hours is a tenth of itself
KEYS_IN_USE = 8_192  # data keys one process remembers, 25 MB: one that is not costs 3 µs to open


class SealBroken(Exception):
    """What was stored does not open under its owner's key: it was changed, or belongs to another row."""


class DataKey:
    """What one participant's texts are sealed under."""

    __slots__ = ("_cipher", "_mine", "owner")

    def __init__(self, owner: UUID, key: bytes) -> None:
        self.owner, self._mine, self._cipher = owner, owner.bytes, AESGCM(key)

    def __repr__(self) -> str:
        return f"DataKey({self.owner})"

    def seal(self, what: bytes, row: bytes, text: bytes) -> bytes:
        """`text`, sealed as `what` of the row named by `row`."""
        kind = _PLAIN
        if len(text) > COMPRESSED_BEYOND:
            kind, text = _DEFLATED, zlib.compress(text, 1)
        nonce = os.urandom(NONCE_BYTES)
        return kind + nonce + self._cipher.encrypt(nonce, text, kind + what + self._mine + row)

    def open(self, what: bytes, row: bytes, sealed: bytes) -> bytes:
        """The text. Raises SealBroken."""
        kind, nonce = sealed[:1], sealed[1 : 1 + NONCE_BYTES]
        try:
            text = self._cipher.decrypt(nonce, sealed[1 + NONCE_BYTES :], kind + what + self._mine + row)
        except (InvalidTag, ValueError):
            raise SealBroken(f"{what.decode()} of participant {self.owner} does not open") from None
        return zlib.decompress(text) if kind == _DEFLATED else text


class Vault:
    """The key-encryption keys of a file, and the data keys that were opened lately."""

    def __init__(self, path: Path) -> None:
        """Raises VaultError."""
        self._path = path
        self._masters: dict[int, AESGCM] = {}
        self._raw: dict[int, bytes] = {}
        self._modified = -1
        self._in_use: dict[UUID, tuple[bytes, DataKey]] = {}
        self.reload()

    @property
    def path(self) -> Path:
        return self._path

    @property
    def versions(self) -> frozenset[int]:
        """Of the key-encryption keys at hand."""
        return frozenset(self._masters)

    def master(self, version: int) -> bytes:
        """A key-encryption key itself. Raises VaultError."""
        self._require(version)
        return self._raw[version]

    def reload(self) -> None:
        """Read the file again if it was changed. Raises VaultError."""
        modified = self._path.stat().st_mtime_ns if self._path.exists() else -1
        if modified == self._modified and self._masters:
            return
        masters = load_master_file(self._path)
        self._masters = {version: AESGCM(key) for version, key in masters.items()}
        self._raw = masters
        self._modified = modified

    def new_key(self, owner: UUID, version: int) -> tuple[bytes, DataKey]:
        """A new data key, wrapped under a version of the key-encryption keys. Raises VaultError."""
        return self.wrap(owner, version, secrets.token_bytes(KEY_BYTES))

    def wrap(self, owner: UUID, version: int, key: bytes) -> tuple[bytes, DataKey]:
        """A data key, wrapped. Raises VaultError."""
        nonce = os.urandom(NONCE_BYTES)
        wrapped = nonce + self._require(version).encrypt(nonce, key, _context(owner, version))
        return wrapped, DataKey(owner, key)

    def unwrap(self, owner: UUID, version: int, wrapped: bytes) -> bytes:
        """The data key itself. Raises VaultError."""
        try:
            master = self._require(version)
            return master.decrypt(wrapped[:NONCE_BYTES], wrapped[NONCE_BYTES:], _context(owner, version))
        except InvalidTag:
            raise VaultError(
                f"the data key of participant {owner} does not open under key-encryption key {version}: the file "
                f"{self._path} is of another platform, or the row was changed"
            ) from None

    def key(self, owner: UUID, version: int, wrapped: bytes) -> DataKey:
        """A participant's data key, as it is stored. Raises VaultError."""
        known = self._in_use.get(owner)
        if known is not None and known[0] == wrapped:
            return known[1]
        key = DataKey(owner, self.unwrap(owner, version, wrapped))
        if len(self._in_use) >= KEYS_IN_USE:  # the oldest of those that were opened: which it is matters little
            self._in_use.pop(next(iter(self._in_use)), None)
        self._in_use[owner] = wrapped, key
        return key

    def drop(self, owners: Iterable[UUID]) -> None:
        """Forget the data keys of these."""
        for owner in owners:
            self._in_use.pop(owner, None)

    def drop_all(self) -> None:
        """Forget every data key that was opened."""
        self._in_use.clear()

    def _require(self, version: int) -> AESGCM:
        if version not in self._masters:
            self.reload()
        try:
            return self._masters[version]
        except KeyError:
            raise VaultError(
                f"{self._path} has the key-encryption keys {sorted(self._masters)}, not {version}: put the platform's "
                "present file there"
            ) from None


def _context(owner: UUID, version: int) -> bytes:
    return b"tanpuhui/vault/data-key" + version.to_bytes(2, "big") + owner.bytes

"""The file of key-encryption keys: {"keys": {"1": "<base64 of 32 bytes>"}}, mode 0600, outside the database and outside
its backups.

Which version wraps new data keys the database says (vault.kek), so that every process changes over at the same moment;
the file only has to hold it. A version that was destroyed is taken out of the file, and what was wrapped under it can
never be opened again. A copy of the file is kept as a keyring's is, and destroyed with each rotation.
"""

import base64
import hmac
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from service.keyring import KEY_BYTES, create_private_file, readable_by_others


class VaultError(Exception):
    """The vault cannot be opened; the message says what to do."""


Masters = Mapping[int, bytes]
"""Key-encryption keys by version."""


def load_master_file(path: Path) -> dict[int, bytes]:
    """The keys in a file. Raises VaultError if it is missing, malformed, or open to every user of the machine."""
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        raise VaultError(
            f"no key-encryption keys at {path}: put the platform's file there (TANPUHUI_VAULT_KEY_FILE), or make one "
            "for a new platform with `tanpuhui vault init`"
        ) from None
    if readable_by_others(path):
        raise VaultError(f"the vault's keys {path} may be read by every user of this machine: chmod 600 it")
    try:
        document = json.loads(text)
        keys = {int(version): base64.b64decode(key, validate=True) for version, key in document["keys"].items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise VaultError(f'{path} does not hold the vault\'s keys: expected {{"keys": {{"1": "<base64>"}}}}') from None
    if not keys or any(len(key) != KEY_BYTES or not 0 < version < 2**15 for version, key in keys.items()):
        raise VaultError(f"{path} holds keys of {KEY_BYTES} bytes under versions from 1: put the platform's file there")
    return keys


def create_master_file(path: Path) -> dict[int, bytes]:
    """Create a file with one random key, readable by its owner alone; one that is there is left as it is."""
    create_private_file(path, _document({1: secrets.token_bytes(KEY_BYTES)}))
    return load_master_file(path)


def add_master(path: Path) -> int:
    """Put a new random key into the file; its version. Nothing is wrapped under it yet."""
    keys = load_master_file(path)
    version = max(keys) + 1
    _replace(path, {**keys, version: secrets.token_bytes(KEY_BYTES)})
    return version


def remove_masters(path: Path, keep: int) -> list[int]:
    """Take every version below `keep` out of the file and write over what it held; the versions taken out.

    Writing over is what a program can do: a disk that moves what it writes, a snapshot and a copy elsewhere keep it.
    """
    keys = load_master_file(path)
    gone = sorted(version for version in keys if version < keep)
    if gone:
        former = path.with_name(f".{path.name}.former")
        former.unlink(missing_ok=True)
        os.link(path, former)
        _replace(path, {version: key for version, key in keys.items() if version >= keep})
        with former.open("r+b") as file:
            file.write(b"\0" * former.stat().st_size)
            file.flush()
            os.fsync(file.fileno())
        former.unlink()
    return gone


def check_value(master: bytes) -> bytes:
    """What a database remembers of a key-encryption key, from which nothing follows about it: 32 bytes."""
    return hmac.digest(master, b"tanpuhui/vault/check", "sha256")


def _document(keys: Masters) -> bytes:
    shown = {str(version): base64.b64encode(key).decode("ascii") for version, key in sorted(keys.items())}
    return json.dumps({"keys": shown}, indent=2).encode("utf-8") + b"\n"


def _replace(path: Path, keys: Masters) -> None:
    """Another content in the file's place, whole or not at all, whatever happens meanwhile."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    create_private_file(draft, _document(keys))
    draft.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)

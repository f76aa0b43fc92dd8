"""The platform's token keys: which one signs access tokens now, and which ones are still believed.

One file of mode 0600, the same for every API process:

    {"keys": [{"seed": "<base64url of 32 bytes>", "signs_from": "2026-11-23T01:30:00+00:00"}, ...]}

The newest whose time has come signs; all of them are published and believed. So a rotation refuses nobody: a key is
published before it signs, and the one before it is believed until it is retired. Every process reads the file again
within a second of a change.
"""

import base64
import json
import os
import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from service.jws import ed25519_jwk, thumbprint
from service.keyring import create_private_file, readable_by_others

TOKEN_TYPE = "at+jwt"  # RFC 9068, so that no other statement of ours is ever taken for an access token
LONGEST_TOKEN_LIFE = timedelta(hours=1)  # what a key signed last is still to be believed so long
LOOK_AGAIN_S = 0.5

_log = structlog.get_logger("tanpuhui.auth")


class TokenKeysUnusable(Exception):
    """The token keys cannot be used, or not changed like this; the message says what to do."""


@dataclass(frozen=True, slots=True)
class TokenKey:
    """One key; its id is the thumbprint of its public half (RFC 7638)."""

    private: Ed25519PrivateKey = field(repr=False)
    kid: str
    public_key: str
    signs_from: datetime

    @property
    def jwk(self) -> dict[str, str]:
        """The public half as a JWK."""
        return {**json.loads(self.public_key), "kid": self.kid, "use": "sig", "alg": "EdDSA"}


class TokenKeys:
    """The keys of a file, read again when it changes; a file that is broken later leaves the last good keys in place.

    Raises TokenKeysUnusable when there never were any.
    """

    def __init__(self, path: Path) -> None:
        self.version = 0
        self.path = path
        self._stamp = _stamp(path)
        self._keys = read_token_keys(path)
        self._look_again = time.monotonic() + LOOK_AGAIN_S

    def refresh_if_due(self) -> None:
        """Called before every use; cheap."""
        now = time.monotonic()
        if now < self._look_again:
            return
        self._look_again = now + LOOK_AGAIN_S
        try:
            stamp = _stamp(self.path)
            if stamp == self._stamp:
                return
            keys = read_token_keys(self.path)
        except TokenKeysUnusable as error:
            _log.error("the token keys cannot be used, the last good ones stay", because=str(error))
            return
        self._stamp, self._keys, self.version = stamp, keys, self.version + 1

    @property
    def keys(self) -> Mapping[str, TokenKey]:
        """Every key that is believed, by its id."""
        return self._keys

    def signer(self, at: datetime) -> TokenKey:
        """The key that signs at this moment."""
        self.refresh_if_due()
        return _signer(self._keys.values(), at)


def sign_token(keys: TokenKeys, claims: Mapping[str, Any], at: datetime) -> str:
    """The claims as a signed access token."""
    key = keys.signer(at)
    return jwt.encode(dict(claims), key.private, algorithm="EdDSA", headers={"kid": key.kid, "typ": TOKEN_TYPE})


def create_token_keys(path: Path) -> bool:
    """Make a file with one key, which signs at once; False if it was already there, which is left as it is."""
    return create_private_file(path, _document([_new(datetime(2000, 1, 1, tzinfo=UTC))]))


def rotate_token_key(path: Path, signs_from: datetime) -> TokenKey:
    """Add a key that signs from a moment on, and is published at once."""
    added = _new(signs_from)
    _replace(path, [*read_token_keys(path).values(), added])
    return added


def retire_token_key(path: Path, kid: str, at: datetime, *, compromised: bool = False) -> None:
    """Believe a key no longer.

    compromised   even if tokens of its are still valid: whoever holds one asks for a new one

    Raises TokenKeysUnusable for an unknown key, the last one, one that signs, or, unless it is compromised, one that
    signed within the longest life of a token.
    """
    keys = read_token_keys(path)
    if kid not in keys:
        raise TokenKeysUnusable(f"no token key {kid} in {path}: the file has {', '.join(keys)}")
    rest = [key for key in keys.values() if key.kid != kid]
    if all(key.signs_from > at for key in rest):
        raise TokenKeysUnusable(f"no other key signs yet: rotate first, and retire {kid} when the new one signs")
    newer = [key.signs_from for key in rest if keys[kid].signs_from < key.signs_from <= at]
    if not compromised and not newer:
        raise TokenKeysUnusable(f"{kid} signs, or will: rotate first, or say that it is compromised")
    if not compromised and at - min(newer) < LONGEST_TOKEN_LIFE:
        raise TokenKeysUnusable(f"tokens that {kid} signed are still valid: retire it an hour after it was replaced")
    _replace(path, rest)


def read_token_keys(path: Path) -> dict[str, TokenKey]:
    """Every key of the file by its id, the newest first. Raises TokenKeysUnusable."""
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        raise TokenKeysUnusable(
            f"no token keys at {path}: make them with `tanpuhui token-key new {path}`, and give every API process the "
            "same"
        ) from None
    if readable_by_others(path):
        raise TokenKeysUnusable(f"the token keys {path} may be read by every user: chmod 600 the file")
    try:
        entries = json.loads(text)["keys"]
        keys = [_key(base64.b64decode(entry["seed"] + "=", b"-_", True), entry["signs_from"]) for entry in entries]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise TokenKeysUnusable(
            f'{path} holds no token keys: expected {{"keys": [{{"seed": …, "signs_from": …}}]}}'
        ) from None
    if not keys:
        raise TokenKeysUnusable(f"{path} holds no key: make the file again")
    return {key.kid: key for key in sorted(keys, key=lambda key: key.signs_from, reverse=True)}


def _signer(keys: Iterable[TokenKey], at: datetime) -> TokenKey:
    """The newest whose time has come; the first there will be when none has, for somebody must sign."""
    ordered = sorted(keys, key=lambda key: key.signs_from)
    return next((key for key in reversed(ordered) if key.signs_from <= at), ordered[0])


def _new(signs_from: datetime) -> TokenKey:
    return _key(secrets.token_bytes(32), signs_from.isoformat())


def _key(seed: bytes, signs_from: str) -> TokenKey:
    private = Ed25519PrivateKey.from_private_bytes(seed)
    public_key = ed25519_jwk(private.public_key().public_bytes_raw())
    kid = base64.urlsafe_b64encode(thumbprint(public_key)).rstrip(b"=").decode("ascii")
    begins = datetime.fromisoformat(signs_from)
    if begins.tzinfo is None:
        raise ValueError("a moment has its zone")
    return TokenKey(private, kid, public_key, begins)


def _document(keys: Sequence[TokenKey]) -> bytes:
    entries = [
        {
            "seed": base64.urlsafe_b64encode(key.private.private_bytes_raw()).rstrip(b"=").decode("ascii"),
            "signs_from": key.signs_from.isoformat(),
        }
        for key in keys
    ]
    return json.dumps({"keys": entries}, indent=2).encode("ascii") + b"\n"


def _replace(path: Path, keys: Sequence[TokenKey]) -> None:
    """Complete or not at all; nobody reads half a file."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(_document(keys))
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def _stamp(path: Path) -> tuple[int, int, int]:
    try:
        status = path.stat()
    except OSError:
        return 0, 0, 0
    return status.st_mtime_ns, status.st_size, status.st_ino

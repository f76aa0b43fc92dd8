"""Signed statements of providers: a compact JWS (RFC 7515) under a registered public key (JWK, RFC 7517). Pure.

The key decides the algorithm: EdDSA for Ed25519, ES256 for P-256, and nothing else. One signed statement has one text:
every part is base64url without padding and without loose bits, and the header holds `alg`, `kid` and perhaps `typ` and
`cty`, nothing that could change how it is read.
"""

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey, EllipticCurvePublicNumbers
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from ledger.ed25519 import read_ed25519

_HEADER = frozenset({"alg", "kid", "typ", "cty"})
_COORDINATE_BYTES = 32

Public = Ed25519PublicKey | EllipticCurvePublicKey


class NotJws(ValueError):
    """The bytes are no compact JWS; `part` says where: `parts`, `header`, `payload` or `signature`."""

    def __init__(self, part: str) -> None:
        super().__init__(part)
        self.part = part


class SignatureRefused(Exception):
    """The statement is not signed as it must be; `reason` is `header`, `algorithm`, `unknown-key`, `key-not-valid` or
    `signature`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Jws:
    """A compact JWS, taken apart and not verified yet."""

    text: str
    header: Mapping[str, Any]
    payload: bytes

    @property
    def digest(self) -> bytes:
        """SHA-256 of the whole text."""
        return hashlib.sha256(self.text.encode("ascii")).digest()

    @property
    def key_id(self) -> str:
        """The `kid` of the header. Raises SignatureRefused for a header with anything unknown, `crit` included."""
        key_id = self.header.get("kid")
        if not self.header.keys() <= _HEADER or not isinstance(key_id, str):
            raise SignatureRefused("header")
        return key_id


def read_jws(body: bytes) -> Jws:
    """Take a compact JWS apart; nothing of it is believed before `verify_jws`. Raises NotJws."""
    parts = body.split(b".")
    if len(parts) != 3:
        raise NotJws("parts")
    header_bytes, payload, _ = (
        _decoded(part, name) for part, name in zip(parts, ("header", "payload", "signature"), strict=True)
    )
    try:
        header = json.loads(header_bytes.decode("utf-8"), object_pairs_hook=_without_repeats)
    except (ValueError, RecursionError):
        raise NotJws("header") from None
    if not isinstance(header, dict):
        raise NotJws("header")
    return Jws(body.decode("ascii"), header, payload)


def verify_jws(jws: Jws, public_key: str) -> None:
    """Check the signature under a key as `read_public_key` wrote it. Raises SignatureRefused."""
    _ = jws.key_id  # the header holds nothing but what is known
    key = load_public_key(public_key)
    algorithm = "EdDSA" if isinstance(key, Ed25519PublicKey) else "ES256"
    if jws.header.get("alg") != algorithm:
        raise SignatureRefused("algorithm")
    try:
        jwt.PyJWS(algorithms=[algorithm]).decode_complete(jws.text, key, algorithms=[algorithm])
    except jwt.PyJWTError:
        raise SignatureRefused("signature") from None


def read_public_key(jwk: Mapping[str, str]) -> str:
    """The one text of a public JWK: its required members alone, sorted (as for its thumbprint, RFC 7638).

    Raises ValueError for what is no public key of Ed25519 or P-256: another type, a coordinate of another length or
    form, a point that is not on the curve or of small order.
    """
    names = ("crv", "kty", "x") if jwk.get("kty") == "OKP" else ("crv", "kty", "x", "y")
    required = {name: jwk.get(name, "") for name in names}
    try:
        _loaded(required)
    except (NotJws, UnsupportedAlgorithm):
        raise ValueError("the coordinates are base64url of 32 bytes each") from None
    return json.dumps(required, separators=(",", ":"), sort_keys=True)


def ed25519_jwk(public: bytes) -> str:
    """The one text of an Ed25519 key of 32 bytes. Raises ValueError for a point of small order."""
    x = base64.urlsafe_b64encode(public).rstrip(b"=").decode("ascii")
    return read_public_key({"crv": "Ed25519", "kty": "OKP", "x": x})


def raw_public_key(public_key: str) -> tuple[str, bytes]:
    """The algorithm, `ed25519` or `p256`, and the bytes of a key as `read_public_key` wrote it: 32 of Ed25519, 64 of
    P-256 (x, then y)."""
    jwk = json.loads(public_key)
    names = ("x",) if jwk["kty"] == "OKP" else ("x", "y")
    raw = b"".join(base64.urlsafe_b64decode(jwk[name] + "=") for name in names)
    return "ed25519" if jwk["kty"] == "OKP" else "p256", raw


@lru_cache(maxsize=4096)  # of banks and sources that call again and again
def load_public_key(public_key: str) -> Public:
    """The key itself, as `read_public_key` wrote it."""
    return _loaded(json.loads(public_key))


def thumbprint(public_key: str) -> bytes:
    """The thumbprint (RFC 7638, SHA-256) of a key as `read_public_key` wrote it."""
    return hashlib.sha256(public_key.encode("ascii")).digest()


def _loaded(jwk: Mapping[str, str]) -> Public:
    kind = jwk.get("kty"), jwk.get("crv")
    x = _decoded(jwk["x"].encode("utf-8"), "x")
    if kind == ("OKP", "Ed25519"):
        return read_ed25519(x)
    y = _decoded(jwk.get("y", "").encode("utf-8"), "y")
    if kind != ("EC", "P-256") or {len(x), len(y)} != {_COORDINATE_BYTES}:
        raise ValueError("a key is Ed25519 (OKP) or P-256 (EC)")
    return EllipticCurvePublicNumbers(int.from_bytes(x, "big"), int.from_bytes(y, "big"), SECP256R1()).public_key()


def payload_of(text: str) -> bytes:
    """The payload of a compact JWS that was verified before."""
    return _decoded(text.split(".")[1].encode("ascii"), "payload")


def _decoded(part: bytes, name: str) -> bytes:
    """Base64url without padding, and only in the one form that encoding gives."""
    try:
        content = base64.b64decode(part + b"=" * (-len(part) % 4), altchars=b"-_", validate=True)
    except ValueError:
        raise NotJws(name) from None
    if not part or base64.urlsafe_b64encode(content).rstrip(b"=") != part:
        raise NotJws(name)
    return content


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a header names each member once")
    return found

"""Public keys of data providers and their signatures, as far as an auditor's check needs them: JWK, thumbprint, JWS."""

import base64
import binascii
import json
from hashlib import sha256
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, EllipticCurvePublicNumbers
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from ledger.ed25519 import read_ed25519

_COORDINATE = 32  # bytes
ED25519, P256 = "ed25519", "p256"


def thumbprint(algorithm: str, public: bytes) -> str:
    """The thumbprint (RFC 7638, SHA-256, hex) of a key as a key leaf has it: 32 bytes of Ed25519, 64 of P-256."""
    x, y = public[:_COORDINATE], public[_COORDINATE:]
    if algorithm == ED25519:
        members = {"crv": "Ed25519", "kty": "OKP", "x": _encoded(x)}
    else:
        members = {"crv": "P-256", "kty": "EC", "x": _encoded(x), "y": _encoded(y)}
    return sha256(json.dumps(members, separators=(",", ":")).encode("ascii")).hexdigest()


def public_of(jwk: Any) -> tuple[str, bytes]:
    """Algorithm and bytes of a JWK. Raises ValueError for what is no key of Ed25519 or P-256."""
    if not isinstance(jwk, dict):
        raise ValueError("a JWK is an object")
    kind = jwk.get("kty"), jwk.get("crv")
    if kind == ("OKP", "Ed25519"):
        return ED25519, _decoded(jwk.get("x"))
    if kind == ("EC", "P-256"):
        return P256, _decoded(jwk.get("x")) + _decoded(jwk.get("y"))
    raise ValueError("a key is Ed25519 (OKP) or P-256 (EC)")


def verify_jws(text: str, algorithm: str, public: bytes) -> dict[str, Any]:
    """What a compact JWS says that is signed by this key. Raises ValueError."""
    signed, _, last = text.rpartition(".")
    signature, message = _decoded(last, 2 * _COORDINATE), signed.encode("ascii")
    header = json.loads(_decoded(signed.partition(".")[0], None))
    name = {ED25519: "EdDSA", P256: "ES256"}[algorithm]
    if not isinstance(header, dict) or header.get("alg") != name:
        raise ValueError(f"alg {name} is expected")
    verify_bytes(algorithm, public, signature, message)
    said = json.loads(_decoded(signed.partition(".")[2], None))
    if not isinstance(said, dict):
        raise ValueError("the signed text is an object")
    return said


def verify_bytes(algorithm: str, public: bytes, signature: bytes, message: bytes) -> None:
    """Whether a signature of 64 bytes, of P-256 r then s, is by this key. Raises ValueError."""
    try:
        if algorithm == ED25519:
            read_ed25519(public).verify(signature, message)
        else:
            x, y = (int.from_bytes(half, "big") for half in (public[:_COORDINATE], public[_COORDINATE:]))
            r, s = (int.from_bytes(half, "big") for half in (signature[:_COORDINATE], signature[_COORDINATE:]))
            key = EllipticCurvePublicNumbers(x, y, SECP256R1()).public_key()
            key.verify(encode_dss_signature(r, s), message, ECDSA(SHA256()))
    except InvalidSignature:
        raise ValueError("the signature is not by this key") from None


def _encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")


def _decoded(text: object, length: int | None = _COORDINATE) -> bytes:
    try:
        padded = f"{text}{'=' * (-len(str(text)) % 4)}".encode("ascii")
        raw = base64.b64decode(padded, altchars=b"-_", validate=True)
    except (UnicodeEncodeError, binascii.Error):
        raw = b""
    if not isinstance(text, str) or not raw or _encoded(raw) != text or (length is not None and len(raw) != length):
        raise ValueError("base64url is expected, without padding")
    return raw

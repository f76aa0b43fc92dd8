"""Proofs of possession (DPoP, RFC 9449): whoever sends a token shows that the key it is bound to is theirs. Pure.

A proof is a compact JWS whose header carries the public key. It is for one method and one address, made just now, and
used once (api/auth/proofs.py remembers). One proof has one text: base64url without loose bits, no member twice, no
header but `typ`, `alg` and `jwk`.
"""

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from service.jws import NotJws, Public, load_public_key, read_jws, read_public_key, thumbprint

ALGORITHMS = ("EdDSA", "ES256")
TYPE = "dpop+jwt"
OLDEST_S = 60  # from `iat` on; a retry makes a new proof
EARLIEST_S = 10  # so far may the sender's clock be ahead
LONGEST_PROOF = 4096  # characters

_HEADER = {"typ", "alg", "jwk"}
_JWK = {"kty", "crv", "x", "y", "kid", "use", "alg"}  # public members alone: `d`, and whatever else, is refused
_JTI = re.compile(r"[\x21-\x7e]{8,128}")
_DEFAULT_PORTS = {"http": 80, "https": 443}
_SIGNATURE_BYTES = 64


class ProofRefused(Exception):
    """The proof is not taken; `reason` is a key of REASONS in api/auth/callers.py."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Proof:
    """A proof that holds. `jkt` is the thumbprint of its key (RFC 7638), base64url; it can be sent again, and has to be
    remembered, until `until` (Unix seconds)."""

    jkt: str
    jti: str
    until: float


def check_proof(
    text: str, *, method: str, path: str, origins: Collection[str], now: float, access_token: str | None
) -> Proof:
    """Check a proof of possession.

    method, path    of the request; the path as it came, without the query
    origins         scheme and authority under which this platform is asked, as `origin_of` writes them
    now             Unix seconds
    access_token    that the proof must be made for; None at the token endpoint, where there is none yet

    Raises ProofRefused with the first thing that is wrong: form, key, signature, method, address, time, token.
    """
    if len(text) > LONGEST_PROOF:
        raise ProofRefused("proof-malformed")
    try:
        jws = read_jws(text.encode("ascii"))
        claims = json.loads(jws.payload, object_pairs_hook=_without_repeats)
    except (NotJws, ValueError, RecursionError):
        raise ProofRefused("proof-malformed") from None
    if not isinstance(claims, dict):
        raise ProofRefused("proof-malformed")
    jkt, public = _key(jws.header)
    _verify(text, public)
    if claims.get("htm") != method:
        raise ProofRefused("proof-method")
    if not _is_here(claims.get("htu"), path, origins):
        raise ProofRefused("proof-address")
    issued = claims.get("iat")
    if type(issued) is not int or not now - OLDEST_S <= issued <= now + EARLIEST_S:
        raise ProofRefused("proof-time")
    if access_token is not None and not _is_of(claims.get("ath"), access_token):
        raise ProofRefused("proof-token")
    jti = claims.get("jti")
    if not isinstance(jti, str) or not _JTI.fullmatch(jti):
        raise ProofRefused("proof-malformed")
    return Proof(jkt, jti, issued + OLDEST_S)


def origin_of(address: str) -> str | None:
    """Scheme and authority of an absolute http or https address, in lower case and without a default port; None for
    anything else."""
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname or parts.username is not None:
        return None
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}" + ("" if port in (None, _DEFAULT_PORTS[parts.scheme]) else f":{port}")


def token_hash(access_token: str) -> str:
    """`ath`: SHA-256 of the token, base64url (RFC 9449, 4.2)."""
    digest = hashlib.sha256(access_token.encode("ascii", "replace")).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")


def _key(header: Mapping[str, Any]) -> tuple[str, Public]:
    """The thumbprint of the key in the header, and the key. The algorithm is the key's."""
    jwk = header.get("jwk")
    if header.keys() != _HEADER or header["typ"] != TYPE or not isinstance(jwk, dict):
        raise ProofRefused("proof-malformed")
    if not jwk.keys() <= _JWK or not all(isinstance(value, str) for value in jwk.values()):
        raise ProofRefused("proof-key")
    wanted = "EdDSA" if jwk.get("kty") == "OKP" else "ES256"
    if header["alg"] != wanted or jwk.get("alg", wanted) != wanted or jwk.get("use", "sig") != "sig":
        raise ProofRefused("proof-key")
    return _loaded(jwk.get("kty", ""), jwk.get("crv", ""), jwk.get("x", ""), jwk.get("y", ""))


@lru_cache(maxsize=4096)  # a client sends the same key all day; a point is on its curve once and for all
def _loaded(kty: str, crv: str, x: str, y: str) -> tuple[str, Public]:
    jwk = {"kty": kty, "crv": crv, "x": x} | ({"y": y} if kty != "OKP" else {})
    try:
        text = read_public_key(jwk)
        public = load_public_key(text)
    except (ValueError, KeyError, UnsupportedAlgorithm):
        raise ProofRefused("proof-key") from None
    return base64.urlsafe_b64encode(thumbprint(text)).rstrip(b"=").decode("ascii"), public


def _verify(text: str, public: Public) -> None:
    signed, _, tail = text.rpartition(".")
    signature, message = base64.urlsafe_b64decode(tail + "=" * (-len(tail) % 4)), signed.encode("ascii")
    if len(signature) != _SIGNATURE_BYTES:
        raise ProofRefused("proof-signature")
    try:
        if isinstance(public, Ed25519PublicKey):
            public.verify(signature, message)
        else:
            r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
            public.verify(encode_dss_signature(r, s), message, ECDSA(SHA256()))
    except InvalidSignature:
        raise ProofRefused("proof-signature") from None


def _is_here(address: object, path: str, origins: Collection[str]) -> bool:
    """Whether the proof is for this address. A query or fragment is left out of it (RFC 9449, 4.2)."""
    if not isinstance(address, str) or not address.isascii() or not address.isprintable():
        return False
    origin = origin_of(address)
    if origin is None or origin not in origins:
        return False
    return (urlsplit(address).path or "/") == path


def _is_of(ath: object, access_token: str) -> bool:
    return isinstance(ath, str) and ath.isascii() and hmac.compare_digest(ath, token_hash(access_token))


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a proof names each member once")
    return found

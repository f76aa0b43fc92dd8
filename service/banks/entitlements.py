"""Entitlements 兑换凭证: what a bank learns of a redemption, signed by the platform, and nothing of the person.

A compact JWS (EdDSA) under the platform's own entitlement key, whose public half is at /v1/bank/keys. It is bound to
one bank, one redemption, its offer, its value and its end; the redemption itself can be accepted once.
"""

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from uuid import UUID

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from jwt.utils import base64url_encode

from service.jws import NotJws, SignatureRefused, ed25519_jwk, read_jws, thumbprint, verify_jws
from service.keyring import create_private_file, readable_by_others

TYPE = "entitlement+jwt"
_TEXTS = ("iss", "aud", "jti", "offer")
_NUMBERS = ("offer_version", "units", "points", "value_fen", "iat", "exp")


class EntitlementKeyUnusable(Exception):
    """The entitlement key cannot be used; the message says what to do."""


class EntitlementRefused(Exception):
    """The text is no entitlement for this bank now; `reason` is `malformed`, `unknown-key`, `signature`, `issuer`,
    `bank`, `redemption` or `expired`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Entitlement:
    """What a redemption entitles a bank to.

    bank           its registered URI
    units          so many units of the offer, at `points` points and `value_fen` fen altogether
    expires_at     a hold ends then, and with it what can be captured; whole seconds
    """

    bank: str
    redemption_id: UUID
    offer: str
    offer_version: int
    units: int
    points: int
    value_fen: int
    issued_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class EntitlementKey:
    """The platform's key for entitlements; its id is the thumbprint of its public half (RFC 7638)."""

    private: Ed25519PrivateKey = field(repr=False)
    public_key: str
    key_id: str

    @property
    def jwk(self) -> dict[str, str]:
        """The public half as a JWK."""
        return {**json.loads(self.public_key), "kid": self.key_id, "use": "sig", "alg": "EdDSA"}


def create_entitlement_key(path: Path) -> bool:
    """Make a key file of mode 0600; False if it was already there, which is left as it is."""
    pem = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return create_private_file(path, pem)


@cache
def load_entitlement_key(path: Path) -> EntitlementKey:
    """Read the key file, once a process. Raises EntitlementKeyUnusable."""
    try:
        pem = path.read_bytes()
    except FileNotFoundError:
        raise EntitlementKeyUnusable(
            f"no entitlement key at {path}: make one with `tanpuhui bank entitlement-key {path}`, and give every API "
            "process the same"
        ) from None
    if readable_by_others(path):
        raise EntitlementKeyUnusable(f"the entitlement key {path} may be read by every user: chmod 600 it")
    try:
        private = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError):
        private = None
    if not isinstance(private, Ed25519PrivateKey):
        raise EntitlementKeyUnusable(f"{path} is no Ed25519 private key in PEM: put the platform's own there")
    public_key = ed25519_jwk(private.public_key().public_bytes_raw())
    return EntitlementKey(private, public_key, base64url_encode(thumbprint(public_key)).decode("ascii"))


def sign_entitlement(key: EntitlementKey, issuer: str, entitlement: Entitlement) -> str:
    """The entitlement as a compact JWS. `issuer` is the name of the platform's log."""
    claims = {
        "iss": issuer,
        "aud": entitlement.bank,
        "jti": str(entitlement.redemption_id),
        "offer": entitlement.offer,
        "offer_version": entitlement.offer_version,
        "units": entitlement.units,
        "points": entitlement.points,
        "value_fen": entitlement.value_fen,
        "iat": int(entitlement.issued_at.timestamp()),
        "exp": int(entitlement.expires_at.timestamp()),
    }
    return jwt.encode(claims, key.private, algorithm="EdDSA", headers={"kid": key.key_id, "typ": TYPE})


def verify_entitlement(key: EntitlementKey, issuer: str, bank: str, text: str, now: datetime) -> Entitlement:
    """The entitlement that a bank presents, if this platform issued it, for this bank, and it has not expired.

    Raises EntitlementRefused.
    """
    try:
        jws = read_jws(text.encode("ascii"))
        if jws.key_id != key.key_id:
            raise EntitlementRefused("unknown-key")
        verify_jws(jws, key.public_key)
        if jws.header.get("typ") != TYPE:
            raise EntitlementRefused("malformed")
        entitlement = _read(jws.payload, issuer)
    except (NotJws, UnicodeEncodeError):
        raise EntitlementRefused("malformed") from None
    except SignatureRefused:
        raise EntitlementRefused("signature") from None
    if entitlement.bank != bank:
        raise EntitlementRefused("bank")
    if now >= entitlement.expires_at:
        raise EntitlementRefused("expired")
    return entitlement


def _read(payload: bytes, issuer: str) -> Entitlement:
    """Signed by us, so it has our form, unless the key was used for something else."""
    claims = json.loads(payload)
    if any(type(claims.get(name)) is not str for name in _TEXTS) or any(
        type(claims.get(name)) is not int for name in _NUMBERS
    ):
        raise EntitlementRefused("malformed")
    if claims["iss"] != issuer:
        raise EntitlementRefused("issuer")
    return Entitlement(
        bank=claims["aud"],
        redemption_id=UUID(claims["jti"]),
        offer=claims["offer"],
        offer_version=claims["offer_version"],
        units=claims["units"],
        points=claims["points"],
        value_fen=claims["value_fen"],
        issued_at=datetime.fromtimestamp(claims["iat"], UTC),
        expires_at=datetime.fromtimestamp(claims["exp"], UTC),
    )

"""Entitlements 兑换凭证: what a bank learns of a redemption, signed by the platform, and nothing of the person.

A compact JWS (EdDSA) under the platform's own entitlement key, whose public half is at /v1/bank/keys. It is bound to
one bank, one redemption, its offer, its value and its end; the redemption itself can be accepted once.

The file of the key holds those that came before it too, behind it: they sign nothing more, and what they signed is
accepted until they are retired.
"""

import json
import os
import re
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import lru_cache
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
    """The platform's key for entitlements; its id is the thumbprint of its public half (RFC 7638).

    former  those that it followed, the newest first, while what they signed is still accepted
    """

    private: Ed25519PrivateKey = field(repr=False)
    public_key: str
    key_id: str
    former: tuple["EntitlementKey", ...] = ()

    @property
    def jwk(self) -> dict[str, str]:
        """The public half as a JWK."""
        return {**json.loads(self.public_key), "kid": self.key_id, "use": "sig", "alg": "EdDSA"}

    def named(self, key_id: str | None) -> "EntitlementKey | None":
        """This key or one that came before it, by its id."""
        return next((key for key in (self, *self.former) if key.key_id == key_id), None)


def create_entitlement_key(path: Path) -> bool:
    """Make a key file of mode 0600; False if it was already there, which is left as it is."""
    return create_private_file(path, _new_pem())


def rotate_entitlement_key(path: Path) -> EntitlementKey:
    """Put a new key before those of the file; it signs from the next entitlement on. Raises EntitlementKeyUnusable."""
    load_entitlement_key(path)
    _replace(path, _new_pem() + path.read_bytes())
    return load_entitlement_key(path)


def retire_entitlement_keys(path: Path) -> EntitlementKey:
    """Keep the key that signs alone: nothing that another signed is accepted any more. Raises
    EntitlementKeyUnusable."""
    load_entitlement_key(path)
    _replace(path, _PEM.findall(path.read_bytes())[0])
    return load_entitlement_key(path)


_PEM = re.compile(rb"-----BEGIN [A-Z ]+-----.*?-----END [A-Z ]+-----\n?", re.DOTALL)


def _new_pem() -> bytes:
    return Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _replace(path: Path, content: bytes) -> None:
    """The file with another content, whole at every moment."""
    new = path.with_name(f".{path.name}.{os.getpid()}.new")
    if not create_private_file(new, content):
        raise EntitlementKeyUnusable(
            f"{new} is in the way: another rotation is under way, or was broken off; remove it"
        )
    new.replace(path)


def load_entitlement_key(path: Path) -> EntitlementKey:
    """The keys of the file as it is now: every process follows a rotation at once. Raises EntitlementKeyUnusable."""
    try:
        found = path.stat()
    except FileNotFoundError:
        raise EntitlementKeyUnusable(
            f"no entitlement key at {path}: make one with `tanpuhui bank entitlement-key {path}`, and give every API "
            "process the same"
        ) from None
    return _load(path, found.st_mtime_ns, found.st_ino, found.st_mode)


@lru_cache(maxsize=8)  # by what tells one content of the file from the next; its mode is looked at with it
def _load(path: Path, *_: int) -> EntitlementKey:
    if readable_by_others(path):
        raise EntitlementKeyUnusable(f"the entitlement key {path} may be read by every user: chmod 600 it")
    keys = [_key(path, pem) for pem in _PEM.findall(path.read_bytes()) or [b""]]
    return replace(keys[0], former=tuple(keys[1:]))


def _key(path: Path, pem: bytes) -> EntitlementKey:
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
        signer = key.named(jws.key_id)
        if signer is None:
            raise EntitlementRefused("unknown-key")
        verify_jws(jws, signer.public_key)
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

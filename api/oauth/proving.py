"""The client's half: assertions (RFC 7523) and proofs (RFC 9449), as `tanpuhui client token` makes them."""

import secrets
import time
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from api.auth.dpop import TYPE, token_hash
from api.oauth.client_authentication import ASSERTION_TYPE
from api.signatures.signing import SigningKey, public_jwk

_LIFE_S = 60  # an assertion is sent at once


def client_assertion(key: SigningKey, client_id: str, audience: str, *, now: float | None = None, **claims: Any) -> str:
    """A `private_key_jwt` of this client for an authorisation server; `claims` replace what it says."""
    at = int(time.time() if now is None else now)
    usual: dict[str, Any] = {
        "iss": client_id,
        "sub": client_id,
        "aud": audience,
        "iat": at,
        "exp": at + _LIFE_S,
        "jti": secrets.token_urlsafe(16),
    }
    return jwt.encode(usual | claims, key.private, algorithm_of(key), headers={"kid": key.key_id})


def token_form(key: SigningKey, client_id: str, audience: str, /, **parameters: str) -> dict[str, str]:
    """The form of a token request with `client_credentials`; `parameters` are added, or replace."""
    return {
        "grant_type": "client_credentials",
        "client_assertion_type": ASSERTION_TYPE,
        "client_assertion": client_assertion(key, client_id, audience),
    } | parameters


def dpop_proof(
    key: SigningKey, method: str, url: str, *, access_token: str | None = None, now: float | None = None, **claims: Any
) -> str:
    """A proof of possession for one request; `claims` replace what it says."""
    address = urlunsplit(urlsplit(url)._replace(query="", fragment=""))
    usual: dict[str, Any] = {
        "htm": method,
        "htu": address,
        "iat": int(time.time() if now is None else now),
        "jti": secrets.token_urlsafe(16),
    }
    if access_token is not None:
        usual["ath"] = token_hash(access_token)
    jwk = {name: value for name, value in public_jwk(key).items() if name in ("kty", "crv", "x", "y")}
    return jwt.encode(usual | claims, key.private, algorithm_of(key), headers={"typ": TYPE, "jwk": jwk})


def algorithm_of(key: SigningKey) -> str:
    """EdDSA for Ed25519, ES256 for P-256."""
    return "EdDSA" if isinstance(key.private, Ed25519PrivateKey) else "ES256"

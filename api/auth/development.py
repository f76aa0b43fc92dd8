"""An issuer of tokens for development: one Ed25519 key in the data directory. Production mode refuses its name."""

import json
import time
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from jwt.utils import base64url_encode

from api.auth.callers import ROLE_SCOPES, Role
from service.keyring import create_private_file
from service.settings import DEVELOPMENT_ISSUER


class DevelopmentIssuer:
    """Makes its key (mode 0600) and the JWKS beside it on first use, under data_dir/development-issuer."""

    def __init__(self, data_dir: Path, *, issuer: str = DEVELOPMENT_ISSUER, audience: str = "tanpuhui") -> None:
        folder = data_dir / "development-issuer"
        self.jwks_path = folder / "jwks.json"
        self._issuer = issuer
        self._audience = audience
        self._key = _load_or_create(folder / "key.pem")
        public = _public_jwk(self._key)
        self._kid = public["kid"]
        create_private_file(self.jwks_path, json.dumps({"keys": [public]}, indent=2).encode("ascii") + b"\n")

    def issue(
        self,
        role: Role,
        subject: str,
        *,
        source: str | None = None,
        bank: str | None = None,
        funder: str | None = None,
        scopes: Iterable[str] | None = None,
        ttl: timedelta = timedelta(hours=1),
    ) -> str:
        """A token, with all scopes of its role unless fewer are named.

        source   the provider's registered URI, needed by that role and by no other
        bank     the bank's registered URI, likewise
        funder   the URI of a funder of pools, likewise
        ttl      24 hours at most, or no authenticator accepts it
        """
        now = int(time.time())
        claims: dict[str, Any] = {
            "iss": self._issuer,
            "aud": self._audience,
            "iat": now,
            "exp": now + int(ttl.total_seconds()),
            "sub": subject,
            "role": role,
            "scope": " ".join(sorted(ROLE_SCOPES[role] if scopes is None else scopes)),
        }
        if source is not None:
            claims["source"] = source
        if bank is not None:
            claims["bank"] = bank
        if funder is not None:
            claims["funder"] = funder
        return jwt.encode(claims, self._key, algorithm="EdDSA", headers={"kid": self._kid})


def _load_or_create(path: Path) -> Ed25519PrivateKey:
    pem = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    if not path.exists():
        create_private_file(path, pem)
    key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    if not isinstance(key, Ed25519PrivateKey):
        raise ValueError(f"{path} holds another kind of key than Ed25519: remove it and a new one is made")
    return key


def _public_jwk(key: Ed25519PrivateKey) -> dict[str, str]:
    """The public key as a JWK whose kid is its thumbprint (RFC 7638)."""
    raw = key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    jwk = {"crv": "Ed25519", "kty": "OKP", "x": base64url_encode(raw).decode("ascii")}
    digest = hashes.Hash(hashes.SHA256())
    digest.update(json.dumps(jwk, separators=(",", ":"), sort_keys=True).encode("ascii"))
    return {**jwk, "kid": base64url_encode(digest.finalize()).decode("ascii"), "use": "sig", "alg": "EdDSA"}

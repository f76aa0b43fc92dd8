"""The city's identity provider: its ID tokens (OpenID Connect Core 1.0, section 2), verified by the keys it publishes.

The provider is found by its issuer (OpenID Connect Discovery 1.0): its metadata name the address of its keys. Both are
fetched when first needed and kept fresh as other issuers' keys are.
"""

import json
import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import httpx
import jwt
from cryptography.hazmat.primitives.asymmetric import rsa

from api.auth.keys import LARGEST_JWKS, SMALLEST_RSA_BITS, KeysMalformed, UrlKeys, VerifyingKey
from service.persons import Identified
from service.settings import Settings

LEEWAY = 30  # seconds that clocks may differ
LONGEST_AGE = 3600  # seconds from a token's making to its exchange, however long it would be good for
LONGEST_TOKEN = 8192  # characters
DISCOVERY = "/.well-known/openid-configuration"

_ALGORITHMS: Mapping[str, tuple[str, ...]] = {
    "EdDSA": ("EdDSA",),
    "ES256": ("ES256",),
    "RS256": ("RS256",),
    "PS256": ("PS256",),
    "RSA": ("RS256", "PS256"),  # a key that does not say which: either is as strong
}
_FAMILIES = {("OKP", "Ed25519"): ("EdDSA",), ("EC", "P-256"): ("ES256",), ("RSA", None): ("RS256", "PS256")}
_SUBJECT = re.compile(r"[\x21-\x7e]{1,255}")
_MONTH = re.compile(r"(?!0000)[0-9]{4}-(?:0[1-9]|1[0-2])")


class IdTokenRefused(Exception):
    """The token is not accepted; the message says why, in ASCII, and repeats nothing of it."""


def parse_citizen_jwks(document: bytes) -> dict[str, VerifyingKey]:
    """The keys of an identity provider by kid: Ed25519, P-256, RSA of 2048 bits or more (RS256, PS256).

    A single key may have no kid, and is then under "". Raises KeysMalformed as parse_jwks does.
    """
    try:
        found: dict[str, VerifyingKey] = {}
        for entry in json.loads(document)["keys"]:
            if entry.get("d") is not None:
                raise KeysMalformed("the JWKS holds a private key: nobody's tokens can be believed")
            usable = _usable(entry)
            if usable is not None:
                kid = entry.get("kid", "")
                if not isinstance(kid, str) or kid in found:
                    raise KeysMalformed("the JWKS gives two keys one kid, or a kid that is no text")
                found[kid] = usable
    except (ValueError, KeyError, TypeError, AttributeError, jwt.PyJWTError):
        raise KeysMalformed('this is not a JWKS: expected {"keys": [...]} with complete public keys') from None
    if not found:
        raise KeysMalformed("the JWKS holds no Ed25519, P-256 or RSA (2048 bits or more) signing key")
    return found


def _usable(entry: Mapping[str, Any]) -> VerifyingKey | None:
    algorithms = _FAMILIES.get((entry.get("kty", ""), entry.get("crv")))
    if algorithms is None or entry.get("use", "sig") != "sig" or entry.get("alg", algorithms[0]) not in algorithms:
        return None
    key = jwt.PyJWK.from_dict(dict(entry), algorithm=algorithms[0]).key
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < SMALLEST_RSA_BITS:
        return None
    return VerifyingKey(entry.get("alg") or ("RSA" if len(algorithms) > 1 else algorithms[0]), key)


class ProviderKeys(UrlKeys):
    """The keys of an OpenID provider, at the address that its metadata name."""

    parse = staticmethod(parse_citizen_jwks)

    def __init__(self, issuer: str, client: httpx.AsyncClient | None = None) -> None:
        super().__init__(issuer.rstrip("/") + DISCOVERY, client)
        self._issuer = issuer

    async def single(self) -> VerifyingKey | None:
        """The only key, for a token that names none (Core, 10.1); None where there are several. Raises
        KeysUnavailable."""
        if not self._keys:
            await self.find("")
        return next(iter(self._keys.values())) if len(self._keys) == 1 else None

    async def _download(self) -> bytes:
        metadata = await self._read(self._url)
        try:
            found = json.loads(metadata)
            issuer, address = found["issuer"], found["jwks_uri"]
        except (ValueError, KeyError, TypeError):
            raise KeysMalformed("the provider's metadata are not those of an OpenID provider") from None
        if issuer != self._issuer:
            raise KeysMalformed("the provider's metadata are of another issuer: set TANPUHUI_CITIZEN_ISSUER to its own")
        if not isinstance(address, str) or not address.startswith(("https://", self._issuer.split("//")[0] + "//")):
            raise KeysMalformed("the provider's keys are not at an https:// address: they could be replaced on the way")
        return await self._read(address)

    async def _read(self, url: str) -> bytes:
        async with self._client.stream("GET", url, headers={"Accept": "application/json"}) as answer:
            answer.raise_for_status()
            document = bytearray()
            async for piece in answer.aiter_bytes():
                document += piece
                if len(document) > LARGEST_JWKS:
                    raise KeysMalformed(f"the provider's answer is larger than {LARGEST_JWKS} bytes")
            return bytes(document)


class Citizens:
    """Who somebody is, by an ID token of one identity provider for one audience."""

    def __init__(self, issuer: str, audience: str, keys: ProviderKeys | None = None) -> None:
        self._issuer, self._audience = issuer, audience
        self.keys = keys or ProviderKeys(issuer)

    async def identify(self, token: str, nonce: str | None) -> Identified:
        """Whom the token speaks of. With a nonce, the token must carry it.

        Raises IdTokenRefused, KeysUnavailable.
        """
        if len(token) > LONGEST_TOKEN:
            raise IdTokenRefused("the ID token is too long")
        self.keys.refresh_if_due()
        claims = await self._verified(token)
        if not is_for(claims, self._audience):
            raise IdTokenRefused("the ID token is for another audience (aud, azp)")
        age = time.time() - claims["iat"]
        if age > LONGEST_AGE + LEEWAY:
            raise IdTokenRefused("the ID token was made too long ago (iat)")
        if nonce is not None and claims.get("nonce") != nonce:
            raise IdTokenRefused("the ID token carries another nonce")
        subject, birth = claims["sub"], claims.get("birthdate")
        if not isinstance(subject, str) or not _SUBJECT.fullmatch(subject):
            raise IdTokenRefused("the subject of the ID token is not one (sub)")
        month = _MONTH.match(birth) if isinstance(birth, str) else None
        return Identified(
            issuer=self._issuer,
            subject=subject,
            birth_month=month[0] if month else None,
            token=token.rpartition(".")[0].encode("ascii"),
            expires_at=datetime.fromtimestamp(min(claims["exp"], claims["iat"] + LONGEST_AGE) + LEEWAY, UTC),
        )

    async def close(self) -> None:
        """Release what the keys hold open."""
        await self.keys.close()

    async def _verified(self, token: str) -> dict[str, Any]:
        try:
            header = jwt.get_unverified_header(token)
        except (jwt.PyJWTError, ValueError):
            raise IdTokenRefused("this is not a JWT") from None
        kid = header.get("kid")
        if "crit" in header or not (kid is None or (isinstance(kid, str) and kid)):
            raise IdTokenRefused("the header of the ID token is not understood")
        version = self.keys.version
        try:
            return self._decoded(token, header, await self._key(kid))
        except IdTokenRefused:
            if kid is not None:
                raise
            await self.keys.find("\0")  # nobody's: asks whether the one key was replaced, if that was not just asked
            if self.keys.version == version:
                raise
            return self._decoded(token, header, await self._key(kid))

    async def _key(self, kid: str | None) -> VerifyingKey:
        key = await (self.keys.single() if kid is None else self.keys.find(kid))
        if key is None:
            raise IdTokenRefused("the key of the ID token (kid) is not the provider's")
        return key

    def _decoded(self, token: str, header: Mapping[str, Any], key: VerifyingKey) -> dict[str, Any]:
        algorithms = _ALGORITHMS[key.algorithm]
        if header.get("alg") not in algorithms:
            raise IdTokenRefused("the algorithm of the ID token is not the one of its key")
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                key.key,
                algorithms=list(algorithms),
                issuer=self._issuer,
                leeway=LEEWAY,
                options={"require": ["iss", "sub", "aud", "exp", "iat"], "verify_aud": False},
            )
        except (jwt.ExpiredSignatureError, jwt.ImmatureSignatureError):
            raise IdTokenRefused("the ID token has expired, or is not valid yet") from None
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError):
            raise IdTokenRefused("the ID token is not the provider's, or a claim has the wrong form") from None
        if type(claims["exp"]) not in (int, float) or type(claims["iat"]) not in (int, float):
            raise IdTokenRefused("the times of the ID token are not numbers")
        return claims


def build_citizens(settings: Settings) -> Citizens | None:
    """The identity provider that these settings name; None when they name none."""
    if settings.citizen_issuer is None or settings.citizen_audience is None:
        return None
    return Citizens(settings.citizen_issuer, settings.citizen_audience)


def is_for(claims: Mapping[str, Any], audience: str) -> bool:
    """Whether a token is for this audience: among several, the one that it was issued to (Core, 3.1.3.7)."""
    named, issued_to = claims["aud"], claims.get("azp")
    audiences = named if isinstance(named, list) else [named]
    if audience not in audiences:
        return False
    return issued_to == audience if issued_to is not None or len(audiences) > 1 else True

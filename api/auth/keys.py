"""The public keys that sign tokens: a JWKS from a file or from the issuer's address, kept fresh."""

import asyncio
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import httpx
import jwt
import structlog
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

log = structlog.get_logger("tanpuhui.auth")

SMALLEST_RSA_BITS = 2048
LONGEST_FETCH = 10.0  # seconds, however slowly the bytes drip
LARGEST_JWKS = 256 * 1024  # bytes; a set holds a handful of keys


class KeysUnavailable(Exception):
    """The keys could not be had, so no token can be judged; says nothing about the token."""


class KeysMalformed(Exception):
    """What was read is not a usable JWKS; the message says why."""


@dataclass(frozen=True, slots=True)
class VerifyingKey:
    """A public key and the one algorithm it verifies: the token's header chooses nothing."""

    algorithm: str
    key: ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey | rsa.RSAPublicKey


def parse_jwks(document: bytes) -> dict[str, VerifyingKey]:
    """The keys of a JWKS by kid: Ed25519 (EdDSA), P-256 (ES256), RSA of 2048 bits or more (RS256).

    Keys of other kinds, for encryption, or without a kid are passed over. Raises KeysMalformed for what is not a JWKS,
    a kid given twice, a private key (it is public now: replace it), or a set in which nothing is left.
    """
    try:
        entries = json.loads(document)["keys"]
        found: dict[str, VerifyingKey] = {}
        for entry in entries:
            if entry.get("d") is not None:
                raise KeysMalformed("the JWKS holds a private key: take it out, and replace that key pair")
            usable = _usable(entry)
            if usable is None:
                continue
            if entry["kid"] in found:
                raise KeysMalformed(f"the JWKS gives the kid {entry['kid']!r} twice: give each key its own")
            found[entry["kid"]] = usable
    except (ValueError, KeyError, TypeError, AttributeError, jwt.PyJWTError):
        raise KeysMalformed('this is not a JWKS: expected {"keys": [...]} with complete public keys') from None
    if not found:
        raise KeysMalformed(
            "the JWKS holds no Ed25519, P-256 or RSA (2048 bits or more) signing key with a kid: add one"
        )
    return found


def _usable(entry: Mapping[str, Any]) -> VerifyingKey | None:
    algorithm = {("OKP", "Ed25519"): "EdDSA", ("EC", "P-256"): "ES256", ("RSA", None): "RS256"}.get(
        (entry.get("kty", ""), entry.get("crv"))
    )
    kid = entry.get("kid")
    if algorithm is None or not isinstance(kid, str) or not kid:
        return None
    if entry.get("use", "sig") != "sig" or entry.get("alg", algorithm) != algorithm:
        return None
    key = jwt.PyJWK.from_dict(dict(entry), algorithm=algorithm).key
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < SMALLEST_RSA_BITS:
        return None
    return VerifyingKey(algorithm, key)


class KeySource(Protocol):
    """Where the keys come from. `version` rises whenever they change, so that what was verified before is forgotten."""

    version: int

    def refresh_if_due(self) -> None:
        """Called before every use; cheap, never waits."""

    async def find(self, kid: str) -> VerifyingKey | None:
        """The key of this kid. Raises KeysUnavailable."""


class FileKeys:
    """Keys from a JWKS file, read again when its modification time changes, looked at once a second at most.

    A file that is broken or gone later leaves the last good keys in place and is logged. Raises KeysUnavailable or
    KeysMalformed when there never were any.
    """

    def __init__(self, path: Path) -> None:
        self.version = 0
        self._path = path
        self._stamp = self._stat()
        self._keys = parse_jwks(self._read())
        self._look_again = time.monotonic() + 1.0

    def refresh_if_due(self) -> None:
        now = time.monotonic()
        if now < self._look_again:
            return
        self._look_again = now + 1.0
        try:
            stamp = self._stat()
            if stamp == self._stamp:
                return
            keys = parse_jwks(self._read())
        except (KeysMalformed, KeysUnavailable) as error:
            log.error("the JWKS file cannot be used, the last good keys stay", path=str(self._path), why=str(error))
            return
        self._stamp, self._keys, self.version = stamp, keys, self.version + 1

    async def find(self, kid: str) -> VerifyingKey | None:
        return self._keys.get(kid)

    def _stat(self) -> tuple[int, int, int]:
        try:
            status = self._path.stat()
        except OSError:
            raise KeysUnavailable(f"no JWKS at {self._path}: put the issuer's public keys there") from None
        return status.st_mtime_ns, status.st_size, status.st_ino

    def _read(self) -> bytes:
        try:
            return self._path.read_bytes()
        except OSError:
            raise KeysUnavailable(f"the JWKS {self._path} cannot be read: check its permissions") from None


class UrlKeys:
    """Keys from the issuer's address, fetched when first needed and again in the background every five minutes.

    An unknown kid asks again, once in ten seconds at most, because the issuer may just have begun to use it. When the
    issuer does not answer, the last good keys stay and it is asked at growing intervals; without any, once a second.
    """

    FRESH = 300.0  # seconds
    UNKNOWN_KID_PAUSE = 10.0
    LONGEST_BACK_OFF = 60.0
    parse = staticmethod(parse_jwks)  # what the document holds, for another kind of issuer another

    def __init__(self, url: str, client: httpx.AsyncClient | None = None) -> None:
        self.version = 0
        self._url = url
        self._client = client or httpx.AsyncClient(timeout=5.0, follow_redirects=False)
        self._document = b""
        self._keys: dict[str, VerifyingKey] = {}
        self._due = 0.0
        self._failures = 0
        self._last_attempt = float("-inf")
        self._fetching: asyncio.Task[None] | None = None

    def refresh_if_due(self) -> None:
        if self._keys and time.monotonic() >= self._due:
            self._start()

    async def find(self, kid: str) -> VerifyingKey | None:
        key = self._keys.get(kid)
        pause = self.UNKNOWN_KID_PAUSE if self._keys else 1.0
        if key is None and (self._fetching is not None or time.monotonic() >= self._last_attempt + pause):
            await asyncio.shield(self._start())  # one fetch serves all who wait; a client that leaves does not stop it
            key = self._keys.get(kid)
        if not self._keys:
            raise KeysUnavailable(
                f"the issuer's keys at {self._url} cannot be fetched: check the address and the network"
            )
        return key

    async def close(self) -> None:
        if self._fetching is not None:
            self._fetching.cancel()
        await self._client.aclose()

    def _start(self) -> asyncio.Task[None]:
        if self._fetching is None:
            self._fetching = asyncio.create_task(self._fetch())
        return self._fetching

    async def _fetch(self) -> None:
        self._last_attempt = time.monotonic()
        try:
            async with asyncio.timeout(LONGEST_FETCH):
                document = await self._download()
            if document != self._document:
                self._keys = self.parse(document)
                self._document, self.version = document, self.version + 1
            self._failures = 0
            self._due = time.monotonic() + self.FRESH
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, KeysMalformed) as error:
            self._failures += 1
            self._due = time.monotonic() + self._back_off()
            log.error("the issuer's keys cannot be fetched, the last good ones stay", url=self._url, why=str(error))
        finally:
            self._fetching = None

    async def _download(self) -> bytes:
        async with self._client.stream("GET", self._url, headers={"Accept": "application/json"}) as answer:
            answer.raise_for_status()
            document = bytearray()
            async for piece in answer.aiter_bytes():
                document += piece
                if len(document) > LARGEST_JWKS:
                    raise KeysMalformed(f"the JWKS is larger than {LARGEST_JWKS} bytes: publish signing keys alone")
            return bytes(document)

    def _back_off(self) -> float:
        return 0.0 if self._failures == 0 else min(self.LONGEST_BACK_OFF, 2.0 ** min(self._failures, 10))

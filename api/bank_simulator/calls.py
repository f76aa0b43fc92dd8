"""The bank's line to the platform: signed calls (RFC 9421, RFC 9530) that are asked again until they are answered.

Of the platform's code nothing is used here: the signature is a public library's, as a bank's engineer would make it.
"""

import asyncio
import contextlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import httpx
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from http_message_signatures import HTTPMessageSigner, HTTPSignatureKeyResolver
from http_message_signatures.algorithms import ECDSA_P256_SHA256, ED25519

TAG = "tanpuhui-bank"
AGAIN = frozenset({408, 429, 500, 502, 503, 504})
"""Nothing was decided, or nobody knows: the same again is always right."""
PATIENCE_S = 60.0  # how long one call is asked again
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 5.0

Private = Ed25519PrivateKey | EllipticCurvePrivateKey


class NoAnswer(Exception):
    """The platform did not answer for as long as the bank's patience lasts; the message names the call."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the platform answered; `slug` is the last part of a problem's type, None of a good answer."""

    status: int
    body: dict[str, Any]

    @property
    def good(self) -> bool:
        return self.status < 300

    @property
    def slug(self) -> str | None:
        return None if self.good else str(self.body.get("type", "")).rpartition(":")[2]


class _OneKey(HTTPSignatureKeyResolver):
    def __init__(self, private: Private) -> None:
        self._private = private

    def resolve_public_key(self, key_id: str) -> None:
        return None  # nothing is verified here

    def resolve_private_key(self, key_id: str) -> Private:
        return self._private


@dataclass(slots=True)
class _Outgoing:
    method: str
    url: str
    headers: dict[str, str]


@dataclass(slots=True)
class Bank:
    """A bank as it calls the platform.

    uri      its registered name
    client   whose base_url is the platform's address
    token    of the role `bank`
    clock    the bank's clock, UTC
    calls    how many requests were made so far
    """

    uri: str
    client: httpx.AsyncClient
    token: str
    key_id: str
    private: Private = field(repr=False)
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    calls: int = 0

    async def read(self, path: str) -> Answer:
        """Ask for something; the answer, whatever it is. Raises NoAnswer."""
        return await self._until_answered("GET", path, b"", self._plain)

    async def fetch(self, path: str) -> bytes:
        """The bytes of a document. Raises NoAnswer, also for a refusal."""
        self.calls += 1
        found = await self.client.get(path, headers=self._plain())
        if found.status_code != 200:
            raise NoAnswer(f"GET {path}: {found.status_code} {found.text[:200]}")
        return found.content

    async def call(
        self, path: str, content: dict[str, Any] | bytes, key: str | None = None, *, kind: str = "application/json"
    ) -> Answer:
        """A signed call, asked again until it is answered: each time signed anew, under the same Idempotency-Key.

        key   of a call that moves points
        kind  the body's media type; a dict is sent as JSON
        """
        body = content if isinstance(content, bytes) else json.dumps(content).encode("utf-8")
        return await self._until_answered("POST", path, body, lambda: self._signed(path, body, key, kind))

    async def lose(self, path: str, content: dict[str, Any], key: str, within_s: float) -> None:
        """Make a call and hang up after so long: whatever was answered, the bank does not know."""
        body = json.dumps(content).encode("utf-8")
        headers = self._signed(path, body, key, "application/json")
        self.calls += 1
        with contextlib.suppress(TimeoutError, httpx.HTTPError):
            async with asyncio.timeout(within_s):
                await self.client.post(path, content=body, headers=headers)

    async def _until_answered(
        self, method: str, path: str, body: bytes, headers: Callable[[], dict[str, str]]
    ) -> Answer:
        loop = asyncio.get_running_loop()
        give_up, pause_s = loop.time() + PATIENCE_S, FIRST_PAUSE_S
        while True:
            self.calls += 1
            try:
                found = await self.client.request(method, path, content=body or None, headers=headers())
                because = f"{found.status_code} {found.text[:200]}"
                if found.status_code not in AGAIN:
                    return Answer(found.status_code, _document(found))
            except httpx.TransportError as error:
                because = f"{type(error).__name__} {error}"
            if loop.time() + pause_s > give_up:
                raise NoAnswer(f"{method} {path}: {because}")
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def _plain(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}", "Accept-Language": "en"}

    def _signed(self, path: str, body: bytes, key: str | None, kind: str) -> dict[str, str]:
        headers = {"Content-Type": kind} | ({} if key is None else {"Idempotency-Key": f'"{key}"'})
        message = _Outgoing("POST", str(self.client.base_url.join(path)), headers)
        algorithm = ED25519 if isinstance(self.private, Ed25519PrivateKey) else ECDSA_P256_SHA256
        covered = ["@method", "@authority", "@path", "content-digest", *(() if key is None else ("idempotency-key",))]
        HTTPMessageSigner(signature_algorithm=algorithm, key_resolver=_OneKey(self.private)).sign(
            message,
            key_id=self.key_id,
            created=self.clock(),
            nonce=os.urandom(16).hex(),
            tag=TAG,
            label="bank",
            covered_component_ids=covered,
            body=body,
        )
        return self._plain() | headers


def _document(found: httpx.Response) -> dict[str, Any]:
    try:
        document = found.json()
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}

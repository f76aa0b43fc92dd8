"""A source as tests play it that signs: registered, with a key of its own, and calls under it."""

import os
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import httpx
import orjson

from api.signatures import SigningKey, public_jwk, sign_report
from tests.api.bankers import ORIGIN, new_key
from tests.running import BATCH, EVENT, Api

ACTIVITIES = "/v1/activities"


@dataclass(slots=True)
class Reporter:
    """A registered source and how it calls: `key` signs, `shift` moves its clock."""

    api: Api
    source: str
    key: SigningKey
    shift: timedelta = field(default_factory=timedelta)

    @property
    def bearer(self) -> dict[str, str]:
        return self.api.bearer("provider", source=self.source)

    def signed(
        self,
        path: str,
        body: bytes,
        kind: str,
        *,
        nonce: str | None = None,
    ) -> dict[str, str]:
        """The headers of a signed call."""
        created: datetime = self.api.platform.fresh.clock() + self.shift
        added = sign_report(
            self.key,
            "POST",
            ORIGIN + path,
            body,
            content_type=kind,
            created=created,
            nonce=nonce or os.urandom(16).hex(),
        )
        return self.bearer | {"Accept-Language": "en"} | added

    async def call(
        self, content: Any, path: str = ACTIVITIES, *, kind: str | None = None, nonce: str | None = None
    ) -> httpx.Response:
        """Make a signed call: one event, or a list of them."""
        body = orjson.dumps(content)
        kind = kind or (BATCH if isinstance(content, list) else EVENT)
        return await self.api.client.post(path, headers=self.signed(path, body, kind, nonce=nonce), content=body)

    async def send(self, content: Any) -> httpx.Response:
        """Make a call that is not signed."""
        kind = BATCH if isinstance(content, list) else EVENT
        headers = self.bearer | {"Accept-Language": "en", "Content-Type": kind}
        return await self.api.client.post(ACTIVITIES, headers=headers, content=orjson.dumps(content))


async def put_source_key(api: Api, source: str, key: SigningKey, **rest: str) -> httpx.Response:
    body = {"uri": source, "key": public_jwk(key), "valid_from": "2026-01-01T00:00:00+08:00"} | rest
    return await api.client.put("/v1/sources/keys", headers=api.bearer("operator"), json=body)


async def put_policy(api: Api, source: str, signing: str) -> httpx.Response:
    body = {"uri": source, "signing": signing}
    return await api.client.put("/v1/sources/policy", headers=api.bearer("operator"), json=body)


async def open_reporter(api: Api, *, p256: bool = False, signing: str | None = "required", **changes: Any) -> Reporter:
    """A newly registered source with a key, which has to sign unless `signing` says otherwise."""
    source = await api.source(**changes)
    key = new_key(f"key-{os.urandom(4).hex()}", p256=p256)
    answer = await put_source_key(api, source, key)
    assert answer.status_code == 200, answer.text
    if signing is not None:
        answer = await put_policy(api, source, signing)
        assert answer.status_code == 200, answer.text
    return Reporter(api, source, key)

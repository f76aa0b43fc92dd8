"""A bank as tests play it: registered, with a key of its own, and calls that it signs."""

import os
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import httpx
import orjson
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from api.signatures import SigningKey, public_jwk, sign_call
from service.redemption.pools import open_pool
from service.redemption.terms import PoolTerms
from tests.running import Api
from tests.service.products.documents import offer, product, put_on_board

ORIGIN = "http://tests"  # what the tests' client is asked at


def new_key(key_id: str = "key-1", *, p256: bool = False) -> SigningKey:
    """A private key that nobody has registered."""
    return SigningKey(key_id, generate_private_key(SECP256R1()) if p256 else Ed25519PrivateKey.generate())


@dataclass(slots=True)
class Banker:
    """A registered bank and how it calls: `key` signs, `shift` moves its clock."""

    api: Api
    uri: str
    key: SigningKey
    shift: timedelta = field(default_factory=timedelta)

    @property
    def bearer(self) -> dict[str, str]:
        return self.api.bearer("bank", bank=self.uri)

    async def get(self, path: str, **headers: str) -> httpx.Response:
        """Read something as the bank."""
        return await self.api.client.get(path, headers=self.bearer | headers)

    def signed(
        self, method: str, path: str, body: bytes, *, idempotency_key: str | None = None, nonce: str | None = None
    ) -> dict[str, str]:
        """The headers of a signed call."""
        created: datetime = self.api.platform.fresh.clock() + self.shift
        added = sign_call(
            self.key,
            method,
            ORIGIN + path,
            body,
            created=created,
            nonce=nonce or os.urandom(16).hex(),
            idempotency_key=idempotency_key,
        )
        return self.bearer | {"Content-Type": "application/json", "Accept-Language": "en"} | added

    async def call(
        self, path: str, content: Any, *, method: str = "POST", idempotency_key: str | None = None
    ) -> httpx.Response:
        """Make a signed call."""
        body = orjson.dumps(content)
        headers = self.signed(method, path, body, idempotency_key=idempotency_key)
        return await self.api.client.request(method, path, headers=headers, content=body)


async def put_bank(api: Api, uri: str, **changes: str) -> httpx.Response:
    body = {"uri": uri, "title_zh": "测试银行", "title_en": "A test bank"} | changes
    return await api.client.put("/v1/banks", headers=api.bearer("operator"), json=body)


async def put_key(api: Api, uri: str, key: dict[str, str], **rest: str) -> httpx.Response:
    body = {"bank": uri, "key": key, "valid_from": "2026-01-01T00:00:00+08:00"} | rest
    return await api.client.put("/v1/banks/keys", headers=api.bearer("operator"), json=body)


async def open_bank(api: Api, uri: str | None = None, *, p256: bool = False) -> Banker:
    """A newly registered bank with a key; its own URI unless one is given."""
    uri = uri or f"https://bank-{os.urandom(4).hex()}.example/green"
    answer = await put_bank(api, uri)
    assert answer.status_code == 200, answer.text
    key = new_key(f"key-{os.urandom(4).hex()}", p256=p256)
    answer = await put_key(api, uri, public_jwk(key))
    assert answer.status_code == 200, answer.text
    return Banker(api, uri, key)


async def offered(bank: Banker, *, budget_points: int = 1_000_000, **changes: Any) -> str:
    """An offer of this bank on the board, ten points and a yuan a unit, with a pool of its own; its id."""
    platform, code = bank.api.platform, f"pool-{os.urandom(5).hex()}"
    goods = product(bank=bank.uri)
    benefit = offer(bank=bank.uri, product=goods.id, pool=code, **changes)
    terms = PoolTerms(code, "demo", "urn:tests:funder", "测试资金池", "A test pool", 10, 1, "stop")
    async with platform.pool.acquire() as connection:
        async with connection.transaction(isolation="read_committed"):
            fen = 10 * budget_points
            await open_pool(connection, terms, points=budget_points, fen=fen, by="op-1", fresh=platform.fresh)
            await put_on_board(connection, goods, benefit)
        await platform.offers.refresh(connection)
    return benefit.id

"""Holds and captures for the bench: a bank, a pool and an offer of one point a unit, and requests made ready.

A capture is signed as any bank would (RFC 9421, Ed25519), by hand: a library's signer is slower than what is measured.
What customers do in between, handing the entitlement to the bank, is written into the table at once.
"""

import base64
import hashlib
import os
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import httpx
import orjson
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

import service.products
from api.signatures.signing import SigningKey, public_jwk
from load_tests.client import http_request

BANK = "https://bank.example/load"
PRODUCT, OFFER, POOL = "load-fund", "load-voucher", "load-pool"
SAVERS = 2_000  # people who hold, each with a token of their own and points of a few rides
SHIPPED = Path(service.products.__file__).parent / "demonstration"
_FIRST_DAY, _LAST_DAY = "2025-11-25", "2029-12-31"
_TEXT = {"zh": "负载测试", "en": "A load test"}
_PLENTY = 10**12

ACCEPTED = "UPDATE service.redemption SET accepted_at = created_at WHERE accepted_at IS NULL AND offer = $1"


class Redeeming:
    """Who redeems, what is held by now and not captured, and the bank's key."""

    def __init__(self, people: Sequence[UUID], tokens: Sequence[str], bank_token: str) -> None:
        self.people, self.tokens, self.bank_token = people, tokens, bank_token
        self.key = SigningKey("load-1", Ed25519PrivateKey.generate())
        self.held: list[str] = []
        self._turn = 0

    async def set_up(self, client: httpx.AsyncClient, operators: Sequence[str]) -> None:
        """Register the bank with its key, open the pool, and list the product and the offer: two operators approve."""
        first, second = ({"Authorization": f"Bearer {token}"} for token in operators)
        bank = {"uri": BANK, "title_zh": "负载测试银行", "title_en": "Bank of the load tests"}
        (await client.put("/v1/banks", headers=first, json=bank)).raise_for_status()
        key = {"bank": BANK, "key": public_jwk(self.key), "valid_from": "2025-01-01T00:00:00Z"}
        (await client.put("/v1/banks/keys", headers=first, json=key)).raise_for_status()
        pool = {
            "pool": POOL,
            "funder": "https://fund.example/load",
            "title_zh": "负载测试资金池",
            "title_en": "Pool of the load tests",
            "rate_fen": 100,
            "rate_points": 1,
            "shortage": "stop",
            "points": _PLENTY,
            "value_fen": _PLENTY,
        }
        (await client.put("/v1/pools", headers=first, json=pool)).raise_for_status()
        for kind, name, document in (("product", PRODUCT, _product()), ("offer", OFFER, _offer())):
            headers = first | {"Content-Type": "text/yaml"}
            (await client.put("/v1/products/documents", headers=headers, content=document)).raise_for_status()
            for headers in (first, second):
                path = f"/v1/products/documents/{kind}/{name}/1/approve"
                (await client.post(path, headers=headers)).raise_for_status()

    def holds(self, count: int) -> Iterator[bytes]:
        """Requests that hold one unit, of one person after the other."""
        consent = {"text_version": "load-1", "given_at": datetime.now(UTC).replace(microsecond=0).isoformat()}
        body = orjson.dumps({"offer": OFFER, "version": 1, "units": 1, "points": 1, "consent": consent})
        ready = []
        for _ in range(count):
            place = self._turn % len(self.people)
            self._turn += 1
            path = f"/v1/participants/{self.people[place]}/redemptions"
            extra = {"Idempotency-Key": f'"{os.urandom(12).hex()}"'}
            request = http_request(
                "POST", path, token=self.tokens[place], content_type="application/json", body=body, extra=extra
            )
            ready.append(request)
        return iter(ready)

    def captures(self, count: int) -> Iterator[bytes]:
        """Signed requests that capture what is held, as much of it as there is."""
        wanted, self.held = self.held[:count], self.held[count:]
        return iter([self._capture(redemption_id) for redemption_id in wanted])

    def keep(self, bodies: Sequence[bytes]) -> None:
        """Note what was held."""
        self.held += [orjson.loads(body)["redemption"]["redemption_id"] for body in bodies]

    def _capture(self, redemption_id: str) -> bytes:
        path, body = f"/v1/bank/redemptions/{redemption_id}/capture", b"{}"
        digest = f"sha-256=:{base64.b64encode(hashlib.sha256(body).digest()).decode('ascii')}:"
        key = f'"{os.urandom(12).hex()}"'
        params = (
            '("@method" "@authority" "@path" "content-digest" "idempotency-key")'
            f';created={int(time.time())};keyid="{self.key.key_id}";nonce="{os.urandom(12).hex()}";tag="tanpuhui-bank"'
        )
        base = (
            f'"@method": POST\n"@authority": 127.0.0.1\n"@path": {path}\n"content-digest": {digest}\n'
            f'"idempotency-key": {key}\n"@signature-params": {params}'
        )
        assert isinstance(self.key.private, Ed25519PrivateKey)
        signature = base64.b64encode(self.key.private.sign(base.encode("ascii"))).decode("ascii")
        extra = {
            "Idempotency-Key": key,
            "Content-Digest": digest,
            "Signature-Input": f"bank={params}",
            "Signature": f"bank=:{signature}:",
        }
        return http_request(
            "POST", path, token=self.bank_token, content_type="application/json", body=body, extra=extra
        )


def _product() -> bytes:
    """A shipped demonstration, as another bank's."""
    text = (SHIPPED / "demo-green-fund.yaml").read_text("utf-8")
    return (
        text.replace("id: demo-green-fund", f"id: {PRODUCT}")
        .replace("bank: https://bank.example/green", f"bank: {BANK}")
        .encode()
    )


def _offer() -> bytes:
    return orjson.dumps(
        {
            "schema": 1,
            "kind": "offer",
            "id": OFFER,
            "version": 1,
            "product": PRODUCT,
            "bank": BANK,
            "pool": POOL,
            "title": _TEXT,
            "benefit": {"kind": "voucher", "per_unit": 1, "unit": "fen"},
            "points_per_unit": 1,
            "value_fen_per_unit": 1,
            "min_units": 1,
            "max_units": 100,
            "grams_mg_per_point": 0,
            "hold_seconds": 86400,
            "valid": {"from": _FIRST_DAY, "to": _LAST_DAY},
            "discloses": _TEXT,
            "consent": {"text_version": "load-1", "text": _TEXT},
        }
    )

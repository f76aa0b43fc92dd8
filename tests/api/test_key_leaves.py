"""A data provider's key is in the log from the moment it is registered, and so is its end."""

import asyncio
import base64
import json
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger.leaf_reading import read_leaf
from service.jws import thumbprint
from tests.running import Api, problem_of

pytestmark = pytest.mark.anyio


def _encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def ed25519_key(kid: str) -> tuple[dict[str, str], bytes]:
    raw = Ed25519PrivateKey.generate().public_key().public_bytes_raw()
    return {"kty": "OKP", "crv": "Ed25519", "x": _encoded(raw), "kid": kid}, raw


def p256_key(kid: str) -> tuple[dict[str, str], bytes]:
    numbers = generate_private_key(SECP256R1()).public_key().public_numbers()
    x, y = numbers.x.to_bytes(32, "big"), numbers.y.to_bytes(32, "big")
    return {"kty": "EC", "crv": "P-256", "x": _encoded(x), "y": _encoded(y), "kid": kid}, x + y


async def register(api: Api, uri: str, key: dict[str, str], **rest: str) -> httpx.Response:
    body = {"uri": uri, "key": key, "valid_from": "2026-05-01T00:00:00+08:00"} | rest
    return await api.client.put("/v1/sources/keys", headers=api.bearer("operator"), json=body)


async def key_leaves(api: Api, uri: str) -> list[dict[str, Any]]:
    async with api.platform.pool.acquire() as connection:
        rows = await connection.fetch(
            "SELECT leaf FROM ledger.leaf_queue WHERE participant_id IS NULL ORDER BY queue_id"
        )
    leaves = [read_leaf(row["leaf"]) for row in rows]
    return [leaf for leaf in leaves if leaf["kind"] == "key" and leaf["name"] == uri]


async def test_a_key_is_announced_once_and_its_end_whenever_it_changes(api: Api) -> None:
    for make, algorithm in ((ed25519_key, "ed25519"), (p256_key, "p256")):
        uri = await api.source()
        key, raw = make("2026-a")
        for _ in range(2):
            assert (await register(api, uri, key)).status_code == 200
        [added] = await key_leaves(api, uri)
        required = {name: key[name] for name in sorted(key) if name != "kid"}
        assert added["key"] == thumbprint(json.dumps(required, separators=(",", ":"))).hex()
        assert (added["action"], added["holder"], added["algorithm"]) == ("added", "source", algorithm)
        assert (added["public_key"], added["since"]) == (raw.hex(), "2026-04-30T16:00:00Z")
        for end, count in (("2026-12-31T00:00:00Z", 1), ("2026-12-31T08:00:00+08:00", 1), ("2026-11-30T00:00:00Z", 2)):
            assert (await register(api, uri, key, valid_to=end)).status_code == 200
            revoked = (await key_leaves(api, uri))[1:]
            assert [leaf["action"] for leaf in revoked] == ["revoked"] * count
        assert [leaf["since"] for leaf in revoked] == ["2026-12-31T00:00:00Z", "2026-11-30T00:00:00Z"]
        problem_of(await register(api, uri, key, valid_to="2027-01-31T00:00:00Z"), "source-key-conflict")
        assert len(await key_leaves(api, uri)) == 3


async def test_a_key_with_an_end_is_announced_with_it_and_two_requests_announce_once(api: Api) -> None:
    uri = await api.source()
    key, _ = ed25519_key("2026-b")
    answers = await asyncio.gather(*(register(api, uri, key, valid_to="2026-12-31T00:00:00Z") for _ in range(6)))
    assert {answer.status_code for answer in answers} == {200}
    assert [leaf["action"] for leaf in await key_leaves(api, uri)] == ["added", "revoked"]


async def test_while_posting_is_suspended_no_key_is_registered(api: Api) -> None:
    uri = await api.source()
    key, _ = ed25519_key("2026-c")
    watch = api.platform.watch
    watch.refused = "guard-ahead"
    try:
        problem_of(await register(api, uri, key), "posting-suspended")
    finally:
        watch.refused = None
    assert await key_leaves(api, uri) == []

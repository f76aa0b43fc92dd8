"""Banks and their keys: registered, announced in the log, suspended and resumed."""

import asyncio
import json
import os

import jwt
import pytest

from api.signatures import public_jwk
from ledger.leaf_reading import read_leaf
from service.jws import thumbprint
from tests.api.bankers import new_key, open_bank, put_bank, put_key
from tests.running import Api, problem_of

pytestmark = pytest.mark.anyio


def some_uri() -> str:
    return f"https://bank-{os.urandom(4).hex()}.example/green"


async def leaves_of(api: Api, uri: str) -> list[dict[str, str]]:
    async with api.platform.pool.acquire() as connection:
        rows = await connection.fetch(
            "SELECT leaf FROM ledger.leaf_queue WHERE participant_id IS NULL ORDER BY queue_id"
        )
    leaves = [read_leaf(row["leaf"]) for row in rows]
    return [leaf for leaf in leaves if leaf["kind"] == "key" and leaf["name"] == uri]


async def test_a_bank_is_registered_once_and_may_change_its_titles(api: Api) -> None:
    uri = some_uri()
    first, again = await put_bank(api, uri), await put_bank(api, uri, title_en="Another title")
    assert first.json() == {
        "uri": uri,
        "title_zh": "测试银行",
        "title_en": "A test bank",
        "programme": api.platform.settings.programme,
        "state": "active",
        "keys": [],
    }
    assert again.json()["title_en"] == "Another title"
    listed = await api.client.get("/v1/banks", headers=api.bearer("operator"), params={"uri": uri})
    assert listed.json() == {"banks": [again.json()]}
    everything = await api.client.get("/v1/banks", headers=api.bearer("operator"))
    assert again.json() in everything.json()["banks"]
    missing = await api.client.get("/v1/banks", headers=api.bearer("operator"), params={"uri": some_uri()})
    problem_of(missing, "bank-not-found")


async def test_a_bank_reads_its_own_registration(api: Api) -> None:
    bank = await open_bank(api)
    own = await bank.get("/v1/bank")
    assert own.json()["uri"] == bank.uri
    assert [key["key"] for key in own.json()["keys"]] == [public_jwk(bank.key)]
    stranger = api.bearer("bank", bank=some_uri())
    problem_of(await api.client.get("/v1/bank", headers=stranger), "bank-not-registered")
    problem_of(await api.client.get("/v1/bank", headers=api.bearer("operator")), "forbidden")


@pytest.mark.parametrize("change", [{"uri": "no uri"}, {"title_zh": ""}, {"more": 1}])
async def test_what_is_no_registration(api: Api, change: dict[str, object]) -> None:
    body = {"uri": some_uri(), "title_zh": "银行", "title_en": "Bank"} | change
    problem_of(await api.client.put("/v1/banks", headers=api.bearer("operator"), json=body), "malformed-request")


@pytest.mark.parametrize("p256", [False, True], ids=["ed25519", "p256"])
async def test_a_key_is_announced_once_and_its_end_whenever_it_changes(api: Api, p256: bool) -> None:
    uri = some_uri()
    await put_bank(api, uri)
    key = public_jwk(new_key(p256=p256))
    for _ in range(2):
        assert (await put_key(api, uri, key)).status_code == 200
    [added] = await leaves_of(api, uri)
    required = {name: key[name] for name in sorted(key) if name != "kid"}
    assert added["key"] == thumbprint(json.dumps(required, separators=(",", ":"))).hex()
    assert (added["action"], added["holder"], added["since"]) == ("added", "bank", "2025-12-31T16:00:00Z")
    assert added["algorithm"] == ("p256" if p256 else "ed25519")
    for end, count in (("2027-12-31T00:00:00Z", 1), ("2027-12-31T08:00:00+08:00", 1), ("2027-11-30T00:00:00Z", 2)):
        assert (await put_key(api, uri, key, valid_to=end)).status_code == 200
        assert [leaf["action"] for leaf in (await leaves_of(api, uri))[1:]] == ["revoked"] * count
    problem_of(await put_key(api, uri, key, valid_to="2028-01-31T00:00:00Z"), "bank-key-conflict")
    problem_of(await put_key(api, uri, key), "bank-key-conflict")
    problem_of(await put_key(api, uri, public_jwk(new_key())), "bank-key-conflict")
    assert len(await leaves_of(api, uri)) == 3


async def test_a_key_is_one_banks_alone(api: Api) -> None:
    one, other = some_uri(), some_uri()
    await put_bank(api, one)
    await put_bank(api, other)
    key = public_jwk(new_key())
    answers = await asyncio.gather(*(put_key(api, uri, key) for uri in (one, other, one, other)))
    assert sorted(answer.status_code for answer in answers) == [200, 200, 409, 409]
    assert len(await leaves_of(api, one)) + len(await leaves_of(api, other)) == 1
    winner = one if await leaves_of(api, one) else other
    problem_of(await put_key(api, winner, key | {"kid": "another"}), "bank-key-conflict")


async def test_a_key_needs_its_bank_and_a_point_on_its_curve(api: Api) -> None:
    key = public_jwk(new_key(p256=True))
    problem_of(await put_key(api, some_uri(), key), "bank-not-found")
    uri = some_uri()
    await put_bank(api, uri)
    problem_of(await put_key(api, uri, key | {"y": key["x"]}), "malformed-request")
    problem_of(await put_key(api, uri, key | {"d": "secret"}), "malformed-request")
    problem_of(await put_key(api, uri, key, valid_to="2026-01-01T00:00:00+08:00"), "malformed-request")


async def test_while_posting_is_suspended_no_key_is_registered(api: Api) -> None:
    uri = some_uri()
    await put_bank(api, uri)
    api.platform.watch.refused = "guard-ahead"
    try:
        problem_of(await put_key(api, uri, public_jwk(new_key())), "posting-suspended")
    finally:
        api.platform.watch.refused = None
    assert await leaves_of(api, uri) == []


async def test_a_bank_is_suspended_and_resumed_and_the_history_says_why(api: Api) -> None:
    bank = await open_bank(api)

    async def set_state(action: str, **reason: str) -> str:
        body = {"uri": bank.uri} | reason
        answer = await api.client.post(f"/v1/banks/{action}", headers=api.bearer("operator"), json=body)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["state"])

    for _ in range(2):
        assert await set_state("suspend", reason="under-review") == "suspended"
    assert (await bank.get("/v1/bank")).json()["state"] == "suspended"
    assert await set_state("resume") == "active"
    async with api.platform.pool.acquire() as connection:
        rows = await connection.fetch(
            "SELECT c.action, c.reason FROM service.bank_change c JOIN service.bank USING (bank_id) "
            "WHERE uri = $1 ORDER BY changed_at",
            bank.uri,
        )
    assert [tuple(row) for row in rows] == [("suspended", "under-review"), ("resumed", None)]
    nobody = {"uri": some_uri(), "reason": "under-review"}
    problem_of(
        await api.client.post("/v1/banks/suspend", headers=api.bearer("operator"), json=nobody), "bank-not-found"
    )
    wordy = {"uri": bank.uri, "reason": "Because of Mr. Li"}
    problem_of(
        await api.client.post("/v1/banks/suspend", headers=api.bearer("operator"), json=wordy), "malformed-request"
    )


async def test_anyone_may_read_the_key_that_entitlements_are_verified_with(api: Api) -> None:
    answer = await api.client.get("/v1/bank/keys")
    assert answer.headers["content-type"] == "application/jwk-set+json"
    [key] = jwt.PyJWKSet.from_json(answer.text).keys
    assert key.key_id == answer.json()["keys"][0]["kid"]
    assert "d" not in answer.json()["keys"][0]

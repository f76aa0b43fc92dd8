"""Calls that a bank signed, over HTTP: taken once, kept for the auditor, explained when they are wrong."""

import asyncio
import base64
import hashlib
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg
import httpx
import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from api.signatures import public_jwk
from service.banks.calls import NONCES_KEPT, sweep_nonces
from service.jws import load_public_key
from tests.api.bankers import Banker, new_key, offered, open_bank, put_key
from tests.conftest import Database
from tests.running import Api, problem_of, running_api

pytestmark = pytest.mark.anyio
REQUESTS = "/v1/bank/requests"


async def kept_calls(api: Api, bank: Banker) -> list[asyncpg.Record]:
    async with api.platform.pool.acquire() as connection:
        return await connection.fetch(
            "SELECT c.*, k.public_key FROM service.signed_call c JOIN service.bank_key k USING (bank_id, key_id) "
            "JOIN service.bank b USING (bank_id) WHERE b.uri = $1 ORDER BY received_at",
            bank.uri,
        )


async def ask(bank: Banker, headers: dict[str, str], body: bytes, path: str = REQUESTS) -> httpx.Response:
    return await bank.api.client.post(path, headers=headers, content=body)


def refused(answer: httpx.Response) -> str:
    return str(problem_of(answer, "call-signature-refused")["reason"])


@pytest.mark.parametrize("p256", [False, True], ids=["ed25519", "p256"])
async def test_a_signed_call_is_kept_so_that_anybody_can_check_it(api: Api, p256: bool) -> None:
    bank = await open_bank(api, p256=p256)
    wanted = {"offer": await offered(bank), "units": 3, "reference": "APP-1"}
    answer = await bank.call(REQUESTS, wanted)
    assert answer.status_code == 201, answer.text
    [kept] = await kept_calls(api, bank)
    assert (kept["method"], kept["path"], kept["body"]) == ("POST", REQUESTS, orjson.dumps(wanted))
    digest = base64.b64encode(hashlib.sha256(kept["body"]).digest()).decode("ascii")
    assert f'"content-digest": sha-256=:{digest}:' in kept["signature_base"].decode("ascii")
    public = load_public_key(kept["public_key"])
    if isinstance(public, Ed25519PublicKey):
        public.verify(kept["signature"], kept["signature_base"])
    assert len(kept["signature"]) == 64
    async with api.platform.pool.acquire() as connection:
        for change in ("UPDATE service.signed_call SET body = ''", "DELETE FROM service.signed_call"):
            with pytest.raises(asyncpg.PostgresError):
                await connection.execute(change)


async def test_a_signature_is_taken_once_even_by_two_processes_at_once(api: Api) -> None:
    bank = await open_bank(api)
    body = orjson.dumps({"offer": await offered(bank), "units": 1})
    headers = bank.signed("POST", REQUESTS, body)
    answers = await asyncio.gather(*(ask(bank, headers, body) for _ in range(8)))
    assert sorted(answer.status_code for answer in answers) == [201] + [403] * 7
    assert {refused(answer) for answer in answers if answer.status_code == 403} == {"nonce-used"}
    assert len(await kept_calls(api, bank)) == 1
    again = bank.signed("POST", REQUESTS, body)
    assert (await ask(bank, again, body)).status_code == 201


async def test_a_nonce_is_the_banks_own(api: Api) -> None:
    one, other = await open_bank(api), await open_bank(api)
    for bank in (one, other):
        body = orjson.dumps({"offer": await offered(bank), "units": 1})
        headers = bank.signed("POST", REQUESTS, body, nonce="the-same-nonce-of-two")
        assert (await ask(bank, headers, body)).status_code == 201


async def test_another_banks_signature_is_none_of_this_one(api: Api) -> None:
    one, other = await open_bank(api), await open_bank(api)
    body = orjson.dumps({"offer": await offered(one), "units": 1})
    stolen = other.signed("POST", REQUESTS, body) | one.bearer
    assert refused(await ask(one, stolen, body)) == "unknown-key"
    forged = replace(one.key, private=other.key.private)
    assert refused(await replace_key(one, forged).call(REQUESTS, {"offer": "any", "units": 1})) == "signature"


def replace_key(bank: Banker, key: Any) -> Banker:
    return replace(bank, key=key)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda headers: headers.pop("Signature"), "missing"),
        (lambda headers: headers.pop("Signature-Input"), "missing"),
        (lambda headers: headers.pop("Content-Digest"), "digest-missing"),
        (lambda headers: headers.update({"Signature": "bank=:AAAA:"}), "signature"),
    ],
    ids=["signature", "input", "digest", "wrong"],
)
async def test_nothing_is_done_on_a_wrong_signature(
    api: Api, change: Callable[[dict[str, str]], Any], reason: str
) -> None:
    bank = await open_bank(api)
    body = orjson.dumps({"offer": await offered(bank), "units": 1})
    headers = bank.signed("POST", REQUESTS, body)
    change(headers)
    assert refused(await ask(bank, headers, body)) == reason
    assert await kept_calls(api, bank) == []


async def test_another_body_and_another_address_than_were_signed(api: Api) -> None:
    bank = await open_bank(api)
    offer_id = await offered(bank)
    body = orjson.dumps({"offer": offer_id, "units": 1})
    more = orjson.dumps({"offer": offer_id, "units": 9})
    assert refused(await ask(bank, bank.signed("POST", REQUESTS, body), more)) == "digest"
    assert refused(await ask(bank, bank.signed("POST", "/v1/bank/other", body), body)) == "signature"
    problem_of(await ask(bank, bank.signed("POST", REQUESTS, body), body, REQUESTS + "?x=1"), "malformed-request")
    here = bank.signed("POST", REQUESTS, body)
    elsewhere = await api.client.post(REQUESTS, headers=here | {"Host": "carbon.example"}, content=body)
    assert refused(elsewhere) == "signature"


async def test_where_points_move_the_operations_key_is_signed_too(api: Api) -> None:
    bank, body = await open_bank(api), b"{}"
    path = f"/v1/bank/redemptions/{UUID(int=7)}/capture"
    whole = bank.signed("POST", path, body, idempotency_key="op-1")
    problem_of(await ask(bank, whole, body, path), "redemption-not-found")  # the signature was taken
    without = bank.signed("POST", path, body)
    assert problem_of(await ask(bank, without, body, path), "idempotency-key-missing")["reason"] == "absent"
    assert refused(await ask(bank, without | {"Idempotency-Key": '"op-1"'}, body, path)) == "coverage"
    for text in ('"op 1"', '"', "op 1", '""', "", '"' + "k" * 129 + '"'):
        answer = await ask(bank, without | {"Idempotency-Key": text}, body, path)
        assert problem_of(answer, "idempotency-key-missing")["reason"] == "malformed"
    twice = [*whole.items(), ("Idempotency-Key", '"op-2"')]
    answer = await api.client.post(path, headers=twice, content=body)
    assert problem_of(answer, "idempotency-key-missing")["reason"] == "repeated"


async def test_the_address_is_signed_as_it_is_sent(api: Api) -> None:
    bank, path = await open_bank(api), "/v1/bank/sandbox/signatur%65"
    answer = await ask(bank, bank.signed("POST", path, b"{}", idempotency_key="op-1"), b"{}", path)
    assert answer.json()["accepted"] is True, answer.text
    answer = await ask(bank, bank.signed("POST", SANDBOX, b"{}", idempotency_key="op-1"), b"{}", path)
    assert answer.json()["reason"] == "signature"


async def test_a_banks_clock_may_be_off_by_so_much(api: Api) -> None:
    bank = await open_bank(api)
    wanted = {"offer": await offered(bank), "units": 1}
    for shift_s, reason in ((-290, None), (-310, "too-old"), (25, None), (40, "in-future")):
        bank.shift = timedelta(seconds=shift_s)
        answer = await bank.call(REQUESTS, wanted)
        assert answer.status_code == 201 if reason is None else refused(answer) == reason


async def test_a_key_that_was_ended_signs_nothing_more(api: Api) -> None:
    bank = await open_bank(api)
    wanted = {"offer": await offered(bank), "units": 1}
    assert (await bank.call(REQUESTS, wanted)).status_code == 201
    now = api.platform.fresh.clock()
    assert (await put_key(api, bank.uri, public_jwk(bank.key), valid_to=now.isoformat())).status_code == 200
    assert refused(await bank.call(REQUESTS, wanted)) == "key-not-valid"
    fresh = new_key("the-next")
    assert (await put_key(api, bank.uri, public_jwk(fresh))).status_code == 200
    bank.key = fresh
    assert (await bank.call(REQUESTS, wanted)).status_code == 201


async def test_nonces_are_forgotten_after_their_signatures_are_too_old(database: Database, api: Api) -> None:
    bank = await open_bank(api)
    assert (await bank.call(REQUESTS, {"offer": await offered(bank), "units": 1})).status_code == 201
    connection = await asyncpg.connect(database.admin)
    try:
        made = await connection.execute(
            "INSERT INTO service.bank_nonce (bank_id, nonce, seen_at) SELECT bank_id, n::text, "
            "clock_timestamp() - $2::interval - n * interval '1 second' + interval '1 second' "
            "FROM service.bank, generate_series(0, 2) AS n WHERE uri = $1",
            bank.uri,
            NONCES_KEPT,
        )
        assert made == "INSERT 0 3"
        async with api.platform.pool.acquire() as app:
            assert await sweep_nonces(app) >= 1
        left = await connection.fetchval(
            "SELECT count(*) FROM service.bank_nonce JOIN service.bank USING (bank_id) "
            "WHERE uri = $1 AND seen_at < clock_timestamp() - $2::interval",
            bank.uri,
            NONCES_KEPT,
        )
        assert left <= 1  # the one that came of age meanwhile
    finally:
        await connection.close()


# What a bank asks a person


async def test_a_request_waits_for_its_person_and_its_code_is_not_stored(api: Api, database: Database) -> None:
    bank, other = await open_bank(api), await open_bank(api)
    offer_id = await offered(bank)
    made = (await bank.call(REQUESTS, {"offer": offer_id, "units": 3, "reference": "APP-1"})).json()
    assert len(made["approval_code"]) == 22
    read = await bank.get(f"{REQUESTS}/{made['request_id']}")
    assert {name: read.json()[name] for name in ("state", "offer", "offer_version", "units", "reference")} == {
        "state": "pending",
        "offer": offer_id,
        "offer_version": 1,
        "units": 3,
        "reference": "APP-1",
    }
    assert read.json()["entitlement"] is None
    assert read.json()["expires_at"] == made["expires_at"]
    assert "approval_code" not in read.json()
    problem_of(await other.get(f"{REQUESTS}/{made['request_id']}"), "bank-request-not-found")
    problem_of(await bank.get(f"{REQUESTS}/{UUID(int=0)}"), "bank-request-not-found")
    async with api.platform.pool.acquire() as connection:
        row = await connection.fetchrow(
            "SELECT * FROM service.bank_request WHERE request_id = $1", UUID(made["request_id"])
        )
    assert row is not None
    assert made["approval_code"] not in repr(dict(row))
    assert row["code_hash"] == hashlib.sha256(made["approval_code"].encode()).digest()


async def test_a_bank_asks_for_its_own_offers_within_their_limits(api: Api) -> None:
    bank, other = await open_bank(api), await open_bank(api)
    offer_id = await offered(bank, min_units="2", max_units="5")
    for units, good in ((1, False), (2, True), (5, True), (6, False)):
        answer = await bank.call(REQUESTS, {"offer": offer_id, "units": units})
        if good:
            assert answer.status_code == 201, answer.text
        else:
            assert problem_of(answer, "malformed-request")["errors"][0]["pointer"] == "/units"
    problem_of(await other.call(REQUESTS, {"offer": offer_id, "units": 2}), "offer-not-found")
    problem_of(await bank.call(REQUESTS, {"offer": "no-such-offer", "units": 2}), "offer-not-found")
    suspended = {"uri": bank.uri, "reason": "under-review"}
    await api.client.post("/v1/banks/suspend", headers=api.bearer("operator"), json=suspended)
    problem_of(await bank.call(REQUESTS, {"offer": offer_id, "units": 2}), "bank-suspended")


# The sandbox

SANDBOX = "/v1/bank/sandbox/signature"


async def verdict(bank: Banker, headers: dict[str, str], body: bytes = b"{}") -> dict[str, Any]:
    answer = await ask(bank, headers, body, SANDBOX)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_the_sandbox_shows_what_was_to_be_signed(api: Api) -> None:
    bank = await open_bank(api)
    headers = bank.signed("POST", SANDBOX, b"{}", idempotency_key="op-1")
    for _ in range(2):  # no nonce is used up
        found = await verdict(bank, headers)
        assert (found["accepted"], found["reason"], found["missing"]) == (True, None, [])
    assert isinstance(bank.key.private, Ed25519PrivateKey)
    signature = base64.b64encode(bank.key.private.sign(found["signature_base"].encode("ascii"))).decode("ascii")
    assert headers["Signature"] == f"bank=:{signature}:"
    assert found["digest_wanted"] == found["digest_sent"]
    assert found["known_keys"] == [bank.key.key_id]
    assert await kept_calls(api, bank) == []


async def test_the_sandbox_says_what_is_wrong(api: Api) -> None:
    bank = await open_bank(api)
    headers = bank.signed("POST", SANDBOX, b"{}", idempotency_key="op-1")
    short = headers | {"Signature-Input": headers["Signature-Input"].replace(' "content-digest"', "")}
    found = await verdict(bank, short)
    assert (found["accepted"], found["reason"], found["missing"]) == (False, "coverage", ["content-digest"])
    found = await verdict(bank, headers, b"{ }")
    assert found["reason"] == "digest"
    assert found["digest_wanted"] != found["digest_sent"]
    found = await verdict(bank, bank.signed("POST", "/v1/bank/other", b"{}"))
    assert found["reason"] == "signature"
    assert f'"@path": {SANDBOX}\n' in found["signature_base"]
    found = await verdict(bank, dict(bank.bearer))
    assert (found["reason"], found["signature_base"]) == ("missing", None)
    chinese = await verdict(bank, bank.bearer | {"Accept-Language": "zh"})
    assert chinese["detail"].startswith("缺少请求头")
    gone = headers | {"Signature-Input": headers["Signature-Input"].replace('"@path"', '"@path" "x-gone"')}
    assert '"x-gone": <' in (await verdict(bank, gone))["signature_base"]


async def test_the_sandbox_tells_the_time(api: Api) -> None:
    bank = await open_bank(api)
    clock = (await bank.get("/v1/bank/sandbox/clock")).json()
    assert (clock["offset_seconds"], clock["movable"]) == (0, False)
    assert "TANPUHUI_CLOCK_OFFSET" in clock["how"]


async def test_there_is_no_sandbox_in_production(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    bank = await open_bank(api)
    settings = api.platform.settings.model_copy(update={"mode": "production"})
    monkeypatch.setattr(api.platform, "settings", settings)
    problem_of(await ask(bank, bank.bearer, b"{}", SANDBOX), "sandbox-only")
    problem_of(await bank.get("/v1/bank/sandbox/clock"), "sandbox-only")


async def test_a_moved_clock_decides_which_signatures_are_fresh(fresh_database: Database, tmp_path: Any) -> None:
    ahead = timedelta(days=40)
    async with running_api(fresh_database.app, None, tmp_path, clock_offset=ahead) as api:
        bank = await open_bank(api)
        body = b"{}"
        assert (await verdict(bank, bank.signed("POST", SANDBOX, body)))["accepted"]
        bank.shift = -ahead
        assert (await verdict(bank, bank.signed("POST", SANDBOX, body)))["reason"] == "too-old"
        clock = (await bank.get("/v1/bank/sandbox/clock")).json()
        assert clock["offset_seconds"] == ahead.total_seconds()

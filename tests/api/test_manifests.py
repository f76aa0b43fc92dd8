"""Closing days: who may sign what, when, and how often; what was received beside what was claimed; one leaf each."""

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import jwt
import orjson
import pytest
import rfc8785
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from api.provider import ImportStopped
from api.provider.closing import OutcomesFile, read_outcomes, read_private_key, sign
from api.provider.report import Fate
from ledger.leaf_reading import read_leaf
from service.clock import SHANGHAI, shanghai_day, uuid7
from service.manifests import Claimed, Counts, Statement, closable_from
from tests.conftest import Database
from tests.running import Api, Person, problem_of, ride, running_api

pytestmark = pytest.mark.anyio

_KEYS: dict[str, Any] = {"EdDSA": Ed25519PrivateKey.generate(), "ES256": generate_private_key(SECP256R1())}
_OTHER = Ed25519PrivateKey.generate()


def today() -> date:
    return shanghai_day(datetime.now(UTC))


def jwk(key: Any, algorithm: str, kid: str = "k1") -> dict[str, str]:
    made: dict[str, str] = jwt.get_algorithm_by_name(algorithm).to_jwk(key.public_key(), as_dict=True)
    return {name: made[name] for name in ("kty", "crv", "x", "y") if name in made} | {"kid": kid}


def claim(**changes: Any) -> dict[str, Any]:
    nothing = {"sent": 0, "credited": 0, "refused": 0, "duplicate": 0, "reduction_mg": "0", "points": "0"}
    return nothing | changes


def statement(source: str, **changes: Any) -> dict[str, Any]:
    return {"v": "1", "source": source, "day": str(today()), "sequence": 1, "scenarios": {}, "late": []} | changes


def signed(payload: Any, key: Any = None, algorithm: str = "EdDSA", kid: str = "k1", **header: Any) -> bytes:
    content = payload if isinstance(payload, bytes) else orjson.dumps(payload)
    headers = {"kid": kid, "typ": None, **header}
    return jwt.PyJWS().encode(content, key or _KEYS[algorithm], algorithm, headers=headers).encode()


def _at(hour: str) -> dict[str, str]:
    return {"started_at": f"2026-05-01T{hour}:00:00+08:00", "ended_at": f"2026-05-01T{hour}:20:00+08:00"}


@dataclass(slots=True)
class Closing:
    """One platform at two times: `now`, when events arrive, and `then`, when the day is over."""

    now: Api
    then: Api
    headers: dict[str, str] = field(default_factory=lambda: {"Accept-Language": "en"})

    async def source(self, algorithm: str = "EdDSA", **changes: Any) -> str:
        """A source with a key k1."""
        uri = await self.now.source()
        assert (await self.register(uri, jwk(_KEYS[algorithm], algorithm), **changes)).status_code == 200
        return uri

    async def register(self, uri: str, key: Mapping[str, Any], **changes: Any) -> httpx.Response:
        body = {"uri": uri, "key": key, "valid_from": "2026-01-01T00:00:00+08:00"} | changes
        headers = self.now.bearer("operator") | self.headers
        return await self.then.client.put("/v1/sources/keys", headers=headers, json=body)

    async def post(
        self, source: str, body: bytes, *, api: Api | None = None, kind: str = "application/jose"
    ) -> httpx.Response:
        headers = self.now.bearer("provider", source=source) | self.headers | {"Content-Type": kind}
        return await (api or self.then).client.post("/v1/manifests", headers=headers, content=body)

    async def get(self, source: str, path: str, role: str = "provider", **headers: str) -> Any:
        named = {"source": source} if role == "provider" else {}
        bearer = self.now.bearer(role, **named)  # type: ignore[arg-type]
        answer = await self.then.client.get(path, headers=bearer | self.headers | headers)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def rides(self, source: str) -> tuple[Person, list[dict[str, Any]]]:
        """Two rides credited, one refused for good, one refused without anything kept, one sent twice."""
        person = await self.now.person(source)
        first = ride(source, person.subject, "ride-1")
        events = [
            first,
            ride(source, person.subject, "ride-2", km="4", **_at("09")),
            ride(source, person.subject, "ride-3", **_at("10") | {"ended_at": "2026-05-01T10:00:30+08:00"}),
            ride(source, "nobody", "ride-4"),
            first,
        ]
        return person, await self.now.report(source, events)


@pytest.fixture(scope="module")
async def closing(database: Database, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Closing]:
    folder = tmp_path_factory.mktemp("closing")
    tomorrow = timedelta(days=1)
    async with (
        running_api(database.app, database.redis, folder) as now,
        running_api(database.app, database.redis, folder, clock_offset=tomorrow) as then,
    ):
        yield Closing(now, then)


async def leaves_of(database: Database, source: str) -> list[bytes]:
    """Every leaf of this source's manifests, in the log or on its way there."""
    connection = await asyncpg.connect(database.auditor)
    try:
        rows = await connection.fetch("SELECT leaf FROM ledger.leaf UNION ALL SELECT leaf FROM ledger.leaf_queue")
    finally:
        await connection.close()
    found = [row["leaf"] for row in rows]
    return [leaf for leaf in found if (fields := read_leaf(leaf))["kind"] == "manifest" and fields["source"] == source]


@pytest.mark.parametrize("algorithm", ["EdDSA", "ES256"])
async def test_a_day_is_closed_and_both_sides_agree(closing: Closing, database: Database, algorithm: str) -> None:
    source = await closing.source(algorithm)
    _, outcomes = await closing.rides(source)
    credited = [outcome for outcome in outcomes if outcome["outcome"] == "credited"]
    assert [outcome["outcome"] for outcome in outcomes] == ["credited", "credited", "refused", "refused", "duplicate"]
    grams = sum(outcome["reduction_mg"] for outcome in credited)
    points = sum(outcome["points"] for outcome in credited)
    counts = claim(sent=5, credited=2, refused=1, duplicate=1, reduction_mg=str(grams), points=str(points))
    body = signed(statement(source, scenarios={"shared-ebike": counts}), algorithm=algorithm)
    answer = await closing.post(source, body)
    assert answer.status_code == 201, answer.text
    manifest = answer.json()["manifest"]
    assert (manifest["day"], manifest["sequence"], manifest["agrees"]) == (str(today()), 1, True)
    assert manifest["digest"] == hashlib.sha256(body).hexdigest()
    assert manifest["jws"] == body.decode()
    assert manifest["scenarios"] == [
        {
            "scenario": "shared-ebike",
            "agrees": True,
            "sent": 5,
            "duplicate": 1,
            "credited": {"claimed": 2, "received": 2, "difference": 0},
            "refused": {"claimed": 1, "received": 1, "difference": 0},
            "reduction_mg": {"claimed": grams, "received": grams, "difference": 0},
            "points": {"claimed": points, "received": points, "difference": 0},
            "said": "both sides agree",
        }
    ]
    assert answer.json()["days_without_manifest"] == {"count": 0, "latest": []}

    # The leaf by hand, with nothing of ours but the table it lies in. The thumbprint is of the required members alone.
    public = {name: value for name, value in jwk(_KEYS[algorithm], algorithm).items() if name != "kid"}
    thumbprint = hashlib.sha256(rfc8785.dumps(public)).hexdigest()
    assert (manifest["key_id"], manifest["key"]) == ("k1", thumbprint)
    (leaf,) = await leaves_of(database, source)
    fields = json.loads(leaf)
    assert rfc8785.dumps(fields) == leaf
    received = (
        f'{{"day":"{today()}","scenarios":{{"shared-ebike":{{"credited":"2","points":"{points}",'
        f'"reduction_mg":"{grams}","refused":"1"}}}},"source":"{source}","v":"1"}}'
    )
    assert fields | {"nonce": "", "at": ""} == {
        "at": "",
        "day": str(today()),
        "digest": hashlib.sha256(body).hexdigest(),
        "key": thumbprint,
        "kind": "manifest",
        "nonce": "",
        "programme": "demo",
        "received": hashlib.sha256(received.encode()).hexdigest(),
        "region": "310000",
        "sequence": "1",
        "source": source,
        "v": "1",
    }


async def test_gaps_are_shown_in_both_languages_to_both_sides(closing: Closing) -> None:
    source = await closing.source()
    await closing.rides(source)
    counts = claim(sent=5, credited=3, refused=1, duplicate=1, reduction_mg="222314", points="222")
    metro = claim(sent=2, credited=2, reduction_mg="10", points="0")
    body = signed(statement(source, scenarios={"shared-ebike": counts, "metro": metro}))
    answer = await closing.post(source, body)
    assert answer.status_code == 201
    manifest = answer.json()["manifest"]
    assert manifest["agrees"] is False
    metro_view, ride_view = manifest["scenarios"]
    assert metro_view["credited"] == {"claimed": 2, "received": 0, "difference": 2}
    assert ride_view["credited"] == {"claimed": 3, "received": 2, "difference": 1}
    assert ride_view["reduction_mg"] == {"claimed": 222314, "received": 222313, "difference": 1}
    assert ride_view["refused"]["difference"] == ride_view["points"]["difference"] == 0
    assert ride_view["said"] == (
        "credited: claimed 3, received 2, difference +1; reduction (mg): claimed 222314, received 222313, difference +1"
    )
    path = f"/v1/manifests?day={today()}"
    assert (await closing.get(source, path))["manifests"] == [manifest]
    zh = await closing.get(source, f"{path}&source={source}", "operator", **{"Accept-Language": "zh"})
    assert zh["manifests"][0]["scenarios"][1]["said"] == (
        "入账：清单 3，收到 2，相差 +1；减排量（毫克）：清单 222314，收到 222313，相差 +1"
    )
    assert (await closing.get(source, "/v1/manifests"))["manifests"] == [manifest]


async def test_more_received_than_claimed_is_a_gap_too(closing: Closing) -> None:
    source = await closing.source()
    await closing.rides(source)
    manifest = (await closing.post(source, signed(statement(source)))).json()["manifest"]
    assert manifest["scenarios"][0]["credited"] == {"claimed": 0, "received": 2, "difference": -2}
    assert manifest["agrees"] is False


async def test_what_others_sent_is_not_counted(closing: Closing) -> None:
    source, other = await closing.source(), await closing.source()
    person = await closing.now.person(source)
    link = {"source": other, "subject": "their-7"}
    consent = {"purpose": "carbon-credit", "text_version": "tests-1", "given_at": "2026-01-01T08:00:00+08:00"}
    path = f"/v1/participants/{person.participant_id}/links"
    await closing.now.client.post(path, headers=closing.now.bearer("operator"), json=link | {"consent": consent})
    await closing.now.report(source, [ride(source, person.subject)])
    late = {"started_at": "2026-05-02T08:00:00+08:00", "ended_at": "2026-05-02T08:12:00+08:00"}
    sent = await closing.now.report(other, [ride(other, "their-7", **late), ride(other, "their-7", **late)])
    receipt = await closing.get(other, f"/v1/manifests/receipt?day={today()}")
    credited = sum(outcome["outcome"] == "credited" for outcome in sent)
    assert receipt["scenarios"][0]["credited"] == credited >= 1
    assert (await closing.get(source, f"/v1/manifests/receipt?day={today()}"))["scenarios"][0]["credited"] == 1


async def test_a_receipt_outlives_the_link_and_the_credit(closing: Closing) -> None:
    source = await closing.source()
    person, outcomes = await closing.rides(source)
    before = await closing.get(source, f"/v1/manifests/receipt?day={today()}")
    await closing.now.reverse(person.participant_id, outcomes[0]["transfer_id"])
    await closing.now.unlink(person)
    after = await closing.get(source, f"/v1/manifests/receipt?day={today()}&source={source}", "auditor")
    assert before == after
    assert (after["scenarios"][0]["credited"], after["closable"]) == (2, True)
    assert after["closable_from"] == closable_from(today()).isoformat().replace("+00:00", "Z")
    yesterday = today() - timedelta(days=1)
    assert (await closing.get(source, f"/v1/manifests/receipt?day={yesterday}"))["scenarios"] == []


async def test_the_same_again_is_answered_the_same(closing: Closing, database: Database) -> None:
    source = await closing.source("ES256")
    await closing.rides(source)
    payload = statement(source)
    body, again = signed(payload, algorithm="ES256"), signed(payload, algorithm="ES256")
    assert body != again  # ES256 signs differently each time
    first = await closing.post(source, body)
    for repeated in (body, again, body):
        answer = await closing.post(source, repeated)
        assert (answer.status_code, answer.json()) == (200, first.json())
    ended = {"valid_to": "2026-01-02T00:00:00+08:00"}
    for _ in range(2):
        assert (await closing.register(source, jwk(_KEYS["ES256"], "ES256"), **ended)).status_code == 200
    for later in ({}, {"valid_to": "2026-01-02T00:00:01+08:00"}):  # what was ended stays ended
        refused = await closing.register(source, jwk(_KEYS["ES256"], "ES256"), **later)
        problem_of(refused, "source-key-conflict")
    assert (await closing.post(source, body)).status_code == 200  # it was verified when it came
    assert problem_of(await closing.post(source, again), "signature-refused")["reason"] == "key-not-valid"
    assert len(await leaves_of(database, source)) == 1


async def test_another_content_under_a_number_is_a_conflict_and_the_next_number_corrects(
    closing: Closing, database: Database
) -> None:
    source = await closing.source()
    await closing.rides(source)
    body = signed(statement(source))
    await closing.post(source, body)
    other = statement(source, scenarios={"shared-ebike": claim(sent=1, credited=1)})
    conflict = problem_of(await closing.post(source, signed(other)), "manifest-conflict")
    assert conflict["digest"] == hashlib.sha256(body).hexdigest()
    skipped = problem_of(await closing.post(source, signed(other | {"sequence": 3})), "manifest-out-of-sequence")
    assert skipped["expected"] == "2"
    corrected = await closing.post(source, signed(other | {"sequence": 2, "late": ["ride-2", "ride-4", "ride-9"]}))
    assert corrected.status_code == 201, corrected.text
    assert corrected.json()["manifest"]["late"] == {"claimed": 3, "not_received": ["ride-4", "ride-9"]}
    manifests = (await closing.get(source, f"/v1/manifests?day={today()}"))["manifests"]
    assert [manifest["sequence"] for manifest in manifests] == [1, 2]
    assert [m["sequence"] for m in (await closing.get(source, "/v1/manifests"))["manifests"]] == [2]
    assert sorted(read_leaf(leaf)["sequence"] for leaf in await leaves_of(database, source)) == ["1", "2"]
    first = problem_of(
        await closing.post(await closing.source(), signed(statement(source, sequence=2))), "source-mismatch"
    )
    assert first["status"] == 403


async def test_many_at_once_make_one_leaf(closing: Closing, database: Database) -> None:
    source = await closing.source("ES256")
    await closing.rides(source)
    payload = statement(source, scenarios={"shared-ebike": claim(sent=4, credited=2)})
    other = statement(source)
    bodies = [signed(each, algorithm="ES256") for each in (payload, payload, other, payload, other, payload) * 2]
    answers = await asyncio.gather(*(closing.post(source, body) for body in bodies))
    statuses = sorted(answer.status_code for answer in answers)
    assert statuses.count(201) == 1
    assert set(statuses) == {200, 201, 409}
    assert len({answer.text for answer in answers if answer.status_code < 300}) == 1
    assert len(await leaves_of(database, source)) == 1


async def test_a_day_that_is_not_over_stays_open(closing: Closing) -> None:
    source = await closing.source()
    body = signed(statement(source))
    refused = problem_of(await closing.post(source, body, api=closing.now), "day-not-closable")
    assert refused["day"] == str(today())
    assert "it can be closed from" in refused["detail"]
    for day in (today() - timedelta(days=1), date(2000, 1, 1)):
        early = problem_of(await closing.post(source, signed(statement(source, day=str(day)))), "day-not-closable")
        assert "first licence" in early["detail"]
    for day in (today() + timedelta(days=1), date(2999, 12, 31)):
        problem_of(await closing.post(source, signed(statement(source, day=str(day)))), "day-not-closable")
    assert (await closing.get(source, "/v1/manifests"))["days_without_manifest"] == {
        "count": 1,
        "latest": [str(today())],
    }
    assert (await closing.post(source, body)).status_code == 201


async def test_open_days_are_those_licensed_and_over(closing: Closing, database: Database) -> None:
    source = await closing.source()
    folder = closing.now.platform.settings.data_dir
    async with running_api(database.app, database.redis, folder, clock_offset=timedelta(days=4)) as later:
        closed = await closing.post(source, signed(statement(source, day=str(today() + timedelta(days=1)))), api=later)
        assert closed.status_code == 201, closed.text
        expected = [str(today() + timedelta(days=number)) for number in (3, 2, 0)]
        assert closed.json()["days_without_manifest"] == {"count": 3, "latest": expected}
        days = {"valid_from": str(today()), "valid_to": str(today() + timedelta(days=2)), "scenarios": ["metro"]}
        body = {"uri": source, "title_zh": "x", "title_en": "x", "grade": "A"} | days
        changed = await later.client.put("/v1/sources", headers=later.bearer("operator"), json=body)
        assert changed.status_code == 200, changed.text
        path = f"/v1/manifests?source={source}"
        left = (await later.client.get(path, headers=later.bearer("auditor"))).json()["days_without_manifest"]
        assert left["latest"] == expected[1:]


async def test_only_a_key_of_the_very_source_signs(closing: Closing, database: Database) -> None:
    source, other = await closing.source(), await closing.source()
    assert (await closing.register(other, jwk(_OTHER, "EdDSA", "k2"))).status_code == 200
    payload = statement(source)

    async def reason(body: bytes) -> str:
        return str(problem_of(await closing.post(source, body), "signature-refused")["reason"])

    assert await reason(signed(payload, _OTHER)) == "signature"
    assert await reason(signed(payload, _OTHER, kid="k2")) == "unknown-key"
    assert await reason(signed(payload, kid="k9")) == "unknown-key"
    assert await reason(signed(payload, crit=["exp"])) == "header"
    assert await reason(signed(payload, algorithm="ES256")) == "algorithm"
    head, content, signature = signed(payload).decode().split(".")
    forged = signed(statement(source, scenarios={"metro": claim()})).decode().split(".")[1]
    assert await reason(f"{head}.{forged}.{signature}".encode()) == "signature"
    none = base64.urlsafe_b64encode(b'{"alg":"none","kid":"k1"}').rstrip(b"=").decode()
    assert await reason(f"{none}.{content}.{signature}".encode()) == "algorithm"
    problem_of(await closing.post(source, f"{none}.{content}.".encode()), "malformed-jws")
    hs256 = base64.urlsafe_b64encode(b'{"alg":"HS256","kid":"k1"}').rstrip(b"=").decode()
    public = base64.urlsafe_b64decode(jwk(_KEYS["EdDSA"], "EdDSA")["x"] + "=")
    mac = hmac.new(public, f"{hs256}.{content}".encode(), hashlib.sha256).digest()
    confused = f"{hs256}.{content}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"
    assert await reason(confused.encode()) == "algorithm"
    # The other source's own statement, and this one's sent with the other's token.
    problem_of(await closing.post(source, signed(statement(other))), "source-mismatch")
    problem_of(await closing.post(other, signed(payload)), "source-mismatch")
    assert await leaves_of(database, source) == []


async def test_a_key_signs_within_its_time(closing: Closing) -> None:
    ahead = (datetime.now(UTC) + timedelta(days=2)).isoformat()
    future = await closing.source(valid_from=ahead)
    refused = await closing.post(future, signed(statement(future)))
    assert problem_of(refused, "signature-refused")["reason"] == "key-not-valid"
    ended = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    past = await closing.source(valid_to=ended)
    refused = await closing.post(past, signed(statement(past)))
    assert problem_of(refused, "signature-refused")["reason"] == "key-not-valid"


async def test_keys_are_registered_once_listed_and_ended(closing: Closing) -> None:
    source = await closing.source()
    key, other = jwk(_KEYS["EdDSA"], "EdDSA"), jwk(_OTHER, "EdDSA")
    problem_of(await closing.register(source, other), "source-key-conflict")
    problem_of(await closing.register(source, key, valid_from="2026-02-01T00:00:00Z"), "source-key-conflict")
    ended = await closing.register(source, key, valid_to="2026-12-31T16:00:00Z")
    assert ended.json() == {
        "uri": source,
        "key": key,
        "valid_from": "2025-12-31T16:00:00Z",
        "valid_to": "2026-12-31T16:00:00Z",
    }
    second = jwk(_KEYS["ES256"], "ES256", "k2") | {"use": "sig", "alg": "ES256", "key_ops": ["verify"]}
    assert (await closing.register(source, second, valid_from="2026-06-01T00:00:00Z")).status_code == 200
    listed = await closing.get(source, "/v1/sources/keys")
    assert [entry["key"]["kid"] for entry in listed["keys"]] == ["k2", "k1"]
    assert listed["keys"][1] == ended.json()
    assert listed == await closing.get(source, f"/v1/sources/keys?source={source}", "operator")


@pytest.mark.parametrize(
    "change",
    [
        {"kid": None},
        {"kid": "a b"},
        {"kid": "x" * 129},
        {"d": "AAAA"},
        {"crv": "X25519"},
        {"kty": "oct", "k": "AAAA"},
        {"kty": "RSA", "n": "AAAA", "e": "AQAB"},
        {"x": "A" * 42},
        {"x": "A" * 42 + "B"},  # loose bits
        {"x": "AQ" + "A" * 41},  # a point of small order
        {"alg": "HS256"},
        {"use": "enc"},
        {"key_ops": ["sign"]},
        {"kty": "EC", "crv": "P-256", "y": "A" * 43},
    ],
    ids=str,
)
async def test_a_key_must_be_a_whole_public_one(closing: Closing, change: dict[str, Any]) -> None:
    source = await closing.now.source()
    refused = await closing.register(source, jwk(_OTHER, "EdDSA") | change)
    assert problem_of(refused, "malformed-request")["errors"]


async def test_a_key_ends_after_it_begins_and_belongs_to_somebody(closing: Closing) -> None:
    source = await closing.now.source()
    key = jwk(_OTHER, "EdDSA")
    for wrong in ("2025-12-31T16:00:00Z", "0001-01-01T00:00:00+08:00", "9999-12-31T23:59:59-08:00"):
        problem_of(await closing.register(source, key, valid_to=wrong), "malformed-request")
        problem_of(await closing.register(source, key, valid_from=wrong, valid_to=wrong), "malformed-request")
    problem_of(await closing.register("urn:tests:nobody", key), "source-not-found")


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"v": "2"}, "/v"),
        ({"day": "2026-02-30"}, "/day"),
        ({"day": "20260501"}, "/day"),
        ({"day": "1999-12-31"}, "/day"),
        ({"sequence": 0}, "/sequence"),
        ({"sequence": "1"}, "/sequence"),
        ({"sequence": True}, "/sequence"),
        ({"scenarios": {"Metro": claim()}}, "/scenarios/Metro"),
        ({"scenarios": {"metro": claim(sent=-1)}}, "/scenarios/metro/sent"),
        ({"scenarios": {"metro": claim(sent=1, credited=1, duplicate=1)}}, "/scenarios/metro/sent"),
        ({"scenarios": {"metro": claim(points=1)}}, "/scenarios/metro/points"),
        ({"scenarios": {"metro": claim(points="01")}}, "/scenarios/metro/points"),
        ({"scenarios": {"metro": claim(reduction_mg="-1")}}, "/scenarios/metro/reduction_mg"),
        ({"scenarios": {"metro": claim(reduction_mg="1" * 19)}}, "/scenarios/metro/reduction_mg"),
        ({"scenarios": {"metro": claim(colour="green")}}, "/scenarios/metro/colour"),
        ({"scenarios": {f"s{number}": claim() for number in range(201)}}, "/scenarios"),
        ({"late": ["ride-1"]}, "/late"),
        ({"late": ["ride-1", "ride-1"], "sequence": 2}, "/late/1"),
        ({"late": [str(number) for number in range(1001)], "sequence": 2}, "/late"),
        ({"colour": "green"}, "/colour"),
        ({"late": None}, "/late"),
    ],
    ids=str,
)
async def test_a_manifest_is_strict(closing: Closing, change: dict[str, Any], place: str) -> None:
    source = await closing.source()
    refused = problem_of(await closing.post(source, signed(statement(source) | change)), "malformed-request")
    assert place in [error["pointer"].removesuffix("/[key]") for error in refused["errors"]], refused


async def test_what_is_no_manifest_at_all_is_refused(closing: Closing) -> None:
    source = await closing.source()
    problem_of(await closing.post(source, b'{"v":"1"}'), "malformed-jws")
    problem_of(await closing.post(source, signed(statement(source)) + b"\n"), "malformed-jws")
    problem_of(await closing.post(source, signed(b'{"v":"1","v":"1"}')), "malformed-json")
    problem_of(await closing.post(source, signed(b'{"v":NaN}')), "malformed-json")
    problem_of(await closing.post(source, signed(b"[" * 50_000)), "malformed-json")
    problem_of(await closing.post(source, signed(b"[]")), "malformed-request")
    wrong = await closing.post(source, signed(statement(source)), kind="application/json")
    problem_of(wrong, "unsupported-media-type")
    problem_of(await closing.post(source, b"a" * (2**21 + 1)), "payload-too-large")
    nobody = "urn:tests:nobody"
    problem_of(await closing.post(nobody, signed(statement(nobody))), "source-not-registered")


async def test_a_provider_reads_its_own_and_others_name_the_source(closing: Closing) -> None:
    source, other = await closing.source(), await closing.source()
    for path in ("/v1/manifests", f"/v1/manifests/receipt?day={today()}", "/v1/sources/keys"):
        joint = "&" if "?" in path else "?"
        own = closing.now.bearer("provider", source=source)
        assert (await closing.then.client.get(f"{path}{joint}source={source}", headers=own)).status_code == 200
        problem_of(await closing.then.client.get(f"{path}{joint}source={other}", headers=own), "forbidden")
        for role in ("operator", "auditor"):
            headers = closing.now.bearer(role)
            assert (await closing.then.client.get(f"{path}{joint}source={source}", headers=headers)).status_code == 200
            problem_of(await closing.then.client.get(path, headers=headers), "malformed-request")
        rider = closing.now.bearer("participant", "00000000-0000-0000-0000-000000000007")
        problem_of(await closing.then.client.get(path, headers=rider), "forbidden")
        problem_of(
            await closing.then.client.get(f"{path}{joint}source=urn:tests:no", headers=closing.now.bearer("operator")),
            "source-not-found",
        )
    own = closing.now.bearer("provider", source=source)
    for day in ("", "?day=2026-02-30", "?day=20260501", "?day=1999-12-31", "?day=3000-01-01", "?day=2026-5-1"):
        problem_of(await closing.then.client.get(f"/v1/manifests/receipt{day}", headers=own), "malformed-request")


async def test_a_manifest_is_never_changed(closing: Closing, database: Database) -> None:
    source = await closing.source()
    await closing.post(source, signed(statement(source)))
    connection = await asyncpg.connect(database.app)
    try:
        for change in (
            "UPDATE service.manifest SET digest = digest",
            "DELETE FROM service.manifest",
            "UPDATE service.manifest_text SET jws = jws",  # which may be deleted, once its time is over
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(change)
    finally:
        await connection.close()
    owner = await asyncpg.connect(database.owner)
    try:
        with pytest.raises(asyncpg.RaiseError):
            await owner.execute("DELETE FROM service.manifest")
    finally:
        await owner.close()


async def test_the_text_of_a_manifest_is_erased_and_the_rest_stays(closing: Closing, database: Database) -> None:
    source = await closing.source()
    body = signed(statement(source, scenarios={"metro": claim(sent=1)}))
    assert (await closing.post(source, body)).status_code == 201
    late = signed(statement(source, sequence=2, late=["ride-7"]))
    assert (await closing.post(source, late)).status_code == 201
    owner = await asyncpg.connect(database.owner)
    assert await owner.execute("DELETE FROM service.manifest_text t USING service.source s "
                               "WHERE s.source_id = t.source_id AND s.uri = $1", source) == "DELETE 2"  # fmt: skip
    await owner.close()
    for path in (f"/v1/manifests?day={today()}", "/v1/manifests"):
        answer = await closing.get(source, path)
        assert "ride-7" not in json.dumps(answer)
        shown = answer["manifests"][-1]
        assert (shown["digest"], shown["key_id"]) == (hashlib.sha256(late).hexdigest(), "k1")
        assert (shown["jws"], shown["agrees"], shown["scenarios"]) == (None, None, [])
        assert shown["late"] == {"claimed": 0, "not_received": []}
    assert (await closing.post(source, body)).status_code == 200  # the very bytes, known by their digest
    again = signed(statement(source, scenarios={"metro": claim(sent=1)}), typ="JOSE")
    problem_of(await closing.post(source, again), "manifest-conflict")
    assert len(await leaves_of(database, source)) == 2


async def test_a_provider_closes_a_day_from_the_outcomes_it_kept(closing: Closing, tmp_path: Path) -> None:
    source = await closing.source()
    _, outcomes = await closing.rides(source)
    file = tmp_path / "outcomes.csv"
    kinds = ["credited", "credited", "refused", "unkept", "duplicate"]
    rows = [
        f"{outcome['id']},shared-ebike,{kind},{outcome.get('reduction_mg', '')},{outcome.get('points', '')},"
        f"{datetime.now(UTC).isoformat()}"
        for outcome, kind in zip(outcomes, kinds, strict=True)
    ]
    yesterday = (datetime.now(UTC) - timedelta(days=1)).isoformat()
    rows.append(f"ride-0,shared-ebike,credited,82273,82,{yesterday}")
    file.write_text("\n".join(["id,scenario,outcome,reduction_mg,points,at", *rows, ""]), "utf-8")
    private = jwt.get_algorithm_by_name("EdDSA").to_jwk(_KEYS["EdDSA"], as_dict=True)
    key_file = tmp_path / "key.jwk"
    key_file.write_text(json.dumps({name: private[name] for name in ("kty", "crv", "x", "d")} | {"kid": "k1"}))
    made = Statement(source, today(), 1, read_outcomes(file, today()), ())
    answer = await closing.post(source, sign(made, read_private_key(key_file)))
    assert answer.status_code == 201, answer.text
    assert answer.json()["manifest"]["agrees"] is True
    assert answer.json()["manifest"]["scenarios"][0]["sent"] == 5


async def test_the_outcomes_of_an_import_close_its_days(tmp_path: Path) -> None:
    day = date(2026, 5, 1)
    noon = datetime(2026, 5, 1, 12, tzinfo=SHANGHAI)
    midnight = datetime(2026, 5, 2, tzinfo=SHANGHAI)
    path = tmp_path / "outcomes.csv"
    with OutcomesFile(path) as file:
        before = str(uuid7(midnight - timedelta(milliseconds=1), bytes(10)))  # its answer came on the next day
        file.write("a", "metro", Fate("", "", 1500, 1, before), midnight)
        file.write("b", "metro", Fate("", "", 700, 0, str(uuid7(midnight, bytes(10)))), midnight)
        file.write("c", "metro", Fate("condition-not-met/min-duration"), noon)
        file.write("d", "metro", Fate("subject-not-linked"), noon)
        file.write("e", "bus", Fate("duplicate"), noon)
        file.write("f", "bus", Fate("some-later-problem"), noon)
    assert read_outcomes(path, day) == {
        "metro": Claimed(3, 0, Counts(credited=1, refused=1, reduction_mg=1500, points=1)),
        "bus": Claimed(2, 1, Counts()),
    }
    assert read_outcomes(path, date(2026, 5, 2)) == {"metro": Claimed(1, 0, Counts(1, 0, 700, 0))}
    with OutcomesFile(None) as nowhere:
        nowhere.write("a", "metro", Fate(), noon)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("id,scenario,outcome", "the columns reduction_mg, points are missing"),
        ("", "are missing"),
        ("id,scenario,outcome,reduction_mg,points\na,metro,lost,,", "line 2: outcome is one of"),
        ("id,scenario,outcome,reduction_mg,points\na,metro,credited,,1", "reduction_mg is a whole number"),
        ("id,scenario,outcome,reduction_mg,points\na,metro,credited,5", "points is a whole number"),
        ("id,scenario,outcome,reduction_mg,points\na,metro,credited,5.0,1", "reduction_mg is a whole number"),
        ("id,scenario,outcome,reduction_mg,points\na,metro,refused,,\na,metro,credited,5,1", "line 3: line 2 has"),
        ("id,scenario,outcome,reduction_mg,points,at\na,metro,refused,,,2026-05-01T10:00:00", "with an offset"),
        ("id,scenario,outcome,reduction_mg,points,at\na,metro,refused,,,May", "with an offset"),
    ],
)
async def test_outcomes_that_cannot_be_read_stop_with_the_line(tmp_path: Path, rows: str, said: str) -> None:
    path = tmp_path / "outcomes.csv"
    path.write_text(rows, "utf-8")
    with pytest.raises(ImportStopped) as stopped:
        read_outcomes(path, date(2026, 5, 1))
    assert said in stopped.value.text.en


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"kty": "OKP", "crv": "Ed25519", "x": "AAAA"}', "not JSON"])
async def test_only_a_private_key_signs(tmp_path: Path, text: str) -> None:
    path = tmp_path / "key.jwk"
    path.write_text(text, "utf-8")
    with pytest.raises(ImportStopped):
        read_private_key(path)
    public = tmp_path / "public.jwk"
    public.write_text(json.dumps(jwk(_KEYS["EdDSA"], "EdDSA")), "utf-8")
    with pytest.raises(ImportStopped):
        read_private_key(public)

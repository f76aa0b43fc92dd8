"""What sources sign: required or not, checked to the byte, taken once, kept sealed; undone when a key was stolen."""

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
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from api.v1 import source_signing
from service.jws import load_public_key
from service.reports.erasing import erase_bodies_of, erase_old_bodies, rewrap_bodies
from service.reports.keeping import NONCES_KEPT, open_body, sweep_source_nonces
from service.vault.rotation import rotate
from tests.api.bankers import new_key
from tests.api.reporters import ACTIVITIES, Reporter, open_reporter, put_policy, put_source_key
from tests.conftest import Database
from tests.running import BATCH, EVENT, Api, problem_of, ride

pytestmark = pytest.mark.anyio


async def kept(reporter: Reporter) -> list[asyncpg.Record]:
    """What is on record of a source's calls, the oldest first."""
    async with reporter.api.platform.pool.acquire() as connection:
        return await connection.fetch(
            "SELECT r.*, k.public_key FROM service.signed_report r JOIN service.source_key k USING (source_id, key_id) "
            "JOIN service.source s USING (source_id) WHERE s.uri = $1 ORDER BY r.call_id",
            reporter.source,
        )


def body_of(reporter: Reporter, row: asyncpg.Record) -> bytes | None:
    vault = reporter.api.platform.vault
    return open_body(vault, row["call_id"], row["kek_version"], row["body_key"], row["body"])


def refused(answer: httpx.Response) -> str:
    return str(problem_of(answer, "report-signature-refused")["reason"])


async def leaf_of(api: Api, transfer_id: str) -> dict[str, Any]:
    """The leaf of a transfer, wherever it is on its way into the log."""
    async with api.platform.pool.acquire() as connection:
        rows = await connection.fetch(
            "SELECT leaf FROM ledger.leaf_queue WHERE transfer_id = $1 UNION ALL "
            "SELECT leaf FROM ledger.leaf WHERE transfer_id = $1",
            UUID(transfer_id),
        )
    leaf: dict[str, Any] = orjson.loads(rows[0]["leaf"])
    return leaf


async def ask(reporter: Reporter, headers: dict[str, str], body: bytes, path: str = ACTIVITIES) -> httpx.Response:
    return await reporter.api.client.post(path, headers=headers, content=body)


@pytest.mark.parametrize("p256", [False, True], ids=["ed25519", "p256"])
async def test_a_signed_event_is_named_by_its_leaf_and_can_be_checked_by_anybody(api: Api, p256: bool) -> None:
    reporter = await open_reporter(api, p256=p256)
    person = await api.person(reporter.source)
    event = ride(reporter.source, person.subject)
    answer = await reporter.call(event)
    assert answer.status_code == 201, answer.text
    [row] = await kept(reporter)
    leaf = await leaf_of(api, answer.json()["transfer_id"])
    assert leaf["signature"] == hashlib.sha256(row["signature_base"] + b"\n" + row["signature"]).hexdigest()
    assert row["activities"] == [UUID(answer.json()["transfer_id"])]
    assert body_of(reporter, row) == orjson.dumps(event)
    digest = base64.b64encode(hashlib.sha256(orjson.dumps(event)).digest()).decode("ascii")
    base = row["signature_base"].decode("ascii")
    for line in (f'"content-digest": sha-256=:{digest}:', f'"content-type": {EVENT}', '"@authority": tests'):
        assert line in base.split("\n")
    public = load_public_key(row["public_key"])
    if isinstance(public, Ed25519PublicKey):
        public.verify(row["signature"], row["signature_base"])
    assert person.subject.encode() not in row["body"]
    async with api.platform.pool.acquire() as connection:
        for change in ("SET signature_base = ''", "SET body = 'another'", "SET activities = '{}'"):
            with pytest.raises(asyncpg.PostgresError):
                await connection.execute(f"UPDATE service.signed_report {change}")
        with pytest.raises(asyncpg.PostgresError):
            await connection.execute("DELETE FROM service.signed_report")


async def test_a_batch_is_on_record_and_its_leaves_name_no_signature(api: Api) -> None:
    reporter = await open_reporter(api)
    people = [await api.person(reporter.source) for _ in range(2)]
    batch = [ride(reporter.source, person.subject) for person in people]
    answer = await reporter.call([*batch, {"id": "no event", "subject": people[0].subject}])
    assert answer.json()["counts"] == {"credited": 2, "duplicate": 0, "refused": 1}
    made = [each["transfer_id"] for each in answer.json()["outcomes"][:2]]
    [row] = await kept(reporter)
    assert [str(activity) for activity in row["activities"]] == made
    assert len(row["subject_tags"]) == 2
    assert body_of(reporter, row) is not None
    assert [(await leaf_of(api, transfer))["signature"] for transfer in made] == [None, None]


@pytest.mark.parametrize("told", [{}, {"type": "none"}], ids=["event", "malformed"])
async def test_of_whoever_is_not_linked_nothing_is_kept(api: Api, told: dict[str, str]) -> None:
    reporter = await open_reporter(api)
    one, gone = await api.person(reporter.source), await api.person(reporter.source)
    await api.unlink(gone)
    answer = await reporter.call([ride(reporter.source, one.subject), ride(reporter.source, gone.subject) | told])
    assert answer.json()["counts"] == {"credited": 1, "duplicate": 0, "refused": 1}
    [row] = await kept(reporter)
    assert (row["body"], row["body_key"], row["kek_version"], row["subject_tags"]) == (None, None, None, [])
    assert [str(activity) for activity in row["activities"]][:1] == [answer.json()["outcomes"][0]["transfer_id"]]


async def test_whoever_must_sign_gets_nothing_stored_without(api: Api) -> None:
    reporter = await open_reporter(api)
    person = await api.person(reporter.source)
    event = ride(reporter.source, person.subject)
    for content in (event, [event]):
        assert refused(await reporter.send(content)) == "missing"
    dry = await api.client.post(
        f"{ACTIVITIES}?dry_run=true", headers=reporter.bearer | {"Content-Type": EVENT}, content=orjson.dumps(event)
    )
    assert problem_of(dry, "report-signature-refused")["reason"] == "missing"
    headers = reporter.bearer
    retract = await api.client.post("/v1/retractions", headers=headers, json={"ids": [event["id"]]})
    assert refused(retract) == "missing"
    days = {"first_day": "2026-05-01", "last_day": "2026-05-02"}
    facts: dict[str, Any] = {"subject": person.subject, "scenario": "shared-ebike", **days, "facts": {"tier": 1}}
    assert refused(await api.client.post("/v1/settlements", headers=headers, json=facts)) == "missing"
    assert await kept(reporter) == []
    assert (await api.balance(person.participant_id))["points"]["available"] == 0
    assert (await reporter.call(event)).status_code == 201


async def test_who_need_not_sign_may_and_a_signature_that_is_there_is_checked(api: Api) -> None:
    reporter = await open_reporter(api, signing=None)
    person = await api.person(reporter.source)
    assert (await reporter.send(ride(reporter.source, person.subject))).status_code == 201
    assert (await reporter.call(ride(reporter.source, person.subject, km="3", **later(1)))).status_code == 201
    assert len(await kept(reporter)) == 1
    forged = replace(reporter, key=replace(reporter.key, private=new_key().private))
    assert refused(await forged.call(ride(reporter.source, person.subject, **later(2)))) == "signature"


def later(hours: int) -> dict[str, str]:
    return {
        "started_at": f"2026-05-01T{8 + hours:02}:00:00+08:00",
        "ended_at": f"2026-05-01T{8 + hours:02}:12:00+08:00",
    }


async def test_in_production_operators_records_are_signed_unless_it_was_decided_otherwise(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    graded = {grade: await open_reporter(api, signing=None, grade=grade) for grade in "ABC"}
    monkeypatch.setattr(api.platform, "settings", api.platform.settings.model_copy(update={"mode": "production"}))
    for grade, reporter in graded.items():
        person = await api.person(reporter.source)
        answer = await reporter.send(ride(reporter.source, person.subject))
        assert answer.status_code == (403 if grade == "A" else 201), answer.text
    for grade, signing in (("A", "required"), ("B", "optional")):
        own = await api.client.get("/v1/sources/me", headers=graded[grade].bearer)
        assert own.json()["signing"] == signing
    assert (await put_policy(api, graded["A"].source, "optional")).status_code == 200
    person = await api.person(graded["A"].source)
    assert (await graded["A"].send(ride(graded["A"].source, person.subject))).status_code == 201
    problem_of(await put_policy(api, "urn:tests:nobody", "required"), "source-not-found")


async def test_a_signature_is_taken_once_even_by_two_processes_at_once(api: Api) -> None:
    reporter = await open_reporter(api)
    person = await api.person(reporter.source)
    body = orjson.dumps(ride(reporter.source, person.subject))
    headers = reporter.signed(ACTIVITIES, body, EVENT)
    answers = await asyncio.gather(*(ask(reporter, headers, body) for _ in range(8)))
    assert sorted(answer.status_code for answer in answers) == [201] + [403] * 7
    assert {refused(answer) for answer in answers if answer.status_code == 403} == {"nonce-used"}
    again = reporter.signed(ACTIVITIES, body, EVENT)
    assert (await ask(reporter, again, body)).status_code == 200  # the first answer again
    assert [len(row["activities"]) for row in await kept(reporter)] == [1, 1]


async def test_a_rehearsal_is_signed_and_uses_no_nonce_up(api: Api) -> None:
    reporter = await open_reporter(api)
    person = await api.person(reporter.source)
    path, body = f"{ACTIVITIES}?dry_run=true", orjson.dumps(ride(reporter.source, person.subject))
    headers = reporter.signed(path, body, EVENT)
    for _ in range(2):
        assert (await ask(reporter, headers, body, path)).status_code == 201
    assert refused(await ask(reporter, headers, body)) == "signature"  # for another query than was signed
    assert await kept(reporter) == []


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda headers: headers.pop("Signature"), "missing"),
        (lambda headers: headers.pop("Content-Digest"), "digest-missing"),
        (lambda headers: headers.update({"Signature": "source=:AAAA:"}), "signature"),
        (lambda headers: headers.update({"Content-Type": f"{EVENT}; charset=utf-8"}), "signature"),
        (lambda headers: headers.update(
            {"Signature-Input": headers["Signature-Input"].replace(' "content-type"', "")}), "coverage"),
        (lambda headers: headers.update(
            {"Signature-Input": headers["Signature-Input"].replace("tanpuhui-source", "tanpuhui-bank")}), "tag"),
    ],
    ids=["signature", "digest", "wrong", "type", "coverage", "tag"],
)  # fmt: skip
async def test_nothing_is_done_on_a_wrong_signature(
    api: Api, change: Callable[[dict[str, str]], Any], reason: str
) -> None:
    reporter = await open_reporter(api)
    person = await api.person(reporter.source)
    body = orjson.dumps(ride(reporter.source, person.subject))
    headers = reporter.signed(ACTIVITIES, body, EVENT)
    change(headers)
    assert refused(await ask(reporter, headers, body)) == reason
    assert await kept(reporter) == []


async def test_another_body_key_or_time_than_was_signed(api: Api) -> None:
    one, other = await open_reporter(api), await open_reporter(api)
    person = await api.person(one.source)
    body, more = (orjson.dumps(ride(one.source, person.subject, km=km)) for km in ("2", "9"))
    assert refused(await ask(one, one.signed(ACTIVITIES, body, EVENT), more)) == "digest"
    stolen = other.signed(ACTIVITIES, body, EVENT) | one.bearer
    assert refused(await ask(one, stolen, body)) == "unknown-key"
    for shift_s, reason in ((-310, "too-old"), (40, "in-future")):
        one.shift = timedelta(seconds=shift_s)
        assert refused(await one.call(orjson.loads(body))) == reason


async def test_one_event_cannot_be_sent_as_a_batch_nor_with_its_subject_in_a_header(api: Api) -> None:
    reporter = await open_reporter(api)
    person = await api.person(reporter.source)
    event = ride(reporter.source, person.subject)
    body = orjson.dumps(event.pop("data"))
    attributes = {f"ce-{name}": value for name, value in event.items()}
    binary = reporter.signed(ACTIVITIES, body, "application/json") | attributes
    assert refused(await ask(reporter, binary, body)) == "binary"
    batch = orjson.dumps([ride(reporter.source, person.subject, **later(3))])
    headers = reporter.signed(ACTIVITIES, batch, BATCH) | {"Content-Type": EVENT}
    assert refused(await ask(reporter, headers, batch)) == "signature"
    assert await kept(reporter) == []


async def test_a_signature_counts_at_the_platforms_own_address_alone(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    reporter = await open_reporter(api)
    person = await api.person(reporter.source)
    body = orjson.dumps(ride(reporter.source, person.subject))
    headers = reporter.signed(ACTIVITIES, body, EVENT)
    pinned = {"public_authorities": frozenset({"carbon.example"})}
    monkeypatch.setattr(api.platform, "settings", api.platform.settings.model_copy(update=pinned))
    assert refused(await ask(reporter, headers, body)) == "authority"
    pinned = {"public_authorities": frozenset({"carbon.example", "tests"})}
    monkeypatch.setattr(api.platform, "settings", api.platform.settings.model_copy(update=pinned))
    assert (await ask(reporter, headers, body)).status_code == 201


async def test_retractions_are_signed_and_kept_without_their_body(api: Api) -> None:
    reporter = await open_reporter(api)
    person = await api.person(reporter.source)
    event = ride(reporter.source, person.subject)
    assert (await reporter.call(event)).status_code == 201
    answer = await reporter.call({"ids": [event["id"]]}, "/v1/retractions", kind="application/json")
    assert answer.json()["counts"]["reversed"] == 1, answer.text
    *_, row = await kept(reporter)
    assert (row["path"], row["body"], row["activities"], row["subject_tags"]) == ("/v1/retractions", None, [], [])


async def test_nonces_are_forgotten_after_their_signatures_are_too_old(database: Database, api: Api) -> None:
    reporter = await open_reporter(api)
    person = await api.person(reporter.source)
    assert (await reporter.call(ride(reporter.source, person.subject))).status_code == 201
    connection = await asyncpg.connect(database.admin)
    try:
        await connection.execute(
            "INSERT INTO service.source_nonce (source_id, nonce, seen_at) SELECT source_id, 'an old one', "
            "clock_timestamp() - $2::interval - interval '1 second' FROM service.source WHERE uri = $1",
            reporter.source,
            NONCES_KEPT,
        )
        async with api.platform.pool.acquire() as app:
            assert await sweep_source_nonces(app) >= 1
        left = await connection.fetchval(
            "SELECT count(*) FROM service.source_nonce JOIN service.source USING (source_id) WHERE uri = $1",
            reporter.source,
        )
        assert left == 1
    finally:
        await connection.close()


# Bodies tell of several people


async def test_a_body_is_taken_out_for_one_of_its_people_and_the_signature_stays(api: Api) -> None:
    reporter = await open_reporter(api)
    one, other = await api.person(reporter.source), await api.person(reporter.source)
    assert (await reporter.call([ride(reporter.source, each.subject) for each in (one, other)])).status_code == 200
    assert (await reporter.call(ride(reporter.source, other.subject, **later(1)))).status_code == 201
    unjudged = ride(reporter.source, one.subject, **later(2)) | {"type": "none"}
    assert (await reporter.call([unjudged, ride(reporter.source, other.subject, **later(3))])).status_code == 200
    async with api.platform.pool.acquire() as connection:
        assert await erase_bodies_of(connection, UUID(one.participant_id)) == 2
        assert await erase_bodies_of(connection, UUID(one.participant_id)) == 0
    first, second, third = await kept(reporter)
    assert (body_of(reporter, first), body_of(reporter, third)) == (None, None)
    assert first["body_erased_at"] is not None
    assert first["signature_base"]
    assert first["subject_tags"] == []
    assert body_of(reporter, second) is not None
    with pytest.raises(asyncpg.PostgresError):
        async with api.platform.pool.acquire() as connection:
            await connection.execute(
                "UPDATE service.signed_report SET body = 'a', body_key = 'a', kek_version = 1, body_erased_at = NULL "
                "WHERE call_id = $1",
                first["call_id"],
            )


async def test_bodies_are_kept_for_their_time_and_follow_the_key_encryption_key(fresh_api: Api) -> None:
    api = fresh_api
    reporter = await open_reporter(api)
    person = await api.person(reporter.source)
    for hour in range(3):
        assert (await reporter.call(ride(reporter.source, person.subject, **later(hour)))).status_code == 201
    rows = await kept(reporter)
    bodies = [body_of(reporter, row) for row in rows[1:]]
    async with api.platform.pool.acquire() as connection:
        assert await erase_old_bodies(connection, rows[1]["received_at"]) == 1
        done = await rotate(connection, api.platform.vault, settled_s=0)
        version = done.version
        assert (done.wrapped, done.destroyed) == (1 + 2, (1,))  # a person's key, and those of two bodies
        assert await rewrap_bodies(connection, api.platform.vault, version, at_once=1) == 0
    assert (await reporter.call(ride(reporter.source, person.subject, **later(3)))).status_code == 201
    after = await kept(reporter)
    assert [row["kek_version"] for row in after] == [None, version, version, version]
    assert [body_of(reporter, row) for row in after[1:3]] == bodies


# A stolen key


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is one process, which knows at once."""
    monkeypatch.setattr(source_signing, "SETTLES_S", 0)


async def revoke(reporter: Reporter, since: str, *, kid: str | None = None, dry_run: bool = False) -> httpx.Response:
    body = {"uri": reporter.source, "kid": kid or reporter.key.key_id, "from": since, "dry_run": dry_run}
    api = reporter.api
    return await api.client.post("/v1/sources/keys/revocation", headers=api.bearer("operator"), json=body)


async def test_what_a_stolen_key_signed_is_found_and_taken_back(api: Api) -> None:
    reporter = await open_reporter(api)
    people = [await api.person(reporter.source) for _ in range(3)]
    before = await reporter.call(ride(reporter.source, people[0].subject))
    assert before.status_code == 201
    await asyncio.sleep(1.1)
    since = api.platform.fresh.clock().replace(microsecond=0).isoformat()
    batch = await reporter.call([ride(reporter.source, each.subject, **later(1)) for each in people])
    one = await reporter.call(ride(reporter.source, people[1].subject, **later(2)))
    gone = await api.reverse(people[1].participant_id, one.json()["transfer_id"])
    assert gone.status_code in (200, 201)
    event = ride(reporter.source, people[2].subject, **later(4))
    assert (await reporter.call({"ids": [event["id"]]}, "/v1/retractions", kind="application/json")).status_code == 200

    planned = (await revoke(reporter, since, dry_run=True)).json()
    told = {"calls": 2, "credited": 4, "reversed_before": 1}
    assert {name: planned[name] for name in told} == told
    assert planned["reversed"] == {"credits": 3, "reduction_mg": 3 * 82_273, "points": 3 * 82}
    assert (planned["dry_run"], planned["ends"], planned["left"], planned["refused"]) == (True, None, 0, {})
    assert [each["path"] for each in planned["others"]] == ["/v1/retractions"]
    assert (await reporter.call(ride(reporter.source, people[0].subject, **later(5)))).status_code == 201

    done = (await revoke(reporter, since)).json()
    assert (done["credited"], done["reversed"]["credits"], done["left"]) == (5, 4, 0)
    assert done["ends"].startswith(since[:19])
    assert refused(await reporter.call(ride(reporter.source, people[0].subject, **later(6)))) == "key-not-valid"
    for each in batch.json()["outcomes"]:
        leaf = await leaf_of(api, each["transfer_id"])
        assert leaf["kind"] == "credit"
    statement = await api.statement(people[2].participant_id)
    assert [each["kind"] for each in statement] == ["reversal", "credit"]
    assert statement[0]["reason"] == "key_compromised"
    assert (await api.balance(people[0].participant_id))["points"]["available"] == 82  # what came before it was stolen

    again = (await revoke(reporter, since)).json()
    assert (again["credited"], again["reversed_before"], again["reversed"]["credits"], again["left"]) == (5, 5, 0, 0)
    reporter.key = new_key("the-next")
    assert (await put_source_key(api, reporter.source, reporter.key)).status_code == 200
    assert (await reporter.call(ride(reporter.source, people[0].subject, **later(7)))).status_code == 201


async def test_a_revocation_names_a_key_and_a_moment_that_was(api: Api) -> None:
    reporter = await open_reporter(api)
    now = api.platform.fresh.clock()
    problem_of(await revoke(reporter, now.isoformat(), kid="no-such-key"), "source-key-not-found")
    ahead = (now + timedelta(hours=1)).isoformat()
    assert problem_of(await revoke(reporter, ahead), "malformed-request")["errors"][0]["pointer"] == "/from"
    headers = api.bearer("operator")
    nobody = {"uri": "urn:tests:nobody", "kid": "k", "from": now.isoformat()}
    problem_of(await api.client.post("/v1/sources/keys/revocation", headers=headers, json=nobody), "source-not-found")
    early = (await revoke(reporter, "2020-01-01T00:00:00Z")).json()  # from before the key was: it never counted
    assert early["ends"] == "2025-12-31T16:00:01Z"
    assert refused(await reporter.call(ride(reporter.source, "anybody"))) == "key-not-valid"

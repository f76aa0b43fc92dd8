"""A person's rights over HTTP: the copy of everything, corrections, guardians, and how an erasure is asked for."""

import asyncio
import json
import os
import time
from datetime import date, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from typer.testing import CliRunner, Result

from api.cli import app as cli
from service.persons import person_tag
from service.rights.export import SCHEMA_ID, person_export_schema
from service.rights.guardians import note_birth
from service.rights.texts import GUARDIAN_TEXT_VERSION
from service.vault import keep_person
from tests.running import Api, Person, problem_of, ride

pytestmark = pytest.mark.anyio

ISSUER = "https://city.example/oidc"


async def identified(api: Api, person: Person, born: str | None = None) -> str:
    """Make a person known by the city's identity provider; their id there."""
    subject = f"citizen-{os.urandom(8).hex()}"
    tag = person_tag(api.platform.keyring, ISSUER, subject)
    identity = {"issuer": ISSUER, "subject": subject, "name": "王小碳"}
    if born:
        identity["birth_month"] = born
    async with api.platform.pool.acquire() as connection, connection.transaction():
        owner = UUID(person.participant_id)
        await keep_person(
            connection, api.platform.vault, owner, tag, identity, key_version=api.platform.keyring.lasting
        )
        if born:
            await note_birth(connection, owner, _month(born), api.platform.today())
    return subject


def _month(text: str) -> date:
    return date.fromisoformat(f"{text}-01")


async def as_person(api: Api, person: Person, method: str, path: str, body: Any = None) -> httpx.Response:
    headers = api.bearer("participant", person.participant_id) | {"Accept-Language": "en"}
    return await api.client.request(method, path, headers=headers, json=body)


async def test_the_copy_tells_everything_and_fits_its_schema(api: Api) -> None:
    source = await api.source()
    person = await api.person(source)
    subject = await identified(api, person)
    events = [ride(source, person.subject, km=str(2 + number / 100)) for number in range(3)]
    for number, event in enumerate(events):
        event["data"] |= {
            "started_at": f"2026-05-0{number + 1}T08:00:00+08:00",
            "ended_at": f"2026-05-0{number + 1}T08:12:00+08:00",
        }
    outcomes = await api.report(source, events)
    answer = await as_person(api, person, "GET", "/v1/me/export")
    assert answer.status_code == 200, answer.text
    assert answer.headers["cache-control"] == "no-store"
    copy = answer.json()
    schema = (await api.client.get("/v1/schemas/person-export-1")).json()
    assert schema == person_export_schema()
    assert copy["schema"] == SCHEMA_ID == schema["$id"]
    told = {section["name"]: section["items"] for section in copy["sections"]}
    for section, expected in zip(copy["sections"], schema["properties"]["sections"]["prefixItems"], strict=True):
        assert section["name"] == expected["properties"]["name"]["const"]
        assert all(section["label"].values())
        members = expected["properties"]["items"]["items"]
        for item in section["items"]:
            if members.get("additionalProperties") is False:
                assert set(item) == set(members["required"]), section["name"]
    assert told["identity"] == [{"issuer": ISSUER, "subject": subject, "name": "王小碳"}]
    assert told["profile"][0]["participant_id"] == person.participant_id
    assert told["profile"][0]["transfers"] == 3
    assert {item["activity_id"] for item in told["activities"]} == {one["transfer_id"] for one in outcomes}
    assert {item["document"]["event"] for item in told["evidence"]} == {event["id"] for event in events}
    assert [item["purpose"] for item in told["identity_reads"]] == ["export"]
    assert len(told["transfers"]) == 3
    assert told["consents"][0]["purpose"] == "carbon-credit"


async def test_the_copy_is_nobody_elses(api: Api) -> None:
    person = await api.person()
    assert (await as_person(api, person, "GET", "/v1/me/export")).status_code == 200
    for role in ("operator", "provider", "auditor"):
        source = "urn:x" if role == "provider" else None
        problem_of(await api.client.get("/v1/me/export", headers=api.bearer(role, source=source)), "forbidden")


async def test_a_page_at_a_time_nothing_is_left_out(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.rights.export.PAGE", 2)
    source = await api.source()
    person = await api.person(source)
    times = [
        {"started_at": f"2026-05-01T{hour:02}:00:00+08:00", "ended_at": f"2026-05-01T{hour:02}:12:00+08:00"}
        for hour in range(6, 11)
    ]
    outcomes = await api.report(source, [ride(source, person.subject, **one) for one in times])
    told = {s["name"]: s["items"] for s in (await as_person(api, person, "GET", "/v1/me/export")).json()["sections"]}
    ids = [one["transfer_id"] for one in outcomes]
    for name in ("activities", "evidence"):
        assert sorted(item["activity_id"] for item in told[name]) == sorted(ids)
    assert [item["counter"] for item in told["transfers"]] == [1, 2, 3, 4, 5]


async def test_what_is_known_is_corrected_with_its_history(api: Api) -> None:
    person = await api.person()
    problem_of(await as_person(api, person, "PATCH", "/v1/me", {"name": "王大碳"}), "correction-refused")
    await identified(api, person)
    answer = await as_person(api, person, "PATCH", "/v1/me", {"region": "320500", "name": "王大碳"})
    assert answer.status_code == 200, answer.text
    again = await as_person(api, person, "PATCH", "/v1/me", {"region": "320500"})
    found = again.json()["corrections"]
    assert [(one["field"], one["before"], one["after"]) for one in found] == [
        ("name", None, None),
        ("region", "310000", "320500"),
    ]
    assert (await as_person(api, person, "GET", "/v1/me/corrections")).json() == again.json()
    told = {s["name"]: s["items"] for s in (await as_person(api, person, "GET", "/v1/me/export")).json()["sections"]}
    assert told["identity"][0]["name"] == "王大碳"
    assert told["profile"][0]["region"] == "320500"
    assert (await api.balance(person.participant_id))["region"] == "310000"  # of the account, as its transfers say
    for wrong in ({}, {"region": "31"}, {"birth_month": "2012-13"}, {"points": 5}):
        problem_of(await as_person(api, person, "PATCH", "/v1/me", wrong), "malformed-request")


async def test_a_child_needs_a_guardian(api: Api) -> None:
    source = await api.source()
    child, parent, stranger = [await api.person() for _ in range(3)]
    year = api.platform.today().year
    await identified(api, child, born=f"{year - 9}-03")
    await identified(api, parent, born=f"{year - 40}-01")
    need = (await as_person(api, child, "GET", "/v1/me/guardian")).json()
    assert need == {"needed": True, "until": f"{year + 5}-04-01", "consented": False}
    link = {"source": source, "subject": "child 1", "consent": _consent()}
    path = f"/v1/participants/{child.participant_id}/links"
    refused = await api.client.post(path, headers=api.bearer("operator"), json=link)
    problem_of(refused, "guardian-consent-needed")
    problem_of(await as_person(api, parent, "POST", "/v1/me/guardian-codes"), "not-a-minor")
    code = (await as_person(api, child, "POST", "/v1/me/guardian-codes")).json()["code"]
    given = {"code": code, "text_version": GUARDIAN_TEXT_VERSION, "given_at": _consent()["given_at"]}
    problem_of(await as_person(api, stranger, "POST", "/v1/me/wards", given), "guardian-not-fit")  # nobody knows who
    problem_of(await as_person(api, child, "POST", "/v1/me/wards", given), "guardian-not-fit")
    older = given | {"text_version": "guardian-2025-1"}
    problem_of(await as_person(api, parent, "POST", "/v1/me/wards", older), "consent-not-valid")
    wrong = given | {"code": "A" * 22}
    problem_of(await as_person(api, parent, "POST", "/v1/me/wards", wrong), "guardian-code-refused")
    answer = await as_person(api, parent, "POST", "/v1/me/wards", given)
    assert answer.status_code == 201, answer.text
    ward = answer.json()
    problem_of(await as_person(api, parent, "POST", "/v1/me/wards", given), "guardian-code-refused")  # once
    assert (await as_person(api, parent, "GET", "/v1/me/wards")).json()["wards"] == [ward]
    made = await api.client.post(path, headers=api.bearer("operator"), json=link)
    assert made.status_code == 201, made.text
    mine = f"/v1/me/wards/{ward['guardianship_id']}"
    # The guardian sees and corrects, the child does not make itself older, nobody else learns anything.
    copy = (await as_person(api, parent, "GET", f"{mine}/export")).json()
    assert copy["participant_id"] == child.participant_id
    problem_of(await as_person(api, child, "PATCH", "/v1/me", {"birth_month": "1990-01"}), "correction-refused")
    for method, body in (("GET", None), ("PATCH", {"name": "x"}), ("DELETE", None), ("POST", None)):
        rest = {"GET": "/export", "POST": "/erasure"}.get(method, "")
        body = {"confirm": "erase-my-account"} if method == "POST" else body
        problem_of(await as_person(api, stranger, method, mine + rest, body), "ward-not-found")
    # Withdrawn: processing stops at once.
    [credited] = await api.report(source, [ride(source, "child 1")])
    assert credited["outcome"] == "credited"
    assert (await as_person(api, parent, "DELETE", mine)).status_code == 204
    [refused_ride] = await api.report(source, [ride(source, "child 1")])
    assert refused_ride["problem"]["type"].endswith("subject-not-linked")
    problem_of(await as_person(api, parent, "DELETE", mine), "ward-not-found")
    problem_of(await api.client.post(path, headers=api.bearer("operator"), json=link), "guardian-consent-needed")


async def test_who_turns_out_to_be_a_child_is_linked_no_more(api: Api) -> None:
    source = await api.source()
    person = await api.person(source)
    await identified(api, person)
    [credited] = await api.report(source, [ride(source, person.subject)])
    assert credited["outcome"] == "credited"
    born = f"{api.platform.today().year - 8}-05"
    assert (await as_person(api, person, "PATCH", "/v1/me", {"birth_month": born})).status_code == 200
    [refused] = await api.report(source, [ride(source, person.subject)])
    assert refused["problem"]["type"].endswith("subject-not-linked")


async def test_turning_fourteen_ends_the_need(api: Api) -> None:
    person = await api.person()
    today = api.platform.today()
    born = f"{today.year - 14}-{today.month:02}"  # the month is not over: they may be 13 still
    await identified(api, person, born=born)
    assert (await as_person(api, person, "GET", "/v1/me/guardian")).json()["needed"] is True
    async with api.platform.pool.acquire() as connection, connection.transaction():
        last = today.replace(day=1) - timedelta(days=1)
        last = last.replace(year=last.year - 14)
        assert await note_birth(connection, UUID(person.participant_id), last, today) is False
    assert (await as_person(api, person, "GET", "/v1/me/guardian")).json()["needed"] is False


def _consent() -> dict[str, str]:
    return {"purpose": "carbon-credit", "text_version": "tests-1", "given_at": "2026-01-01T08:00:00+08:00"}


async def test_an_erasure_closes_the_account_at_once(api: Api) -> None:
    source = await api.source()
    person = await api.person(source)
    await identified(api, person)
    await api.report(source, [ride(source, person.subject)])
    problem_of(await as_person(api, person, "GET", "/v1/me/erasure"), "erasure-not-asked")
    problem_of(await as_person(api, person, "POST", "/v1/me/erasure", {"confirm": "yes"}), "malformed-request")
    answer = await as_person(api, person, "POST", "/v1/me/erasure", {"confirm": "erase-my-account"})
    assert answer.status_code == 202, answer.text
    assert answer.json()["state"] == "done"
    again = await as_person(api, person, "POST", "/v1/me/erasure", {"confirm": "erase-my-account"})
    assert again.json() == answer.json() == (await as_person(api, person, "GET", "/v1/me/erasure")).json()
    refused = await as_person(api, person, "GET", f"/v1/participants/{person.participant_id}/balance")
    assert problem_of(refused, "unauthenticated")["reason"] == "account-closed"
    [outcome] = await api.report(source, [ride(source, person.subject)])
    assert outcome["problem"]["type"].endswith("subject-not-linked")


async def test_an_organisation_is_not_erased(api: Api) -> None:
    firm = await api.person(kind="firm")
    answer = await as_person(api, firm, "POST", "/v1/me/erasure", {"confirm": "erase-my-account"})
    problem_of(answer, "erasure-not-for-organisations")


async def test_asking_many_times_at_once_erases_once(api: Api) -> None:
    person = await api.person()
    body = {"confirm": "erase-my-account"}
    answers = await asyncio.gather(*(as_person(api, person, "POST", "/v1/me/erasure", body) for _ in range(8)))
    assert {answer.status_code for answer in answers} == {202}
    assert (await as_person(api, person, "GET", "/v1/me/erasure")).json()["state"] == "done"
    nobody = Person(str(uuid4()), "", "", "")
    problem_of(await as_person(api, nobody, "POST", "/v1/me/erasure", body), "participant-not-found")


async def test_an_operator_does_it_on_request(api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = await api.source()
    person = await api.person(source)
    subject = await identified(api, person)
    await api.report(source, [ride(source, person.subject)])
    settings = api.platform.settings
    for name in ("data_dir", "database_url", "keyring_file", "vault_key_file"):
        monkeypatch.setenv(f"TANPUHUI_{name.upper()}", str(getattr(settings, name)))
    file = tmp_path / "copy.json"

    async def run(*words: str) -> Result:
        return await asyncio.to_thread(CliRunner().invoke, cli, ["privacy", *words])

    for expected in (0, 1):  # a file that is there is not replaced
        done = await run("export", person.participant_id, "--out", str(file))
        assert done.exit_code == expected, done.output
    assert file.stat().st_mode & 0o777 == 0o600
    assert subject in file.read_text("utf-8")
    assert (await run("export", str(uuid4()), "--out", str(tmp_path / "none"))).exit_code == 1
    assert (await run("erase", person.participant_id)).exit_code == 1  # not without --yes
    assert (await run("erase", str(uuid4()), "--yes")).exit_code == 1
    done = await run("erase", person.participant_id, "--yes", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout.splitlines()[-1])["state"] == "done"
    async with api.platform.pool.acquire() as connection:
        asked = "SELECT asked_by FROM service.erasure WHERE participant_id = $1"
        assert await connection.fetchval(asked, UUID(person.participant_id)) == "operator"
    # The API learns of it from the database: within a second, and twice that on a busy machine.
    until = time.monotonic() + 5
    while (answer := await api.read(person.participant_id, "balance")).status_code == 200:
        assert time.monotonic() < until, "a token of a closed account is still taken"
        await asyncio.sleep(0.1)
    assert problem_of(answer, "unauthenticated")["reason"] == "account-closed"

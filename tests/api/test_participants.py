"""Enrolment, links and consent over HTTP: repeating is harmless, and nothing personal is kept."""

import asyncio
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest

from tests.conftest import Database
from tests.running import Api, credit_code, organisation, problem_of, ride

pytestmark = pytest.mark.anyio

CONSENT = {"purpose": "carbon-credit", "text_version": "tests-1", "given_at": "2026-01-01T08:00:00+08:00"}


def link(source: str, subject: str, **consent: Any) -> dict[str, Any]:
    return {"source": source, "subject": subject, "consent": CONSENT | consent}


async def enrol(api: Api, *links: dict[str, Any], kind: str = "citizen", code: str | None = None) -> httpx.Response:
    body: dict[str, Any] = {"kind": kind, "links": list(links)}
    if kind != "citizen":
        body["organisation"] = organisation(code or credit_code())
    return await api.client.post("/v1/participants", headers=api.bearer("operator"), json=body)


async def test_repeating_an_enrolment_finds_the_participant_again(api: Api) -> None:
    sources = [await api.source(), await api.source()]
    links = [link(source, "rider 7") for source in sources]
    first = await enrol(api, *links)
    again = await enrol(api, *reversed(links))
    assert (first.status_code, again.status_code) == (201, 200)
    made, found = first.json(), again.json()
    assert found | {"links": found["links"][::-1]} == made
    assert [item["source"] for item in made["links"]] == sources
    assert UUID(made["participant_id"]).version == 4
    assert (made["kind"], made["programme"], made["region"]) == ("citizen", "demo", "310000")


@pytest.mark.parametrize("kind", ["citizen", "firm", "social_organisation", "government_body", "public_institution"])
async def test_every_kind_of_participant_earns(api: Api, kind: str) -> None:
    person = await api.person(kind=kind)
    assert (await api.report_one(person.source, ride(person.source, person.subject))).status_code == 201
    balance = await api.balance(person.participant_id)
    assert (balance["kind"], balance["points"]["available"]) == (kind, 82)


async def test_a_subject_belongs_to_one_participant_of_one_kind(api: Api) -> None:
    one, other = await api.person(), await api.person()
    conflicting = [
        await enrol(api, link(one.source, one.subject), kind="firm"),
        await enrol(api, link(one.source, one.subject), link(other.source, other.subject)),
    ]
    for answer in conflicting:
        problem_of(answer, "participant-conflict")
    assert (await enrol(api, link(one.source, one.subject))).json()["participant_id"] == one.participant_id


async def test_the_same_subject_at_two_sources_is_two_people(api: Api) -> None:
    one, other = await api.person(subject="rider 1"), await api.person(subject="rider 1")
    assert one.participant_id != other.participant_id
    await api.report_one(one.source, ride(one.source, "rider 1"))
    assert (await api.balance(other.participant_id))["transfers"] == 0


async def test_one_link_named_twice_is_one_link(api: Api) -> None:
    source = await api.source()
    answer = await enrol(api, link(source, "rider 1"), link(source, "rider 1"))
    assert answer.status_code == 201
    assert len({item["link_id"] for item in answer.json()["links"]}) == 1


async def test_enrolments_of_one_subject_at_once_make_one_participant(api: Api) -> None:
    source = await api.source()
    answers = await asyncio.gather(*(enrol(api, link(source, "rider 1"), link(source, "rider 2")) for _ in range(12)))
    assert sorted(answer.status_code for answer in answers) == [200] * 11 + [201]
    assert len({answer.json()["participant_id"] for answer in answers}) == 1


async def test_a_withdrawn_link_is_gone_and_linking_again_finds_the_same_participant(api: Api) -> None:
    person = await api.person()
    await api.report_one(person.source, ride(person.source, person.subject))
    path = f"/v1/participants/{person.participant_id}/links/{person.link_id}"
    operator = api.bearer("operator")
    stranger = f"/v1/participants/{uuid4()}/links/{person.link_id}"
    problem_of(await api.client.delete(stranger, headers=operator), "link-not-found")
    assert (await api.client.delete(path, headers=operator)).status_code == 204
    problem_of(await api.client.delete(path, headers=operator), "link-not-found")
    again = await enrol(api, link(person.source, person.subject))
    assert (again.status_code, again.json()["participant_id"]) == (200, person.participant_id)
    assert again.json()["links"][0]["link_id"] != person.link_id
    await api.report_one(person.source, ride(person.source, person.subject))
    assert (await api.balance(person.participant_id))["points"]["available"] == 164
    await api.client.delete(path.replace(person.link_id, again.json()["links"][0]["link_id"]), headers=operator)
    problem_of(await enrol(api, link(person.source, person.subject), kind="firm"), "participant-conflict")


async def add_link(api: Api, participant_id: str, body: dict[str, Any]) -> httpx.Response:
    return await api.client.post(f"/v1/participants/{participant_id}/links", headers=api.bearer("operator"), json=body)


async def test_a_second_source_is_linked_to_the_same_account(api: Api) -> None:
    person, source = await api.person(), await api.source()
    first = await add_link(api, person.participant_id, link(source, "rider 2"))
    again = await add_link(api, person.participant_id, link(source, "rider 2"))
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json() == again.json()
    assert first.json()["source"] == source
    await api.report_one(person.source, ride(person.source, person.subject))
    await api.report_one(source, ride(source, "rider 2"))
    assert (await api.balance(person.participant_id))["points"]["available"] == 164
    both = await enrol(api, link(person.source, person.subject), link(source, "rider 2"))
    assert both.json()["participant_id"] == person.participant_id


async def test_a_link_is_not_taken_from_somebody_else(api: Api) -> None:
    person, other = await api.person(), await api.person()
    problem_of(await add_link(api, other.participant_id, link(person.source, person.subject)), "participant-conflict")
    problem_of(await add_link(api, str(uuid4()), link(person.source, "new")), "participant-not-found")
    problem_of(await add_link(api, person.participant_id, link("urn:tests:unknown", "new")), "source-not-registered")
    problem_of(await add_link(api, person.participant_id, {"source": person.source}), "malformed-request")
    await api.unlink(person)  # and it stays theirs once it is withdrawn: with their debts and their caps
    problem_of(await add_link(api, other.participant_id, link(person.source, person.subject)), "participant-conflict")
    assert (await api.balance(other.participant_id))["transfers"] == 0


async def test_links_of_one_subject_to_two_participants_at_once_give_it_to_one(api: Api) -> None:
    source = await api.source()
    people = [await api.person() for _ in range(6)]
    wanted = link(source, "rider 9")
    answers = await asyncio.gather(*(add_link(api, person.participant_id, wanted) for person in people * 2))
    owners = {person.participant_id for person, answer in zip(people * 2, answers, strict=True) if answer.is_success}
    assert len(owners) == 1
    assert sorted(answer.status_code for answer in answers) == [200, 201] + [409] * 10


ORGANISATIONS = ("firm", "social_organisation", "government_body", "public_institution")


@pytest.mark.parametrize("kind", ORGANISATIONS)
async def test_one_organisation_is_one_participant_whoever_enrols_it(api: Api, kind: str) -> None:
    code, one, other = credit_code(), await api.source(), await api.source()
    first = await enrol(api, link(one, "firm 1"), kind=kind, code=code)
    second = await enrol(api, link(other, "client 9"), link(one, "firm 1b"), kind=kind, code=f" {code.lower()}")
    bare = await enrol(api, kind=kind, code=code)
    assert (first.status_code, second.status_code, bare.status_code) == (201, 200, 200)
    assert len({answer.json()["participant_id"] for answer in (first, second, bare)}) == 1
    assert [made["source"] for made in second.json()["links"]] == [other, one]
    await api.report_one(other, ride(other, "client 9"))
    assert (await api.balance(first.json()["participant_id"]))["points"]["available"] == 82
    another = "firm" if kind != "firm" else "government_body"
    problem_of(await enrol(api, link(one, "firm 2"), kind=another, code=code), "participant-conflict")
    problem_of(await enrol(api, link(one, "firm 1"), kind=kind), "participant-conflict")  # another code's subject
    problem_of(await enrol(api, link(one, "firm 1"), kind="citizen"), "participant-conflict")


async def test_subjects_of_two_organisations_are_not_joined(api: Api) -> None:
    code = credit_code()
    one, other = await api.person(kind="firm", code=code), await api.person(kind="firm")
    problem_of(await enrol(api, link(other.source, other.subject), kind="firm", code=code), "participant-conflict")
    assert (await enrol(api, link(one.source, one.subject), kind="firm", code=code)).status_code == 200


async def test_an_organisation_enrolled_before_codes_were_asked_for_gets_its_own(api: Api, database: Database) -> None:
    person, code = await api.person(kind="firm"), credit_code()
    connection = await asyncpg.connect(database.admin)
    await connection.execute("DELETE FROM service.organisation WHERE participant_id = $1", UUID(person.participant_id))
    await connection.close()
    answers = [await enrol(api, link(person.source, person.subject), kind="firm", code=code) for _ in range(2)]
    answers.append(await enrol(api, kind="firm", code=code))
    assert {answer.json()["participant_id"] for answer in answers} == {person.participant_id}


async def test_every_mandate_is_kept_of_whoever_enrols_an_organisation(api: Api, database: Database) -> None:
    code, source = credit_code(), await api.source()
    for given_at in ("2026-01-01T08:00:00+08:00", "2026-02-01T08:00:00+08:00", "2026-02-01T00:00:00Z"):
        mandate = {"text_version": "tests-1", "given_at": given_at}
        body = {"kind": "firm", "links": [link(source, "firm 1")], "organisation": {"code": code, "mandate": mandate}}
        answer = await api.client.post("/v1/participants", headers=api.bearer("operator"), json=body)
    connection = await asyncpg.connect(database.admin)
    query = "SELECT given_at, withdrawn_at FROM service.mandate WHERE participant_id = $1 ORDER BY given_at"
    rows = await connection.fetch(query, UUID(answer.json()["participant_id"]))
    await connection.close()
    assert [(row["given_at"].month, row["withdrawn_at"]) for row in rows] == [(1, None), (2, None)]


@pytest.mark.parametrize("_", range(8))  # two must meet between a read and a write, which is a matter of luck
async def test_a_participant_becomes_one_organisation_however_many_codes_come_at_once(
    api: Api, database: Database, _: int
) -> None:
    person, codes = await api.person(kind="firm"), [credit_code(), credit_code()]
    connection = await asyncpg.connect(database.admin)
    await connection.execute("DELETE FROM service.organisation WHERE participant_id = $1", UUID(person.participant_id))
    answers = await asyncio.gather(
        *(enrol(api, link(person.source, person.subject), kind="firm", code=codes[n % 2]) for n in range(12))
    )
    query = "SELECT count(*) FROM service.organisation WHERE participant_id = $1"
    enrolled = await connection.fetchval(query, UUID(person.participant_id))
    await connection.close()
    assert enrolled == 1
    told = {answer.status_code for answer in answers[::2]}, {answer.status_code for answer in answers[1::2]}
    assert sorted(told, key=min) == [{200}, {409}]


async def test_enrolments_of_one_organisation_at_once_make_one_participant(api: Api) -> None:
    code, sources = credit_code(), [await api.source() for _ in range(4)]
    answers = await asyncio.gather(
        *(enrol(api, link(sources[n % 4], f"client {n}"), kind="firm", code=code) for n in range(16))
    )
    assert sorted(answer.status_code for answer in answers) == [200] * 15 + [201]
    assert len({answer.json()["participant_id"] for answer in answers}) == 1


async def test_organisations_that_claim_one_subject_at_once_leave_it_to_one(api: Api) -> None:
    source = await api.source()
    answers = await asyncio.gather(*(enrol(api, link(source, "client 1"), kind="firm") for _ in range(8)))
    assert sorted(answer.status_code for answer in answers) == [201] + [409] * 7


@pytest.mark.parametrize(
    ("body", "pointer", "code", "detail"),
    [
        ({"kind": "firm"}, "/organisation", "missing", "is missing"),
        (
            {"kind": "citizen", "organisation": organisation("91350100M000100Y43")},
            "/organisation",
            "unexpected",
            "is not expected here",
        ),
        (
            {"kind": "firm", "organisation": organisation("91350100M000100Y4")},
            "/organisation/code",
            "code-length",
            "a unified social credit code has 18 characters",
        ),
        (
            {"kind": "firm", "organisation": organisation("9135010OM000100Y43")},
            "/organisation/code",
            "code-character",
            "its character 8 must be one of 0-9",
        ),
        (
            {"kind": "firm", "organisation": organisation("91350100M000100Y44")},
            "/organisation/code",
            "code-check",
            "its check character, the 18th, would have to be 3: look for a mistyped character",
        ),
        (
            {"kind": "firm", "organisation": {"code": "91350100M000100Y43"}},
            "/organisation/mandate",
            "missing",
            "is missing",
        ),
    ],
)
async def test_what_is_wrong_with_an_organisation_is_said(
    api: Api, body: dict[str, Any], pointer: str, code: str, detail: str
) -> None:
    english = api.bearer("operator") | {"Accept-Language": "en"}
    answer = await api.client.post("/v1/participants", headers=english, json=body)
    (fault,) = problem_of(answer, "malformed-request")["errors"]
    assert (fault["pointer"], fault["code"], fault["detail"]) == (pointer, code, detail)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"kind": "robot"},
        {"kind": "citizen", "name": "Zhang San"},
        {"kind": "citizen", "links": [{"source": "urn:x", "subject": "y"}]},
        {"kind": "citizen", "links": [link("urn:x", "y", purpose="advertising")]},
        {"kind": "citizen", "links": [link("urn:x", "y", given_at="2026-01-01T08:00:00")]},
        {"kind": "citizen", "links": [link("urn:x", "y\u0000")]},
        {"kind": "citizen", "links": [link("urn:x", "")]},
        {"kind": "citizen", "links": [link("urn:x", "y")] * 21},
        [],
    ],
)
async def test_an_enrolment_must_be_whole(api: Api, body: Any) -> None:
    answer = await api.client.post("/v1/participants", headers=api.bearer("operator"), json=body)
    assert problem_of(answer, "malformed-request")["errors"]


async def test_a_link_needs_a_registered_source(api: Api) -> None:
    problem_of(await enrol(api, link("urn:tests:unknown", "rider 1")), "source-not-registered")


async def test_the_database_holds_no_id_that_a_provider_knows(fresh_api: Api, fresh_database: Database) -> None:
    person = await fresh_api.person(subject="13800138000-rider")
    code = credit_code()
    await fresh_api.person(kind="firm", code=code)
    event = ride(person.source, person.subject, "order-4711-of-the-rider")
    await fresh_api.report_one(person.source, event)
    await fresh_api.report_one(person.source, ride(person.source, person.subject, "refused-of-the-rider", km="99"))
    connection = await asyncpg.connect(fresh_database.admin)
    tables = await connection.fetch(
        "SELECT schemaname, tablename FROM pg_tables WHERE schemaname IN ('ledger', 'service', 'vault')"
    )
    found = set()
    for schema, table in tables:
        rows = await connection.fetch(f"SELECT t::text AS row FROM {schema}.{table} AS t")
        texts = " ".join(row["row"] for row in rows)
        held = [name for name in (person.subject, event["id"], code) if name in texts or name.encode().hex() in texts]
        found |= {(table, name) for name in held}
    await connection.close()
    assert found == set()  # what was reported is sealed

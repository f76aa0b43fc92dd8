"""Enrolment in bulk: what one call does for a thousand people is what a thousand calls would have done."""

import asyncio
import random
from collections.abc import Sequence
from typing import Any

import httpx
import pytest

from tests.running import Api, credit_code, organisation, problem_of, ride

pytestmark = pytest.mark.anyio

CONSENT = {"purpose": "carbon-credit", "text_version": "tests-1", "given_at": "2026-01-01T08:00:00+08:00"}


def wanted(*links: tuple[str, str], kind: str = "citizen", code: str | None = None) -> dict[str, Any]:
    body: dict[str, Any] = {
        "kind": kind,
        "links": [{"source": source, "subject": subject, "consent": CONSENT} for source, subject in links],
    }
    return body | ({"organisation": organisation(code)} if code else {})


async def post(api: Api, participants: Any) -> httpx.Response:
    headers = api.bearer("operator") | {"Accept-Language": "en"}
    return await api.client.post("/v1/participants/batch", headers=headers, json={"participants": participants})


async def enrol(api: Api, participants: Sequence[Any]) -> list[dict[str, Any]]:
    answer = await post(api, participants)
    assert answer.status_code == 200, answer.text
    document = answer.json()
    outcomes: list[dict[str, Any]] = document["outcomes"]
    assert len(outcomes) == len(participants)
    for name, count in document["counts"].items():
        assert count == sum(item["outcome"] == name for item in outcomes)
    return outcomes


async def test_each_has_an_outcome_of_its_own_and_none_harms_another(api: Api) -> None:
    one, other = await api.source(), await api.source()
    known = await api.person(one)
    code = credit_code()
    outcomes = await enrol(
        api,
        [
            wanted((one, "a"), (other, "a")),
            {"kind": "citizen", "name": "Zhang San"},
            wanted((one, known.subject)),
            wanted(("urn:tests:unknown", "b")),
            wanted((one, known.subject), (one, "a")),
            wanted((one, "c"), kind="firm", code=code),
            wanted((one, "a"), kind="firm", code=credit_code()),
            wanted((other, "c"), kind="firm", code=code.lower()),
            wanted((one, "d"), kind="firm"),
            wanted((other, "a")),
            [],
        ],
    )
    names = [item["outcome"] for item in outcomes]
    assert names[:6] == ["enrolled", "refused", "found", "refused", "refused", "enrolled"]
    assert names[6:] == ["refused", "found", "refused", "found", "refused"]
    slugs = {n: item["problem"]["type"].rpartition(":")[2] for n, item in enumerate(outcomes) if "problem" in item}
    assert slugs == {
        1: "malformed-request",
        3: "source-not-registered",
        4: "participant-conflict",
        6: "participant-conflict",
        8: "malformed-request",
        10: "malformed-request",
    }
    assert outcomes[1]["problem"]["errors"][0]["pointer"] == "/name"
    assert outcomes[8]["problem"]["errors"][0]["pointer"] == "/organisation"
    assert outcomes[0]["participant_id"] == outcomes[9]["participant_id"]
    assert outcomes[5]["participant_id"] == outcomes[7]["participant_id"]
    assert outcomes[2]["participant_id"] == known.participant_id
    assert outcomes[2]["links"] == [{"link_id": known.link_id, "source": one}]
    assert [link["source"] for link in outcomes[0]["links"]] == [one, other]
    for source, subject in ((one, "a"), (other, "a"), (one, "c"), (other, "c")):
        assert (await api.report_one(source, ride(source, subject))).status_code == 201
    refused = await api.report_one(one, ride(one, "d"))
    problem_of(refused, "subject-not-linked")


async def test_the_same_batch_again_finds_everybody(api: Api) -> None:
    source = await api.source()
    batch = [wanted((source, f"rider {n}")) for n in range(1000)]
    first, again = await enrol(api, batch), await enrol(api, batch)
    assert {item["outcome"] for item in first} == {"enrolled"}
    assert [item | {"outcome": "found"} for item in first] == again
    assert len({item["participant_id"] for item in first}) == 1000


async def test_who_withdrew_and_consents_again_is_the_same_participant(api: Api) -> None:
    person = await api.person()
    await api.unlink(person)
    (again,) = await enrol(api, [wanted((person.source, person.subject))])
    assert (again["outcome"], again["participant_id"]) == ("found", person.participant_id)
    assert again["links"][0]["link_id"] != person.link_id
    (refused,) = await enrol(api, [wanted((person.source, person.subject), kind="firm", code=credit_code())])
    assert refused["problem"]["type"].endswith(":participant-conflict")


@pytest.mark.parametrize("participants", [None, {}, [], [{"kind": "citizen"}] * 1001])
async def test_a_batch_must_be_whole(api: Api, participants: Any) -> None:
    assert problem_of(await post(api, participants), "malformed-request")["errors"]


async def test_each_participant_is_an_item_of_the_quota(api: Api) -> None:
    headers = api.bearer("operator", "bulk")
    left = []
    for count in (1, 600):
        body = {"participants": [{"kind": "citizen"}] * count}
        answer = await api.client.post("/v1/participants/batch", headers=headers, json=body)
        assert answer.status_code == 200
        left.append(int(answer.headers["ratelimit"].split('"items";r=')[1].split(";")[0]))
    assert left[0] > left[1]


async def test_batches_that_cross_enrol_each_once(api: Api) -> None:
    """The same people in other orders, with organisations among them, beside enrolments one by one."""
    source, chance = await api.source(), random.Random(4)
    codes = [credit_code() for _ in range(8)]
    people = [wanted((source, f"rider {n}")) for n in range(60)]
    people += [wanted((source, f"firm {n}"), kind="firm", code=code) for n, code in enumerate(codes)]
    orders = [chance.sample(range(len(people)), len(people)) for _ in range(8)]

    async def single(number: int) -> dict[str, Any]:
        answer = await api.client.post("/v1/participants", headers=api.bearer("operator"), json=people[number])
        assert answer.is_success, answer.text
        made: dict[str, Any] = answer.json()
        return made

    *batches, ones = await asyncio.gather(
        *(enrol(api, [people[n] for n in order]) for order in orders),
        asyncio.gather(*(single(n) for n in range(0, len(people), 3))),
    )
    found: dict[int, set[str]] = {n: set() for n in range(len(people))}
    created = 0
    for order, outcomes in zip(orders, batches, strict=True):
        for n, item in zip(order, outcomes, strict=True):
            found[n].add(item["participant_id"])
            created += item["outcome"] == "enrolled"
    for n, made in zip(range(0, len(people), 3), ones, strict=True):
        found[n].add(made["participant_id"])
    assert all(len(ids) == 1 for ids in found.values())
    assert len(set.union(*found.values())) == len(people)
    assert created <= len(people)


@pytest.mark.parametrize("seed", range(12))
async def test_a_batch_does_what_its_enrolments_do_one_by_one(api: Api, seed: int) -> None:
    """Random enrolments over few subjects and codes: the same outcomes, and the same subjects joined."""
    chance = random.Random(seed)
    worlds = [
        ([await api.source(), await api.source()], [credit_code() for _ in range(3)]) for _ in ("batch", "one by one")
    ]
    plans = []
    for _ in range(25):
        code = chance.choice([None, None, 0, 1, 2])
        kind = "citizen" if code is None else chance.choice(["firm", "government_body"])
        links = [(chance.randrange(2), f"rider {chance.randrange(6)}") for _ in range(chance.randrange(3))]
        plans.append((kind, code, links))
    bodies = [
        [
            wanted(*((sources[s], name) for s, name in links), kind=kind, code=None if code is None else codes[code])
            for kind, code, links in plans
        ]
        for sources, codes in worlds
    ]
    batched = await enrol(api, bodies[0])
    singly = []
    for body in bodies[1]:
        answer = await api.client.post("/v1/participants", headers=api.bearer("operator"), json=body)
        singly.append((answer.status_code, answer.json()))
    status = {"enrolled": 201, "found": 200, "refused": 409}
    assert [status[item["outcome"]] for item in batched] == [code for code, _ in singly]
    names = [{}, {}]  # type: list[dict[str, int]]
    told = [
        [names[0].setdefault(item["participant_id"], n) for n, item in enumerate(batched) if "links" in item],
        [names[1].setdefault(one["participant_id"], n) for n, (_, one) in enumerate(singly) if "links" in one],
    ]
    assert told[0] == told[1]

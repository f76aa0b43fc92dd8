"""A bank asks, a person approves: points are held once, the bank learns an entitlement and nothing of the person."""

import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx
import jwt
import pytest

from service.banks.requests import REQUEST_LIFE
from tests.api.bankers import Banker, offered, open_bank
from tests.running import Api, Person, problem_of, ride

pytestmark = pytest.mark.anyio
REQUESTS = "/v1/bank/requests"


async def person_with_points(api: Api, rides: int = 1) -> Person:
    """Somebody with 70 points for each ride."""
    person = await api.person()
    outcomes = await api.report(person.source, [ride(person.source, person.subject, km="2") for _ in range(rides)])
    assert {outcome["outcome"] for outcome in outcomes} == {"credited"}
    return person


def as_person(api: Api, person: Person) -> dict[str, str]:
    return api.bearer("participant", person.participant_id) | {"Accept-Language": "en"}


async def asked(bank: Banker, units: int = 3, **changes: Any) -> dict[str, Any]:
    """A request of a new offer of this bank."""
    wanted = {"offer": await offered(bank, **changes), "units": units, "reference": "APP-1"}
    answer = await bank.call(REQUESTS, wanted)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def look(api: Api, person: Person, made: dict[str, Any]) -> httpx.Response:
    return await api.client.get(f"/v1/approvals/{made['approval_code']}", headers=as_person(api, person))


async def approve(api: Api, person: Person, made: dict[str, Any], points: int = 30) -> httpx.Response:
    consent = {"text_version": "tests-1", "given_at": "2026-11-01T08:00:00+08:00"}
    body = {"points": points, "consent": consent}
    path = f"/v1/approvals/{made['approval_code']}"
    return await api.client.post(path, headers=as_person(api, person), json=body)


async def decline(api: Api, person: Person, made: dict[str, Any]) -> httpx.Response:
    path = f"/v1/approvals/{made['approval_code']}/decline"
    return await api.client.post(path, headers=as_person(api, person))


async def state(bank: Banker, made: dict[str, Any]) -> dict[str, Any]:
    answer = await bank.get(f"{REQUESTS}/{made['request_id']}")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def available(api: Api, person: Person) -> int:
    return int((await api.balance(person.participant_id))["points"]["available"])


async def test_from_the_question_to_the_entitlement(api: Api) -> None:
    bank, person = await open_bank(api), await person_with_points(api)
    made = await asked(bank)
    shown = (await look(api, person, made)).json()
    assert {name: shown[name] for name in ("state", "bank", "units", "points", "value_fen", "eligible", "why_not")} == {
        "state": "pending",
        "bank": bank.uri,
        "units": 3,
        "points": 30,
        "value_fen": 300,
        "eligible": True,
        "why_not": [],
    }
    assert (shown["discloses"], shown["consent_text"], shown["text_version"]) == ("The units", "Agreed", "tests-1")
    before = await available(api, person)
    done = await approve(api, person, made)
    assert done.status_code == 201, done.text
    redemption = done.json()["redemption"]
    assert (redemption["state"], redemption["started_by"]) == ("held", "bank")
    assert redemption["accepted_at"] is not None  # who asked has accepted
    assert await available(api, person) == before - 30
    told = await state(bank, made)
    assert (told["state"], told["redemption_id"]) == ("approved", redemption["redemption_id"])
    [key] = jwt.PyJWKSet.from_json((await api.client.get("/v1/bank/keys")).text).keys
    claims = jwt.decode(told["entitlement"], key.key, ["EdDSA"], audience=bank.uri)
    assert {name: claims[name] for name in ("jti", "units", "points", "value_fen")} == {
        "jti": redemption["redemption_id"],
        "units": 3,
        "points": 30,
        "value_fen": 300,
    }
    assert person.participant_id not in repr(told) + repr(claims)


async def test_the_bank_captures_what_was_approved(api: Api) -> None:
    bank, person = await open_bank(api), await person_with_points(api)
    made = await asked(bank)
    await approve(api, person, made)
    redemption_id = (await state(bank, made))["redemption_id"]
    captured = await bank.call(f"/v1/bank/redemptions/{redemption_id}/capture", {}, idempotency_key="op-1")
    assert captured.status_code == 200, captured.text
    assert (await state(bank, made))["entitlement"] is None  # nothing is held any more


async def test_an_approval_is_one_however_often_it_is_sent(api: Api) -> None:
    bank, person = await open_bank(api), await person_with_points(api)
    made, before = await asked(bank), await available(api, person)
    answers = await asyncio.gather(*(approve(api, person, made) for _ in range(6)))
    assert sorted(answer.status_code for answer in answers) == [200] * 5 + [201]
    assert len({answer.json()["redemption"]["redemption_id"] for answer in answers}) == 1
    assert await available(api, person) == before - 30
    assert (await approve(api, person, made)).status_code == 200


async def test_of_two_people_one_approves(api: Api) -> None:
    bank = await open_bank(api)
    people = [await person_with_points(api) for _ in range(3)]
    made = await asked(bank)
    answers = await asyncio.gather(*(approve(api, person, made) for person in people))
    assert sorted(answer.status_code for answer in answers) == [201, 409, 409]
    for answer, person in zip(answers, people, strict=True):
        if answer.status_code == 409:
            assert problem_of(answer, "approval-ended")["state"] == "taken"
            assert await available(api, person) == 70
            assert problem_of(await decline(api, person, made), "approval-ended")["state"] == "taken"


async def test_what_was_refused_can_be_tried_again_by_anybody(api: Api) -> None:
    bank, poor, rich = await open_bank(api), await api.person(), await person_with_points(api)
    made = await asked(bank)
    assert [reason["code"] for reason in (await look(api, poor, made)).json()["why_not"]] == ["points-not-enough"]
    problem_of(await approve(api, poor, made), "points-not-enough")
    problem_of(await approve(api, rich, made, points=29), "price-changed")
    assert (await state(bank, made))["state"] == "pending"
    assert (await approve(api, rich, made)).status_code == 201
    assert (await state(bank, made))["state"] == "approved"
    assert await available(api, rich) == 40


async def test_refused_and_retried_at_once_points_are_held_once(api: Api) -> None:
    bank, person = await open_bank(api), await person_with_points(api, 2)
    made = await asked(bank)
    prices = (30, 29, 30, 31, 30, 30)
    await asyncio.gather(*(approve(api, person, made, points=points) for points in prices))
    await approve(api, person, made)
    assert await available(api, person) == 140 - 30


async def test_a_decline_is_told_and_final(api: Api) -> None:
    bank, person, other = await open_bank(api), await person_with_points(api), await person_with_points(api)
    made = await asked(bank)
    assert (await decline(api, person, made)).json() == {"request_id": made["request_id"], "state": "declined"}
    assert (await state(bank, made))["state"] == "declined"
    assert problem_of(await approve(api, person, made), "approval-ended")["state"] == "declined"
    assert problem_of(await approve(api, other, made), "approval-ended")["state"] == "taken"
    approved = await asked(bank)
    await approve(api, person, approved)
    assert problem_of(await decline(api, person, approved), "approval-ended")["state"] == "approved"


async def test_a_request_ends_by_itself(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    bank, person = await open_bank(api), await person_with_points(api)
    made = await asked(bank)
    async with api.platform.pool.acquire() as connection:
        row = await connection.fetchrow(
            "SELECT created_at, expires_at FROM service.bank_request WHERE request_id = $1", UUID(made["request_id"])
        )
    assert row is not None
    assert row["expires_at"] - row["created_at"] == REQUEST_LIFE
    fresh = api.platform.fresh
    clock = fresh.clock
    object.__setattr__(fresh, "clock", lambda: clock() + REQUEST_LIFE + timedelta(seconds=1))
    try:
        assert (await state(bank, made))["state"] == "expired"
        assert (await look(api, person, made)).json()["state"] == "expired"
        assert problem_of(await approve(api, person, made), "approval-ended")["state"] == "expired"
        assert problem_of(await decline(api, person, made), "approval-ended")["state"] == "expired"
    finally:
        object.__setattr__(fresh, "clock", clock)
    assert await available(api, person) == 70


async def test_suspending_a_bank_strands_nothing(api: Api) -> None:
    bank, person = await open_bank(api), await person_with_points(api)
    first, second = await asked(bank), await asked(bank)
    await approve(api, person, first)
    suspended = {"uri": bank.uri, "reason": "under-review"}
    await api.client.post("/v1/banks/suspend", headers=api.bearer("operator"), json=suspended)
    problem_of(await approve(api, person, second), "offer-not-listed")
    held = (await state(bank, first))["redemption_id"]
    captured = await bank.call(f"/v1/bank/redemptions/{held}/capture", {}, idempotency_key="op-1")
    assert captured.status_code == 200, captured.text
    await api.client.post("/v1/banks/resume", headers=api.bearer("operator"), json={"uri": bank.uri})
    assert (await approve(api, person, second)).status_code == 201


async def test_nobody_else_may_decide_and_no_code_is_guessed(api: Api) -> None:
    bank, person = await open_bank(api), await person_with_points(api)
    made = await asked(bank)
    path = f"/v1/approvals/{made['approval_code']}"
    problem_of(await api.client.get(path, headers=bank.bearer), "forbidden")
    consent = {"text_version": "tests-1", "given_at": "2026-11-01T08:00:00+08:00"}
    body: dict[str, Any] = {"points": 30, "consent": consent}
    problem_of(await api.client.post(path, headers=bank.bearer, json=body), "forbidden")
    wrong = made | {"approval_code": "A" * 22}
    problem_of(await look(api, person, wrong), "approval-not-found")
    problem_of(await approve(api, person, wrong), "approval-not-found")
    problem_of(await look(api, person, made | {"approval_code": "short"}), "malformed-request")
    differs = {"points": 30, "consent": consent | {"text_version": "another"}}
    answer = await api.client.post(path, headers=as_person(api, person), json=differs)
    problem_of(answer, "consent-not-valid")
    assert (await state(bank, made))["state"] == "pending"

"""Registering data providers: idempotent, strict, and in force within a second."""

from typing import Any

import pytest

from tests.running import Api, problem_of, ride

pytestmark = pytest.mark.anyio

BODY: dict[str, Any] = {
    "uri": "https://rides.example/feed",
    "title_zh": "某骑行平台",
    "title_en": "Some rides",
    "grade": "B",
    "scenarios": ["shared-ebike", "metro"],
    "valid_from": "2026-01-01",
    "valid_to": "2026-12-31",
}


async def put(api: Api, body: Any) -> Any:
    return await api.client.put("/v1/sources", headers=api.bearer("operator"), json=body)


async def test_registering_is_idempotent_and_answers_with_what_is_registered(api: Api) -> None:
    for _ in range(2):
        answer = await put(api, BODY)
        assert (answer.status_code, answer.json()) == (200, BODY)
        assert "RateLimit" in answer.headers
    unlimited = {name: value for name, value in BODY.items() if name != "valid_to"}
    assert (await put(api, unlimited)).json() == BODY | {"valid_to": None}


async def test_a_changed_licence_counts_from_the_answer_on(api: Api) -> None:
    person = await api.person()
    body = BODY | {
        "uri": person.source,
        "scenarios": ["shared-ebike"],
        "valid_from": "2026-05-01",
        "valid_to": "2026-05-01",
    }
    assert (await put(api, body)).status_code == 200
    assert (await api.report_one(person.source, ride(person.source, person.subject))).status_code == 201
    for valid in (
        {"valid_from": "2026-05-02", "valid_to": None},
        {"valid_from": "2026-04-01", "valid_to": "2026-04-30"},
    ):
        await put(api, body | valid)
        refused = await api.report_one(person.source, ride(person.source, person.subject))
        assert problem_of(refused, "source-licence-not-valid")["day"] == "2026-05-01"
    await put(api, body | {"scenarios": ["metro"]})
    refused = await api.report_one(person.source, ride(person.source, person.subject))
    assert problem_of(refused, "scenario-not-licensed")["scenario"] == "shared-ebike"


async def test_the_day_of_a_licence_is_a_shanghai_day(api: Api) -> None:
    person = await api.person()
    await put(api, BODY | {"uri": person.source, "valid_from": "2026-05-02", "valid_to": None})
    late = {"started_at": "2026-05-01T15:59:59Z", "ended_at": "2026-05-01T16:10:00Z"}  # 23:59:59 in Shanghai
    problem_of(
        await api.report_one(person.source, ride(person.source, person.subject, **late)), "source-licence-not-valid"
    )
    early = {"started_at": "2026-05-01T16:00:00Z", "ended_at": "2026-05-01T16:10:00Z"}
    assert (await api.report_one(person.source, ride(person.source, person.subject, **early))).status_code == 201


@pytest.mark.parametrize(
    "change",
    [
        {"uri": "not a uri"},
        {"uri": "urn:骑行"},
        {"uri": 'urn:a"b'},
        {"uri": "urn:" + "x" * 500},
        {"grade": "D"},
        {"grade": ["A"]},
        {"scenarios": []},
        {"scenarios": ["Shared E-bike"]},
        {"scenarios": [f"s{number}" for number in range(51)]},
        {"title_zh": ""},
        {"title_en": "a\u0000b"},
        {"valid_from": "2026-02-30"},
        {"valid_from": "2026-W01-1"},
        {"valid_from": "20260101"},
        {"valid_from": "２０２６-01-01"},
        {"valid_from": 20260101},
        {"valid_from": None},
        {"valid_to": "2025-12-31"},
        {"colour": "green"},
    ],
    ids=str,
)
async def test_a_registration_must_be_whole(api: Api, change: dict[str, Any]) -> None:
    assert problem_of(await put(api, BODY | change), "malformed-request")["errors"]


async def test_a_day_is_enough_for_a_licence(api: Api) -> None:
    assert (await put(api, BODY | {"valid_to": BODY["valid_from"]})).status_code == 200

"""Reporting activities: outcomes item by item, repeats, conflicts, refusals. Hostile input is a file of its own."""

import asyncio
from typing import Any
from urllib.parse import quote
from uuid import UUID

import asyncpg
import httpx
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.body import parse_json
from api.v1.activities import BATCH, BINARY, STRUCTURED, ActivityData
from tests.conftest import Database
from tests.running import Api, problem_of, ride

pytestmark = pytest.mark.anyio

_STORED = """
    SELECT (SELECT count(*) FROM service.event_key) + (SELECT count(*) FROM service.activity)
         + (SELECT count(*) FROM service.evidence) + (SELECT count(*) FROM ledger.leaf_queue)
         + (SELECT count(*) FROM ledger.leaf) + (SELECT count(*) FROM ledger.transfer)
"""


async def post(api: Api, source: str, content: Any, kind: str, **headers: str) -> httpx.Response:
    """Post any body as any media type."""
    sent = {**api.bearer("provider", source=source), "Content-Type": kind, "Accept-Language": "en", **headers}
    body = content if isinstance(content, bytes) else orjson.dumps(content)
    return await api.client.post("/v1/activities", headers=sent, content=body)


async def test_a_ride_is_credited_once_and_its_repeat_gets_the_first_answer(api: Api) -> None:
    person = await api.person()
    event = ride(person.source, person.subject)
    first = await api.report_one(person.source, event)
    again = await api.report_one(person.source, event)
    assert first.status_code == 201
    assert first.json()["reduction_mg"] == 82273  # 35.01 g/km x 2.35 km = 82.2735 g, rounded down once
    assert first.json()["points"] == 82
    assert again.status_code == 200
    assert again.json() == {"id": event["id"], "outcome": "duplicate", "first": first.json()}
    balance = await api.balance(person.participant_id)
    assert balance["points"]["available"] == 82
    assert balance["reduction"]["credited_mg"] == 82273


async def test_every_item_of_a_batch_has_its_own_outcome_in_order(api: Api) -> None:
    person = await api.person()
    source, subject = person.source, person.subject
    good = ride(source, subject)
    other = ride(source, subject, km="3")
    events: list[Any] = [
        good,
        ride("urn:tests:somebody-else", subject),
        {"id": "no event"},
        good,
        ride(source, subject, good["id"], km="9"),
        ride(source, "nobody linked"),
        ride(source, subject, km="50"),
        "not an object",
        other,
    ]
    outcomes = await api.report(source, events)
    names = [outcome["outcome"] for outcome in outcomes]
    assert names == ["credited", *["refused"] * 2, "duplicate", *["refused"] * 4, "credited"]
    problems = [outcome["problem"]["type"].rpartition(":")[2] for outcome in outcomes if "problem" in outcome]
    assert problems == [
        "source-mismatch",
        "malformed-event",
        "event-conflict",
        "subject-not-linked",
        "condition-not-met",
        "malformed-event",
    ]
    assert [outcome["id"] for outcome in outcomes[:3]] == [good["id"], events[1]["id"], "no event"]
    assert outcomes[7]["id"] is None
    assert outcomes[3]["first"] == outcomes[0]
    assert (await api.balance(person.participant_id))["points"]["available"] == 82 + 105


async def test_a_batch_counts_its_outcomes(api: Api) -> None:
    person = await api.person()
    event = ride(person.source, person.subject)
    answer = await post(api, person.source, [event, event, {}], BATCH)
    assert answer.json()["counts"] == {"credited": 1, "duplicate": 1, "refused": 1}
    for name in ("RateLimit", "RateLimit-Policy"):
        assert name in answer.headers
    assert answer.headers["content-language"] == "en"


async def test_binary_mode_takes_percent_encoded_attributes(api: Api) -> None:
    person = await api.person(subject="骑行者 甲%21")
    event = ride(person.source, person.subject, "订单 1% é", time="2026-05-01T00:12:05Z")
    event["time"] = event["data"].pop("time")
    attributes = {
        f"ce-{name}": quote(event[name]) for name in ("specversion", "id", "source", "type", "subject", "time")
    }
    first = await post(api, person.source, event["data"], BINARY, **attributes)
    assert (first.status_code, first.json()["id"]) == (201, "订单 1% é")
    structured = await post(api, person.source, event, STRUCTURED)  # the same event by another mode is a repeat
    assert (structured.status_code, structured.json()["first"]) == (200, first.json())
    bare = await post(api, person.source, event["data"], "Application/JSON; charset=UTF-8")
    problem_of(bare, "malformed-event")


async def test_another_body_under_one_id_is_a_conflict_and_changes_nothing(api: Api) -> None:
    person, other = await api.person(), await api.person()
    event = ride(person.source, person.subject)
    first = (await api.report_one(person.source, event)).json()
    changes: list[dict[str, Any]] = [
        {"subject": "another person"},
        {"time": "2026-05-01T09:00:00Z"},
        {"data": event["data"] | {"inputs": {"distance_km": "2.36"}}},
        {"data": event["data"] | {"ended_at": "2026-05-01T08:13:00+08:00"}},
        {"data": event["data"] | {"vehicle": "1381"}},
        {"data": event["data"] | {"basis": {"distance_km": "track"}}},
    ]
    for change in changes:
        problem_of(await api.report_one(person.source, event | change), "event-conflict")
    assert (await api.report_one(person.source, event)).json()["first"] == first
    same = ride(other.source, other.subject, event["id"])  # ids are each source's own
    assert (await api.report_one(other.source, same)).status_code == 201
    assert (await api.balance(person.participant_id))["transfers"] == 1


@pytest.mark.parametrize(
    "change",
    [
        {"inputs": {"distance_km": "2.350"}},
        {"inputs": {"distance_km": "235e-2"}},
        {"started_at": "2026-05-01T00:00:00Z"},
        {"started_at": "2026-05-01T00:00:00.000Z"},
        {"ended_at": "2026-05-01t08:12:00+08:00"},
        {"vehicle": None},
        {"basis": {}},
    ],
)
async def test_the_same_facts_written_otherwise_are_a_repeat(api: Api, change: dict[str, Any]) -> None:
    person = await api.person()
    event = ride(person.source, person.subject)
    first = (await api.report_one(person.source, event)).json()
    again = await api.report_one(person.source, event | {"data": event["data"] | change})
    assert (again.status_code, again.json()) == (200, {"id": event["id"], "outcome": "duplicate", "first": first})


async def test_nothing_is_kept_of_a_person_who_is_not_linked(fresh_api: Api, fresh_database: Database) -> None:
    source = await fresh_api.source()
    events = [ride(source, "not linked"), ride(source, "not linked", km="99")]  # one good, one that would be refused
    for answer in (await fresh_api.report_one(source, events[0]), await fresh_api.report_one(source, events[0])):
        problem_of(answer, "subject-not-linked")
    outcomes = await fresh_api.report(source, events)
    assert {outcome["problem"]["type"] for outcome in outcomes} == {"urn:tanpuhui:problem:subject-not-linked"}
    connection = await asyncpg.connect(fresh_database.admin)
    assert await connection.fetchval(_STORED) == 0
    await connection.close()
    person = await fresh_api.person(source, subject="not linked")
    outcomes = await fresh_api.report(source, events)
    assert [outcome["outcome"] for outcome in outcomes] == ["credited", "refused"]
    assert outcomes[1]["problem"]["type"] == "urn:tanpuhui:problem:condition-not-met"
    assert (await fresh_api.balance(person.participant_id))["transfers"] == 1


async def test_a_withdrawn_consent_stops_new_reports_but_not_the_answers_given(api: Api) -> None:
    person = await api.person()
    event = ride(person.source, person.subject)
    first = (await api.report_one(person.source, event)).json()
    await api.unlink(person)
    problem_of(await api.report_one(person.source, ride(person.source, person.subject)), "subject-not-linked")
    assert (await api.report_one(person.source, event)).json()["first"] == first


@pytest.mark.parametrize(
    ("data", "condition", "value", "limit", "unit"),
    [
        ({"ended_at": "2026-05-01T08:00:59+08:00", "km": "0.2"}, "min-duration", "59", "60", "s"),
        ({"ended_at": "2026-05-01T11:00:01+08:00"}, "max-duration", "10801", "10800", "s"),
        ({"km": "0.0999"}, "min-distance", "0.0999", "0.1", "km"),
        ({"ended_at": "2026-05-01T10:30:00+08:00", "km": "30.001"}, "max-distance", "30.001", "30", "km"),
        ({"km": "5.001"}, "max-mean-speed", "25.005", "25", "km/h"),
    ],
)
async def test_a_refusal_names_condition_value_and_limit_and_stays_the_answer(
    api: Api, data: dict[str, Any], condition: str, value: str, limit: str, unit: str
) -> None:
    person = await api.person()
    event = ride(person.source, person.subject, **data)
    english = problem_of(await api.report_one(person.source, event), "condition-not-met")
    assert {english[name] for name in ("condition", "value", "limit", "unit")} == {condition, value, limit, unit}
    assert f"{value} {unit}" in english["detail"]
    assert f"{limit} {unit}" in english["detail"]
    assert problem_of(await api.report_one(person.source, event), "condition-not-met") == english
    for _ in range(2):
        chinese = problem_of(
            await post(api, person.source, event, STRUCTURED, **{"Accept-Language": "zh-CN"}), "condition-not-met"
        )
        assert f"{value} {unit}" in chinese["detail"]
        assert "未满足" in chinese["detail"]
    (item,) = await api.report(person.source, [event])
    assert item == {
        "id": event["id"],
        "outcome": "duplicate",
        "first": {"id": event["id"], "outcome": "refused", "problem": english},
    }


async def test_a_final_refusal_names_its_activity_wherever_it_is_told(api: Api, database: Database) -> None:
    """As a credit names its transfer: in a batch, alone, and each time it is asked for again. Others keep nothing."""
    person = await api.person()
    too_far, unlinked = ride(person.source, person.subject, km="50"), ride(person.source, "nobody linked", km="50")
    no_figure = ride(person.source, person.subject, inputs={})
    final, *passing = await api.report(person.source, [too_far, unlinked, no_figure])
    activity_id = final["problem"]["activity_id"]
    assert [outcome["outcome"] for outcome in passing] == ["refused"] * 2
    assert not any("activity_id" in outcome["problem"] for outcome in passing)
    (again,) = await api.report(person.source, [too_far])
    assert again == {"id": too_far["id"], "outcome": "duplicate", "first": final}
    for _ in range(2):
        alone = problem_of(await api.report_one(person.source, too_far), "condition-not-met")
        assert alone == final["problem"]
    single = ride(person.source, person.subject, km="51")
    first = problem_of(await api.report_one(person.source, single), "condition-not-met")
    assert first == problem_of(await api.report_one(person.source, single), "condition-not-met")
    connection = await asyncpg.connect(database.admin)
    query = "SELECT activity_id, outcome FROM service.activity WHERE participant_id = $1 ORDER BY activity_id"
    rows = await connection.fetch(query, UUID(person.participant_id))
    await connection.close()
    assert [(str(row["activity_id"]), row["outcome"]) for row in rows] == [
        (activity_id, "refused"),
        (first["activity_id"], "refused"),
    ]


@pytest.mark.parametrize(
    ("data", "slug"),
    [
        ({"scenario": "metro"}, "scenario-not-licensed"),
        (
            {"started_at": "2015-12-31T23:59:59+08:00", "ended_at": "2016-01-01T00:10:00+08:00"},
            "source-licence-not-valid",
        ),
        ({"ended_at": "2199-05-01T08:12:00+08:00"}, "activity-in-future"),
        ({"inputs": {}}, "missing-input"),
        ({"inputs": {"distance_km": "2", "weight_kg": 80}}, "unknown-input"),
        ({"ended_at": "2026-05-01T07:59:59+08:00"}, "ends-before-start"),
        ({"started_at": "0001-01-01T00:00:00+14:00"}, "outside-calendar"),
        ({"km": "-1"}, "input-out-of-range"),
        ({"km": "1.0000000000000000001"}, "improper-number"),
    ],
)
async def test_each_refusal_has_its_type_and_status(api: Api, data: dict[str, Any], slug: str) -> None:
    person = await api.person()
    event = ride(person.source, person.subject, **data)
    problem_of(await api.report_one(person.source, event), slug)
    assert (await api.balance(person.participant_id))["transfers"] == 0


async def test_what_was_not_judged_may_be_corrected_under_the_same_id(api: Api) -> None:
    person = await api.person()
    event = ride(person.source, person.subject, inputs={})
    problem_of(await api.report_one(person.source, event), "missing-input")
    corrected = ride(person.source, person.subject, event["id"])
    assert (await api.report_one(person.source, corrected)).status_code == 201


async def test_only_the_tokens_registered_source_may_report(api: Api) -> None:
    person = await api.person()
    stranger = "urn:tests:never-registered"
    problem_of(await api.report_one(stranger, ride(stranger, person.subject)), "source-not-registered")
    other = await api.source()
    problem_of(await api.report_one(other, ride(person.source, person.subject)), "source-mismatch")
    problem_of(await api.report_one(other, ride(other, person.subject)), "subject-not-linked")


async def test_one_event_sent_many_times_at_once_is_credited_once(api: Api) -> None:
    person = await api.person()
    event = ride(person.source, person.subject)
    answers = await asyncio.gather(*(api.report_one(person.source, event) for _ in range(40)))
    assert sorted(answer.status_code for answer in answers) == [200] * 39 + [201]
    assert len({answer.json().get("transfer_id") or answer.json()["first"]["transfer_id"] for answer in answers}) == 1
    assert (await api.balance(person.participant_id))["transfers"] == 1


@given(metres=st.integers(100, 4999), written=st.sampled_from(["number", "text", "exponent", "zeros"]))
@settings(max_examples=60, deadline=None)
def test_figures_are_exact_however_they_are_written(metres: int, written: str) -> None:
    plain = f"{metres // 1000}.{metres % 1000:03}"
    text = {"number": plain, "text": f'"{plain}"', "exponent": f"{metres}e-3", "zeros": plain + "0" * 30}[written]
    body = (
        '{"scenario": "shared-ebike", "started_at": "2026-05-01T08:00:00Z", "ended_at": "2026-05-01T08:12:00Z",'
        f' "inputs": {{"distance_km": {text}}}}}'
    )
    figure = ActivityData.model_validate(parse_json(body.encode())).inputs["distance_km"]
    assert figure * 1000 == metres


@pytest.mark.parametrize(
    ("km", "reduction_mg"),
    [("0.30000000000000004", 10503), ("0.1", 3501), ("0.7", 24507), ("1.1", 38511), ("4.35", 152293), ("2.675", 93651)],
)
async def test_grams_are_exact_decimals(api: Api, km: str, reduction_mg: int) -> None:
    person = await api.person()
    body = orjson.dumps(ride(person.source, person.subject, km="KM")).replace(b'"KM"', km.encode())
    answer = await post(api, person.source, body, STRUCTURED)
    assert answer.json()["reduction_mg"] == reduction_mg

"""Registering data providers: idempotent, strict, in force within a second; licences that end say so before."""

import asyncio
from datetime import date, timedelta
from typing import Any

import asyncpg
import httpx
import pytest

from service.activities.licences import Licence
from service.activities.store import read_licence
from service.database import Connection
from tests.conftest import Database
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
    named = {name: BODY[name] for name in ("uri", "title_zh", "title_en", "grade")}
    days = {"valid_from": "2026-01-01", "valid_to": "2026-12-31"}
    for _ in range(2):
        answer = await put(api, BODY)
        registered = answer.json()
        assert answer.status_code == 200
        assert registered | named | {"programme": "demo", "region": "310000"} == registered
        assert [licence | days for licence in registered["licences"]] == registered["licences"]
        assert [licence["scenario"] for licence in registered["licences"]] == ["metro", "shared-ebike"]
        assert "RateLimit" in answer.headers
        assert await read(api, BODY["uri"]) == await read_own(api, BODY["uri"]) == registered
    unlimited = {name: value for name, value in BODY.items() if name != "valid_to"}
    (first, second) = (await put(api, unlimited)).json()["licences"]
    assert (first["valid_to"], second["days_left"]) == (None, None)


async def read(api: Api, uri: str, **headers: str) -> dict[str, Any]:
    answer = await api.client.get("/v1/sources", params={"uri": uri}, headers=api.bearer("operator") | headers)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def read_own(api: Api, uri: str) -> dict[str, Any]:
    answer = await api.client.get("/v1/sources/me", headers=api.bearer("provider", source=uri))
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_who_is_not_registered_is_not_found(api: Api) -> None:
    own = await api.client.get("/v1/sources/me", headers=api.bearer("provider", source="urn:tests:nobody"))
    problem_of(own, "source-not-found")
    operator = api.bearer("operator")
    problem_of(await api.client.get("/v1/sources?uri=urn:tests:nobody", headers=operator), "source-not-found")
    unnamed = problem_of(await api.client.get("/v1/sources", headers=operator), "malformed-request")
    assert [(fault["parameter"], fault["code"]) for fault in unnamed["errors"]] == [("uri", "missing")]


def licence(first: date | str, last: date | str | None, scenario: str = "shared-ebike") -> dict[str, Any]:
    return {"scenario": scenario, "valid_from": str(first), "valid_to": last and str(last)}


def with_licences(uri: str, *licences: dict[str, Any]) -> dict[str, Any]:
    named = {name: BODY[name] for name in ("title_zh", "title_en", "grade")}
    return {**named, "uri": uri, "licences": list(licences)}


async def test_each_scenario_has_its_own_days(api: Api) -> None:
    person = await api.person()
    spans = [licence("2026-05-03", "2026-05-03"), licence("2026-04-01", "2026-04-30"), licence("2026-05-01", None, "x")]
    assert (await put(api, with_licences(person.source, *spans))).status_code == 200

    async def answer(day: str) -> httpx.Response:
        at = {"started_at": f"2026-{day}T08:00:00+08:00", "ended_at": f"2026-{day}T08:12:00+08:00"}
        return await api.report_one(person.source, ride(person.source, person.subject, **at))

    assert [(await answer(day)).status_code for day in ("04-30", "05-03")] == [201, 201]
    for day, shown in (
        ("03-31", ("2026-04-01", "2026-04-30")),
        ("05-02", ("2026-04-01", "2026-04-30")),
        ("05-04", ("2026-05-03", "2026-05-03")),
    ):
        refused = problem_of(await answer(day), "source-licence-not-valid")
        assert (refused["valid_from"], refused["valid_to"], refused["day"]) == (*shown, f"2026-{day}")


async def test_a_licence_that_ends_is_warned_of_and_stops_by_itself(api: Api) -> None:
    person, today = await api.person(), api.platform.today()
    last = today + timedelta(days=30)
    body = with_licences(
        person.source,
        licence("2026-01-01", last),
        licence("2026-01-01", today + timedelta(days=93), "metro"),  # never less than three calendar months
        licence("2026-01-01", None, "bus"),
        licence("2016-01-01", "2017-12-31", "ferry"),
    )
    await put(api, body)
    shown = {
        each["scenario"]: each for each in (await read(api, person.source, **{"Accept-Language": "en"}))["licences"]
    }
    assert {name: each["days_left"] for name, each in shown.items()} == {
        "shared-ebike": 31,
        "metro": 94,
        "bus": None,
        "ferry": 0,
    }
    assert shown["shared-ebike"]["warning"].startswith(f"The licence ends on {last} (days left: 31);")
    assert shown["ferry"]["warning"].startswith("The licence ended on 2017-12-31;")
    assert shown["metro"]["warning"] is shown["bus"]["warning"] is None
    chinese = {each["scenario"]: each["warning"] for each in (await read_own(api, person.source))["licences"]}
    assert chinese["shared-ebike"].startswith(f"许可将于 {last} 到期，还有 31 天；")
    assert chinese["ferry"].startswith("许可已于 2017-12-31 到期；")
    await put(api, with_licences(person.source, licence("2026-01-01", today - timedelta(days=1))))
    (ended,) = (await read(api, person.source))["licences"]
    assert ended["days_left"] == 0
    over = {"started_at": f"{today}T00:00:00+08:00", "ended_at": f"{today}T00:00:01+08:00"}
    refused = await api.report_one(person.source, ride(person.source, person.subject, **over))
    problem_of(refused, "source-licence-not-valid")


async def test_a_renewal_ends_the_warning(api: Api) -> None:
    uri, today = await api.source(), api.platform.today()
    ends, next_day = today + timedelta(days=10), today + timedelta(days=11)
    await put(api, with_licences(uri, licence("2026-01-01", ends), licence(next_day, None)))
    for each in (await read(api, uri))["licences"]:
        assert (each["days_left"], each["warning"]) == (None, None)


async def test_answers_carry_the_warning_of_the_scenarios_they_are_about(api: Api) -> None:
    person, last = await api.person(), api.platform.today() + timedelta(days=5)
    header = "Tanpuhui-Licence-Warning"
    licences = [licence("2026-01-01", last), licence("2026-01-01", last, "metro"), licence("2026-01-01", None, "bus")]
    await put(api, with_licences(person.source, *licences))
    provider = api.bearer("provider", source=person.source)

    async def batch(*scenarios: str) -> httpx.Response:
        events = [ride(person.source, person.subject, scenario=scenario) for scenario in scenarios]
        headers = provider | {"Content-Type": "application/cloudevents-batch+json"}
        return await api.client.post("/v1/activities", headers=headers, json=[*events, None, {"data": []}])

    said = f'shared-ebike;last-day="{last}"'
    assert (await batch("shared-ebike")).headers[header] == said
    assert (await batch("shared-ebike", "metro", "shared-ebike")).headers[header] == f'metro;last-day="{last}", {said}'
    assert header not in (await batch("bus")).headers
    one = await api.report_one(person.source, ride(person.source, person.subject))
    assert (one.status_code, one.headers[header]) == (201, said)


async def test_operators_see_how_long_licences_last(api: Api) -> None:
    uri, today = await api.source(), api.platform.today()
    await put(api, with_licences(uri, licence("2026-01-01", today), licence("2026-01-01", None, "bus")))
    text = (await api.client.get("/metrics")).text
    assert f'tanpuhui_licence_days_left{{scenario="shared-ebike",source="{uri}"}} 1.0' in text
    assert f'tanpuhui_licence_days_left{{scenario="bus",source="{uri}"}} +Inf' in text
    await put(api, with_licences(uri, licence("2026-01-01", None)))
    text = (await api.client.get("/metrics")).text
    assert f'tanpuhui_licence_days_left{{scenario="shared-ebike",source="{uri}"}} +Inf' in text
    assert f'tanpuhui_licence_days_left{{scenario="bus",source="{uri}"}} 0.0' in text


async def history(database: Database, uri: str) -> list[tuple[str, str, bool]]:
    connection = await asyncpg.connect(database.auditor)
    rows = await connection.fetch(
        "SELECT scenario, valid_to::text, superseded_at IS NULL AS live FROM service.licence "
        "JOIN service.source USING (source_id) WHERE uri = $1 ORDER BY granted_at, scenario",
        uri,
    )
    await connection.close()
    return [(row["scenario"], row["valid_to"], row["live"]) for row in rows]


async def test_what_was_licensed_before_stays_on_record(api: Api, database: Database) -> None:
    uri = await api.source(licences=[licence("2026-01-01", "2026-06-30"), licence("2026-01-01", "2026-06-30", "bus")])
    extended = with_licences(uri, licence("2026-01-01", "2026-12-31"), licence("2026-01-01", "2026-06-30", "bus"))
    for _ in range(2):
        await put(api, extended)
    assert await history(database, uri) == [
        ("bus", "2026-06-30", True),
        ("shared-ebike", "2026-06-30", False),
        ("shared-ebike", "2026-12-31", True),
    ]


async def test_registrations_at_once_do_not_mix(api: Api) -> None:
    uri = await api.source()
    wanted = [
        [licence(f"2026-0{n}-01", f"2026-0{n}-28"), licence("2026-01-01", None, f"scenario-{n}")] for n in range(1, 9)
    ]
    await asyncio.gather(*(put(api, with_licences(uri, *licences)) for licences in wanted))
    found = (await read(api, uri))["licences"]
    kept = sorted(({name: each[name] for name in licence("", None)} for each in found), key=str)
    assert kept in [sorted(licences, key=str) for licences in wanted]


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
        {"scenarios": None},
        {"licences": []},
        {"licences": [{"scenario": "metro", "valid_from": "2026-01-01"}]},  # beside the other form
    ],
    ids=str,
)
async def test_a_registration_must_be_whole(api: Api, change: dict[str, Any]) -> None:
    assert problem_of(await put(api, BODY | change), "malformed-request")["errors"]


async def test_a_day_is_enough_for_a_licence(api: Api) -> None:
    assert (await put(api, BODY | {"valid_to": BODY["valid_from"]})).status_code == 200


@pytest.mark.parametrize(
    ("licences", "faults"),
    [
        ([licence("2026-01-02", "2026-01-01")], [("/licences/0/valid_to", "too-small")]),
        ([{"scenario": "metro"}], [("/licences/0/valid_from", "missing")]),
        ([licence("2026-01-01", None), licence("2027-01-01", None)], [("/licences/1", "overlaps")]),
        ([licence("2026-06-01", "2026-06-30"), licence("2026-01-01", "2026-06-01")], [("/licences/0", "overlaps")]),
        ([licence("2026-06-01", "2026-06-30"), licence("2026-01-01", "2026-05-31")], []),
        ([licence("2026-01-01", None), licence("2026-01-01", None, "metro")], []),
    ],
)
async def test_licences_of_one_scenario_share_no_day(api: Api, licences: list[Any], faults: list[Any]) -> None:
    answer = await put(api, with_licences("urn:tests:spans", *licences))
    found = problem_of(answer, "malformed-request")["errors"] if faults else []
    assert [(fault["pointer"], fault["code"]) for fault in found] == faults
    assert answer.status_code == (422 if faults else 200)


async def test_both_forms_of_licences_or_none_are_named(api: Api) -> None:
    for change, faults in (
        ({"licences": [licence("2026-01-01", None)]}, ["/scenarios", "/valid_from", "/valid_to"]),
        ({"scenarios": None, "valid_from": None}, ["/scenarios", "/valid_from"]),
    ):
        found = problem_of(await put(api, BODY | change), "malformed-request")["errors"]
        assert [fault["pointer"] for fault in found] == faults


async def test_of_many_who_ask_at_once_one_asks_the_database(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = await api.source()
    asked: list[str] = []

    async def counted(tx: Connection, uri: str, today: date) -> Licence | None:
        asked.append(uri)
        return await read_licence(tx, uri, today)

    monkeypatch.setattr("api.platform.read_licence", counted)
    found = await asyncio.gather(*(api.platform.licence(uri) for _ in range(50)))
    assert [licence.uri for licence in found if licence is not None] == [uri] * 50
    assert asked == [uri]

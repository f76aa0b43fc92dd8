"""POST /v1/quantify: what something would earn, by anybody, with nothing written; and every way to ask wrongly."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from api.problems import Problem
from api.v1.quantify import WantedEstimate, estimate, times_of
from service.activities.rules import RuleBook
from service.approvals import Approvals
from service.quantification.methodology import DIRECTORY, catalogue_of, parse_methodology
from service.quantification.model import Period
from service.quantification.periods import activity_day, counted_days
from service.quantification.points import load_points_rules
from tests.conftest import Database
from tests.documents import DEMO, changed
from tests.running import Api, problem_of, ride, running_api

pytestmark = pytest.mark.anyio

TIMES = {"started_at": "2026-05-01T08:00:00+08:00", "ended_at": "2026-05-01T08:12:00+08:00"}
RIDE = {"methodology": "demo-shared-ebike", "version": 1, "inputs": {"distance_km": "2.35"}, **TIMES}
NOW = datetime(2026, 5, 20, 4, 30, 15, 77, tzinfo=UTC)


async def ask(api: Api, body: Any, **headers: str) -> httpx.Response:
    return await api.client.post("/v1/quantify", json=body, headers={"Accept-Language": "en"} | headers)


async def test_anyone_may_ask_and_sees_every_step(api: Api) -> None:
    answer = await ask(api, RIDE)
    assert answer.status_code == 200, answer.text
    shown = answer.json()
    assert (shown["methodology"], shown["version"], shown["status"]) == ("demo-shared-ebike", 1, "demonstration")
    assert (shown["reduction_mg"], shown["points"], shown["can_credit"], shown["why_not"]) == (82273, 82, True, [])
    assert shown["trace"] == [
        "35.01 g/km × 2.35 km = 82.2735 g",
        "⌊82.2735 g⌋ = 82273 mg",
        "⌊82273 mg ÷ 1000 mg/g × 1⌋ = 82",
    ]
    (factor,) = shown["factors"]
    assert (factor["value"], factor["confidence"]) == ("35.01", "single")
    assert "Hello" in factor["source"]["title"]
    assert len(shown["conditions"]) == 5
    assert "RateLimit" in answer.headers


async def test_it_says_what_a_report_of_the_same_would_be_credited(api: Api) -> None:
    person = await api.person()
    event = ride(person.source, person.subject, km="4.13")
    answer = await ask(api, {"methodology": event["data"]["scenario"], "inputs": {"distance_km": "4.13"}, **TIMES})
    (credited,) = await api.report(person.source, [event])
    for name in ("reduction_mg", "points"):
        assert answer.json()[name] == credited[name]


async def test_nothing_is_written(fresh_api: Api) -> None:
    async def rows() -> list[int]:
        tables = ("ledger.leaf_queue", "service.activity", "service.evidence", "service.event_key")
        return [await fresh_api.platform.pool.fetchval(f"SELECT count(*) FROM {table}") for table in tables]

    before = await rows()
    for _ in range(3):
        assert (await ask(fresh_api, RIDE)).status_code == 200
    assert await rows() == before == [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("change", "slug"),
    [
        ({"methodology": "flying"}, "rule-not-found"),
        ({"version": 9999}, "rule-not-found"),
        ({"methodology": "Not An Id"}, "malformed-request"),
        ({"inputs": {"distance_km": "far"}}, "malformed-request"),
        ({"more": 1}, "malformed-request"),
        ({"started_at": "2026-05-01T08:00:00"}, "malformed-request"),
        ({"inputs": {}}, "missing-input"),
        ({"inputs": {"distance_km": "2", "weight_kg": "3"}}, "unknown-input"),
        ({"inputs": {"distance_km": "1e60"}}, "improper-number"),
        ({"inputs": {"distance_km": "100001"}}, "input-out-of-range"),
        ({"inputs": {"distance_km": "0.01"}}, "condition-not-met"),
        ({"ended_at": "2026-05-01T07:00:00+08:00"}, "ends-before-start"),
        ({"started_at": "2015-05-01T08:00:00+08:00"}, "no-methodology-in-force"),
        ({"started_at": "0001-01-01T00:00:00+14:00"}, "outside-calendar"),
        ({"ended_at": None}, "times-needed"),
        ({"readings": {"use_kwh": {"kind": "nothing"}}}, "unknown-reading"),
        ({"baseline": {"use_kwh": 7}}, "unknown-reading"),
    ],
)
async def test_what_is_wrong_is_a_documented_problem(api: Api, change: dict[str, Any], slug: str) -> None:
    problem_of(await ask(api, RIDE | change), slug)


async def test_without_times_the_conditions_on_the_duration_are_named_as_not_checked(api: Api) -> None:
    timed = (await ask(api, RIDE)).json()
    untimed = (await ask(api, RIDE | {"started_at": None, "ended_at": None})).json()
    assert untimed["reduction_mg"] == timed["reduction_mg"]
    assert (timed["not_checked"], untimed["not_checked"]) == ([], ["min-duration", "max-duration", "max-mean-speed"])
    assert [one["id"] for one in untimed["conditions"]] == ["min-distance", "max-distance"]
    too_near = RIDE | {"started_at": None, "ended_at": None, "inputs": {"distance_km": "0.01"}}
    problem_of(await ask(api, too_near), "condition-not-met")


async def test_a_body_that_is_no_request_is_refused(api: Api) -> None:
    async def send(content: bytes, kind: str = "application/json") -> httpx.Response:
        return await api.client.post("/v1/quantify", content=content, headers={"Content-Type": kind})

    problem_of(await send(b"{"), "malformed-json")
    problem_of(await send(b"[]"), "malformed-request")
    problem_of(await send(b"{}", "text/plain"), "unsupported-media-type")
    problem_of(await send(b" " * (2**20 + 1)), "payload-too-large")


async def test_each_address_has_a_quota_of_its_own(database: Database, tmp_path: Path) -> None:
    limits = {"address_requests_per_second": 1, "address_requests_burst": 55}  # one costs 25, and the request one
    async with running_api(database.app, None, tmp_path, **limits) as api:
        answers = [await ask(api, RIDE) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200, 200, 429]
        problem_of(answers[2], "quota-exceeded")
        for host, status in (("192.0.2.7", 200), ("2001:db8::1", 200), ("2001:db8::2", 200), ("2001:db8::3", 429)):
            transport = httpx.ASGITransport(app=api.client._transport.app, client=(host, 1))  # type: ignore[attr-defined]
            async with httpx.AsyncClient(transport=transport, base_url="http://tests") as other:
                assert (await other.post("/v1/quantify", json=RIDE)).status_code == status, host


def rules_of(*documents: bytes, **changes: Any) -> RuleBook:
    methodologies, points = catalogue_of(map(parse_methodology, documents)), load_points_rules()
    statuses = changes.pop("statuses", frozenset({"demonstration", "official"}))
    return RuleBook(methodologies, points, {}, {}, {}, statuses, Approvals(), **changes)


def computed(rules: RuleBook, **wanted: Any) -> dict[str, Any]:
    return estimate(rules, WantedEstimate.model_validate(wanted), NOW, "demo", "en")


OFFICES = (DIRECTORY / "office-electricity.yaml").read_bytes()
CONDITIONS = DEMO[DEMO.index("conditions:") : DEMO.index("reduction: ")]
DISTANCE_ALONE = CONDITIONS[CONDITIONS.index("  - id: min-distance") : CONDITIONS.index("  - id: max-distance")]
TIMELESS = changed(DEMO, (CONDITIONS, f"conditions:\n{DISTANCE_ALONE}\n"))


def test_where_the_duration_decides_nothing_it_is_of_the_last_hour() -> None:
    shown = computed(rules_of(TIMELESS), methodology="shared-ebike", inputs={"distance_km": "2"})
    assert (shown["started_at"], shown["ended_at"]) == ("2026-05-20T03:30:15Z", "2026-05-20T04:30:15Z")
    assert shown["reduction_mg"] == 70020


def test_what_cannot_credit_is_computed_and_says_why() -> None:
    shown = computed(
        rules_of(TIMELESS, require_approvals=True), methodology="shared-ebike", inputs={"distance_km": "2"}
    )
    assert (shown["reduction_mg"], shown["can_credit"], shown["why_not"]) == (70020, False, ["not-approved"])
    assert shown["points"] is None or shown["points"] == 70
    shown = computed(
        rules_of(TIMELESS, statuses=frozenset({"official"})), methodology="shared-ebike", inputs={"distance_km": "2"}
    )
    assert shown["why_not"] == ["status-not-allowed"]
    assert shown["why_not_titles"] == ["this deployment does not credit under its status"]


def test_a_version_is_the_one_that_was_named_or_the_one_of_the_day() -> None:
    second = changed(
        TIMELESS.decode(),
        ("version: 1", "version: 2"),
        ("in_force: {from: 2016-01-01}", "in_force: {from: 2025-06-01}"),
    )
    rules = rules_of(TIMELESS, second)
    wanted = {"methodology": "demo-shared-ebike", "inputs": {"distance_km": "2"}}
    assert computed(rules, **wanted)["version"] == 2
    assert computed(rules, **wanted, version=1)["version"] == 1
    early = {"started_at": "2025-05-31T23:00:00+08:00", "ended_at": "2025-05-31T23:30:00+08:00"}
    assert computed(rules, **wanted, **early)["version"] == 1
    with pytest.raises(Problem, match="no-methodology-in-force"):
        computed(rules, **wanted, **early, version=2)


def test_a_period_is_the_last_whole_one_and_readings_need_their_days() -> None:
    rules = rules_of(OFFICES)
    with pytest.raises(Problem, match="missing-reading"):
        computed(rules, methodology="office-electricity")
    readings = {
        "use_kwh": {"kind": "interval", "spans": [["2026-04-01T00:00:00+08:00", "2026-05-01T00:00:00+08:00", 900]]}
    }
    with pytest.raises(Problem, match="times-needed"):
        computed(rules, methodology="office-electricity", readings=readings)
    baseline = {
        "baseline_kwh": {
            "kind": "cumulative",
            "at": [["2025-04-01T00:00:00+08:00", 0], ["2025-05-01T00:00:00+08:00", 1000]],
        }
    }
    times = {"started_at": "2026-04-01T00:00:00+08:00", "ended_at": "2026-05-01T00:00:00+08:00"}
    shown = computed(rules, methodology="office-electricity", readings=readings, baseline=baseline, **times)
    assert shown["reduction_mg"] == 100 * 420 * 1000
    with pytest.raises(Problem, match="readings-invalid"):
        computed(rules, methodology="office-electricity", readings={"use_kwh": 7}, **times)


@pytest.mark.parametrize(
    ("unit", "started_at"),
    [
        ("day", datetime(2026, 5, 18, 16, tzinfo=UTC)),
        ("month", datetime(2026, 3, 31, 16, tzinfo=UTC)),
        ("year", datetime(2024, 12, 31, 16, tzinfo=UTC)),
    ],
)
def test_the_last_whole_unit(unit: str, started_at: datetime) -> None:
    counting = replace(parse_methodology(OFFICES), period=Period(unit, 1))
    found = times_of(counting, WantedEstimate(methodology="office-electricity"), NOW)
    assert found[0] == started_at
    assert activity_day(found[1]).day == (20 if unit == "day" else 1)
    assert counted_days(counting, *found)[0] == activity_day(started_at)

"""One credit explained, whatever its rule counts: readings and gaps, caps, what it awaits, what it replaces, who added
points."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import asyncpg
import pytest

from service.quantification.points import DIRECTORY
from tests.conftest import Database
from tests.running import Api, Person, ride, running_api
from tests.running import credit_code as new_code

pytestmark = pytest.mark.anyio

SHANGHAI = ZoneInfo("Asia/Shanghai")
NOW = datetime(2026, 7, 2, 12, tzinfo=SHANGHAI)  # the rules take reports for some days: the clock is set to then
RULES = Path(__file__).resolve().parents[1] / "rules"
SCENARIOS = ["shared-ebike", *(f"test-{name}" for name in ("load-shifting", "metro", "pv", "shared-bike", "walking"))]
DAY = {"started_at": "2026-07-01T00:00:00+08:00", "ended_at": "2026-07-02T00:00:00+08:00"}


@asynccontextmanager
async def under(database: Database, path: Path, rules: Path = RULES, **changes: Any) -> AsyncIterator[Api]:
    """The API under these rules, at a moment when their windows are open."""
    offset = NOW - datetime.now(UTC)
    async with running_api(
        database.app, database.redis, path, rules_dir=rules, clock_offset=offset, **changes
    ) as running:
        yield running


@pytest.fixture(scope="module")
async def api(database: Database, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Api]:
    async with under(database, tmp_path_factory.mktemp("data")) as running:
        yield running


async def credited(api: Api, person: Person, scenario: str, **data: Any) -> str:
    """Report an activity that is credited; its transfer."""
    event = ride(person.source, person.subject, **({"scenario": scenario, "inputs": {}} | data))
    answer = await api.report_one(person.source, event)
    assert answer.status_code == 201, answer.text
    transfer: str = answer.json()["transfer_id"]
    return transfer


async def explained(api: Api, person: Person, transfer: str, language: str = "en") -> dict[str, Any]:
    answer = await api.read(person.participant_id, f"transfers/{transfer}", **{"Accept-Language": language})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def enrolled(api: Api, grade: str = "A", kind: str = "citizen") -> Person:
    source = await api.source(scenarios=SCENARIOS, grade=grade)
    return await api.person(source, kind=kind, code=None if kind == "citizen" else new_code())


BIKE = {
    "started_at": "2026-07-01T08:00:00+08:00",
    "ended_at": "2026-07-01T08:12:00+08:00",
    "inputs": {"distance_km": "2"},
}


async def test_readings_are_shown_by_window_with_their_gaps(api: Api) -> None:
    person = await enrolled(api)
    values = ["0.2"] * 12 + ["0.1"] * 32 + ["0.3"] * 4  # half hours from midnight: valley, peak, valley
    series = {
        "kind": "interval",
        "from": DAY["started_at"],
        "step_s": 1800,
        "values": [None, *values[1:]],
    }
    transfer = await credited(
        api, person, "test-load-shifting", **DAY, references={"meter": "m 1"}, readings={"use_kwh": series}
    )
    shown = await explained(api, person, transfer)
    arithmetic = shown["arithmetic"]
    assert arithmetic["days"] == {"first": "2026-07-01", "last": "2026-07-01"}
    (use,) = arithmetic["readings"]
    assert (use["name"], use["unit"], use["measured"], use["gaps"]) == ("use_kwh", "kWh", "6.6", "pro_rata")
    assert (use["longest_gap_s"], use["covered_share"]) == (1800, "0.979166666666…")
    windows = {window["name"]: window for window in use["windows"]}
    assert windows["peak_kwh"]["value"] == windows["peak_kwh"]["measured"] == "3.2"
    assert (windows["valley_kwh"]["measured"], windows["valley_kwh"]["covered_s"]) == ("3.4", 27_000)
    assert windows["valley_kwh"]["span_s"] == 28_800
    assert arithmetic["baseline"] == []
    assert shown["activity"]["readings"] == {"use_kwh": {"kind": "interval", "values": 48}}
    chinese = await explained(api, person, transfer, "zh")
    assert chinese["arithmetic"]["readings"][0]["gaps_title"] == "缺口按已测部分折算"
    assert (chinese["methodology"]["status_title"], chinese["methodology"]["confidence_title"]) == (
        "演示用途，非官方",
        "单一来源",
    )


async def test_a_baseline_is_shown_with_the_time_it_is_of(api: Api) -> None:
    source = await api.source(scenarios=["test-home-electricity"])
    person = await api.person(source)

    def month(year: int, kwh: str) -> dict[str, Any]:
        return {"kind": "interval", "spans": [[f"{year}-06-01T00:00:00+08:00", f"{year}-07-01T00:00:00+08:00", kwh]]}

    transfer = await credited(
        api,
        person,
        "test-home-electricity",
        started_at="2026-06-01T00:00:00+08:00",
        ended_at="2026-07-01T00:00:00+08:00",
        references={"meter": "m 2", "address": "a 2"},
        readings={"use_kwh": month(2026, "90.5")},
        baseline={"baseline_kwh": month(2025, "120")},
    )
    shown = await explained(api, person, transfer)
    (baseline,) = shown["arithmetic"]["baseline"]
    assert (baseline["name"], baseline["of"], baseline["value"]) == ("baseline_kwh", "use_kwh", "120")
    assert (baseline["first"], baseline["last"], baseline["from"]) == ("2025-06-01", "2025-06-30", "earlier_year")
    assert baseline["from_title"] == "the same time a year earlier"
    assert shown["arithmetic"]["reduction_mg"] == 12_390_000  # 29.5 kWh x 420 g/kWh
    assert shown["activity"]["baseline"] == {"baseline_kwh": {"kind": "interval", "values": 1}}
    assert shown["pending"]["awaits"] == "settlement"


async def test_a_boarding_that_ends_when_it_begins_is_explained(api: Api) -> None:
    person = await enrolled(api)
    moment = "2026-07-01T08:00:00+08:00"
    transfer = await credited(
        api,
        person,
        "test-metro",
        started_at=moment,
        ended_at=moment,
        references={"operator": "metro", "order": f"o {person.subject}"},
    )
    shown = await explained(api, person, transfer)
    assert shown["arithmetic"]["reduction_mg"] == 150_500
    assert "readings" not in shown["arithmetic"]
    assert (shown["clipped"], shown["pending"], shown["settlement"]) == ([], None, None)
    assert (shown["replaces"], shown["replaced_by"], shown["matured_by"]) == (None, None, None)


async def test_where_a_cap_clipped_both_amounts_and_the_cap_are_named(api: Api) -> None:
    person = await enrolled(api)
    transfer = await credited(api, person, "test-walking", **DAY, inputs={"steps": 20_000})
    shown = await explained(api, person, transfer)
    assert shown["arithmetic"]["reduction_mg"] == 400_000
    (clipped,) = shown["clipped"]
    assert (clipped["of"], clipped["computed"], clipped["credited"]) == ("grams", 400_000, 300_500)
    assert [(cap["id"], cap["at_most"], cap["per_title"]) for cap in clipped["caps"]] == [
        ("grams-per-day", 300_500, "day")
    ]
    assert shown["points_rule"]["steps"] == ["⌊300500 mg ÷ 1000 mg/g × 1⌋ = 300"]
    whole = await explained(api, *await _walker(api, steps=10_000))
    assert whole["clipped"] == []


async def _walker(api: Api, steps: int) -> tuple[Person, str]:
    person = await enrolled(api)
    return person, await credited(api, person, "test-walking", **DAY, inputs={"steps": steps})


async def test_where_a_cap_clipped_the_points_the_steps_say_so(api: Api) -> None:
    person = await enrolled(api)
    events = []
    for day in (1, 2):
        for number in range(7):
            moment = f"2026-07-0{day}T{number + 1:02}:00:00+08:00"
            events.append(
                ride(
                    person.source, person.subject, scenario="test-metro", started_at=moment, ended_at=moment, inputs={}
                )
            )
            events[-1]["data"]["references"] = {"operator": "metro", "order": f"{person.subject} {moment}"}
    outcomes = await api.report(person.source, events)
    assert [each["points"] for each in outcomes] == [150] * 13 + [50]  # 2,000 in a month
    shown = await explained(api, person, outcomes[-1]["transfer_id"])
    (clipped,) = shown["clipped"]
    assert (clipped["of"], clipped["computed"], clipped["credited"]) == ("points", 150, 50)
    assert [cap["id"] for cap in clipped["caps"]] == ["points-per-month"]
    assert shown["points_rule"]["steps"] == ["⌊150500 mg ÷ 1000 mg/g × 1⌋ = 150", "min(150, 50) = 50"]


async def test_self_declared_evidence_is_explained_without_points(api: Api) -> None:
    person = await enrolled(api, grade="C")
    transfer = await credited(api, person, "test-walking", **DAY, inputs={"steps": 10_000})
    shown = await explained(api, person, transfer)
    assert (shown["points_rule"], shown["source"]["grade"]) == (None, "C")
    assert shown["no_points_title"] == "self-declared evidence earns no points"
    assert shown["arithmetic"]["reduction_mg"] == 200_000
    assert {line["asset"] for line in shown["lines"]} == {"co2e_mg"}


async def test_a_project_waits_for_its_registration(api: Api) -> None:
    person = await enrolled(api, kind="firm")
    at = [["2026-06-01T00:00:00+08:00", "100"], ["2026-07-01T00:00:00+08:00", "150.5"]]
    transfer = await credited(
        api,
        person,
        "test-pv",
        started_at="2026-06-01T00:00:00+08:00",
        ended_at="2026-07-01T00:00:00+08:00",
        inputs={"capacity_kw": 5},
        references={"installation": f"roof of {person.subject}"},
        readings={"generation_kwh": {"kind": "cumulative", "at": at}},
    )
    shown = await explained(api, person, transfer)
    pending = shown["pending"]
    assert (pending["awaits"], pending["due_on"]) == ("registration", None)
    assert (pending["reduction_mg"], pending["points"]) == (21_210_000, 0)
    assert "facts" not in pending
    assert (shown["points_rule"], shown["no_points_title"][:10]) == (None, "a project'")
    assert shown["activity"]["readings"] == {"generation_kwh": {"kind": "cumulative", "values": 2}}


async def test_an_operators_record_replaces_what_a_phone_reported(api: Api) -> None:
    phone = await enrolled(api, grade="B")
    source = await api.source(scenarios=SCENARIOS)
    consent = {"purpose": "carbon-credit", "text_version": "tests-1", "given_at": "2026-01-01T08:00:00+08:00"}
    path = f"/v1/participants/{phone.participant_id}/links"
    link = {"source": source, "subject": phone.subject, "consent": consent}
    assert (await api.client.post(path, headers=api.bearer("operator"), json=link)).status_code == 201
    operator = Person(phone.participant_id, "", source, phone.subject)
    same = BIKE | {"references": {"operator": "bikes", "order": f"o {phone.subject}"}}
    first = await credited(api, phone, "test-shared-bike", **same)
    waiting = (await explained(api, phone, first))["pending"]
    assert (waiting["awaits"], waiting["title"]) == ("match", "waits for the operator's record of the same thing")
    second = await credited(api, operator, "test-shared-bike", **same)
    before, after = await explained(api, phone, first), await explained(api, phone, second)
    assert (before["replaced_by"], before["pending"]) == (second, None)
    assert (after["replaces"], after["replaced_by"]) == (first, None)
    reversal = await explained(api, phone, before["reversed_by"])
    assert reversal["reason_title"] == "superseded by a better record of the same thing"
    chinese = await explained(api, phone, before["reversed_by"], "zh")
    assert chinese["reason_title"] == "由同一行为的更可靠记录取代"


async def test_a_correction_names_what_it_replaces_and_the_other_way_round(api: Api) -> None:
    person = await enrolled(api)
    wrong = ride(person.source, person.subject, km="4")
    other = ride(person.source, person.subject, km="1")
    right = ride(person.source, person.subject, km="2", replaces=wrong["id"])
    first, _, second = await api.report(person.source, [wrong, other, right])
    before, after = [await explained(api, person, each["transfer_id"]) for each in (first, second)]
    assert (before["replaced_by"], before["replaces"]) == (second["transfer_id"], None)
    assert (after["replaces"], after["replaced_by"]) == (first["transfer_id"], None)
    reversal = await explained(api, person, before["reversed_by"])
    assert (reversal["reason"], reversal["reason_title"]) == ("corrected", "corrected by the source")
    assert (await api.balance(person.participant_id))["points"]["available"] == 35 + 70


async def test_a_correction_that_earns_nothing_replaces_nothing(api: Api) -> None:
    """What follows it in the same batch is another credit, and is not taken for it."""
    person = await enrolled(api)
    wrong = ride(person.source, person.subject, km="4")
    nothing = ride(person.source, person.subject, ended_at="2026-05-01T08:00:10+08:00", replaces=wrong["id"])
    other = ride(person.source, person.subject, km="1")
    first, refused, credit = await api.report(person.source, [wrong, nothing, other])
    assert refused["outcome"] == "refused"
    before, after = [await explained(api, person, each["transfer_id"]) for each in (first, credit)]
    assert before["reversed_by"]
    assert (before["replaced_by"], after["replaces"]) == (None, None)


CAMPAIGN = """
campaigns:
  - id: summer
    title: {zh: 夏季双倍, en: Double in summer}
    scenarios: [shared-ebike]
    from: 2026-05-01
    to: 2026-08-31
    multiplier: "2"
    budget_points: "100"
    because: {zh: 鼓励骑行, en: to encourage riding}
"""


async def test_points_that_a_campaign_adds_are_a_line_of_their_own(fresh_database: Database, tmp_path: Path) -> None:
    rules = tmp_path / "rules"
    (rules / "methodologies").mkdir(parents=True)
    (rules / "points").mkdir()
    document = (DIRECTORY / "demo-points.yaml").read_text("utf-8").replace("demo-points", "test-points")
    (rules / "points" / "test-points.yaml").write_text(document + CAMPAIGN, "utf-8")
    async with under(fresh_database, tmp_path, rules) as api:
        person = await api.person()
        first, second = await api.report(
            person.source, [ride(person.source, person.subject, km=km) for km in ("2", "1")]
        )
        shown = await explained(api, person, first["transfer_id"])
        funded = shown["lines"][-1]
        assert (funded["from"], funded["amount"], funded["funded_by"]) == ("partner", 70, "campaign")
        assert funded["title"] == "points added by a campaign's budget: partner → available"
        campaign = shown["points_rule"]["campaign"]
        assert (campaign["id"], campaign["offered"], campaign["points"]) == ("summer", 70, 70)
        assert (shown["points_rule"]["steps"], shown["clipped"]) == (["⌊70020 mg ÷ 1000 mg/g × 1⌋ = 70"], [])
        less = (await explained(api, person, second["transfer_id"], "zh"))["points_rule"]["campaign"]
        assert (less["title"], less["offered"], less["points"]) == ("夏季双倍", 35, 30)  # the budget is at its end
        chinese = await explained(api, person, first["transfer_id"], "zh")
        assert chinese["lines"][-1]["title"] == "活动预算追加的碳积分：合作方 → 可用"


async def test_every_transfer_of_a_statement_says_what_its_rule_is_worth(api: Api) -> None:
    person = await enrolled(api)
    await credited(api, person, "test-walking", **DAY, inputs={"steps": 10_000})
    transfer = await credited(api, person, "shared-ebike", inputs={"distance_km": 1})
    await api.reverse(person.participant_id, transfer)
    reversal, ebike, walk = await api.statement(person.participant_id)
    assert "methodology" not in reversal
    for credit in (ebike, walk):
        assert (credit["methodology"]["status"], credit["methodology"]["confidence"]) == ("demonstration", "single")
        assert credit["pending"] is None
    assert (ebike["reversed_by"], walk["reversed_by"]) == (reversal["transfer_id"], None)


async def test_what_was_erased_is_not_explained_and_the_rest_is(api: Api, database: Database) -> None:
    person, transfer = await _walker(api, steps=20_000)
    connection = await asyncpg.connect(database.admin)
    try:
        await connection.execute("DELETE FROM service.evidence WHERE activity_id = $1", transfer)
    finally:
        await connection.close()
    shown = await explained(api, person, transfer)
    assert (shown["activity"], shown["arithmetic"]) == (None, None)
    assert shown["clipped"] == []  # what was computed is not known any more
    assert shown["methodology"]["status"] == "demonstration"
    assert shown["points_rule"]["steps"] == ["⌊300500 mg ÷ 1000 mg/g × 1⌋ = 300"]

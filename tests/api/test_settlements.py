"""Settlements: what waits for facts known later matures or is withdrawn by them, once; and what has still to be
settled."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import httpx
import orjson
import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from api.v1.settlements import SettlementWanted, settlement_document
from service.vault import key_beside, open_facts
from tests.conftest import Database
from tests.running import Api, Person, problem_of, run_as_provider, running_api, vault_for_tests
from tests.service.counting_world import fetch

pytestmark = pytest.mark.anyio

SHANGHAI = ZoneInfo("Asia/Shanghai")
RULES = Path(__file__).resolve().parents[1] / "rules"
SCENARIO = "test-home-electricity"
GOOD: dict[str, object] = {"tier": 1, "has_pv": 0}
NOW = datetime(2026, 11, 22, 12, tzinfo=SHANGHAI)  # the rule takes reports for 400 days: the clock is set to then
SAVED_MG, SAVED_POINTS = 42_000_000, 42_000  # (200 - 100) kWh x 420 g/kWh


@pytest.fixture(scope="module")
async def api(database: Database, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Api]:
    """The API with the rules that tests have documents for."""
    path = tmp_path_factory.mktemp("data")
    async with at(database, path, NOW) as running:
        yield running


@asynccontextmanager
async def at(database: Database, path: Path, moment: datetime) -> AsyncIterator[Api]:
    """The API at another time."""
    offset = moment - datetime.now(UTC)
    async with running_api(database.app, database.redis, path, rules_dir=RULES, clock_offset=offset) as running:
        yield running


def month(first: date, kwh: str) -> dict[str, Any]:
    """A month of a meter, in one value."""
    last = (first + timedelta(days=31)).replace(day=1)
    return {"kind": "interval", "spans": [[f"{first}T00:00:00+08:00", f"{last}T00:00:00+08:00", kwh]]}


def savings(person: Person, first: date, *, use: str = "100", **references: str) -> dict[str, Any]:
    """A month with less electricity than the year before: 42 kg, and whole points for them."""
    last = (first + timedelta(days=31)).replace(day=1)
    return {
        "specversion": "1.0",
        "id": f"{person.subject} {first}",
        "source": person.source,
        "type": "org.tanpuhui.activity.v1",
        "subject": person.subject,
        "data": {
            "scenario": SCENARIO,
            "started_at": f"{first}T00:00:00+08:00",
            "ended_at": f"{last}T00:00:00+08:00",
            "inputs": {},
            "references": {"meter": f"meter of {person.subject}", "address": f"home of {person.subject}"} | references,
            "readings": {"use_kwh": month(first, use)},
            "baseline": {"baseline_kwh": month(first.replace(year=first.year - 1), "200")},
        },
    }


@pytest.fixture
async def person(api: Api) -> Person:
    """A citizen whose meter is read."""
    return await api.person(await api.source(scenarios=[SCENARIO]))


async def credited(api: Api, person: Person, *months: date) -> list[str]:
    """Months of savings, all pending; the transfers."""
    outcomes = await api.report(person.source, [savings(person, first) for first in months])
    assert {(each["outcome"], each.get("pending")) for each in outcomes} == {("credited", True)}, outcomes
    return [each["transfer_id"] for each in outcomes]


async def settle(api: Api, person: Person, facts: object = GOOD, **body: object) -> httpx.Response:
    wanted = {
        "subject": person.subject,
        "scenario": SCENARIO,
        "first_day": "2026-01-01",
        "last_day": "2026-12-31",
        "facts": facts,
    }
    headers = api.bearer("provider", source=person.source) | {"Accept-Language": "en"}
    return await api.client.post("/v1/settlements", headers=headers, json=wanted | body)


async def test_good_facts_free_what_was_pending(api: Api, person: Person) -> None:
    transfers = await credited(api, person, date(2026, 1, 1), date(2026, 2, 1))
    balance = await api.balance(person.participant_id)
    assert (balance["points"]["available"], balance["points"]["pending"]) == (0, 2 * SAVED_POINTS)
    assert balance["reduction"] == {"credited_mg": 0, "pending_mg": 2 * SAVED_MG, "debt_mg": 0}
    answer = await settle(api, person)
    assert answer.status_code == 200, answer.text
    settled = answer.json()
    assert settled["credits"] == [
        {
            "activity_id": transfer,
            "outcome": "matured",
            "reduction_mg": SAVED_MG,
            "points": SAVED_POINTS,
            "because": None,
        }
        for transfer in transfers
    ]
    assert settled["totals"]["matured"] == {"credits": 2, "reduction_mg": 2 * SAVED_MG, "points": 2 * SAVED_POINTS}
    assert settled["totals"]["withdrawn"] == {"credits": 0, "reduction_mg": 0, "points": 0}
    balance = await api.balance(person.participant_id)
    assert (balance["points"]["available"], balance["points"]["pending"]) == (2 * SAVED_POINTS, 0)
    assert balance["reduction"] == {"credited_mg": 2 * SAVED_MG, "pending_mg": 0, "debt_mg": 0}
    statement = await api.statement(person.participant_id)
    assert [each["kind"] for each in statement] == ["maturity", "maturity", "credit", "credit"]
    assert {each["matures"] for each in statement[:2]} == set(transfers)
    assert {each["matured_by"] for each in statement[2:]} == {each["transfer_id"] for each in statement[:2]}
    assert (await settle(api, person, {"tier": 2, "has_pv": 0})).json()["credits"] == []  # once


@pytest.mark.parametrize("tier", [1, 3])
async def test_a_settlement_sent_again_is_answered_as_before(api: Api, person: Person, tier: int) -> None:
    """Its answer may have been lost; what became provisional since is settled with it."""
    first, second, late = date(2026, 1, 1), date(2026, 2, 1), date(2026, 3, 1)
    await credited(api, person, first, second)
    facts = {"tier": tier, "has_pv": 0}
    answers = await asyncio.gather(*(settle(api, person, facts) for _ in range(4)))
    told = answers[0].json()
    assert [answer.json() for answer in answers] == [told] * 4
    assert sum(total["credits"] for total in told["totals"].values()) == 2
    written = await api.statement(person.participant_id)
    again = (
        await settle(api, person, {"has_pv": "0.0", "tier": f"{tier}.00"})
    ).json()  # the same facts, written otherwise
    assert again == told
    rehearsed = (await settle(api, person, facts, dry_run=True)).json()
    assert rehearsed == told | {"dry_run": True, "settlement_id": None}
    assert await api.statement(person.participant_id) == written
    (transfer,) = await credited(api, person, late)
    more = (await settle(api, person, facts)).json()
    assert more["settlement_id"] == told["settlement_id"]
    assert more["credits"][:2] == told["credits"]
    assert [each["activity_id"] for each in more["credits"][2:]] == [transfer]
    other_days = (await settle(api, person, facts, first_day="2026-01-02")).json()
    assert (other_days["credits"], other_days["settlement_id"] == told["settlement_id"]) == ([], False)


async def test_another_source_with_the_same_facts_is_told_nothing(api: Api, person: Person) -> None:
    await credited(api, person, date(2026, 1, 1))
    other = await api.source(scenarios=[SCENARIO])
    consent = {"purpose": "carbon-credit", "text_version": "tests-1", "given_at": "2026-01-01T08:00:00+08:00"}
    path = f"/v1/participants/{person.participant_id}/links"
    link = {"source": other, "subject": person.subject, "consent": consent}
    assert (await api.client.post(path, headers=api.bearer("operator"), json=link)).status_code == 201
    assert len((await settle(api, person)).json()["credits"]) == 1
    assert (await settle(api, replace(person, source=other))).json()["credits"] == []


@pytest.mark.parametrize("tier", [1, 3])
async def test_after_a_withdrawn_consent_what_was_credited_is_still_settled(
    api: Api, database: Database, person: Person, tier: int
) -> None:
    transfers = await credited(api, person, date(2026, 1, 1), date(2026, 2, 1))
    await api.unlink(person)
    (refused,) = await api.report(person.source, [savings(person, date(2026, 3, 1))])
    assert refused["problem"]["type"].endswith("subject-not-linked")
    facts: dict[str, object] = {"tier": tier, "has_pv": 0}
    problem_of(
        await settle(api, person, facts, first_day="2026-04-01"), "subject-not-linked"
    )  # nothing to bring to its end
    outcome = "matured" if tier == 1 else "withdrawn"
    answer = await settle(api, person, facts)
    assert answer.status_code == 200, answer.text
    assert [(each["activity_id"], each["outcome"]) for each in answer.json()["credits"]] == [
        (transfer, outcome) for transfer in transfers
    ]
    assert (await settle(api, person, facts)).json() == answer.json()  # as before, after a lost answer
    problem_of(await settle(api, person, {"tier": 2, "has_pv": 0}), "subject-not-linked")
    points = (await api.balance(person.participant_id))["points"]
    assert (points["available"], points["pending"]) == (2 * SAVED_POINTS if tier == 1 else 0, 0)
    query = "SELECT * FROM service.settlement JOIN vault.person_key USING (participant_id) WHERE participant_id = $1"
    rows = await fetch(database, query, UUID(person.participant_id))
    keys = [key_beside(vault_for_tests(), row["participant_id"], row["kek_version"], row["wrapped"]) for row in rows]
    opened = [
        open_facts(key, row["activity_id"], row["sealed"]).document
        for key, row in zip(keys, rows, strict=True)
        if key is not None
    ]
    assert [orjson.loads(document)["facts"]["tier"] for document in opened] == [str(tier)] * 2


async def test_facts_against_a_condition_withdraw_and_say_which(api: Api, person: Person) -> None:
    (transfer,) = await credited(api, person, date(2026, 3, 1))
    (decided,) = (await settle(api, person, {"tier": "3", "has_pv": 0})).json()["credits"]
    assert decided["outcome"] == "withdrawn"
    assert decided["because"]["type"] == "urn:tanpuhui:problem:condition-not-met"
    assert (decided["because"]["condition"], decided["because"]["value"]) == ("below-tier-three", "3")
    balance = await api.balance(person.participant_id)
    assert (balance["points"]["available"], balance["points"]["pending"], balance["points"]["debt"]) == (0, 0, 0)
    for language, reason, title in (
        ("en", "not eligible at settlement", "settled: it was taken back"),
        ("zh", "结算时不符合条件", "结算未通过，已收回"),
    ):
        statement = (await api.read(person.participant_id, "statement", **{"Accept-Language": language})).json()
        assert statement["transfers"][0]["reason_title"] == reason
        path = f"transfers/{transfer}"
        shown = (await api.read(person.participant_id, path, **{"Accept-Language": language})).json()
        assert shown["settlement"]["title"] == title
        assert shown["settlement"]["transfer_id"] == shown["reversed_by"] == statement["transfers"][0]["transfer_id"]
        assert shown["settlement"]["facts"] == {"has_pv": "0", "tier": "3"}
        assert (shown["settlement"]["not_met"]["id"], shown["settlement"]["not_met"]["value"]) == (
            "below-tier-three",
            "3",
        )
        assert shown["pending"] is None


async def test_only_the_days_that_are_named_are_decided(api: Api, person: Person) -> None:
    january, february, march = await credited(api, person, *(date(2026, number, 1) for number in (1, 2, 3)))
    decided = (await settle(api, person, first_day="2026-02-01", last_day="2026-02-01")).json()["credits"]
    assert [each["activity_id"] for each in decided] == [february]
    rest = (await settle(api, person, {"tier": 1, "has_pv": 1})).json()["credits"]
    assert [(each["activity_id"], each["outcome"]) for each in rest] == [(january, "withdrawn"), (march, "withdrawn")]


async def test_a_dry_run_decides_the_same_and_does_nothing(api: Api, person: Person) -> None:
    await credited(api, person, date(2026, 4, 1))
    before = await api.statement(person.participant_id)
    dry = (await settle(api, person, dry_run=True)).json()
    assert (dry["dry_run"], dry["settlement_id"]) == (True, None)
    assert dry["totals"]["matured"]["credits"] == 1
    assert await api.statement(person.participant_id) == before
    done = (await settle(api, person)).json()
    assert done["credits"] == dry["credits"]
    assert done["settlement_id"]


@pytest.mark.parametrize(
    ("facts", "slug", "names"),
    [
        ({"tier": 1}, "missing-input", {"name": "has_pv"}),
        ({"tier": 1, "has_pv": 0, "colour": 3}, "unknown-input", {"name": "colour"}),
        ({"tier": 4, "has_pv": 0}, "input-out-of-range", {"name": "tier", "value": "4"}),
        ({"tier": "0.9999999999999999999", "has_pv": 0}, "improper-number", {"name": "tier"}),
    ],
)
async def test_facts_that_are_not_the_rules_are_refused_as_a_whole(
    api: Api, person: Person, facts: dict[str, object], slug: str, names: dict[str, str]
) -> None:
    await credited(api, person, date(2026, 5, 1))
    refused = problem_of(await settle(api, person, facts), slug)
    assert {name: refused[name] for name in names} == names
    assert (await api.balance(person.participant_id))["points"]["pending"] == SAVED_POINTS
    assert (await settle(api, person)).json()["totals"]["matured"]["credits"] == 1


async def test_whose_and_what_are_checked(api: Api, person: Person) -> None:
    await credited(api, person, date(2026, 6, 1))
    stranger = Person("", "", await api.source(scenarios=[SCENARIO]), person.subject)
    problem_of(await settle(api, stranger), "subject-not-linked")
    assert problem_of(await settle(api, person, scenario="unheard-of"), "unknown-scenario")["scenario"] == "unheard-of"
    assert (await settle(api, person, scenario="shared-ebike")).json()["credits"] == []
    for headers in (api.bearer("operator"), api.bearer("participant", person.participant_id)):
        refused = await api.client.post("/v1/settlements", headers=headers, json={})
        assert problem_of(refused, "forbidden")["missing_scope"] == "activities:write"
    late = problem_of(await settle(api, person, first_day="2026-02-02", last_day="2026-02-01"), "malformed-request")
    assert [(fault["pointer"], fault["code"]) for fault in late["errors"]] == [("/last_day", "too-small")]
    wrong: list[tuple[str, object]]
    wrong = [("facts", {}), ("facts", {"tier": "one"}), ("first_day", "1 May"), ("subject", ""), ("x", 1)]
    for name, value in wrong:
        problem_of(await settle(api, person, **{name: value}), "malformed-request")
    assert (await api.balance(person.participant_id))["points"]["pending"] == SAVED_POINTS


async def test_a_pending_credit_says_what_it_awaits_and_by_when(api: Api, person: Person) -> None:
    (transfer,) = await credited(api, person, date(2026, 7, 1))
    for language, title in (("en", "waits for its settlement"), ("zh", "待结算")):
        accepted = {"Accept-Language": language}
        shown = (await api.read(person.participant_id, f"transfers/{transfer}", **accepted)).json()
        pending = shown["pending"]
        assert (pending["awaits"], pending["title"], pending["due_on"]) == ("settlement", title, "2027-09-04")
        assert (pending["reduction_mg"], pending["points"]) == (SAVED_MG, SAVED_POINTS)
        assert [fact["name"] for fact in pending["facts"]] == ["has_pv", "tier"]
        assert [condition["id"] for condition in pending["conditions"]] == ["below-tier-three", "no-pv"]
        assert (shown["settlement"], shown["matured_by"]) == (None, None)
        (stated,) = (await api.read(person.participant_id, "statement", **accepted)).json()["transfers"]
        assert stated["pending"] == {
            name: pending[name] for name in ("awaits", "title", "due_on", "reduction_mg", "points")
        }
        assert (stated["methodology"]["status"], stated["methodology"]["confidence"]) == ("demonstration", "single")
    await settle(api, person)
    shown = (await api.read(person.participant_id, f"transfers/{transfer}")).json()
    assert (shown["pending"], shown["settlement"]["outcome"]) == (None, "matured")
    assert shown["settlement"]["transfer_id"] == shown["matured_by"]
    assert [condition["value"] for condition in shown["settlement"]["conditions"]] == ["1", "0"]
    assert shown["settlement"]["not_met"] is None


async def due(api: Api, source: str, query: str = "") -> httpx.Response:
    return await api.client.get(f"/v1/settlements/due{query}", headers=api.bearer("provider", source=source))


async def test_what_is_due_is_counted_by_month_page_by_page(api: Api, database: Database, tmp_path: Path) -> None:
    source = await api.source(scenarios=[SCENARIO])
    people = [await api.person(source) for _ in range(2)]
    for person in people:
        await credited(api, person, date(2026, 1, 1), date(2026, 3, 1))
    await credited(api, people[0], date(2025, 12, 1))
    months: list[dict[str, Any]] = []
    after = ""
    while True:
        page = (await due(api, source, f"?limit=1{after}")).json()
        assert page["source"] == source
        months += page["months"]
        if page["next"] is None:
            break
        after = f"&after={page['next']}"
    assert [(each["scenario"], each["month"], each["credits"]) for each in months] == [
        (SCENARIO, "2025-12", 1),
        (SCENARIO, "2026-01", 2),
        (SCENARIO, "2026-03", 2),
    ]
    assert (months[1]["first_due"], months[1]["last_due"]) == ("2027-03-07", "2027-03-07")
    assert [each["overdue"] for each in months] == [0, 0, 0]
    for day, overdue in ((7, [1, 0, 0]), (8, [1, 2, 0])):
        later = datetime(2027, 3, day, tzinfo=SHANGHAI)
        async with at(database, tmp_path, later) as then:
            assert [each["overdue"] for each in (await due(then, source)).json()["months"]] == overdue
    assert (await due(api, source, "?limit=9")).json()["months"] == months
    assert (await due(api, source, "?before=2027-03-07")).json()["months"] == months[:1]
    assert (await due(api, source, "?before=2027-03-08")).json()["months"] == months[:2]
    await settle(api, people[1])
    assert [each["credits"] for each in (await due(api, source)).json()["months"]] == [1, 1, 1]


async def test_a_provider_sees_its_own_and_an_operator_names_the_source(api: Api, person: Person) -> None:
    await credited(api, person, date(2026, 1, 1))
    other = await api.source()
    assert (await due(api, other)).json() == {"source": other, "months": [], "next": None}
    problem_of(await due(api, other, f"?source={person.source}"), "forbidden")
    operator = api.bearer("operator")
    named = await api.client.get(f"/v1/settlements/due?source={person.source}", headers=operator)
    assert [each["credits"] for each in named.json()["months"]] == [1]
    assert person.participant_id not in named.text
    problem_of(await api.client.get("/v1/settlements/due", headers=operator), "malformed-request")
    unknown = await api.client.get("/v1/settlements/due?source=urn:nobody", headers=operator)
    problem_of(unknown, "source-not-found")
    mine = api.bearer("participant", person.participant_id)
    refused = problem_of(await api.client.get("/v1/settlements/due", headers=mine), "forbidden")
    assert refused["missing_scope"] == "settlements:read"


async def test_a_cursor_of_one_source_is_no_others(api: Api, person: Person) -> None:
    await credited(api, person, date(2026, 1, 1), date(2026, 2, 1))
    cursor = (await due(api, person.source, "?limit=1")).json()["next"]
    problem_of(await due(api, await api.source(), f"?after={cursor}"), "invalid-cursor")
    for forged in ("A" * 60, "é", "2", cursor[:-2]):
        problem_of(await due(api, person.source, f"?after={forged}"), "invalid-cursor")
    for query in ("?before=2026-2-1", "?before=2026-02-30", "?limit=0", "?limit=201"):
        problem_of(await due(api, person.source, query), "malformed-request")


names = st.from_regex(r"[a-z][a-z0-9_-]{0,10}", fullmatch=True)
figures = st.decimals(allow_nan=False, allow_infinity=False, places=6, min_value=-(10**9), max_value=10**9)


@given(st.dictionaries(names, figures, min_size=1, max_size=16), st.dates(), st.data())
def test_a_record_is_canonical_json_of_strings_and_names_nobody(
    facts: dict[str, Decimal], first: date, data: st.DataObject
) -> None:
    last = data.draw(st.dates(min_value=first))
    wanted = SettlementWanted.model_construct(
        subject="rider 7", scenario="home", first_day=first, last_day=last, facts=facts, dry_run=False
    )
    record = settlement_document(wanted)
    fields = orjson.loads(record)
    assert rfc8785.dumps(fields) == record
    assert set(fields) == {"facts", "first_day", "last_day", "scenario", "v"}
    assert {name: Decimal(text) for name, text in fields["facts"].items()} == facts
    assert b"rider" not in record


async def test_a_file_is_settled_by_the_command_and_again_nothing_more(api: Api, tmp_path: Path) -> None:
    source = await api.source(scenarios=[SCENARIO])
    good, tier_three, late = [await api.person(source) for _ in range(3)]
    for person in (good, tier_three, late):
        await credited(api, person, date(2026, 1, 1), date(2026, 2, 1))
    year = f"{SCENARIO},2026-01-01,2026-12-31"
    lines = [
        "subject,scenario,first_day,last_day,tier,has_pv",
        f"{good.subject},{year},1,0",
        f"{tier_three.subject},{year},3,0",
        f"{late.subject},{year},2,",
        f"nobody,{year},1,0",
        f"{late.subject},{SCENARIO},2026-12-31,2026-01-01,1,0",
        f"{late.subject},{year},,0,extra",
        f"{late.subject},,2026-01-01,2026-12-31,1,0",
    ]
    file = tmp_path / "facts.csv"
    file.write_text("\n".join(lines) + "\n", "utf-8")
    both = {"credits": 2, "reduction_mg": 2 * SAVED_MG, "points": 2 * SAVED_POINTS}
    expected = {
        "matured": both,
        "withdrawn": both,
        "because": {"condition-not-met/below-tier-three": 2},
        "nothing_to_settle": 0,
        "refused": {"malformed-row": 2, "missing-input": 1, "subject-not-linked": 1, "malformed-request": 1},
        "seconds": 0,
    }
    for dry_run in (True, False):
        words = ["settle", str(file)] + ["--dry-run"] * dry_run
        done = await run_as_provider(api, source, tmp_path, *words)
        found = json.loads(done.stdout.splitlines()[-1])
        assert (done.exit_code, found | {"seconds": 0}) == (1, expected | {"dry_run": dry_run})
    assert "line 4: missing-input: The methodology needs the input has_pv" in done.stderr
    assert (await api.balance(good.participant_id))["points"]["available"] == 2 * SAVED_POINTS
    assert (await api.balance(late.participant_id))["points"]["pending"] == 2 * SAVED_POINTS
    file.write_text("\n".join([*lines[:3], f"{late.subject},{year},2,0"]), "utf-8")
    again = await run_as_provider(api, source, tmp_path, "settle", str(file))
    found = json.loads(again.stdout.splitlines()[-1])
    four = {name: 2 * amount for name, amount in both.items()}  # and as before those that were settled before
    assert (again.exit_code, found["matured"], found["withdrawn"]) == (0, four, both)
    file.write_text("\n".join([lines[0], f"{late.subject},{year},1,0"]), "utf-8")
    again = await run_as_provider(api, source, tmp_path, "settle", str(file))
    found = json.loads(again.stdout.splitlines()[-1])
    assert (again.exit_code, found["matured"]["credits"], found["nothing_to_settle"]) == (0, 0, 1)

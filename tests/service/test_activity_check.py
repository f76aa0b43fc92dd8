"""The check of what the service keeps finds every planted difference and names it, with what was expected and what
came; where nobody touched anything it finds none."""

from collections.abc import AsyncIterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from ledger.leaves import SALT_BYTES
from service.activities import check
from service.activities.check import check_activities
from service.activities.intake import subject_tag
from service.clock import Fresh, system_clock
from service.posting import Settle, Settled
from service.worker import drain
from tests.conftest import Database, clone
from tests.ledger.test_check import keep_copies, planted
from tests.running import Api, Person, pooled, ride, running_api, vault_for_tests

pytestmark = pytest.mark.anyio

RULES = Path(__file__).parents[1] / "rules"
TODAY = datetime(2026, 6, 10, 4, tzinfo=UTC)
SCENARIOS = ("test-metro", "test-shared-bike", "test-home-electricity", "test-walking", "shared-ebike")

# What an insider does to the tables, the check that must name it, and words of what was found and expected.
PLANTS: dict[str, tuple[str, str]] = {
    "a claim freed": ("DELETE FROM service.claim WHERE ctid = (SELECT min(ctid) FROM service.claim)", "claim"),
    "a claim given to another's activity": ("UPDATE service.claim SET activity_id = gen_random_uuid()", "claim"),
    "a claim under another key": ("UPDATE service.claim SET key_version = key_version + 1", "claim"),
    "a claim of a reversed credit": (
        "INSERT INTO service.claim SELECT sha256(uuid_send(transfer_id)), 1, participant_id, transfer_id "
        "FROM ledger.reversed",
        "claim",
    ),
    "an event key replaced": ("UPDATE service.event_key SET key = sha256(key)", "claim"),
    "an event key removed": (
        "DELETE FROM service.event_key WHERE activity_id = (SELECT activity_id FROM service.activity "
        "WHERE outcome = 'refused' LIMIT 1)",
        "event key",
    ),
    "an event key of no activity": (
        "INSERT INTO service.event_key SELECT sha256('b'), 1, sha256('c'), participant_id, gen_random_uuid() "
        "FROM ledger.account LIMIT 1",
        "event key",
    ),
    "a correction of no event": (
        "INSERT INTO service.event_key SELECT sha256('tanpuhui/correction/1:'::bytea || sha256('b')), 1, sha256('b'), "
        "participant_id, activity_id FROM service.activity WHERE outcome = 'credited' LIMIT 1",
        "event key",
    ),
    "a correction of two events": (
        "INSERT INTO service.event_key SELECT sha256('tanpuhui/correction/1:'::bytea || e.key), 1, e.key, "
        "c.participant_id, c.activity_id FROM service.event_key c JOIN service.event_key e ON e.key <> c.fingerprint "
        "WHERE c.key = sha256('tanpuhui/correction/1:'::bytea || c.fingerprint) ON CONFLICT DO NOTHING",
        "event key",
    ),
    "a span removed": ("DELETE FROM service.claim_span WHERE use IS NULL", "claim span"),
    "a span shortened": ("UPDATE service.claim_span SET ended_at = ended_at - interval '1 second'", "claim span"),
    "a span moved to another day": (
        "DELETE FROM service.evidence; UPDATE service.claim_span SET started_at = started_at - interval '1 day'",
        "claim span",
    ),
    "a span of a reversed credit": (
        "INSERT INTO service.claim_span SELECT sha256('d'), now(), now() + interval '1 hour', NULL, participant_id, "
        "transfer_id FROM ledger.reversed",
        "claim span",
    ),
    "spans that overlap": (
        "INSERT INTO service.claim_span SELECT subject_tag, started_at + interval '1 minute', ended_at, use, "
        "participant_id, gen_random_uuid() FROM service.claim_span WHERE use IS NULL LIMIT 1",
        "claim overlap",
    ),
    "another use of an address at the same time": (
        "INSERT INTO service.claim_span SELECT subject_tag, started_at, ended_at, 'pv', participant_id, "
        "gen_random_uuid() FROM service.claim_span WHERE use = 'consumption' LIMIT 1",
        "claim overlap",
    ),
    "a presence removed": (
        "DELETE FROM service.presence WHERE ctid = (SELECT min(ctid) FROM service.presence)",
        "presence",
    ),
    "a presence in another group": ("UPDATE service.presence SET exclusive_group = 'sleep'", "presence"),
    "a presence at another time": (
        "UPDATE service.presence SET started_at = started_at - interval '1 second'",
        "presence",
    ),
    "a presence of a reversed credit": (
        "INSERT INTO service.presence SELECT participant_id, 'travel', now(), now(), transfer_id FROM ledger.reversed",
        "presence",
    ),
    "two places at once": (
        "INSERT INTO service.presence SELECT participant_id, exclusive_group, started_at, ended_at, "
        "gen_random_uuid() FROM service.presence",
        "presence overlap",
    ),
    "a claim of a reversed credit taken again": (
        "INSERT INTO service.claim SELECT decode(split_part(tag, ':', 2), 'hex'), 1, participant_id, transfer_id "
        "FROM ledger.leaf, jsonb_array_elements_text(convert_from(leaf, 'UTF8')::jsonb -> 'claims') AS tag "
        "WHERE transfer_id IN (SELECT transfer_id FROM ledger.reversed) AND decode(split_part(tag, ':', 2), 'hex') "
        "NOT IN (SELECT key FROM service.event_key) ON CONFLICT DO NOTHING",
        "claim",
    ),
    "a reading told otherwise": (
        "INSERT INTO service.reading_total SELECT tag, key_version, sha256(fingerprint), participant_id, "
        "gen_random_uuid() FROM service.reading_total LIMIT 1",
        "reading total",
    ),
    "a reading forgotten": ("DELETE FROM service.reading_total", "reading total"),
    "a reading of no credit": ("UPDATE service.reading_total SET activity_id = gen_random_uuid()", "reading total"),
    "a provisional credit forgotten": ("DELETE FROM service.provisional", "provisional"),
    "a credit made provisional": (
        "INSERT INTO service.provisional SELECT participant_id, activity_id, source_id, scenario, day, 'settlement' "
        "FROM service.activity WHERE scenario = 'test-metro' AND outcome = 'credited'",
        "provisional",
    ),
    "a provisional credit of another day": ("UPDATE service.provisional SET day = day - 1", "provisional"),
    "a provisional credit that awaits something else": (
        "UPDATE service.provisional SET awaits = 'registration' WHERE awaits = 'match'",
        "provisional",
    ),
    "a settlement turned round": (
        "UPDATE service.settlement SET outcome = 'withdrawn' WHERE outcome = 'matured'",
        "settlement",
    ),
    "a settlement forgotten": ("DELETE FROM service.settlement", "settlement"),
    "a cap's use lowered": ("UPDATE service.tally SET used = used - 1 WHERE used > 0", "tally"),
    "a cap's use forgotten": ("DELETE FROM service.tally", "tally"),
    "a cap nobody has": (
        "INSERT INTO service.tally SELECT participant_id, 'test-metro/none', date '2026-06-01', 1 "
        "FROM ledger.account LIMIT 1",
        "tally",
    ),
    "a cap of another month": (
        "UPDATE service.tally SET window_start = window_start - 31 WHERE cap LIKE '%/month/%'",
        "tally",
    ),
    "a licence beside another": (
        "INSERT INTO service.licence SELECT source_id, scenario, valid_from + 1, NULL, granted_at FROM service.licence",
        "licence",
    ),
    "a budget nobody drew on": (
        "INSERT INTO service.campaign_slot VALUES ('a-rule', 'a-campaign', 0, 100, 99)",
        "campaign budget",
    ),
    "points of a campaign that nobody funded": (
        "UPDATE ledger.movement SET from_account = 'partner' WHERE from_account = 'issuance' AND asset = 'points'",
        "campaign budget",
    ),
    "a rule rewritten": (
        "UPDATE service.rule_document SET document = convert_to(replace(convert_from(document, 'UTF8'), '150.5', "
        "'150.6'), 'UTF8')",
        "rule document",
    ),
}


@pytest.fixture(scope="module")
async def ledger(template: Database, worker_id: str, tmp_path_factory: pytest.TempPathFactory) -> Database:
    """A ledger with one of everything that is counted once, refusals and reversals among them; and a copy of it."""
    database = clone(template, f"tests_of_the_activity_check_{worker_id}")
    offset = TODAY - datetime.now(UTC)
    async with running_api(
        database.app, database.redis, tmp_path_factory.mktemp("data"), rules_dir=RULES, clock_offset=offset
    ) as api:
        await _post_one_of_everything(api)
    async with pooled(database.sequencer) as pool:
        await drain(pool)
    await keep_copies(database)
    return database


async def _post_one_of_everything(api: Api) -> None:
    licences = {"scenarios": list(SCENARIOS), "valid_from": "2016-01-01"}
    source, phone = await api.source(**licences), await api.source(**licences, grade="B")
    person, other = await api.person(source), await api.person(source)
    rider = await api.person(phone)
    metro = [_metro(person, "08:00", "1"), _metro(person, "09:00", "2"), _metro(person, "10:00", "3")]
    answers = await api.report(source, [*metro, _metro(other, "12:00", "1"), _metro(person, "09:00", "4")])
    assert [answer["outcome"] for answer in answers] == ["credited"] * 3 + ["refused"] * 2
    assert (await api.reverse(person.participant_id, answers[1]["transfer_id"])).is_success
    bikes = [_bike(person, "18:00", "5"), _bike(other, "18:05", "6")]
    answers = await api.report(source, [*bikes, _walk(other)])
    assert [answer["outcome"] for answer in answers] == ["credited", "refused", "credited"]
    assert answers[2]["reduction_mg"] == 300_500  # the day's cap
    assert [answer["pending"] for answer in await api.report(phone, [_bike(rider, "20:00", "7")])] == [True]
    replaced = _bike(other, "17:00", "8") | {"id": "a correction of a refusal"}
    replaced["data"]["replaces"] = bikes[1]["id"]
    assert (await api.report(source, [replaced]))[0]["outcome"] == "credited"
    assert [answer["pending"] for answer in await api.report(phone, [_bike(rider, "21:00", "9")])] == [True]
    assert (await api.report(source, [_bike(person, "21:00", "9")]))[0]["outcome"] == "credited"  # it is the operator's
    months = [_electricity(other, month) for month in (2, 3, 4, 5)]
    assert [answer["pending"] for answer in await api.report(source, months)] == [True] * 4
    outcomes = [await _settle(api, other, 2, tier) for tier in ("1",)] + [await _settle(api, other, 3, "3")]
    assert outcomes == ["matured", "withdrawn"]
    told_again = _electricity(other, 4, "170") | {"id": "another correction"}
    told_again["data"]["replaces"] = months[2]["id"]
    (answer,) = await api.report(source, [told_again])
    assert (answer["outcome"], answer["pending"]) == ("credited", True)
    corrected = _bike(person, "18:00", "5") | {"id": "a correction"}
    corrected["data"] |= {"inputs": {"distance_km": "2.2"}, "replaces": bikes[0]["id"]}
    assert (await api.report(source, [corrected]))[0]["outcome"] == "credited"
    assert (await api.report(source, [ride(source, person.subject)]))[0]["outcome"] == "credited"


def _metro(person: Person, at: str, order: str) -> dict[str, Any]:
    moment = f"2026-06-09T{at}:00+08:00"
    references = {"operator": "metro", "order": order, "payment": f"p{order}"}
    data: dict[str, Any] = {
        "scenario": "test-metro",
        "inputs": {},
        "started_at": moment,
        "ended_at": moment,
        "references": references,
    }
    return ride(person.source, person.subject, **data)


def _bike(person: Person, at: str, order: str) -> dict[str, Any]:
    data: dict[str, Any] = {
        "scenario": "test-shared-bike",
        "started_at": f"2026-06-09T{at}:00+08:00",
        "ended_at": f"2026-06-09T{at[:2]}:30:00+08:00",
        "inputs": {"distance_km": "2.5"},
        "references": {"operator": "bikes", "order": order},
        "vehicle": "7" if order != "7" else "8",
    }
    return ride(person.source, person.subject, **data)


def _walk(person: Person) -> dict[str, Any]:
    times = {"started_at": "2026-06-09T00:00:00+08:00", "ended_at": "2026-06-10T00:00:00+08:00"}
    return ride(person.source, person.subject, scenario="test-walking", inputs={"steps": "20000"}, **times)


def _electricity(person: Person, month: int, kwh: str = "180") -> dict[str, Any]:
    since, until = f"2026-{month:02}-01T00:00:00+08:00", f"2026-{month + 1:02}-01T00:00:00+08:00"
    before = [since.replace("2026", "2025"), until.replace("2026", "2025"), "200"]
    data: dict[str, Any] = {
        "scenario": "test-home-electricity",
        "started_at": since,
        "ended_at": until,
        "inputs": {},
        "references": {"meter": person.subject, "address": person.subject},
        "readings": {"use_kwh": {"kind": "interval", "spans": [[since, until, kwh]]}},
        "baseline": {"baseline_kwh": {"kind": "interval", "spans": [before]}},
    }
    return ride(person.source, person.subject, **data)


async def _settle(api: Api, person: Person, month: int, tier: str) -> str:
    licence = await api.platform.licence(person.source)
    assert licence is not None
    settlement = Settle(
        source_id=licence.source_id,
        source=person.source,
        subject_tag=subject_tag(api.platform.keyring, person.source, person.subject),
        scenario="test-home-electricity",
        first=date(2026, month, 1),
        last=date(2026, month, 28),
        facts={"tier": Decimal(tier), "has_pv": Decimal(0)},
        document=b"{}",
        salt=bytes(SALT_BYTES),
        settled_by=Fresh(system_clock()).id(),
    )
    (outcome,) = await api.platform.poster.post([settlement])
    assert isinstance(outcome, Settled), outcome
    (one,) = outcome.credits
    return one.outcome


@pytest.fixture
async def auditor(ledger: Database) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    connection = await asyncpg.connect(ledger.auditor)
    yield connection
    await connection.close()


async def test_what_nobody_touched_has_no_difference(auditor: "asyncpg.Connection[asyncpg.Record]") -> None:
    assert await check_activities(auditor, vault_for_tests()) == []
    for table in ("claim", "claim_span", "presence", "reading_total", "tally", "provisional", "settlement"):
        assert await auditor.fetchval(f"SELECT count(*) FROM service.{table}"), table


@pytest.mark.parametrize("name", PLANTS)
async def test_each_planted_difference_is_named(ledger: Database, name: str) -> None:
    statements, check = PLANTS[name]
    assert check in await planted(ledger, statements, activities=True)
    assert await planted(ledger, "SELECT 1", activities=True) == set()  # all of it was put back


async def test_no_more_is_told_than_a_person_reads(
    auditor: "asyncpg.Connection[asyncpg.Record]", ledger: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check, "MOST_FINDINGS", 2)
    insider = await asyncpg.connect(ledger.admin)
    await insider.execute("CREATE TABLE kept_aside AS TABLE service.claim; DELETE FROM service.claim")
    findings = await check_activities(auditor, vault_for_tests())
    await insider.execute("INSERT INTO service.claim TABLE kept_aside; DROP TABLE kept_aside")
    await insider.close()
    assert [(finding.check, finding.stored) for finding in findings] == [
        ("claim", "no row"),
        ("claim", "no row"),
        ("claim", "more than 2 differences"),
    ]

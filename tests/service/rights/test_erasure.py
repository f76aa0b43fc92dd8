"""Erasure below the edge: nothing is left out, books still agree, and it races with whatever else is going on."""

import asyncio
import base64
import hashlib
import os
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import orjson
import pytest

from ledger.check import check_ledger
from service.activities.check import check_activities
from service.activities.intake import Refusal
from service.participants import hold_withdrawals
from service.persons import Identified, Terms, person_tag, sign_in
from service.redemption.check import check_redemptions
from service.redemption.commands import Redeemed
from service.rights.erasure import ask_erasure, read_erasure
from service.rights.removing import AT_LAST, AT_ONCE, STAYS, TABLES_THAT_STAY
from service.rights.sections import NOT_TOLD, SECTIONS
from service.rights.tombstones import expire
from service.vault import find_person, keep_person
from tests.conftest import Database, clone
from tests.running import Api, Person, problem_of, ride, running_api
from tests.service.conftest import RULES
from tests.service.redemption.redemption_world import BANK, Market, open_market

pytestmark = pytest.mark.anyio

ROUNDS = 4
CONSENT = {"purpose": "carbon-credit", "text_version": "tests-1", "given_at": "2026-01-01T08:00:00+08:00"}
_OF_PEOPLE = """
    SELECT DISTINCT table_schema || '.' || table_name FROM information_schema.columns
    WHERE column_name IN ('participant_id', 'guardian_id', 'addressed_to')
        AND table_schema IN ('ledger', 'service', 'vault')
"""


@pytest.fixture(scope="module")
async def database(template: Database) -> Database:
    return clone(template, f"rights_{os.urandom(6).hex()}")


@pytest.fixture(scope="module")
async def market(api: Api, database: Database) -> AsyncIterator[Market]:
    market = await open_market(api, database)
    yield market
    assert await findings(database, api) == []  # whoever was erased, everything still agrees


async def findings(database: Database, api: Api) -> list[Any]:
    connection = await asyncpg.connect(database.app)
    try:
        found = [*(await check_ledger(connection)).findings]
        found += await check_activities(connection, api.platform.vault)
        return found + await check_redemptions(connection)
    finally:
        await connection.close()


async def erase(api: Api, person: Person) -> str:
    """Ask as the person does; how far it came."""
    path, body = "/v1/me/erasure", {"confirm": "erase-my-account"}
    answer = await api.client.post(path, headers=api.bearer("participant", person.participant_id), json=body)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["state"])


async def test_no_table_of_people_is_forgotten(market: Market) -> None:
    async with market.api.platform.pool.acquire() as connection:
        tables = {row[0] for row in await connection.fetch(_OF_PEOPLE)}
    statements = " ".join(each for one in (*AT_ONCE, *AT_LAST) for each in one.statements)
    removed = set(re.findall(r"(?:DELETE FROM|UPDATE) ((?:service|vault)\.\w+)", statements))
    unknown = tables - removed - TABLES_THAT_STAY.keys()
    assert unknown == set(), "say in service/rights/removing.py what an erasure does with these"
    assert set(TABLES_THAT_STAY.values()) == STAYS.keys()
    told = {table for section in SECTIONS for table in section.tables}
    assert tables - told - NOT_TOLD.keys() == set(), "tell of these in service/rights/sections.py, or say why not"


async def test_nothing_is_posted_from_the_moment_of_asking(market: Market) -> None:
    """Reports, holds and the asking run against each other: whatever was answered before is in the ledger, whatever
    came later was refused, and nothing deadlocks."""
    api = market.api
    offer = await market.offer(await market.pool())
    for _ in range(ROUNDS):
        person = await market.person(rides=3)
        events = [ride(person.source, person.subject) for _ in range(6)]
        holding = asyncio.create_task(market.post(market.place(person, offer, 2, from_bank=False)))
        erasing = asyncio.create_task(erase(api, person))
        outcomes = await asyncio.gather(*(api.report(person.source, [event]) for event in events))
        [held], state = await holding, await erasing
        assert state == "done"  # a hold that no bank has accepted goes back at once
        credited = sum(outcome["outcome"] == "credited" for one in outcomes for outcome in one)
        assert all(
            outcome["outcome"] == "credited" or outcome["problem"]["type"].endswith("subject-not-linked")
            for one in outcomes
            for outcome in one
        )
        if not isinstance(held, Redeemed):
            assert isinstance(held, Refusal), held
            assert held.slug in ("account-closed", "participant-not-found")
        async with api.platform.pool.acquire() as connection:
            owner = UUID(person.participant_id)
            posted = await connection.fetchval(
                "SELECT count(*) FROM ledger.transfer WHERE participant_id = $1 AND kind = 'credit'", owner
            )
            left = await connection.fetchval("SELECT count(*) FROM service.evidence WHERE participant_id = $1", owner)
        assert posted == 3 + credited
        assert left == 0
        late = await market.refused(market.place(person, offer, 2))
        assert late.slug == "account-closed"


async def test_asking_waits_for_what_is_being_posted(market: Market) -> None:
    """A batch that has read whom a subject stands for posts before the account is closed, never after."""
    api, person = market.api, await market.person()
    async with api.platform.pool.acquire() as posting, posting.transaction():
        await hold_withdrawals(posting)
        asking = asyncio.create_task(erase(api, person))
        await asyncio.sleep(0.3)
        async with api.platform.pool.acquire() as connection:
            assert not await connection.fetchval(
                "SELECT true FROM service.erasure WHERE participant_id = $1", UUID(person.participant_id)
            )
        assert not asking.done()
    assert await asking == "done"


async def test_a_bank_still_uses_what_it_accepted(market: Market) -> None:
    """Capture against closure: what a bank holds is captured, and then everything goes."""
    api = market.api
    offer = await market.offer(await market.pool())
    for number in range(ROUNDS):
        person = await market.person()
        held = await market.done(market.place(person, offer, 3))
        assert await erase(api, person) == "waiting"
        ended = market.capture(held) if number % 2 else market.release(held)
        going_on = [asyncio.create_task(api.platform.eraser.go_on_with_all()) for _ in range(3)]
        captured = await market.done(ended)
        await asyncio.gather(*going_on)
        assert captured.redemption.state == ("captured" if number % 2 else "voided")
        await api.platform.eraser.go_on_with_all()
        async with api.platform.pool.acquire() as connection:
            assert (await read_erasure(connection, UUID(person.participant_id))).state == "done"
        if number % 2:  # and what the bank gives back afterwards goes to an account that is nobody's
            refunded = await market.done(market.refund(captured))
            assert refunded.redemption.state == "refunded"
        path = f"/v1/participants/{person.participant_id}/balance"
        told = (await api.client.get(path, headers=api.bearer("operator"))).json()
        assert told["points"]["available"] == 70
        assert told["closed_since"]
    owed = (await api.client.get("/v1/liability", headers=api.bearer("operator"))).json()
    assert owed["closed"] >= 70 * ROUNDS


async def test_a_crash_between_two_steps_is_gone_on_from(market: Market) -> None:
    api, person = market.api, await market.person()
    async with api.platform.pool.acquire() as connection:
        async with connection.transaction():
            asked = await ask_erasure(
                connection, api.platform.vault, UUID(person.participant_id), "operator", api.platform.fresh
            )
        assert (asked.state, asked.asked_by) == ("asked", "operator")
    await asyncio.gather(*(api.platform.eraser.go_on_with_all() for _ in range(4)))  # as several processes do
    async with api.platform.pool.acquire() as connection:
        assert (await read_erasure(connection, UUID(person.participant_id))).state == "done"
        steps = await connection.fetch(
            "SELECT class, removed FROM service.erasure_step WHERE participant_id = $1", UUID(person.participant_id)
        )
        key = "SELECT count(*) FROM vault.person_key WHERE participant_id = $1"
        assert await connection.fetchval(key, UUID(person.participant_id)) == 0
    removed = {row["class"]: row["removed"] for row in steps}
    assert {one.name for one in (*AT_ONCE, *AT_LAST)} | {"manifests", "reports"} == removed.keys()
    assert (removed["evidence"], removed["links"], removed["consents"]) == (1, 1, 1)


async def test_the_database_lets_nobody_rename_a_link_or_change_a_call(market: Market, database: Database) -> None:
    person = await market.person()
    connection = await asyncpg.connect(database.app)
    try:
        for statement in (
            "UPDATE service.link SET subject_tag = decode(repeat('00', 32), 'hex') WHERE participant_id = $1",
            "DELETE FROM service.consent WHERE participant_id = $1",
            "UPDATE service.erasure_step SET removed = 0 WHERE participant_id = $1",
        ):
            with pytest.raises(asyncpg.PostgresError):
                await connection.execute(statement, UUID(person.participant_id))
    finally:
        await connection.close()


async def test_a_banks_request_that_names_the_person_loses_its_body(market: Market, database: Database) -> None:
    api, person, other = market.api, await market.person(), await market.person()
    connection = await asyncpg.connect(database.app)

    async def ask_by(named: Person) -> UUID:
        call_id, request_id = api.platform.fresh.id(), api.platform.fresh.id()
        await connection.execute(
            "INSERT INTO service.signed_call VALUES ($1, $2, 'k', 'POST', '/v1/bank/requests', 'base', $3, 'digest', "
            "$4, clock_timestamp())",
            call_id, market.bank_id, bytes(64), b'{"subject":"the bank\'s id"}',
        )  # fmt: skip
        await connection.execute(
            "INSERT INTO service.bank_request (request_id, bank_id, offer, offer_version, units, code_hash, "
            "created_at, expires_at, call_id, addressed_to) VALUES ($1, $2, 'o', 1, 1, $3, now(), now(), $4, $5)",
            request_id, market.bank_id, os.urandom(32), call_id, UUID(named.participant_id),
        )  # fmt: skip
        return call_id

    try:
        mine, others = await ask_by(person), await ask_by(other)
        with pytest.raises(asyncpg.PostgresError):  # nobody is forgotten yet
            await connection.execute("UPDATE service.signed_call SET body = NULL WHERE call_id = $1", mine)
        assert await erase(api, person) == "done"
        body = "SELECT body FROM service.signed_call WHERE call_id = $1"
        assert await connection.fetchval(body, mine) is None
        assert await connection.fetchval(body, others) is not None
        for change in ("body = NULL", "body = 'x'", "signature = signature"):
            with pytest.raises(asyncpg.PostgresError):
                await connection.execute(f"UPDATE service.signed_call SET {change} WHERE call_id = $1", others)
    finally:
        await connection.close()


async def test_what_was_sent_to_banks_about_them_goes(market: Market, database: Database) -> None:
    api, people = market.api, [await market.person() for _ in range(2)]
    offer = await market.offer(await market.pool())
    held = [await market.done(market.place(person, offer, 1, from_bank=False)) for person in people]
    webhook = api.platform.fresh.id()
    connection = await asyncpg.connect(database.app)
    try:
        await connection.execute(
            "INSERT INTO service.webhook VALUES ($1, $2, 'https://b.example', '{}', 'paused', NULL, 0, now(), now())",
            webhook,
            BANK,
        )
        for one in held:
            await connection.execute(
                "INSERT INTO service.webhook_message (webhook_id, message_id, place, lane, kind, body, state, failed, "
                "queued_at, ended_at) VALUES ($1, $2, 1, $3, 'hold', '{}', 'delivered', 0, now(), now())",
                webhook,
                str(one.redemption.redemption_id),
                f"{webhook}/{one.redemption.redemption_id}",
            )
        assert await erase(api, people[0]) == "done"
        rows = await connection.fetch("SELECT message_id FROM service.webhook_message WHERE webhook_id = $1", webhook)
        assert [row[0] for row in rows] == [str(held[1].redemption.redemption_id)]
        await connection.execute("DELETE FROM service.webhook_message WHERE webhook_id = $1", webhook)
        await connection.execute("DELETE FROM service.webhook WHERE webhook_id = $1", webhook)
    finally:
        await connection.close()


@pytest.fixture(scope="module")
async def capped(template: Database, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Api]:
    """An API over rules with caps."""
    database = clone(template, f"tombs_{os.urandom(6).hex()}")
    directory = tmp_path_factory.mktemp("tombs")
    async with running_api(database.app, database.redis, directory, rules_dir=RULES) as api:
        yield api
        assert await findings(database, api) == []


def trip(source: str, subject: str, day: int, hour: int, km: str) -> dict[str, Any]:
    """A ride of ten grams a kilometre: two a day, fifty grams a month."""
    event = ride(
        source,
        subject,
        km=km,
        scenario="counting-ride",
        started_at=f"2026-05-{day:02}T{hour:02}:00:00+08:00",
        ended_at=f"2026-05-{day:02}T{hour:02}:12:00+08:00",
        references={"operator": "bikes", "order": os.urandom(6).hex()},
        vehicle={"id": os.urandom(6).hex()},
    )
    event["data"]["vehicle"] = event["data"]["vehicle"]["id"]
    return event


async def test_coming_back_renews_no_cap(capped: Api) -> None:
    source = await capped.source(scenarios=["counting-ride"])
    other = await capped.source(scenarios=["counting-ride"])
    first = await capped.person(source)
    link = {"source": other, "subject": "there", "consent": CONSENT}
    path = f"/v1/participants/{first.participant_id}/links"
    assert (await capped.client.post(path, headers=capped.bearer("operator"), json=link)).status_code == 201
    earned = await capped.report(source, [trip(source, first.subject, 1, hour, "2") for hour in (6, 7)])
    assert [one["outcome"] for one in earned] == ["credited", "credited"]
    assert await erase(capped, first) == "done"
    back = await capped.person(source, subject=first.subject)
    assert back.participant_id != first.participant_id
    again = await capped.report(
        source,
        [
            trip(source, back.subject, 1, 8, "1"),  # two rides of that day are used
            trip(source, back.subject, 2, 6, "2"),  # 40 of 50 g of that month are, so 20 do not fit: no part of them
            trip(source, back.subject, 2, 7, "1"),
        ],
    )
    told = [one.get("problem", {}).get("type", "credited").rpartition(":")[2] for one in again]
    assert told == ["cap-reached", "cap-reached", "credited"]
    # Erased once more, and back through the source that the second account never had: what both used is remembered.
    assert await erase(capped, back) == "done"
    third = await capped.person(other, subject="there")
    [refused] = await capped.report(other, [trip(other, third.subject, 3, 6, "1")])
    assert refused["problem"]["type"].endswith("cap-reached")
    async with capped.platform.pool.acquire() as connection:
        tombs = await connection.fetch("SELECT tag, expires_on FROM service.tombstone")
        assert len(tombs) == 2
        async with connection.transaction():
            assert await expire(connection, tombs[0]["expires_on"]) == 0
            assert await expire(connection, date(tombs[0]["expires_on"].year + 1, 1, 1)) == 2
        assert await connection.fetchval("SELECT count(*) FROM service.tombstone_tally") == 0


async def test_a_person_is_forgotten_and_their_event_is_not_credited_again(capped: Api) -> None:
    source = await capped.source(scenarios=["counting-ride"])
    person = await capped.person(source)
    tag = person_tag(capped.platform.keyring, "https://city.example", person.participant_id)
    async with capped.platform.pool.acquire() as connection, connection.transaction():
        await keep_person(connection, capped.platform.vault, UUID(person.participant_id), tag, {}, key_version=1)
    event = trip(source, person.subject, 1, 6, "1")
    [first] = await capped.report(source, [event])
    await erase(capped, person)
    async with capped.platform.pool.acquire() as connection:
        assert await find_person(connection, tag) is None
        whose = "SELECT count(*) FROM service.tombstone WHERE kind = 'person' AND tag = $1"
        assert await connection.fetchval(whose, tag) == 1
    back = await capped.person(source, subject=person.subject)
    [again] = await capped.report(source, [event])
    assert again["outcome"] == "duplicate"
    assert first["transfer_id"] in str(again)
    assert (await capped.balance(back.participant_id))["transfers"] == 0
    other = trip(source, back.subject, 1, 7, "1")
    other["data"]["references"] = event["data"]["references"]  # the same order under another id
    [claimed] = await capped.report(source, [other])
    assert claimed["problem"]["type"].endswith("already-claimed")


async def test_whoever_signs_in_again_is_somebody_new_with_the_same_caps(capped: Api) -> None:
    platform = capped.platform
    who = Identified("https://city.example", f"sub-{os.urandom(6).hex()}", "1990-02", os.urandom(9), datetime.now(UTC))
    source = await capped.source(scenarios=["counting-ride"])

    async def sign_in_now(token: bytes) -> UUID:
        async with platform.pool.acquire() as connection, connection.transaction():
            signed = await sign_in(
                connection,
                platform.vault,
                platform.keyring,
                replace(who, token=token),
                Terms("t-1", "t-1"),
                programme="demo",
                region="310000",
                fresh=platform.fresh,
                offset=timedelta(0),
            )
        return signed.participant_id

    first = await sign_in_now(b"one")
    link = {"source": source, "subject": "once", "consent": CONSENT}
    path = f"/v1/participants/{first}/links"
    assert (await capped.client.post(path, headers=capped.bearer("operator"), json=link)).status_code == 201
    earned = await capped.report(source, [trip(source, "once", 1, hour, "2") for hour in (6, 7)])
    assert {one["outcome"] for one in earned} == {"credited"}
    await erase(capped, Person(str(first), "", source, "once"))
    second = await sign_in_now(b"two")
    assert second != first
    link = {"source": source, "subject": "twice", "consent": CONSENT}  # another id at the provider: the person counts
    path = f"/v1/participants/{second}/links"
    assert (await capped.client.post(path, headers=capped.bearer("operator"), json=link)).status_code == 201
    [refused] = await capped.report(source, [trip(source, "twice", 1, 8, "1")])
    assert refused["problem"]["type"].endswith("cap-reached")


async def test_a_manifest_that_lists_an_event_loses_its_text(market: Market, database: Database) -> None:
    api, person, other = market.api, await market.person(), await market.person()
    events = [ride(one.source, one.subject) for one in (person, other)]
    for one, event in zip((person, other), events, strict=True):
        await api.report(one.source, [event])
    connection = await asyncpg.connect(database.app)
    try:

        async def closed(source: str, sequence: int, event: str) -> None:
            source_id = await connection.fetchval("SELECT source_id FROM service.source WHERE uri = $1", source)
            payload = orjson.dumps({"late": ["unknown", event]})
            jws = f"e30.{base64.urlsafe_b64encode(payload).rstrip(b'=').decode()}.e30"
            digest = hashlib.sha256(jws.encode()).digest()
            row = (source_id, date(2026, 5, 1), sequence)
            await connection.execute(
                "INSERT INTO service.manifest VALUES ($1, $2, $3, $4, '{}', 'k', $4, clock_timestamp())", *row, digest
            )
            await connection.execute("INSERT INTO service.manifest_text VALUES ($1, $2, $3, $4)", *row, jws)

        async def texts(source: str) -> int:
            count: int = await connection.fetchval(
                "SELECT count(*) FROM service.manifest_text JOIN service.source USING (source_id) WHERE uri = $1",
                source,
            )
            return count

        await closed(person.source, 2, events[0]["id"])
        await closed(other.source, 2, events[1]["id"])
        assert await erase(api, person) == "done"
        assert (await texts(person.source), await texts(other.source)) == (0, 1)
        await closed(person.source, 3, events[0]["id"])  # the source corrects its day afterwards
        await api.platform.eraser.look_back()
        assert (await texts(person.source), await texts(other.source)) == (0, 1)
        # They stand in no leaf: what was put here for the test goes again, for the books are compared in the end.
        owner = await asyncpg.connect(database.admin)
        await owner.execute(
            "SET session_replication_role = replica; DELETE FROM service.manifest_text; DELETE FROM service.manifest"
        )
        await owner.close()
    finally:
        await connection.close()


async def test_only_what_was_refused_is_a_refusal(market: Market) -> None:
    """A link, made for somebody who is being forgotten, is refused by name."""
    api, person = market.api, await market.person()
    offer = await market.offer(await market.pool())
    await market.done(market.place(person, offer, 1))
    assert await erase(api, person) == "waiting"
    link = {"source": person.source, "subject": "another", "consent": CONSENT}
    path = f"/v1/participants/{person.participant_id}/links"
    problem_of(await api.client.post(path, headers=api.bearer("operator"), json=link), "account-closed")
    outcome = await market.refused(market.place(person, offer, 1))
    assert isinstance(outcome, Refusal)
    assert outcome.slug == "account-closed"

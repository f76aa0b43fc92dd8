"""Looking behind the log: what is read is what was reported, nothing is found twice, and whoever looks reads no
evidence."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import UUID

import asyncpg
import pytest

from service.clock import Fresh, shanghai_day, system_clock
from service.signals import looking as room
from service.signals.looking import look, look_at_day, run_signals
from service.signals.reading import read_acts, read_source_day
from service.signals.rules import LONGEST_WINDOW_DAYS
from service.worker import drain
from tests.conftest import Database
from tests.running import Api
from tests.service.signals.riding import SERIES, Looker, docked, looking, morning

pytestmark = pytest.mark.anyio

TOMORROW = timedelta(days=1, minutes=10)
FRESH = Fresh(system_clock())


@pytest.fixture
async def looker(fresh_api: Api, fresh_database: Database) -> AsyncIterator[Looker]:
    async with looking(fresh_api, fresh_database) as looker:
        yield looker


async def test_what_is_read_is_what_was_reported(looker: Looker) -> None:
    person, begins = await looker.person(), morning()
    rides = [
        docked(person.source, person.subject, begins, 600, km="2", vehicle="bike 7"),
        docked(person.source, person.subject, begins + timedelta(minutes=5), 600),  # in two places at once
        docked(person.source, person.subject, begins + timedelta(hours=1), 30),  # too short
        docked(person.source, person.subject, begins + timedelta(hours=2), 600, km="3"),
    ]
    outcomes = await looker.api.report(person.source, rides)
    await looker.api.reverse(person.participant_id, outcomes[3]["transfer_id"])
    await drain(looker.pool)
    who, day = UUID(person.participant_id), shanghai_day(begins)
    span = (day - timedelta(days=LONGEST_WINDOW_DAYS), day)
    async with looker.pool.acquire() as tx:
        found = await read_acts(tx, [who], recorded_since=span[0], span=span, vehicles_on={who: (day,)})
        there = {act.activity_id: act for act in found[who]}
        source = await read_source_day(
            tx, there[UUID(outcomes[0]["transfer_id"])].source_id, shanghai_day(FRESH.clock())
        )
    ridden = there.pop(UUID(outcomes[0]["transfer_id"]))
    assert (ridden.mg, ridden.reason, ridden.scenario, ridden.day) == (70_020, None, "docked-ebike", day)
    assert (ridden.started_at, ridden.ended_at) == (begins, begins + timedelta(seconds=600))
    assert ridden.vehicle is not None
    assert sorted(str(act.reason) for act in there.values()) == ["condition-not-met", "overlaps-activity"]
    assert UUID(outcomes[3]["transfer_id"]) not in there  # what was reversed is no longer anything
    assert (source.credited, source.refused, source.usual_acts) == (2, 2, 2)  # as it arrived on the day


async def test_nothing_is_found_twice_and_a_look_that_broke_off_is_taken_again(
    looker: Looker, monkeypatch: pytest.MonkeyPatch
) -> None:
    person = await looker.person()
    await looker.rode(person, SERIES * 2)
    await drain(looker.pool)
    async with looker.pool.acquire() as tx:
        broken_off = tx.transaction()
        await broken_off.start()
        assert await look(tx, FRESH) == 6
        await broken_off.rollback()
    assert await looker.signals(person) == []
    monkeypatch.setattr(room, "LEAVES_AT_ONCE", 2)  # a batch ends in the middle of somebody's day
    assert await looker.look() == 6
    first = await looker.signals(person)
    assert [name for name, _, _ in first] == ["replayed-series"]
    await looker.pool.execute("UPDATE service.signal_head SET looked_to = 0")
    assert await looker.look() == 6
    assert await looker.signals(person) == first
    assert await looker.look() == 0
    assert len(await looker.reviews(person)) == 1


async def test_two_workers_look_one_after_the_other(looker: Looker) -> None:
    person = await looker.person()
    await looker.rode(person, SERIES * 2)
    await drain(looker.pool)
    async with looker.pool.acquire() as tx, tx.transaction(), looker.pool.acquire() as other, other.transaction():
        assert await look(tx, FRESH) == 6
        assert await look(other, FRESH) == 0
    assert len(await looker.signals(person)) == 1


async def test_copies_are_found_once_the_day_is_over(looker: Looker) -> None:
    source = await looker.api.source(scenarios=["docked-ebike"])
    people = [await looker.api.person(source) for _ in range(3)]
    for person in people[:2]:
        await looker.rode(person, SERIES)
    await looker.rode(people[2], SERIES[:2])
    await looker.look()
    assert [await looker.signals(person) for person in people] == [[], [], []]
    await looker.look(TOMORROW)
    found = [[name for name, _, _ in await looker.signals(person)] for person in people]
    assert found == [[], ["shared-series"], []]
    assert await look_at_day(looker.pool, Fresh(system_clock(TOMORROW))) is None


async def test_a_source_that_is_not_what_it_was_is_told_of(looker: Looker) -> None:
    source = await looker.api.source(scenarios=["docked-ebike"])
    person = await looker.api.person(source)
    source_id = await looker.api.platform.pool.fetchval("SELECT source_id FROM service.source WHERE uri = $1", source)
    today = shanghai_day(FRESH.clock())
    for number in range(1, 29):
        past = (source_id, today - timedelta(days=number), 30, 1, 30 * 300_000, 1, [0] * 9 + [30] + [0] * 14)
        await looker.pool.execute("INSERT INTO service.source_day VALUES ($1, $2, $3, $4, $5, $6, $7)", *past)
    begins = FRESH.clock() - timedelta(hours=16)
    times = [begins + timedelta(minutes=20 * number) for number in range(30)]
    await looker.api.report(source, [docked(source, person.subject, at, 600, km="2") for at in times])
    await looker.look(TOMORROW)
    headers = looker.api.bearer("operator") | {"Accept-Language": "en"}
    signals = (await looker.api.client.get("/v1/signals/sources", headers=headers)).json()["signals"]
    assert {signal["rule"] for signal in signals} == {"drift-grams", "drift-hours"}
    assert all(signal["source"] == source and signal["day"] == str(today) for signal in signals)
    told = next(signal for signal in signals if signal["rule"] == "drift-grams")
    assert told["values"]["found"] == "70020"
    assert "usual are 300000" in told["told"]
    kept = await looker.pool.fetchrow(
        "SELECT * FROM service.source_day WHERE source_id = $1 AND day = $2", source_id, today
    )
    assert kept is not None
    assert (kept["credited"], kept["refused"], kept["usual_acts"], sum(kept["hours"])) == (30, 0, 30, 30)


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT sealed FROM service.evidence",
        "SELECT document FROM service.redemption_terms",
        "SELECT region FROM service.participant",
        "SELECT subject_tag FROM service.link",
        "UPDATE service.signal SET strength = 'weak'",
        "DELETE FROM service.review",
        "SELECT * FROM service.review_text",
        "UPDATE service.review SET due_at = now()",
    ],
)
async def test_whoever_looks_reads_no_more_than_that(database: Database, statement: str) -> None:
    connection = await asyncpg.connect(database.sequencer)
    try:
        with pytest.raises((asyncpg.InsufficientPrivilegeError, asyncpg.UndefinedColumnError)):
            await connection.execute(statement)
    finally:
        await connection.close()


async def test_what_was_found_and_decided_stays(looker: Looker, fresh_database: Database) -> None:
    person = await looker.suspicious()
    connection = await asyncpg.connect(fresh_database.owner)
    try:
        for table in ("signal", "review_step", "review_credit", "source_day", "source_signal"):
            with pytest.raises(asyncpg.RaiseError, match="append-only"):
                await connection.execute(f"DELETE FROM service.{table}")
        await connection.execute("UPDATE service.review SET state = 'released', ended_at = now()")
        with pytest.raises(asyncpg.RaiseError, match="stays ended"):
            await connection.execute("UPDATE service.review SET state = 'open', ended_at = NULL")
    finally:
        await connection.close()
    assert (await looker.reviews(person))[0]["state"] == "released"


async def test_the_worker_looks_by_itself_until_it_is_told_to_stop(
    looker: Looker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "IDLE_S", 0.02)
    stopping = asyncio.Event()
    working = asyncio.create_task(run_signals(looker.pool, FRESH, stopping))
    try:
        person = await looker.person()
        await looker.rode(person, SERIES * 2)
        await drain(looker.pool)
        async with asyncio.timeout(20):
            while not await looker.signals(person):  # noqa: ASYNC110 - nothing tells of it but its rows
                await asyncio.sleep(0.02)
    finally:
        stopping.set()
        await working
    assert [name for name, _, _ in await looker.signals(person)] == ["replayed-series"]

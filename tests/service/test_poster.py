"""The poster: batches, poison, lost connections, clients that go away, and many at once over the same participants."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import asyncpg
import pytest

import service.poster
from ledger.units import CO2e
from service.activities.intake import Refusal, Report, ReportedActivity, Worth, assess
from service.poster import WORTH_A_BATCH, DatabaseAway, Poster, QueueFull
from service.posting import Credited, Duplicate, Outcome
from tests.conftest import Database
from tests.running import Api, Person, pooled
from tests.wire import wired

pytestmark = pytest.mark.anyio

NOON = datetime(2026, 5, 1, 4, tzinfo=UTC)


async def report(api: Api, person: Person, event_id: str | None = None, km: str = "1") -> Report:
    """A ride on its way to the poster, worth 35 points a kilometre."""
    licence = await api.platform.licence(person.source)
    assert licence is not None
    activity = ReportedActivity(
        event_id=event_id or f"event-{random.getrandbits(64):x}",
        subject=person.subject,
        type="org.tanpuhui.activity.v1",
        time=None,
        scenario="shared-ebike",
        started_at=NOON,
        ended_at=NOON + timedelta(minutes=12),
        inputs={"distance_km": Decimal(km)},
        basis={},
        vehicle=None,
    )
    platform = api.platform
    return assess(activity, licence, platform.rules, platform.keyring, platform.fresh, platform.fresh.clock())


@asynccontextmanager
async def poster_on(
    api: Api, url: str, *, lanes: int = 1, queue_items: int = 20_000, batch_items: int = 1000
) -> AsyncIterator[Poster]:
    """A poster of a test's own; what is in it at the end is posted."""
    async with pooled(url, lanes + 1) as pool:
        poster = Poster(
            pool,
            api.platform.rules,
            api.platform.vault,
            api.platform.fresh,
            clock_offset=timedelta(0),
            lanes=lanes,
            queue_items=queue_items,
            batch_items=batch_items,
        )
        try:
            yield poster
        finally:
            await poster.stop()


@asynccontextmanager
async def locked(database: Database, person: Person) -> AsyncIterator[None]:
    """Hold a participant's account, so that whatever is posted for it waits."""
    connection = await asyncpg.connect(database.app)
    try:
        async with connection.transaction():
            await connection.execute(
                "SELECT 1 FROM ledger.account WHERE participant_id = $1 FOR UPDATE", UUID(person.participant_id)
            )
            yield
    finally:
        await connection.close()


async def transfers_of(api: Api, person: Person) -> int:
    found: int = (await api.balance(person.participant_id))["transfers"]
    return found


def named(outcomes: Sequence[Outcome]) -> list[str]:
    return [outcome.slug if isinstance(outcome, Refusal) else type(outcome).__name__ for outcome in outcomes]


async def test_only_what_cannot_be_posted_fails(api: Api) -> None:
    people = [await api.person() for _ in range(5)]
    good = [await report(api, people[number % 5]) for number in range(500)]
    worth = good[0].verdict
    assert isinstance(worth, Worth)
    await api.platform.poster.post([await report(api, person) for person in people])
    poison = [
        replace(
            await report(api, people[0]), verdict=replace(worth, co2e=CO2e(2**63 - 1))
        ),  # more than a balance holds
        replace(await report(api, people[1]), scenario="shared\x00ebike"),
        replace(await report(api, people[2]), verdict=replace(worth, vintage=2**31)),
        replace(await report(api, people[3]), verdict=replace(worth, credit_class="imaginary")),
        replace(await report(api, people[4]), methodology=None),
    ]
    commands = list(good)
    places = [0, 123, 124, 400, len(commands) + 4]
    for place, command in zip(places, poison, strict=True):
        commands.insert(place, command)
    outcomes = await api.platform.poster.post(commands)
    assert [place for place, name in enumerate(named(outcomes)) if name == "posting-failed"] == places
    assert named(outcomes).count("Credited") == 500
    assert [await transfers_of(api, person) for person in people] == [101] * 5
    again = await api.platform.poster.post(good)
    assert set(named(again)) == {"Credited"}  # the same commands, as after a lost answer: nothing is posted twice
    assert [await transfers_of(api, person) for person in people] == [101] * 5


async def test_a_rehearsal_fails_what_cannot_be_posted_and_judges_its_neighbours(api: Api) -> None:
    person, other = await api.person(), await api.person()
    good = [await report(api, (person, other)[number % 2]) for number in range(20)]
    worth = good[0].verdict
    assert isinstance(worth, Worth)
    poison = [
        replace(await report(api, person), scenario="shared\x00ebike"),
        replace(await report(api, other), verdict=replace(worth, co2e=CO2e(2**63 - 1))),
        replace(await report(api, person), methodology=None),
    ]
    repeated = await report(api, person, "twice")
    commands = [poison[0], *good[:9], poison[1], repeated, *good[9:], await report(api, person, "twice"), poison[2]]
    told = await api.platform.poster.rehearse(commands)
    assert [place for place, name in enumerate(named(told)) if name == "posting-failed"] == [0, 10, len(commands) - 1]
    assert (named(told).count("Credited"), named(told).count("Duplicate")) == (21, 1)
    assert [await transfers_of(api, one) for one in (person, other)] == [0, 0]
    real = await api.platform.poster.post(commands)
    assert named(real) == named(told)
    assert [await transfers_of(api, one) for one in (person, other)] == [11, 10]


async def test_poison_in_one_request_spares_the_requests_gathered_with_it(api: Api, database: Database) -> None:
    person, other = await api.person(), await api.person()
    poison = replace(await report(api, person), scenario="\x00")
    reports = [await report(api, other) for _ in range(8)]
    async with poster_on(api, database.app) as poster, locked(database, person):
        first = asyncio.create_task(poster.post([await report(api, person)]))
        await asyncio.sleep(0.05)
        rest = [asyncio.create_task(poster.post([command])) for command in [*reports[:4], poison, *reports[4:]]]
        await asyncio.sleep(0)
    outcomes = [(await task)[0] for task in (first, *rest)]
    assert named(outcomes) == ["Credited"] * 5 + ["posting-failed"] + ["Credited"] * 4


async def test_a_repeat_in_two_requests_of_one_batch_is_told_the_first_answer(api: Api, database: Database) -> None:
    person = await api.person()
    reports = [
        await report(api, person, "same"),
        await report(api, person, "same"),
        await report(api, person, "same", km="2"),
    ]
    async with poster_on(api, database.app) as poster:
        first, again, other = [one for (one,) in await asyncio.gather(*(poster.post([each]) for each in reports))]
    assert isinstance(first, Credited)
    assert first.transfer_id == reports[0].activity_id
    assert again == Duplicate(first)
    assert other == Refusal("event-conflict", {})
    assert await transfers_of(api, person) == 1


async def test_the_queue_is_bounded(api: Api, database: Database) -> None:
    person = await api.person()
    async with poster_on(api, database.app, queue_items=10) as poster, locked(database, person):
        posting = asyncio.create_task(poster.post([await report(api, person)]))
        await asyncio.sleep(0.05)
        waiting = [asyncio.create_task(poster.post([await report(api, person) for _ in range(5)])) for _ in range(2)]
        await asyncio.sleep(0.05)
        with pytest.raises(QueueFull):
            await poster.post([await report(api, person)])
    assert named([one for task in (posting, *waiting) for one in await task]) == ["Credited"] * 11
    assert await transfers_of(api, person) == 11


async def test_a_request_larger_than_the_queue_passes_when_nothing_waits(api: Api, database: Database) -> None:
    person = await api.person()
    async with poster_on(api, database.app, queue_items=10, batch_items=5) as poster:
        assert named(await poster.post([await report(api, person) for _ in range(30)])) == ["Credited"] * 30


async def test_a_client_that_goes_away_cancels_nothing(api: Api, database: Database) -> None:
    person = await api.person()
    async with poster_on(api, database.app) as poster:
        async with locked(database, person):
            tasks = [asyncio.create_task(poster.post([await report(api, person)]))]
            await asyncio.sleep(0.1)  # the first is being posted, the others wait behind it
            tasks += [asyncio.create_task(poster.post([await report(api, person)])) for _ in range(3)]
            await asyncio.sleep(0.05)
            for task in tasks[:3]:
                task.cancel()
            left = await asyncio.gather(*tasks[:3], return_exceptions=True)
            assert all(isinstance(one, asyncio.CancelledError) for one in left)
        assert named(await tasks[3]) == ["Credited"]
    assert await transfers_of(api, person) == 4


async def test_a_second_batch_begins_beside_one_that_waits(api: Api, database: Database) -> None:
    slow, others = await api.person(), [await api.person() for _ in range(3)]
    few = WORTH_A_BATCH - 1
    async with poster_on(api, database.app, lanes=2) as poster:
        async with locked(database, slow):
            first = await report(api, slow)
            held = asyncio.create_task(poster.post([first]))
            await asyncio.sleep(0.1)  # it is being posted, and waits for the account
            waiting = [asyncio.create_task(poster.post([await report(api, others[n % 3])])) for n in range(few)]
            await asyncio.sleep(0.2)
            assert not any(task.done() for task in waiting)  # too few to be a batch of their own
            waiting.append(asyncio.create_task(poster.post([await report(api, others[0])])))
            async with asyncio.timeout(20):
                assert [named(outcomes) for outcomes in await asyncio.gather(*waiting)] == [["Credited"]] * len(waiting)
            again = [asyncio.create_task(poster.post([first])) for _ in range(WORTH_A_BATCH)]
            await asyncio.sleep(0.1)
            assert not held.done()  # the same event in both batches: the second waits for the first one's key
            assert not any(task.done() for task in again)
        assert [*await held, *(one for outcomes in await asyncio.gather(*again) for one in outcomes)] == [
            *await held
        ] * (1 + len(again))
    assert [await transfers_of(api, person) for person in (slow, *others)] == [1, 9, 8, 7]


async def test_stopping_posts_what_waits_and_takes_nothing_new(api: Api, database: Database) -> None:
    person = await api.person()
    async with poster_on(api, database.app, lanes=2, batch_items=3) as poster:
        tasks = [asyncio.create_task(poster.post([await report(api, person)])) for _ in range(20)]
        await asyncio.sleep(0)
        await poster.stop()
        with pytest.raises(QueueFull):
            await poster.post([await report(api, person)])
        assert named([(await task)[0] for task in tasks]) == ["Credited"] * 20
    assert await transfers_of(api, person) == 20


async def test_lost_connections_lose_and_double_nothing(fresh_api: Api, fresh_database: Database) -> None:
    """Every connection of the API is ended again and again, wherever its transactions are, commit included."""
    people = [await fresh_api.person() for _ in range(4)]
    reports: list[Report] = []
    posted: list[Outcome] = []
    ended: list[int] = []
    _forget_the_drivers_own_futures()
    ending = asyncio.create_task(_end_connections(fresh_database, ended))
    while len(reports) < 360 or sum(ended) < 10:
        wave = [await report(fresh_api, people[number % 4]) for number in range(20)]
        reports += wave
        requests = (fresh_api.platform.poster.post(wave[start : start + 5]) for start in range(0, 20, 5))
        posted += [one for outcomes in await asyncio.gather(*requests) for one in outcomes]
        await asyncio.sleep(0.02)
    ending.cancel()
    (left,) = await asyncio.gather(ending, return_exceptions=True)
    assert isinstance(left, asyncio.CancelledError)
    assert set(named(posted)) == {"Credited"}  # never Duplicate: the poster's own second attempt is no repeat
    assert [one.transfer_id for one in posted if isinstance(one, Credited)] == [each.activity_id for each in reports]
    assert [await transfers_of(fresh_api, person) for person in people] == [len(reports) // 4] * 4


def _forget_the_drivers_own_futures() -> None:
    """asyncpg leaves a future behind when a connection is lost while it rolls back, and the loop reports it; only that
    is passed over."""
    loop = asyncio.get_running_loop()
    report = loop.get_exception_handler()

    def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if not isinstance(context.get("exception"), asyncpg.ConnectionDoesNotExistError):
            assert report is not None  # the test runner's
            report(loop, context)

    loop.set_exception_handler(handle)


async def _end_connections(database: Database, ended: list[int]) -> None:
    """End some of the API's connections every few milliseconds, and note how many they were."""
    connection = await asyncpg.connect(database.admin)
    try:
        while True:
            rows = await connection.fetch(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND application_name = 'tanpuhui api' AND random() < 0.4"
            )
            ended.append(len(rows))
            await asyncio.sleep(random.uniform(0.01, 0.08))
    finally:
        await connection.close()


async def test_a_database_that_comes_back_in_time_is_waited_for(api: Api, database: Database) -> None:
    person = await api.person()
    async with wired(database.app) as wire, poster_on(api, wire.url) as poster:
        await wire.cut()
        task = asyncio.create_task(poster.post([await report(api, person)]))
        await asyncio.sleep(0.4)
        assert not task.done()
        await wire.mend()
        assert named(await task) == ["Credited"]
    assert await transfers_of(api, person) == 1


async def test_a_database_that_stays_away_is_said_so(
    api: Api, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service.poster, "RETRY_FOR_S", 0.2)
    person = await api.person()
    sent = await report(api, person)
    async with wired(database.app) as wire, poster_on(api, wire.url) as poster:
        await wire.cut()
        with pytest.raises(DatabaseAway):
            await poster.post([sent])
        await wire.mend()
        assert named(await poster.post([sent])) == ["Credited"]


POSTERS = 8  # each with a connection of its own, as of as many processes


async def _cross(api: Api, database: Database, *, batches: int, people: int, items: int) -> None:
    """Wave after wave, all posters post the same participants and the same new events at once, each in an order of its
    own, between rides of their own."""
    crowd = [await api.person() for _ in range(people)]
    async with AsyncExitStack() as stack:
        posters = [await stack.enter_async_context(poster_on(api, database.app)) for _ in range(POSTERS)]
        for _ in range(batches // POSTERS):
            shared = [await report(api, random.choice(crowd)) for _ in range(items // 2)]
            waves = []
            for poster in posters:
                commands = shared + [await report(api, random.choice(crowd)) for _ in range(items - len(shared))]
                random.shuffle(commands)
                waves.append(poster.post(commands))
            outcomes = [one for posted in await asyncio.gather(*waves) for one in posted]
            assert set(named(outcomes)) == {"Credited"}  # the same command again is no repeat but the same attempt
            mine = {one.transfer_id for one in outcomes if isinstance(one, Credited)}
            assert len(mine) == len(shared) + POSTERS * (items - len(shared))
    connection = await asyncpg.connect(database.admin)
    await asyncio.sleep(0.1)
    deadlocks = await connection.fetchval("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
    await connection.close()
    assert deadlocks == 0


async def test_crossing_batches_never_deadlock(fresh_api: Api, fresh_database: Database) -> None:
    await _cross(fresh_api, fresh_database, batches=304, people=12, items=12)


@pytest.mark.soak
async def test_ten_thousand_crossing_batches_never_deadlock(fresh_api: Api, fresh_database: Database) -> None:
    await _cross(fresh_api, fresh_database, batches=10_000, people=40, items=24)

"""Deliveries over a real log, a real database and a real receiver: nothing lost, nothing twice without its id, each
redemption in order and none held up by another."""

import asyncio
import random
import secrets
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from service.clock import uuid7
from service.keyring import Keyring
from service.webhooks import endpoints
from service.webhooks.endpoints import Change
from service.webhooks.loop import AT_ONCE
from service.webhooks.messages import KEPT, LEASE, claim, message_body, queue_test, record, retry, take_up
from service.webhooks.schedule import ATTEMPTS, pause_asked
from service.webhooks.sending import Answer
from tests.conftest import Database
from tests.service.webhooks.world import BANK, BEGAN, OTHER_BANK, Heard, World, make_world, receiving, step

pytestmark = pytest.mark.anyio


@pytest.fixture
async def world(fresh_database: Database) -> AsyncIterator[World]:
    async with make_world(fresh_database) as made:
        yield made


def redemption() -> UUID:
    return uuid7(BEGAN, secrets.token_bytes(10))


async def test_a_bank_hears_of_its_redemptions_and_nothing_of_the_person(world: World) -> None:
    mine, others = redemption(), redemption()
    async with receiving() as receiver:
        endpoint, secret = await world.endpoint(receiver.url)
        hold = step("hold", mine)
        await world.log(hold, step("hold", others, OTHER_BANK), step("capture", mine), step("release", mine))
        await world.run()
        assert [(each.document["type"], each.redemption, each.index) for each in receiver.heard] == [
            ("org.tanpuhui.log.hold.v1", str(mine), 0),
            ("org.tanpuhui.log.capture.v1", str(mine), 2),
            ("org.tanpuhui.log.release.v1", str(mine), 3),
        ]
        first = receiver.heard[0]
        assert first.document == {
            "type": "org.tanpuhui.log.hold.v1",
            "timestamp": "2026-06-01T04:00:00Z",
            "data": {
                "redemption_id": str(mine),
                "transfer_id": hold["transfer"],
                "day": "2026-06-01",
                "units": "2",
                "points": "100",
                "value_fen": "2000",
                "pool": "demo-green-pool",
                "offer": "ab" * 32,
                "expires_at": "2026-06-08T04:00:00Z",
                "log_index": "0",
            },
        }
        assert all(each.signed_by(secret) for each in receiver.heard)
        assert first.headers["content-type"] == "application/json"
        assert len({each.id for each in receiver.heard}) == 3
        await world.later(days=1)
        assert len(receiver.heard) == 3
        assert [row[1] for row in await world.messages(endpoint.webhook_id)] == ["delivered"] * 3


async def test_a_poison_event_delays_later_events_of_its_own_redemption_alone(world: World) -> None:
    poison, well = redemption(), redemption()
    async with receiving() as receiver:
        receiver.answer = lambda heard: 500 if heard.redemption == str(poison) else 200
        endpoint, _ = await world.endpoint(receiver.url)
        await world.log(step("hold", poison), step("hold", well), step("capture", poison), step("capture", well))
        await world.run()
        assert sorted(receiver.indexes) == [0, 1, 3]
        await world.later(seconds=6)
        assert sorted(receiver.indexes) == [0, 0, 1, 3]
        receiver.answer = lambda _: 200
        await world.later(seconds=331)
        assert receiver.indexes[-2:] == [0, 2]
        assert [row[1:3] for row in await world.messages(endpoint.webhook_id)] == [
            ("delivered", failed) for failed in (2, 0, 0, 0)
        ]


async def test_the_standard_schedule_then_dead(world: World) -> None:
    poison = redemption()
    async with receiving() as receiver:
        receiver.answer = lambda heard: 503 if heard.index == 0 else 200
        endpoint, _ = await world.endpoint(receiver.url)
        await world.log(step("hold", poison), step("capture", poison))
        await world.run()
        count = 1
        for wait in (5, 300, 1800, *(3600 * hours for hours in (2, 5, 10, 14, 20, 24))):
            await world.later(seconds=wait - 1)
            assert len(receiver.heard) == count, wait
            await world.later(seconds=wait / 10 + 1)
            count += 1
            if wait < 3600 * 24:
                assert receiver.indexes == [0] * count, wait
        assert count == ATTEMPTS
        assert receiver.indexes == [0] * ATTEMPTS + [1]
        assert len({each.id for each in receiver.heard[:-1]}) == 1
        assert await world.messages(endpoint.webhook_id) == [(0, "dead", 10, "refused"), (1, "delivered", 0, None)]
        async with world.app.acquire() as connection:
            await retry(connection, endpoint.webhook_id, receiver.heard[0].id, world.now)
        receiver.answer = lambda _: 200
        await world.run()
        assert receiver.indexes[-1] == 0
        assert [state for _, state, _, _ in await world.messages(endpoint.webhook_id)] == ["delivered"] * 2


@pytest.mark.parametrize(("asked", "waits_s"), [("700", 700), ("2", 5), ("9" * 30, 86_400), ("soon", 5)])
async def test_a_receiver_that_asks_for_time_is_given_it(world: World, asked: str, waits_s: int) -> None:
    async with receiving() as receiver:
        receiver.answer, receiver.headers = lambda _: 429, f"Retry-After: {asked}\r\n"
        await world.endpoint(receiver.url)
        await world.log(step("hold", redemption()))
        await world.run()
        await world.later(seconds=waits_s - 1)
        assert len(receiver.heard) == 1
        await world.later(seconds=waits_s / 10 + 1)
        assert len(receiver.heard) == 2


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, 0),
        ("", 0),
        ("0", 0),
        ("120", 120),
        (" 7 ", 7),
        ("-5", 0),
        ("1.5", 0),
        ("٣", 0),
        ("Mon, 01 Jun 2026 04:02:00 GMT", 120),
        ("Mon, 01 Jun 2026 03:00:00 GMT", 0),
        ("Mon, 01 Jun 2037 04:00:00 GMT", 86_400),
        ("99999999999", 86_400),
    ],
)
def test_retry_after_is_seconds_or_a_date(header: str | None, seconds: int) -> None:
    assert pause_asked(header, datetime(2026, 6, 1, 4, tzinfo=UTC)) == timedelta(seconds=seconds)


async def test_an_endpoint_that_hangs_holds_up_no_other(world: World) -> None:
    async with receiving() as slow, receiving() as quick:
        slow.answer = lambda _: None
        await world.endpoint(slow.url)
        await world.endpoint(quick.url)
        await world.log(*(step("hold", redemption()) for _ in range(3 * AT_ONCE)))
        deliveries = world.deliveries()
        async with asyncio.timeout(9):  # before those that hang are given up
            while len(quick.heard) < 3 * AT_ONCE:
                await deliveries.step()
                await asyncio.sleep(0.01)
        assert len(slow.heard) <= AT_ONCE
        await deliveries.rest(0)


async def test_a_bank_that_was_away_for_an_hour_gets_everything(world: World) -> None:
    people = [redemption() for _ in range(10)]
    async with receiving() as receiver:
        receiver.answer = lambda _: 502
        await world.endpoint(receiver.url)
        for kind in ("hold", "capture", "release"):
            await world.log(*(step(kind, who) for who in people))
            await world.later(minutes=20)
        assert {each.document["type"].split(".")[-2] for each in receiver.heard} == {"hold"}
        receiver.heard.clear()
        receiver.answer = lambda _: 200
        await world.later(hours=2, minutes=20)
        assert sorted(receiver.indexes) == list(range(30))
        for who in people:
            mine = [each.index for each in receiver.heard if each.redemption == str(who)]
            assert mine == sorted(mine)
            assert len(mine) == 3


async def test_an_event_that_hangs_its_receiver_holds_up_no_other_redemption(world: World) -> None:
    poison, people = redemption(), [redemption() for _ in range(4 * AT_ONCE)]
    async with receiving() as receiver:
        receiver.answer = lambda heard: None if heard.redemption == str(poison) else 200
        endpoint, _ = await world.endpoint(receiver.url)
        await world.log(step("hold", poison), *(step("hold", who) for who in people), step("capture", poison))
        deliveries = world.deliveries()
        async with asyncio.timeout(9):  # before the one that hangs is given up
            while len(await world.messages(endpoint.webhook_id, "delivered")) < len(people):
                await deliveries.step()
                await asyncio.sleep(0.01)
        assert deliveries.under_way == 1
        assert [row[0] for row in await world.messages(endpoint.webhook_id, "waiting")] == [0, len(people) + 1]
        await deliveries.rest(0)


async def test_gone_disables_and_nothing_is_lost(world: World) -> None:
    one, two = redemption(), redemption()
    async with receiving() as receiver:
        receiver.answer = lambda _: 410
        endpoint, _ = await world.endpoint(receiver.url)
        await world.log(step("hold", one))
        await world.run()
        await world.log(step("hold", two))
        await world.later(days=2)
        assert receiver.indexes == [0]
        assert await world.messages(endpoint.webhook_id) == [(0, "waiting", 0, "gone")]
        async with world.app.acquire() as connection, connection.transaction():
            known = await endpoints.read(connection, BANK, endpoint.webhook_id)
            assert (known.state, known.because) == ("disabled", "gone")
            again = await endpoints.change(connection, BANK, endpoint.webhook_id, Change(state="active"), world.now)
            assert (again.state, again.because) == ("active", None)
        receiver.answer = lambda _: 200
        await world.run()
        assert sorted(receiver.indexes) == [0, 0, 1]


async def test_two_secrets_sign_while_they_rotate(world: World) -> None:
    async with receiving() as receiver:
        endpoint, former = await world.endpoint(receiver.url)
        async with world.app.acquire() as connection, connection.transaction():
            overlap = timedelta(hours=24)
            newest, until = await endpoints.rotate(
                connection, world.keyring, BANK, endpoint.webhook_id, overlap, world.now
            )
        assert until == world.now + overlap
        await world.log(step("hold", redemption()))
        await world.run()
        assert len(receiver.heard[0].headers["webhook-signature"].split(" ")) == 2
        assert receiver.heard[0].signed_by(former)
        assert receiver.heard[0].signed_by(newest)
        async with world.app.acquire() as connection, connection.transaction():
            third, _ = await endpoints.rotate(connection, world.keyring, BANK, endpoint.webhook_id, overlap, world.now)
        await world.log(step("hold", redemption()))
        await world.run()
        assert [receiver.heard[1].signed_by(each) for each in (former, newest, third)] == [False, True, True]
        await world.log(step("hold", redemption()))
        await world.later(hours=24)
        assert [receiver.heard[2].signed_by(each) for each in (former, newest, third)] == [False, False, True]


async def test_a_replay_sends_what_was_sent_under_the_same_id(world: World) -> None:
    mine = redemption()
    async with receiving() as receiver:
        endpoint, _ = await world.endpoint(receiver.url)
        await world.log(step("hold", mine), step("capture", mine), step("capture", mine))
        await world.run()
        async with world.app.acquire() as connection, connection.transaction():
            known = await endpoints.replay(connection, BANK, endpoint.webhook_id, 1, world.now)
            assert known.taken_to == 0
        await world.run()
        assert receiver.indexes == [0, 1, 2, 1, 2]
        assert [each.id for each in receiver.heard[1:3]] == [each.id for each in receiver.heard[3:]]


async def test_a_replay_never_leaves_anything_out(world: World) -> None:
    async with receiving() as receiver:
        endpoint, _ = await world.endpoint(receiver.url)
        await world.log(*(step("hold", redemption()) for _ in range(3)))
        async with world.app.acquire() as connection, connection.transaction():
            await endpoints.replay(connection, BANK, endpoint.webhook_id, 3, world.now)
        await world.run()
        assert sorted(receiver.indexes) == [0, 1, 2]


async def test_an_endpoint_begins_where_it_wants(world: World) -> None:
    async with receiving() as later, receiving() as all_of_it, receiving() as captures:
        mine = redemption()
        await world.log(step("hold", mine))
        await world.endpoint(later.url)
        await world.endpoint(all_of_it.url, from_index=0)
        await world.endpoint(captures.url, "capture", from_index=0)
        await world.log(step("capture", mine), step("release", mine))
        await world.run()
        assert [each.indexes for each in (later, all_of_it, captures)] == [[1, 2], [0, 1, 2], [1]]


async def test_a_test_message_goes_out_and_is_in_order_with_nothing(world: World) -> None:
    mine = redemption()
    async with receiving() as receiver:
        receiver.answer = lambda heard: 500 if heard.id.startswith("evt_") else 200
        endpoint, secret = await world.endpoint(receiver.url)
        await world.log(step("hold", mine))
        await world.run()
        async with world.app.acquire() as connection:
            name = await queue_test(connection, endpoint.webhook_id, redemption(), world.now)
        await world.run()
        assert receiver.heard[-1].id == name
        assert receiver.heard[-1].document["type"] == "org.tanpuhui.log.test.v1"
        assert receiver.heard[-1].signed_by(secret)


async def test_a_paused_endpoint_waits_and_a_deleted_one_is_forgotten(world: World) -> None:
    async with receiving() as receiver:
        endpoint, _ = await world.endpoint(receiver.url)
        async with world.app.acquire() as connection, connection.transaction():
            await endpoints.change(connection, BANK, endpoint.webhook_id, Change(state="paused"), world.now)
        await world.log(step("hold", redemption()))
        await world.run()
        assert receiver.heard == []
        async with world.app.acquire() as connection, connection.transaction():
            await endpoints.change(connection, BANK, endpoint.webhook_id, Change(state="active"), world.now)
        await world.run()
        assert receiver.indexes == [0]
        async with world.app.acquire() as connection, connection.transaction():
            with pytest.raises(endpoints.WebhookNotFound):
                await endpoints.delete(connection, OTHER_BANK, endpoint.webhook_id)
            await endpoints.delete(connection, BANK, endpoint.webhook_id)
        await world.log(step("hold", redemption()))
        await world.run()
        assert receiver.indexes == [0]
        for table in ("webhook", "webhook_secret", "webhook_message", "webhook_attempt"):
            assert await world.app.fetchval(f"SELECT count(*) FROM service.{table}") == 0


async def test_two_workers_share_the_work(world: World) -> None:
    async with receiving() as receiver:
        await world.endpoint(receiver.url)
        await world.log(*(step("hold", redemption()) for _ in range(60)))
        one, other = world.deliveries(), world.deliveries()
        while len(receiver.heard) < 60:
            await one.step()
            await other.step()
            await one.rest(5)
            await other.rest(5)
        assert sorted(receiver.indexes) == list(range(60))


async def test_an_attempt_that_was_overtaken_decides_nothing(world: World) -> None:
    endpoint, _ = await world.endpoint("http://127.0.0.1:9/hooks")
    await world.log(step("hold", redemption()))
    async with world.worker.acquire() as connection, connection.transaction():
        await take_up(connection, world.now)
        (due,) = await claim(connection, {endpoint.webhook_id: AT_ONCE}, world.now)
        assert await claim(connection, {endpoint.webhook_id: AT_ONCE}, world.now) == []
    async with world.app.acquire() as connection:
        await retry(connection, endpoint.webhook_id, due.message_id, world.now)
    async with world.worker.acquire() as connection, connection.transaction():
        (again,) = await claim(connection, {endpoint.webhook_id: AT_ONCE}, world.now + timedelta(seconds=1))
        await record(connection, due, Answer(500, "refused", 1), world.now, 0)
    assert await world.messages(endpoint.webhook_id) == [(0, "waiting", 0, None)]
    async with world.worker.acquire() as connection, connection.transaction():
        await record(connection, again, Answer(200, None, 1), world.now, 0)
    assert await world.messages(endpoint.webhook_id) == [(0, "delivered", 0, None)]


async def test_an_event_that_comes_as_the_one_before_it_ends_is_not_forgotten(world: World) -> None:
    mine = redemption()
    endpoint, _ = await world.endpoint("http://127.0.0.1:9/hooks")
    await world.log(step("hold", mine))
    async with world.worker.acquire() as ending, world.worker.acquire() as queueing:
        async with ending.transaction():
            await take_up(ending, world.now)
            (due,) = await claim(ending, {endpoint.webhook_id: AT_ONCE}, world.now)
        await world.log(step("capture", mine))

        async def queue() -> None:
            async with queueing.transaction():
                await take_up(queueing, world.now)

        async with ending.transaction():
            await record(ending, due, Answer(200, None, 1), world.now, 0)
            task = asyncio.create_task(queue())
            await asyncio.sleep(0.2)
            assert not task.done()  # it waits to see how the one before ends
        await task
        async with ending.transaction():
            (follower,) = await claim(ending, {endpoint.webhook_id: AT_ONCE}, world.now)
    assert follower.kind == "capture"


@pytest.mark.parametrize("seed", range(4))
async def test_whatever_fails_everything_arrives_in_order(world: World, seed: int) -> None:
    """Receivers that fail at random, workers that are killed at random: each event arrives, and none of a redemption
    before the one ahead of it was taken."""
    chance = random.Random(seed)
    people = [redemption() for _ in range(6)]
    taken: dict[str, list[int]] = {str(each): [] for each in people}

    def answer(heard: Heard) -> int:
        status = chance.choice([200] * 9 + [500, 429, 302])  # ten failures in a row would end an event
        if status == 200 and heard.index not in taken[heard.redemption]:
            taken[heard.redemption].append(heard.index)
        return status

    expected: dict[str, list[int]] = {str(each): [] for each in people}
    async with receiving() as receiver:
        receiver.answer = answer
        endpoint, _ = await world.endpoint(receiver.url)
        place = 0
        for _ in range(5):
            leaves: list[dict[str, Any]] = []
            for who in chance.choices(people, k=8):
                kind = "capture" if expected[str(who)] else "hold"
                leaves.append(step(kind, who))
                expected[str(who)].append(place)
                place += 1
            await world.log(*leaves)
            killed = world.deliveries()
            await killed.step()
            await killed.rest(chance.choice([0.0, 0.002, 0.01]))  # what has not been answered is given up
            world.now += LEASE
        for _ in range(60):
            await world.later(minutes=chance.choice([5, 40, 200]))
            if all(row[1] == "delivered" for row in await world.messages(endpoint.webhook_id)):
                break
        assert {row[1] for row in await world.messages(endpoint.webhook_id)} == {"delivered"}
    assert taken == expected


async def test_a_secret_of_another_keyring_sends_nothing_unsigned(world: World) -> None:
    async with receiving() as receiver:
        endpoint, _ = await world.endpoint(receiver.url)
        await world.log(step("hold", redemption()))
        own, world.keyring = world.keyring, Keyring(1, {1: b"x" * 32})
        await world.run()
        assert receiver.heard == []
        assert await world.messages(endpoint.webhook_id) == [(0, "waiting", 1, "secret-unreadable")]
        world.keyring = own
        await world.later(seconds=6)
        assert receiver.indexes == [0]


async def test_what_is_long_over_is_let_go(world: World) -> None:
    async with receiving() as receiver:
        endpoint, _ = await world.endpoint(receiver.url)
        await world.log(step("hold", redemption()))
        await world.run()
        await world.later(days=KEPT.days - 1)
        assert len(await world.messages(endpoint.webhook_id)) == 1
        await world.later(days=2)
        assert await world.messages(endpoint.webhook_id) == []
        assert await world.app.fetchval("SELECT count(*) FROM service.webhook_attempt") == 0


def test_a_body_stays_small() -> None:
    assert len(message_body("hold", "2026-06-01T04:00:00Z", dict.fromkeys(map(str, range(20)), "x" * 64))) < 20_000


async def test_the_worker_sees_secrets_only_sealed_and_the_auditor_none(world: World) -> None:
    async with receiving() as receiver:
        await world.endpoint(receiver.url)
    connection = await asyncpg.connect(world.database.auditor)
    try:
        assert await connection.fetchval("SELECT count(*) FROM service.webhook") == 1
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.fetch("SELECT * FROM service.webhook_secret")
    finally:
        await connection.close()

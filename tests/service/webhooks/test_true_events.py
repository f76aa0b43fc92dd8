"""The log's own entries, from the poster to a bank's receiver: every step of a redemption, and listings."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from service.bank_events import read_bank_events
from service.clock import system_clock
from service.events import Event, Subscriber, read_events
from service.webhooks import endpoints
from service.webhooks.loop import run_deliveries
from service.worker import drain, run_worker
from tests.conftest import Database
from tests.running import pooled, running_api, vault_for_tests
from tests.service.redemption.redemption_world import BANK, Market, open_market
from tests.service.webhooks.world import Heard, receiving

pytestmark = pytest.mark.anyio

OTHER = "https://bank.example/gree"  # the beginning of the other's URI is another bank


@pytest.fixture
async def market(fresh_database: Database, tmp_path: Path) -> AsyncIterator[Market]:
    async with running_api(fresh_database.app, fresh_database.redis, tmp_path) as api:
        yield await open_market(api, fresh_database)


async def sequenced(market: Market) -> int:
    async with pooled(market.database.sequencer) as pool:
        return await drain(pool)


async def test_every_step_of_a_redemption_is_told_as_it_was(market: Market) -> None:
    offer = await market.offer(await market.pool())
    begun = await sequenced(market)
    person = await market.person(rides=2)
    held = await market.done(market.place(person, offer, 9))
    captured = await market.done(market.capture(held, 4))
    rest = await market.done(market.capture(held, 3, final=True))
    refunded = await market.done(market.refund(captured))
    voided = await market.done(market.place(person, offer, 2))
    await market.done(market.release(voided))
    size = await sequenced(market)
    async with pooled(market.database.sequencer) as pool, pool.acquire() as connection:
        events, upto = await read_bank_events(connection, BANK, begun - 1, size - 1)
        assert upto == size - 1
        told = [(each.kind, each.subject, each.data["units"], each.data["points"]) for each in events]
        first, second = str(held.redemption.redemption_id), str(voided.redemption.redemption_id)
        assert told == [
            ("hold", first, "9", "90"),
            ("capture", first, "4", "40"),
            ("capture", first, "3", "30"),
            ("release", first, "2", "20"),
            ("refund", first, "4", "40"),
            ("hold", second, "2", "20"),
            ("release", second, "2", "20"),
        ]
        assert [each.data["redemption_id"] for each in events] == [first] * 5 + [second] * 2
        hold, capture, _, release, refund, *_ = (each.data for each in events)
        assert (hold["offer"], hold["value_fen"], hold["transfer_id"]) == (offer.digest, "900", first)
        assert capture["transfer_id"] == str(captured.step.transfer_id)
        assert (release["reason"], release["authority"]) == ("rest", "bank")
        assert rest.rest is not None
        assert release["transfer_id"] == str(rest.rest.transfer_id)
        assert (refund["reason"], refund["capture_id"]) == ("cancelled", str(captured.step.transfer_id))
        assert refund["transfer_id"] == str(refunded.step.transfer_id)
        assert len({each.id for each in events}) == 7
        assert await read_bank_events(connection, OTHER, -1, size - 1) == ([], size - 1)
        everything, _ = await read_bank_events(connection, None, -1, size - 1)
        assert {each.bank for each in everything} == {BANK}


async def test_a_listing_is_told_to_its_bank(market: Market) -> None:
    begun = await sequenced(market)
    offer = await market.offer(await market.pool())
    size = await sequenced(market)
    async with pooled(market.database.app) as pool, pool.acquire() as connection:
        page = await read_events(connection, vault_for_tests(), Subscriber(bank=BANK), begun - 1, 100)
        (event,) = page.events
        assert (event.kind, page.upto, page.size) == ("listing", size - 1, size)
        assert event.data == {
            "action": "listed",
            "digest": offer.digest,
            "document_kind": "offer",
            "id": offer.id,
            "reason": None,
            "version": "1",
            "log_index": str(event.index),
        }
        assert (await read_events(connection, vault_for_tests(), Subscriber(bank=OTHER), -1, 100)).events == ()


async def test_pages_of_steps_and_listings_leave_nothing_out(market: Market) -> None:
    person = await market.person(rides=4)
    for _ in range(3):
        offer = await market.offer(await market.pool())
        held = await market.done(market.place(person, offer, 2))
        await market.done(market.capture(held, 1))
    size = await sequenced(market)
    async with pooled(market.database.app) as pool, pool.acquire() as connection:
        whole = (await read_events(connection, vault_for_tests(), Subscriber(bank=BANK), -1, 1000)).events
        assert len(whole) >= 9
        for limit in (1, 2, 3):
            seen: list[Event] = []
            after = -1
            while after < size - 1:
                page = await read_events(connection, vault_for_tests(), Subscriber(bank=BANK), after, limit)
                assert len(page.events) <= limit
                assert page.upto > after
                seen += page.events
                after = page.upto
            assert tuple(seen) == whole


async def test_the_worker_tells_the_bank_by_itself(market: Market) -> None:
    offer, person, stopping = await market.offer(await market.pool()), await market.person(), asyncio.Event()
    platform, arrived = market.api.platform, asyncio.Event()

    def answer(_: Heard) -> int:
        arrived.set()
        return 204

    async with receiving() as receiver, pooled(market.database.sequencer, size=4) as pool:
        receiver.answer = answer
        async with platform.pool.acquire() as connection, connection.transaction():
            _, secret = await endpoints.create(
                connection, platform.keyring, platform.fresh.id(), BANK, receiver.url, ["hold"], None, system_clock()()
            )
        deliveries = run_deliveries(pool, platform.keyring, system_clock(), stopping, private_allowed=True)
        working = asyncio.create_task(run_worker(pool, stopping, deliveries))
        try:
            held = await market.done(market.place(person, offer, 2))
            await asyncio.wait_for(arrived.wait(), 10)
        finally:
            stopping.set()
            await asyncio.wait_for(working, 20)
    (heard,) = receiver.heard
    assert heard.redemption == str(held.redemption.redemption_id)
    assert heard.signed_by(secret)
    assert person.participant_id not in heard.body.decode()

"""The sequencer: every queued leaf gets one place, without a gap, whoever else runs, commits late or dies."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import orjson
import pytest

from ledger.check import check_ledger
from ledger.log_store import fold, read_status, sequence
from service.database import Pool
from service.worker import drain, run_worker
from tests.conftest import Database
from tests.running import Api, Person, pooled, ride

pytestmark = pytest.mark.anyio


async def post_rides(api: Api, people: list[Person], batches: int) -> int:
    """Post batches of rides of random people, some at the same time; how many rides."""
    for _ in range(batches // 4):
        chosen = [random.choices(people, k=5) for _ in range(4)]
        await asyncio.gather(
            *(api.report(group[0].source, [ride(one.source, one.subject) for one in group]) for group in chosen)
        )
    return batches // 4 * 20


async def crowd(api: Api, count: int = 6) -> list[Person]:
    source = await api.source()
    return [await api.person(source) for _ in range(count)]


@asynccontextmanager
async def reading(database: Database) -> "AsyncIterator[asyncpg.Connection[asyncpg.Record]]":
    connection = await asyncpg.connect(database.auditor)
    try:
        yield connection
    finally:
        await connection.close()


async def require_whole_log(database: Database, rides: int) -> None:
    """Every transfer has one leaf, in its participant's order, under indexes without a gap; nothing else differs."""
    async with reading(database) as connection:
        rows = await connection.fetch(
            "SELECT log_index, participant_id, transfer_id, leaf FROM ledger.leaf ORDER BY log_index"
        )
        transfers = await connection.fetchval("SELECT count(*) FROM ledger.transfer")
        checked = await check_ledger(connection)
    assert [row["log_index"] for row in rows] == list(range(rides))
    assert len({row["transfer_id"] for row in rows}) == transfers == rides
    counters: dict[object, int] = {}
    for row in rows:
        counter = int(orjson.loads(row["leaf"])["counter"])
        assert counter == counters.get(row["participant_id"], 0) + 1
        counters[row["participant_id"]] = counter
    assert checked.findings == ()
    assert (checked.counts["folded_to"], checked.counts["queued"]) == (rides, 0)


async def one_round(pool: Pool, *, at_most: int) -> None:
    async with pool.acquire() as tx, tx.transaction():
        await sequence(tx, at_most=at_most)
    async with pool.acquire() as tx, tx.transaction():
        await fold(tx, at_most=at_most)


async def test_two_sequencers_at_once_leave_no_gap(fresh_api: Api, fresh_database: Database) -> None:
    people = await crowd(fresh_api)
    async with pooled(fresh_database.sequencer, size=2) as one, pooled(fresh_database.sequencer, size=2) as other:
        stopping = asyncio.Event()

        async def sequencing(pool: Pool) -> None:
            while not stopping.is_set():
                await one_round(pool, at_most=random.randint(1, 9))
                await asyncio.sleep(0)

        both = [asyncio.create_task(sequencing(pool)) for pool in (one, other, one)]
        rides = await post_rides(fresh_api, people, 40)
        stopping.set()
        await asyncio.gather(*both)
        assert await drain(one) == rides
    await require_whole_log(fresh_database, rides)


async def test_a_sequencer_that_dies_anywhere_loses_nothing(fresh_api: Api, fresh_database: Database) -> None:
    people = await crowd(fresh_api)
    posting = asyncio.create_task(post_rides(fresh_api, people, 40))
    async with pooled(fresh_database.sequencer) as pool:
        while not posting.done():
            step = asyncio.create_task(one_round(pool, at_most=7))
            await asyncio.sleep(random.uniform(0, 0.01))
            step.cancel()
            await asyncio.gather(step, return_exceptions=True)
        for step_of in (sequence, fold):  # and one that had done all its work and not committed
            with contextlib.suppress(ConnectionError):
                async with pool.acquire() as tx, tx.transaction():
                    await step_of(tx)
                    raise ConnectionError
        rides = await posting
        assert await drain(pool) == rides
    await require_whole_log(fresh_database, rides)


async def test_a_leaf_whose_id_was_drawn_early_and_committed_late_is_not_lost(
    fresh_api: Api, fresh_database: Database
) -> None:
    late, early = await crowd(fresh_api, 2)
    queue = "INSERT INTO ledger.leaf_queue (participant_id, transfer_id, leaf) VALUES ($1, $2, 'x') RETURNING queue_id"
    slow = await asyncpg.connect(fresh_database.app)
    async with pooled(fresh_database.sequencer) as pool:
        uncommitted = slow.transaction()
        await uncommitted.start()
        low = await slow.fetchval(queue, late.participant_id, late.link_id)
        await fresh_api.report(early.source, [ride(early.source, early.subject)])
        async with pool.acquire() as tx, tx.transaction():
            assert await sequence(tx) == 1
        await uncommitted.commit()
        async with pool.acquire() as tx, tx.transaction():
            assert await sequence(tx) == 1
        async with pool.acquire() as tx:
            assert (await read_status(tx)).size == 2
            assert (await read_status(tx)).queued == 0
            assert await tx.fetchval("SELECT leaf FROM ledger.leaf WHERE log_index = 1") == b"x"
    assert low == 1
    await slow.close()


async def test_a_round_takes_no_more_than_it_may(fresh_api: Api, fresh_database: Database) -> None:
    (person,) = await crowd(fresh_api, 1)
    await fresh_api.report(person.source, [ride(person.source, person.subject) for _ in range(7)])
    async with pooled(fresh_database.sequencer) as pool, pool.acquire() as tx:
        taken: list[int] = []
        while not taken or taken[-1]:
            async with tx.transaction():
                taken.append(await sequence(tx, at_most=3))
        assert taken == [3, 3, 1, 0]
        folded: list[int] = []
        while not folded or folded[-1]:
            async with tx.transaction():
                folded.append(await fold(tx, at_most=5))
        assert folded == [5, 2, 0]
    await require_whole_log(fresh_database, 7)


async def test_the_worker_keeps_up_survives_lost_connections_and_stops(
    fresh_api: Api, fresh_database: Database
) -> None:
    people = await crowd(fresh_api)
    stopping = asyncio.Event()
    async with pooled(fresh_database.sequencer, size=3) as pool:
        worker = asyncio.create_task(run_worker(pool, stopping))
        admin = await asyncpg.connect(fresh_database.admin)
        rides = 0
        for _ in range(4):
            rides += await post_rides(fresh_api, people, 4)
            await admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND usename = 'tanpuhui_sequencer'"
            )
        await admin.close()
        folded = 0
        async with asyncio.timeout(20), reading(fresh_database) as connection:
            while folded < rides:
                await asyncio.sleep(0.05)
                assert not worker.done(), worker  # whatever a lost connection raises, the loops go on
                folded = await connection.fetchval("SELECT folded_to FROM ledger.fold_head")
        stopping.set()
        async with asyncio.timeout(5):
            await worker
    await require_whole_log(fresh_database, rides)

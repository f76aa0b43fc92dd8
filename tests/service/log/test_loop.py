"""The publisher as it runs: one leads, and when all are told to stop, what was there is under a last checkpoint."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from ledger.notes import ED25519, Signer, generate_signer
from service.clock import system_clock
from service.database import Pool
from service.log.guard import Guard
from service.log.loop import run_publisher
from service.log.publish import Log
from service.log.refusals import GUARD_MISSING
from service.worker import run_worker
from tests.conftest import Database
from tests.running import pooled

pytestmark = pytest.mark.anyio

ORIGIN = "log.example.org/log"
INTERVAL_S = 0.05
WITHIN_S = 30.0


@pytest.fixture
def signer() -> Signer:
    return generate_signer(ORIGIN, ED25519, secrets.token_bytes(32))


@asynccontextmanager
async def running(database: Database, log: Log, stopping: asyncio.Event) -> AsyncIterator[Pool]:
    """A publisher with connections of its own, until `stopping` is set."""
    async with pooled(database.sequencer, 1) as pool:
        clock = system_clock()
        task = asyncio.create_task(run_publisher(pool, lambda: log, "demo", clock, INTERVAL_S, stopping))
        try:
            yield pool
        finally:
            stopping.set()
            await asyncio.wait_for(task, WITHIN_S)


async def queue(pool: Pool, count: int) -> None:
    leaves = [(secrets.token_bytes(40),) for _ in range(count)]
    await pool.executemany("INSERT INTO ledger.leaf_queue (leaf) VALUES ($1)", leaves)


async def signed(pool: Pool, size: int) -> None:
    give_up = asyncio.get_running_loop().time() + WITHIN_S
    while (await pool.fetchval("SELECT max(size) FROM ledger.checkpoint") or 0) < size:
        assert asyncio.get_running_loop().time() < give_up, f"{size} entries are not signed"
        await asyncio.sleep(0.02)


async def test_of_two_publishers_one_leads_and_the_other_follows_when_it_ends(
    fresh_database: Database, tmp_path: Path, signer: Signer
) -> None:
    """Two machines by mistake, each with a guard of its own: the second may not even look while the first leads."""
    first = Log(ORIGIN, tmp_path / "log", Guard(tmp_path / "guard 1"), signer)
    second = Log(ORIGIN, tmp_path / "log", Guard(tmp_path / "guard 2"), signer)
    one, other, work = asyncio.Event(), asyncio.Event(), asyncio.Event()
    async with pooled(fresh_database.sequencer, 4) as pool:
        worker = asyncio.create_task(run_worker(pool, work))
        async with running(fresh_database, first, one):
            await signed(pool, 2)
            async with running(fresh_database, second, other):
                for count in range(3, 6):
                    await queue(pool, 1)
                    await signed(pool, count)
                    assert await pool.fetchval("SELECT refused FROM ledger.log_state") is None
                assert not second.guard.path.exists()
                one.set()
                give_up = asyncio.get_running_loop().time() + WITHIN_S
                while await pool.fetchval("SELECT refused FROM ledger.log_state") != GUARD_MISSING:
                    assert asyncio.get_running_loop().time() < give_up, "the second one does not lead"
                    await asyncio.sleep(0.02)
        work.set()
        await asyncio.wait_for(worker, WITHIN_S)


async def test_told_to_stop_both_finish_what_is_there(fresh_database: Database, tmp_path: Path, signer: Signer) -> None:
    log = Log(ORIGIN, tmp_path / "log", Guard(tmp_path / "guard"), signer)
    stopping = asyncio.Event()
    async with pooled(fresh_database.sequencer, 4) as pool:
        worker = asyncio.create_task(run_worker(pool, stopping))
        async with running(fresh_database, log, stopping):
            await signed(pool, 2)
            await queue(pool, 20_000)
            stopping.set()
        await asyncio.wait_for(worker, WITHIN_S)
        assert await pool.fetchval("SELECT count(*) FROM ledger.leaf_queue") == 0
        assert await pool.fetchval("SELECT max(size) FROM ledger.checkpoint") == 20_002

"""kill -9 of sequencer, publisher and API again and again under load: one history, whatever was cut off when.

Every checkpoint that anybody could see while this went on has to be the root of the first entries of the log as it
ends; then the log is exported, and verified by the program that shares no code with the writer.
"""

import asyncio
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from functools import partial
from pathlib import Path

import asyncpg
import httpx
import pytest

from ledger.checkpoint import parse_checkpoint
from ledger.merkle import Edge, leaf_hash
from ledger.notes import parse_note
from tests.story.clients import (
    ROOT,
    Providers,
    Served,
    assert_ledger_holds_what_was_answered,
    kill,
    room,
    run_command,
    running,
)
from tests.story.test_crashes import progress

pytestmark = pytest.mark.anyio

SEEN_EVERY_S = 0.05
PUBLISHED_WITHIN_S = 60.0
KILLS = 200
VICTIMS = ("worker", "publisher", "api")


class Watcher:
    """Somebody who keeps every checkpoint they see."""

    def __init__(self, served: Served) -> None:
        self.served = served
        self.seen: dict[int, bytes] = {}

    async def watch(self, stopping: asyncio.Event) -> None:
        """Look until told to stop. Two roots of one size are a fork."""
        async with httpx.AsyncClient(timeout=5) as client:
            while not stopping.is_set():
                with suppress(httpx.HTTPError):
                    answer = await client.get(f"{self.served.url}/log/checkpoint")
                    if answer.status_code == 200:
                        shown = parse_checkpoint(parse_note(answer.content).text)
                        assert self.seen.setdefault(shown.size, shown.root) == shown.root, f"a fork at {shown.size}"
                await asyncio.sleep(SEEN_EVERY_S)


async def kill_again_and_again(directory: Path, order: list[str], seed: int) -> tuple[Providers, Watcher]:
    """Kill these while clients post; then compare everything. The platform is stopped at the end."""
    print(f"seed {seed}")
    chance = random.Random(seed)
    served = Served(directory / "data", api_processes="2")
    await asyncio.to_thread(served.start)
    try:
        providers, watcher = Providers(served, seed), Watcher(served)
        await providers.enrol()
        stopping = asyncio.Event()
        posting, watching = asyncio.create_task(providers.post(stopping)), asyncio.create_task(watcher.watch(stopping))
        try:
            for verb in order:
                await progress(providers, posting)
                await asyncio.sleep(chance.uniform(0, 0.3))
                victims = await asyncio.to_thread(running, partial(served.children, verb))
                kill([chance.choice(victims)], signal.SIGKILL)
            await progress(providers, posting)
        finally:
            stopping.set()
            await posting
            await watching
        await assert_ledger_holds_what_was_answered(providers, served.auditor_url)
        await assert_one_history(served, watcher)
        await asyncio.to_thread(assert_verified, served, directory / "bundle")
    except BaseException:
        print(served.errors())
        raise
    finally:
        await asyncio.to_thread(served.end)
    return providers, watcher


async def assert_one_history(served: Served, watcher: Watcher) -> None:
    """Every checkpoint that was seen is the root of the first entries of the log; the last one covers all of it."""
    connection = await asyncpg.connect(served.auditor_url, timeout=30)
    try:
        size: int = await connection.fetchval("SELECT size FROM ledger.log_head")
        give_up = time.monotonic() + PUBLISHED_WITHIN_S
        while max(watcher.seen, default=0) < size:
            assert time.monotonic() < give_up, f"{size} entries, and the last checkpoint is of {max(watcher.seen)}"
            last = asyncio.Event()
            looking = asyncio.create_task(watcher.watch(last))
            await asyncio.sleep(0.2)
            last.set()
            await looking
            size = await connection.fetchval("SELECT size FROM ledger.log_head")
        edge, found = Edge(), {0: Edge().root()}
        rows = await connection.fetch("SELECT leaf FROM ledger.leaf ORDER BY log_index")
        for number, row in enumerate(rows, 1):
            edge.append(leaf_hash(row["leaf"]))
            if number in watcher.seen:
                found[number] = edge.root()
    finally:
        await connection.close()
    assert {each: found[each] for each in watcher.seen} == watcher.seen


def assert_verified(served: Served, bundle: Path) -> None:
    """The bundle of what is there now verifies without a finding."""
    exported = run_command(served.data_dir, "audit", "export", str(bundle))
    assert exported.returncode == 0, exported.stdout + exported.stderr
    verified = subprocess.run(
        [sys.executable, "-m", "ledger", "verify", str(bundle)],
        cwd=ROOT,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert verified.returncode == 0, verified.stdout + verified.stderr


@pytest.mark.soak
async def test_one_history_after_two_hundred_kills() -> None:
    seed = random.SystemRandom().getrandbits(32)
    order = random.Random(seed).choices(VICTIMS, k=KILLS)
    began = time.monotonic()
    with room() as directory:
        providers, watcher = await kill_again_and_again(directory, order, seed)
    assert len(watcher.seen) > KILLS // 10, "hardly a checkpoint was seen: the test tests nothing"
    print(f"{len(order)} kills {dict(Counter(order))} in {time.monotonic() - began:.0f} s")
    print(
        f"{len(providers.answers)} events, {len(providers.credited)} credited, {providers.lost} requests without an "
        f"answer; {len(watcher.seen)} checkpoints seen up to {max(watcher.seen)}, all of one history; verified"
    )

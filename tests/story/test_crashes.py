"""kill -9 of every process of the platform while 16 clients post: what was answered is in the ledger, once.

Each commit is made to take a tenth of a second, as on a slow disk: a kill then mostly falls between the decision about
a batch and its commit, where an answer given too early would be a lie.
"""

import asyncio
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.story.clients import (
    Providers,
    Served,
    assert_ledger_holds_what_was_answered,
    kill,
    room,
    running,
    slow_commits,
)

pytestmark = pytest.mark.anyio

RECOVERS_WITHIN_S = 90.0
PROGRESS = 20  # answers after which the platform counts as recovered
SOAK_ROUNDS = 6  # of every victim once, in random order


def kill_api(served: Served, chance: random.Random) -> None:
    kill([chance.choice(running(lambda: served.children("api")))], signal.SIGKILL)


def kill_worker(served: Served, _: random.Random) -> None:
    kill(running(lambda: served.children("worker")), signal.SIGKILL)


def kill_postmaster(served: Served, _: random.Random) -> None:
    """Its backends are orphans for a moment, and may still commit."""
    running(served.postgres)
    postmaster = served.data_dir / "servers" / "postgresql" / "postmaster.pid"
    kill([int(postmaster.read_text("utf-8").split()[0])], signal.SIGKILL)


def kill_postgresql(served: Served, _: random.Random) -> None:
    """As when the power fails: all at once."""
    kill(running(served.postgres), signal.SIGKILL)


def kill_supervisor(served: Served, _: random.Random) -> None:
    """And start again at once, while the children it left are still finishing."""
    served.process.kill()
    served.process.wait()
    served.start()


def kill_api_and_postgresql(served: Served, _: random.Random) -> None:
    """Nobody is left who could repair what was answered too early."""
    kill(running(served.postgres) + served.children("api"), signal.SIGKILL)


def stall_commits(served: Served, chance: random.Random) -> None:
    """Not a kill: single backends stand still in their commit, so that others, with later queue ids, overtake them."""
    for _ in range(10):
        stalled = [chance.choice(running(served.committing))]
        kill(stalled, signal.SIGSTOP)
        time.sleep(0.15)
        kill(stalled, signal.SIGCONT)


Victim = Callable[[Served, random.Random], None]
VICTIMS: list[Victim] = [kill_worker, kill_supervisor, kill_api, kill_postgresql, kill_api_and_postgresql]


async def progress(providers: Providers, posting: "asyncio.Task[None]") -> None:
    """Until the clients are answered again; raises what a client found wrong with an answer."""
    wanted, give_up = len(providers.answers) + PROGRESS, time.monotonic() + RECOVERS_WITHIN_S
    while len(providers.answers) < wanted:
        if posting.done():
            posting.result()
        assert time.monotonic() < give_up, f"no answers any more: {providers.statuses}, {providers.lost} lost"
        await asyncio.sleep(0.02)


async def crash(directory: Path, victims: list[Victim], seed: int) -> Providers:
    """Kill the victims in this order while clients post; then compare. The platform is stopped at the end."""
    print(f"seed {seed}")
    chance = random.Random(seed)
    served = Served(directory / "data", api_processes="2")
    await asyncio.to_thread(served.start)
    try:
        providers = Providers(served, seed)
        await providers.enrol()
        await slow_commits(served)
        stopping = asyncio.Event()
        posting = asyncio.create_task(providers.post(stopping))
        try:
            for victim in victims:
                await progress(providers, posting)
                await asyncio.sleep(chance.uniform(0, 0.5))
                await asyncio.to_thread(victim, served, chance)
            await progress(providers, posting)
        finally:
            stopping.set()
            await posting
        await assert_ledger_holds_what_was_answered(providers, served.auditor_url)
    except BaseException:
        print(served.errors())
        raise
    finally:
        await asyncio.to_thread(served.end)
    return providers


async def test_what_was_answered_is_there_once_after_each_process_was_killed() -> None:
    seed = random.SystemRandom().getrandbits(32)
    with room() as directory:
        providers = await crash(directory, [kill_supervisor, kill_api_and_postgresql, stall_commits], seed)
    assert providers.credited
    assert providers.lost, "no kill was felt: the test tests nothing"


@pytest.mark.soak
async def test_what_was_answered_is_there_once_after_many_kills() -> None:
    seed = random.SystemRandom().getrandbits(32)
    victims = [*VICTIMS, kill_postmaster, stall_commits]
    chance = random.Random(seed)
    order = [victim for _ in range(SOAK_ROUNDS) for victim in chance.sample(victims, len(victims))]
    began = time.monotonic()
    with room() as directory:
        providers = await crash(directory, order, seed)
    print(
        f"{len(order)} times {dict(Counter(victim.__name__ for victim in order))} in {time.monotonic() - began:.0f} s"
    )
    print(
        f"{len(providers.answers)} events, {len(providers.credited)} credited; {dict(providers.statuses)}, "
        f"{providers.lost} requests without an answer, slowest {providers.slowest_s:.1f} s; lost 0, doubled 0"
    )

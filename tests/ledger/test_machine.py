"""The platform and the reference model live through the same stories and must tell the same."""

from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from datetime import datetime
from pathlib import Path
from typing import cast

import pytest
from anyio.from_thread import start_blocking_portal
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

from service.database import Connection
from tests.conftest import Database, clone
from tests.ledger.books_machine import Bookkeeping, Desk
from tests.ledger.machine import MONTHS, Journey, World
from tests.ledger.model import SHANGHAI, judged, offset_of
from tests.running import Api, pooled, running_api


@pytest.fixture(scope="module")
def world(template: Database, worker_id: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One database, and an API for each month of the stories; each story has sources and participants of its own."""
    database = clone(template, f"stories_{worker_id}")
    data_dir: Path = tmp_path_factory.mktemp("data")
    today = datetime.now(SHANGHAI)
    first = today.year * 12 + today.month  # the month after this one, so that no clock goes backwards
    stack = AsyncExitStack()

    async def start() -> dict[int, Api]:
        apis = {}
        for month in MONTHS:
            api = running_api(database.app, database.redis, data_dir, clock_offset=offset_of(first + month))
            apis[first + month] = await stack.enter_async_context(api)
        return apis

    with start_blocking_portal("asyncio", {"use_uvloop": True}) as portal:
        yield World(portal, database, first, portal.call(start))
        portal.call(stack.aclose)


@pytest.fixture(scope="module")
def desk(template: Database, worker_id: str) -> Iterator[Desk]:
    """A database of its own for ledgers that are kept without the platform around them."""
    database = clone(template, f"books_{worker_id}")
    today = datetime.now(SHANGHAI)
    stack = AsyncExitStack()

    async def start() -> Connection:
        pool = await stack.enter_async_context(pooled(database.app))
        return await stack.enter_async_context(pool.acquire())

    with start_blocking_portal("asyncio", {"use_uvloop": True}) as portal:
        yield Desk(portal, database, portal.call(start), today.year * 12 + today.month)
        portal.call(stack.aclose)


def _told(machine: Callable[[], RuleBasedStateMachine], stories: int, steps: int) -> None:
    run_state_machine_as_test(
        cast("type[RuleBasedStateMachine]", machine),  # anything that makes a machine will do
        settings=settings(
            max_examples=stories,
            stateful_step_count=steps,
            deadline=None,
            print_blob=True,
            phases=[Phase.reuse, Phase.generate],  # without shrinking: minutes of it would only hide the story
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        ),
    )


def test_the_platform_and_the_model_tell_the_same(world: World) -> None:
    _told(lambda: Journey(world), 12, 24)


@pytest.mark.soak
def test_the_platform_and_the_model_tell_the_same_at_length(world: World) -> None:
    _told(lambda: Journey(world), 300, 60)


def test_the_ledger_and_the_model_keep_the_same_books(desk: Desk) -> None:
    _told(lambda: Bookkeeping(desk), 20, 20)


@pytest.mark.soak
def test_the_ledger_and_the_model_keep_the_same_books_at_length(desk: Desk) -> None:
    _told(lambda: Bookkeeping(desk), 200, 60)


def test_the_model_knows_the_published_example() -> None:
    assert judged(2350, 720) == (82273, 82)
    assert judged(100, 60) == (3501, 3)
    assert judged(99, 60) == "min-distance"
    assert judged(5000, 720) == (175050, 175)
    assert judged(5001, 720) == "max-mean-speed"

"""The platform and the reference model live through the same stories and must tell the same."""

from collections.abc import Iterator
from contextlib import AsyncExitStack
from datetime import datetime
from pathlib import Path
from typing import cast

import pytest
from anyio.from_thread import start_blocking_portal
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.conftest import Database, clone
from tests.ledger.machine import MONTHS, Journey, World
from tests.ledger.model import SHANGHAI, judged, offset_of
from tests.running import Api, running_api


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


def _told(world: World, stories: int, steps: int) -> None:
    run_state_machine_as_test(
        cast("type[Journey]", lambda: Journey(world)),  # anything that makes a machine will do
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
    _told(world, 30, 30)


@pytest.mark.soak
def test_the_platform_and_the_model_tell_the_same_at_length(world: World) -> None:
    _told(world, 300, 60)


def test_the_model_knows_the_published_example() -> None:
    assert judged(2350, 720) == (82273, 82)
    assert judged(100, 60) == (3501, 3)
    assert judged(99, 60) == "min-distance"
    assert judged(5000, 720) == (175050, 175)
    assert judged(5001, 720) == "max-mean-speed"

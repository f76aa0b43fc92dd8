"""The platform and the reference model redeem through the same stories and must tell the same."""

from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import cast

import pytest
from anyio.from_thread import start_blocking_portal
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

from tests.conftest import Database, clone
from tests.running import running_api
from tests.service.redemption.redemption_machine import Redeeming, World, open_moments
from tests.service.redemption.redemption_world import open_market


@pytest.fixture(scope="module")
def world(template: Database, worker_id: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One database with a bank; each story has people, pools and offers of its own. Afterwards the platform's own
    checks find nothing."""
    database = clone(template, f"redeeming_{worker_id}")
    data_dir: Path = tmp_path_factory.mktemp("data")
    stack = AsyncExitStack()

    async def start(portal_world: list[World]) -> None:
        api = await stack.enter_async_context(running_api(database.app, database.redis, data_dir))
        market = await open_market(api, database)
        own = api.platform.poster, api.platform.fresh
        portal_world.append(World(portal, market, await open_moments(market)))

        async def stop() -> None:
            for moment in portal_world[0].moments:
                await moment.poster.stop()
            api.platform.poster, api.platform.fresh = own

        stack.push_async_callback(stop)

    with start_blocking_portal("asyncio", {"use_uvloop": True}) as portal:
        made: list[World] = []
        portal.call(start, made)
        yield made[0]
        findings = portal.call(made[0].market.findings)
        portal.call(stack.aclose)
    assert findings == []


def _told(world: World, stories: int, steps: int) -> None:
    run_state_machine_as_test(
        cast("type[RuleBasedStateMachine]", lambda: Redeeming(world)),  # anything that makes a machine will do
        settings=settings(
            max_examples=stories,
            stateful_step_count=steps,
            deadline=None,
            print_blob=True,
            phases=[Phase.reuse, Phase.generate],  # without shrinking: minutes of it would only hide the story
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        ),
    )


def test_the_platform_and_the_model_redeem_the_same(world: World) -> None:
    _told(world, 20, 40)


@pytest.mark.soak
def test_the_platform_and_the_model_redeem_the_same_at_length(world: World) -> None:
    _told(world, 300, 60)

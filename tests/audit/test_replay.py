"""Real histories are computed again to the milligram, and nothing is found: one that has everything, and any other."""

import itertools
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from service.audit.replay import replay
from service.audit.report import undecided
from service.posting import Settle
from tests.audit.history import Audited, Publishing, recorded
from tests.conftest import Database
from tests.service.conftest import fresh_world
from tests.service.counting_model import Order
from tests.service.counting_world import World, poster_on
from tests.service.test_counting import stories

pytestmark = pytest.mark.anyio

__all__ = ["fresh_world"]
_numbers = itertools.count(1)


async def test_an_honest_history_replays_without_a_finding(audited: Audited) -> None:
    found = replay(audited.directory)
    assert found.verified.findings.in_order() == []
    assert found.findings.shown == []
    assert {one.code for one in undecided(found)} == {"not-approved"}
    assert found.checked == {
        "credit": 15, "reversal": 4, "maturity": 1, "lapse": 0, "hold": 0, "capture": 0, "release": 0, "refund": 0,
        "manifest": 4, "statement": 0, "evidence": 15, "settlement": 2, "terms": 0, "decisions": 0,
        "calls": 0, "reports": 0,
    }  # fmt: skip


@given(st.lists(st.tuples(stories(), st.integers(1, 9)), min_size=8, max_size=8))
@settings(
    max_examples=6,
    phases=(Phase.generate,),  # every example goes on where the last one ended
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
async def test_whatever_was_posted_replays_without_a_finding(
    fresh_world: World, fresh_database: Database, tmp_path: Path, told: list[tuple[list[Order], int]]
) -> None:
    """Credits, corrections, retractions and settlements in any order and cut into any batches."""
    async with Publishing.of(fresh_database, tmp_path / "publishing") as publishing:
        for orders, at_once in told:
            await _play(fresh_world, orders, at_once)
        directory = tmp_path / f"bundle-{next(_numbers)}"
        await publishing.export(directory)
    found = replay(directory)
    assert found.findings.shown == []
    assert found.verified.findings.in_order() == []


async def _play(world: World, orders: list[Order], at_once: int) -> None:
    stage = await world.people()
    async with poster_on(world) as poster:
        for first in range(0, len(orders), at_once):
            batch = []
            for number in range(first, min(len(orders), first + at_once)):
                command = stage.command(number, orders[number], orders)
                batch.append(recorded(command) if isinstance(command, Settle) else command)
            await poster.post(batch)

"""Campaigns' budgets: one for all versions of a rule, returned with the credit, never promised less than before."""

import shutil
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.activities.rules import RulesInvalid
from service.campaigns import SLOTS, shares
from service.posting import Credited, Reverse, Reversed
from service.quantification.points import PointsRuleInvalid, parse_points_rule, points_catalogue_of
from tests.conftest import Database
from tests.documents import changed
from tests.running import running_api
from tests.service.conftest import RULES
from tests.service.counting_model import Act, corrected
from tests.service.counting_world import Stage, World, crowd, fetch, findings, make_world, post_at_once

pytestmark = pytest.mark.anyio

DOCUMENT = next((RULES / "points").glob("*.yaml")).read_text("utf-8")
KM = 13_700  # metres that a campaign of half as much again adds 68 points for


def version(number: int, budget: int) -> bytes:
    return changed(DOCUMENT, ("version: 1", f"version: {number}"), ('"1000"', f'"{budget}"'))


def bonus(who: int, day: int) -> Act:
    return Act("bonus", who, "north", day * 1440, 10, KM)


async def budget(database: Database) -> tuple[int, int]:
    """What the funder put in, and what is left of it; what was drawn is what the journal has from `partner`."""
    (slots,) = await fetch(
        database, "SELECT sum(budget_points)::int8 AS whole, sum(left_points)::int8 AS left FROM service.campaign_slot"
    )
    (moved,) = await fetch(
        database,
        "SELECT coalesce(sum(CASE WHEN from_account = 'partner' THEN amount ELSE -amount END), 0)::int8 AS drawn "
        "FROM ledger.movement WHERE 'partner' IN (from_account, to_account)",
    )
    assert slots["whole"] - slots["left"] == moved["drawn"]
    return slots["whole"], slots["left"]


def undo(stage: Stage, number: int, who: int) -> Reverse:
    fresh = stage.world.api.platform.fresh
    transfer_id = stage.reports[number].activity_id
    return Reverse(stage.participant_ids[who], transfer_id, "posted_in_error", "operator", fresh.id(), fresh.random(16))


@asynccontextmanager
async def world_of(database: Database, rules: Path, data_dir: Path, *documents: bytes) -> AsyncIterator[World]:
    """The API with these points rules instead."""
    shutil.copytree(RULES, rules)
    for path in (rules / "points").glob("*.yaml"):
        path.unlink()
    for number, document in enumerate(documents):
        (rules / "points" / f"{number}.yaml").write_bytes(document)
    async with running_api(database.app, database.redis, data_dir, rules_dir=rules) as api:
        yield await make_world(api, database)


async def test_what_a_reversal_returns_can_be_drawn_again(fresh_world: World) -> None:
    stage, poster = await fresh_world.people(["citizen"] * 2), fresh_world.api.platform.poster
    await poster.post([stage.command(0, bonus(0, 0), []), stage.command(1, bonus(1, 0), [])])
    assert await budget(fresh_world.database) == (1000, 1000 - 2 * 68)
    order = undo(stage, 0, 0)
    assert await poster.post([order, order]) != []
    assert await budget(fresh_world.database) == (1000, 1000 - 68)  # once
    acts = [bonus(1, 0), corrected(bonus(1, 1), 1)]
    await poster.post([stage.command(2, acts[1], acts)])  # taken back and drawn again in one batch
    assert await budget(fresh_world.database) == (1000, 1000 - 68)
    assert await findings(fresh_world.database) == []


async def test_a_credit_and_its_reversal_in_one_batch_leave_the_budget_whole(fresh_world: World) -> None:
    stage, poster = await fresh_world.people(["citizen"]), fresh_world.api.platform.poster
    command = stage.command(0, bonus(0, 0), [])
    await poster.post([command, undo(stage, 0, 0)])
    assert await budget(fresh_world.database) == (1000, 1000)


async def test_points_that_became_debt_are_returned_too(fresh_world: World, fresh_database: Database) -> None:
    stage, poster = await fresh_world.people(["citizen"]), fresh_world.api.platform.poster
    await poster.post([stage.command(0, bonus(0, 0), [])])
    order = undo(stage, 0, 0)
    connection_statements = (
        "UPDATE ledger.bucket SET available = available - 100",
        "UPDATE ledger.account SET points_available = points_available - 100 WHERE points_available > 0",
    )  # as if they had been spent
    for statement in connection_statements:
        await fetch(fresh_database, statement)
    await poster.post([order])
    assert await budget(fresh_world.database) == (1000, 1000)
    (debt,) = await fetch(fresh_database, "SELECT sum(points_debt)::int8 AS n FROM ledger.account")
    assert debt["n"] == 100


async def test_sixteen_draw_and_return_at_once(fresh_world: World) -> None:
    """The journal and the slots agree after every wave, nothing deadlocks, and nobody draws what is not there."""
    stage = await fresh_world.people(["citizen"] * 16)
    async with crowd(fresh_world, 16) as posters:
        for wave in range(4):
            mine = [stage.command(100 * wave + who, bonus(who, wave), []) for who in range(16)]
            back = [undo(stage, 100 * (wave - 1) + who, who) for who in range(16)] if wave else []
            batches = [[command, *back[who : who + 1]] for who, command in enumerate(mine)]
            outcomes = [one for told in await post_at_once(posters, batches) for one in told]
            assert Counter(map(type, outcomes)) == {Credited: 16} | ({Reversed: 16} if wave else {})
            whole, left = await budget(fresh_world.database)
            assert whole == 1000
            assert left >= 0
    last = [undo(stage, 300 + who, who) for who in range(16)]
    await fresh_world.api.platform.poster.post(last)
    assert await budget(fresh_world.database) == (1000, 1000)
    assert await findings(fresh_world.database) == []


async def test_a_new_version_draws_on_what_is_left_and_a_raise_is_added_once(
    fresh_database: Database, tmp_path: Path
) -> None:
    async with world_of(fresh_database, tmp_path / "a", tmp_path, version(1, 1000)) as first:
        stage = await first.people(["citizen"])
        await first.api.platform.poster.post([stage.command(0, bonus(0, 0), [])])
        assert await budget(fresh_database) == (1000, 932)
        for number, name in ((2, "b"), (2, "c")):  # the second process finds it raised
            documents = version(1, 1000), version(number, 1600)
            async with world_of(fresh_database, tmp_path / name, tmp_path, *documents) as later:
                people = await later.people(["citizen"])
                await later.api.platform.poster.post([people.command(0, bonus(0, 0), [])])
        assert await budget(fresh_database) == (1600, 1600 - 3 * 68)
        await first.api.platform.poster.post([stage.command(1, bonus(0, 1), [])])  # an older process goes on
        await first.api.platform.poster.post([undo(stage, 0, 0)])
        assert await budget(fresh_database) == (1600, 1600 - 3 * 68)
    assert await findings(fresh_database) == []


async def test_a_smaller_budget_than_was_registered_is_refused_at_the_start(
    fresh_database: Database, tmp_path: Path
) -> None:
    async with world_of(fresh_database, tmp_path / "a", tmp_path, version(2, 1000)):
        pass
    with pytest.raises(RulesInvalid, match="falls from 1000 to 999 points"):
        async with world_of(fresh_database, tmp_path / "b", tmp_path, version(3, 999)):
            pass
    rows = await fetch(fresh_database, "SELECT version FROM service.rule_document WHERE name = 'counting-points'")
    assert [row["version"] for row in rows] == [2]


def test_a_later_version_keeps_or_raises_a_budget() -> None:
    kept = [parse_points_rule(version(number, points)) for number, points in ((1, 10), (2, 10), (3, 11))]
    assert len(points_catalogue_of(kept).all()) == 3
    with pytest.raises(PointsRuleInvalid, match=r"counting-points version 4.*from 11 to 10 points"):
        points_catalogue_of([*kept, parse_points_rule(version(4, 10))])


@given(st.integers(0, 10**15), st.integers(0, 10**6))
def test_shares_add_up_and_only_grow(before: int, more: int) -> None:
    small, large = shares(before), shares(before + more)
    assert (len(small), sum(small), sum(large)) == (SLOTS, before, before + more)
    assert all(one <= other for one, other in zip(small, large, strict=True))

"""Pools for everybody, and what is owed for operators."""

from datetime import timedelta

import pytest

from tests.conftest import Database
from tests.running import Api, problem_of
from tests.service.redemption.redemption_world import FUNDER, open_market

pytestmark = pytest.mark.anyio


async def test_everybody_sees_what_is_left_of_a_pool(fresh_api: Api, fresh_database: Database) -> None:
    market = await open_market(fresh_api, fresh_database)
    code = await market.pool(points=1_000, fen=20_000, points_per_day=500)
    person, offer = await market.person(), await market.offer(code)
    await market.done(market.place(person, offer, 4))
    shown = (await fresh_api.client.get(f"/v1/pools/{code}")).json()
    assert (shown["budget"], shown["left"]) == ({"points": 1_000, "fen": 20_000}, {"points": 960, "fen": 19_600})
    assert (shown["funder"], shown["state"], shown["shortage"]) == (FUNDER, "open", "stop")
    assert (shown["rate"], shown["points_per_day"]) == ({"points": 1, "fen": 10}, 500)
    assert (await fresh_api.client.get("/v1/pools")).json()["pools"] == [shown]
    problem_of(await fresh_api.client.get("/v1/pools/none"), "pool-not-found")


async def test_an_operator_sees_what_is_owed_and_how_long_a_pool_lasts(
    fresh_api: Api, fresh_database: Database
) -> None:
    market = await open_market(fresh_api, fresh_database)
    code = await market.pool(points=1_000, fen=20_000)
    person, offer = await market.person(rides=2), await market.offer(code)
    held = await market.done(market.place(person, offer, 5))
    await market.done(market.capture(held, 2))
    for role in ("auditor", "participant", "bank"):
        headers = fresh_api.bearer(role, person.participant_id, bank="urn:bank" if role == "bank" else None)
        problem_of(await fresh_api.client.get("/v1/liability", headers=headers), "forbidden")
    answer = await fresh_api.client.get("/v1/liability", headers=fresh_api.bearer("operator"))
    assert answer.status_code == 200, answer.text
    owed = answer.json()
    assert (owed["available"], owed["held"], owed["pending"], owed["held_ended"]) == (90, 30, 0, 0)
    assert [bucket["points"] for bucket in owed["by_expiry"]] == [90]
    (pool,) = owed["pools"]
    assert (pool["held"], pool["paid"], pool["burnt"]) == (
        {"points": 30, "fen": 300},
        {"points": 20, "fen": 200},
        {"points": 20, "fen": 200},
    )
    for funder, seen in ((FUNDER, owed["pools"]), ("urn:tests:another", [])):  # sums of one's own pools alone
        token = fresh_api.issuer.issue("funder", "them", funder=funder)
        mine = await fresh_api.client.get("/v1/funder/pools", headers={"Authorization": f"Bearer {token}"})
        assert mine.json() == {"pools": seen}
    today = fresh_api.platform.today()
    assert (pool["burn_days"], pool["empty_on"]) == (1, str(today + timedelta(days=48)))  # 950 points, 20 a day

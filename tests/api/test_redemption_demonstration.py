"""The rehearsal over HTTP: what is opened once stays, people redeem once, and what fails is said."""

import asyncio
import socket
from pathlib import Path

import pytest

from api.auth import DevelopmentIssuer
from api.redemption_demonstration import (
    BANK,
    POOL,
    Rehearsal,
    RehearsalFailed,
    open_market,
    present,
    rehearsal,
    sandbox_people,
)
from tests.running import Api, served


@pytest.mark.anyio
async def test_people_redeem_once_at_a_market_that_is_opened_once(fresh_api: Api, tmp_path: Path) -> None:
    async with served(fresh_api) as url:
        stage = rehearsal(url, tmp_path, fresh_api.issuer)
        first = await asyncio.to_thread(open_market, stage)
        people = await asyncio.to_thread(lambda: [*sandbox_people(stage, 3)])
        assert await asyncio.to_thread(present, stage, people, 3) == 3
        shown = stage.entitlements_file.read_text("ascii").split()
        assert len(shown) == 3
        again = await asyncio.to_thread(open_market, stage)
        assert again.key_id == first.key_id
        assert await asyncio.to_thread(present, stage, people, 2) == 2  # the same redemptions, shown again
        assert len(stage.entitlements_file.read_text("ascii").split()) == 2
        stage.client.close()
    bank = (await fresh_api.client.get("/v1/banks", headers=fresh_api.bearer("operator"))).json()["banks"][0]
    assert (bank["uri"], len(bank["keys"])) == (BANK, 1)
    offers = (await fresh_api.client.get("/v1/offers")).json()["offers"]
    assert {(offer["pool"], offer["state"]) for offer in offers} == {(POOL, "listed")}
    for person in people:
        read = await fresh_api.read(person, "redemptions")
        assert [one["state"] for one in read.json()["redemptions"]] == ["held"]
    assert oct(stage.key_file.stat().st_mode & 0o777) == oct(stage.entitlements_file.stat().st_mode & 0o777) == "0o600"


@pytest.mark.anyio
async def test_whoever_has_too_few_points_is_passed_over(fresh_api: Api, tmp_path: Path) -> None:
    async with served(fresh_api) as url:
        stage = rehearsal(url, tmp_path, fresh_api.issuer)
        await asyncio.to_thread(open_market, stage)
        people = [(await fresh_api.person()).participant_id for _ in range(2)]
        assert await asyncio.to_thread(present, stage, people, 2) == 0
        stage.client.close()


def test_a_platform_that_does_not_answer_is_said(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    stage: Rehearsal = rehearsal(f"http://127.0.0.1:{port}", tmp_path, DevelopmentIssuer(tmp_path))
    with stage.client, pytest.raises(RehearsalFailed, match="/v1/pools"):
        open_market(stage)

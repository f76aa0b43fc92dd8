"""The state table of docs/redemption.md, as it is written: every row is built, every step tried, on a real platform and
over its public calls."""

import os
import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from service.products.model import Offer
from service.redemption.sweeping import sweep_dead
from tests.api.bankers import Banker, open_bank
from tests.conftest import Database
from tests.running import Api, running_api
from tests.service.redemption.redemption_world import BANK, Market, open_market

pytestmark = pytest.mark.anyio

DOCUMENT = Path(__file__).parents[3] / "docs" / "redemption.md"
UNITS = 5
LATER_S = "7200"  # a hold of the test's offers lives for an hour
NOBODY = "01a20574-91ce-77a3-8e85-13dcb2ca39ab"  # no capture of anybody's
FINAL = {"units": 2, "final": True}

# How each row comes about: the steps from a hold that was just placed. What needs the time to be over comes last.
WAYS: dict[str, tuple[str, ...]] = {
    "held": (),
    "accepted": ("accept",),
    "partly captured": ("accept", "capture 2"),
    "captured": ("accept", "capture"),
    "refunded": ("accept", "capture", "refund"),
    "voided": ("accept", "void"),
    "cancelled": ("cancel",),
    "over": ("accept",),
    "lapsed": ("time over",),
}
LATE_ROWS = ("over", "lapsed")


def table() -> tuple[list[str], dict[str, dict[str, str]]]:
    """The steps, and by row and step what the document says."""
    text = DOCUMENT.read_text("utf-8").partition("<!-- begin state table -->")[2].partition("<!-- end")[0]
    lines = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in text.strip().splitlines()]
    steps = lines[0][1:]
    rows = {}
    for name, *cells in lines[2:]:
        label = re.fullmatch(r"\*\*(.+)\*\* [\u4e00-\u9fff]+", name)
        assert label, name
        rows[label[1]] = dict(zip(steps, cells, strict=True))
    return steps, rows


STEPS, ROWS = table()


@dataclass
class Subject:
    """One redemption, and who asks about it."""

    banker: Banker
    participant_id: str
    redemption_id: str
    entitlement: str
    captures: list[str]

    def at(self, api: Api) -> "Subject":
        """The same at another moment."""
        return replace(self, banker=replace(self.banker, api=api))

    async def take(self, step: str) -> str:
        """Take a step; what the redemption is then, or the slug of the refusal in back quotes."""
        api, path = self.banker.api, f"/v1/bank/redemptions/{self.redemption_id}"
        if step == "time over":
            platform = api.platform
            while await sweep_dead(platform.pool, platform.poster, platform.fresh, platform.settings.clock_offset):
                pass
        else:
            answer = await self._ask(step, path)
            if answer.status_code != 200:
                return f"`{answer.json()['type'].rpartition(':')[2]}`"
            body = answer.json()
            if "step" in body and body["step"]["kind"] == "capture":
                self.captures.append(body["step"]["transfer_id"])
        return await self.label()

    async def _ask(self, step: str, path: str) -> httpx.Response:
        key, call = os.urandom(16).hex(), self.banker.call
        if step == "accept":
            return await call(f"{path}/accept", {"entitlement": self.entitlement})
        if step.startswith("capture"):
            wanted: dict[str, Any] = {"capture": {}, "capture 2": {"units": 2}, "capture 2, final": FINAL}[step]
            return await call(f"{path}/capture", wanted, idempotency_key=key)
        if step == "void":
            return await call(f"{path}/void", {}, idempotency_key=key)
        if step == "refund":
            capture = self.captures[-1] if self.captures else NOBODY
            return await call(f"{path}/captures/{capture}/refund", {"reason": "cancelled"}, idempotency_key=key)
        if step == "fulfilment":
            return await call(f"{path}/fulfilment", {"reference": "loan-1", "on": "2026-05-01"})
        assert step == "cancel", f"the document has a step {step} that this test does not know"
        headers = self._participant() | {"Idempotency-Key": f'"{key}"'}
        theirs = f"/v1/participants/{self.participant_id}/redemptions/{self.redemption_id}/cancel"
        return await self.banker.api.client.post(theirs, headers=headers)

    def _participant(self) -> dict[str, str]:
        return self.banker.api.bearer("participant", self.participant_id)

    async def label(self) -> str:
        """What the redemption is, in the document's words."""
        read = await self.banker.api.read(self.participant_id, f"redemptions/{self.redemption_id}")
        told = read.json()
        if told["state"] != "held":
            return str(told["state"])
        assert told["units_held"] == UNITS - told["units_captured"]
        if told["units_captured"]:
            return "partly captured"
        return "accepted" if told["accepted_at"] else "held"


@dataclass
class Place:
    """Where redemptions are begun."""

    market: Market
    banker: Banker
    offer: Offer
    database: Database
    data_dir: Path

    async def hold(self) -> Subject:
        """A redemption that was just placed, and its entitlement."""
        api, person = self.market.api, await self.market.person()
        mine, path = api.bearer("participant", person.participant_id), f"/v1/participants/{person.participant_id}"
        consent = {"text_version": self.offer.text_version, "given_at": datetime.now(UTC).isoformat()}
        points = UNITS * self.offer.points_per_unit
        body = {"offer": self.offer.id, "version": 1, "units": UNITS, "points": points, "consent": consent}
        held = await api.client.post(f"{path}/redemptions", headers=mine | {"Idempotency-Key": "once"}, json=body)
        assert held.status_code == 201, held.text
        name = held.json()["redemption"]["redemption_id"]
        issued = await api.client.post(f"{path}/redemptions/{name}/entitlement", headers=mine)
        return Subject(self.banker, person.participant_id, name, issued.json()["entitlement"], [])


@pytest.fixture
async def place(api: Api, database: Database, tmp_path: Path) -> Place:
    market = await open_market(api, database)
    offer = await market.offer(await market.pool())
    async with api.platform.pool.acquire() as connection:
        await api.platform.offers.refresh(connection)
    return Place(market, await open_bank(api, BANK), offer, database, tmp_path)


@pytest.mark.parametrize("row", ROWS)
async def test_every_cell_is_what_happens(place: Place, row: str) -> None:
    subjects = {step: await place.hold() for step in STEPS}
    for subject in subjects.values():
        for step in WAYS[row]:
            if step != "time over":
                assert not (await subject.take(step)).startswith("`"), step
    came = {}
    if row not in LATE_ROWS:
        for step, subject in subjects.items():
            assert await subject.label() == row
            if step != "time over":
                came[step] = await subject.take(step)
    settings = place.market.api.platform.settings
    same = {"jwks": str(place.market.api.issuer.jwks_path), "entitlement_key_file": settings.entitlement_key_file}
    database = place.database
    async with running_api(database.app, database.redis, place.data_dir, clock_offset=LATER_S, **same) as later:
        late = {
            step: subject.at(Api(later.client, place.market.api.issuer, later.platform))
            for step, subject in subjects.items()
        }
        if row == "lapsed":
            assert await late["time over"].take("time over") == row
        for step in STEPS if row in LATE_ROWS else ["time over"]:
            came[step] = await late[step].take(step)
    assert came == ROWS[row]
    assert await place.market.findings() == []


def test_the_document_knows_every_state_and_no_other() -> None:
    assert ROWS.keys() == WAYS.keys()
    afterwards = {cell for row in ROWS.values() for cell in row.values() if not cell.startswith("`")}
    assert afterwards <= ROWS.keys()
    assert ROWS.keys() - afterwards == {"held", "over"}  # nothing leads back to the beginning


def test_every_call_of_the_document_is_one_of_the_platform(api: Api) -> None:
    transport = api.client._transport
    assert isinstance(transport, httpx.ASGITransport)
    assert isinstance(transport.app, FastAPI)
    paths = transport.app.openapi()["paths"]
    known = {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods}
    named = re.findall(r"`((?:GET|POST|PUT) /v1/[^`]+)`", DOCUMENT.read_text("utf-8"))
    assert named
    assert set(named) <= known

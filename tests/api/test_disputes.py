"""Disputes over HTTP: the participant opens, the bank answers signed, the operator decides, and all see the same."""

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from api.signatures import public_jwk
from ledger.hold_leaves import decision_commitment
from ledger.leaf_reading import read_leaf
from service.clock import shanghai_day
from service.settlement.decisions import keep_decision
from service.settlement.disputes import Which
from service.vault import open_decision, read_key
from tests.api.bankers import Banker, new_key, open_bank, put_key
from tests.conftest import Database
from tests.running import Api, pooled, problem_of
from tests.service.redemption.redemption_world import BANK, open_market
from tests.service.settlement.books import Books, Redeemed

pytestmark = pytest.mark.anyio

YESTERDAY = shanghai_day(datetime.now(UTC)) - timedelta(days=1)
WANTED: dict[str, Any] = {"reason": "benefit_missing", "words": "优惠没有到账\nIt never came."}


class Quarrel:
    """A redemption whose points were spent, and the three who speak about it."""

    def __init__(self, api: Api, books: Books, banker: Banker, found: Redeemed) -> None:
        self.api, self.books, self.banker, self.found = api, books, banker, found
        self.path = f"/v1/participants/{found.participant_id}/redemptions/{found.redemption_id}/disputes"
        self.own = api.bearer("participant", str(found.participant_id))

    async def open(self, **changes: Any) -> httpx.Response:
        return await self.api.client.post(self.path, headers=self.own, json=WANTED | changes)

    async def answer(self, dispute_id: str, **changes: Any) -> httpx.Response:
        path = f"/v1/bank/redemptions/{self.found.redemption_id}/disputes/{dispute_id}/answer"
        return await self.banker.call(path, {"position": "rejects", "words": "it was paid"} | changes)

    async def decide(self, dispute_id: str, outcome: str = "bank") -> httpx.Response:
        body = {"outcome": outcome, "words": "the bank has shown its entry"}
        path = f"{self.path}/{dispute_id}/decision"
        return await self.api.client.post(path, headers=self.api.bearer("operator"), json=body)

    async def read(self, headers: dict[str, str] | None = None) -> list[dict[str, Any]]:
        answer = await self.api.client.get(self.path, headers=headers or self.own)
        assert answer.status_code == 200, answer.text
        found: list[dict[str, Any]] = answer.json()["disputes"]
        return found


@pytest.fixture
async def quarrel(database: Database, api: Api) -> AsyncIterator[Quarrel]:
    """A captured redemption of yesterday with a bank of its own."""
    banker = await open_bank(api)
    async with pooled(database.app) as app, pooled(database.sequencer) as sequencer:
        async with app.acquire() as connection:
            bank_id = await connection.fetchval("SELECT bank_id FROM service.bank WHERE uri = $1", banker.uri)
        books = Books(app, sequencer, banker.uri, bank_id, api.platform.fresh)
        yield Quarrel(api, books, banker, await books.redeem(YESTERDAY, queued=False))


async def test_all_three_see_the_same_steps(quarrel: Quarrel) -> None:
    opened = await quarrel.open()
    assert opened.status_code == 201, opened.text
    dispute_id = opened.json()["dispute_id"]
    assert (opened.json()["state"], opened.json()["waits_for"], opened.json()["late"]) == ("opened", "bank", False)
    answered = await quarrel.answer(dispute_id)
    assert answered.status_code == 200, answered.text
    decided = await quarrel.decide(dispute_id)
    assert decided.status_code == 200, decided.text
    assert (decided.json()["state"], decided.json()["due_on"]) == ("resolved_for_bank", None)
    assert [(each["party"], each["words"]) for each in decided.json()["steps"]] == [
        ("participant", WANTED["words"]),
        ("bank", "it was paid"),
        ("operator", "the bank has shown its entry"),
    ]
    at_bank = await quarrel.banker.get(f"/v1/bank/redemptions/{quarrel.found.redemption_id}/disputes/{dispute_id}")
    assert await quarrel.read() == await quarrel.read(quarrel.api.bearer("operator")) == [at_bank.json()]
    assert str(quarrel.found.participant_id) not in at_bank.text


async def test_nobody_speaks_for_somebody_else(quarrel: Quarrel) -> None:
    client, operator = quarrel.api.client, quarrel.api.bearer("operator")
    stranger = quarrel.api.bearer("participant", str(uuid4()))
    for headers in (stranger, operator, quarrel.banker.bearer):
        problem_of(await client.post(quarrel.path, headers=headers, json=WANTED), "forbidden")
    problem_of(await client.get(quarrel.path, headers=stranger), "forbidden")
    dispute_id = (await quarrel.open()).json()["dispute_id"]
    decision = f"{quarrel.path}/{dispute_id}/decision"
    body = {"outcome": "participant", "words": "for me"}
    problem_of(await client.post(decision, headers=quarrel.own, json=body), "forbidden")
    other = await open_bank(quarrel.api)
    path = f"/v1/bank/redemptions/{quarrel.found.redemption_id}/disputes/{dispute_id}"
    problem_of(await other.call(f"{path}/answer", {"position": "accepts", "words": "yes"}), "dispute-not-found")
    problem_of(await other.get(path), "dispute-not-found")
    answer = await client.post(
        f"{path}/answer", headers=quarrel.banker.bearer, json={"position": "accepts", "words": "yes"}
    )
    problem_of(answer, "call-signature-refused")


async def test_the_bank_is_heard_before_anything_is_decided(quarrel: Quarrel) -> None:
    dispute_id = (await quarrel.open()).json()["dispute_id"]
    for outcome in ("bank", "participant"):
        problem = problem_of(await quarrel.decide(dispute_id, outcome), "dispute-step-refused")
        assert (problem["state"], problem["step"]) == ("opened", f"resolve_for_{outcome}")
    problem_of(await quarrel.decide(str(uuid4())), "dispute-not-found")


async def test_a_dispute_is_withdrawn_and_opened_again(quarrel: Quarrel) -> None:
    first = (await quarrel.open()).json()["dispute_id"]
    assert problem_of(await quarrel.open(), "dispute-exists")["dispute_id"] == first
    answer = await quarrel.api.client.post(f"{quarrel.path}/{first}/withdrawal", headers=quarrel.own, json={})
    assert answer.json()["state"] == "withdrawn"
    problem_of(await quarrel.answer(first), "dispute-step-refused")
    second = await quarrel.open(words=None, reason="benefit_smaller")
    assert second.status_code == 201
    assert second.json()["steps"][0]["words"] is None
    assert [each["state"] for each in await quarrel.read()] == ["withdrawn", "opened"]


@pytest.mark.parametrize(
    "change", [{"reason": "unhappy"}, {"words": ""}, {"words": "x" * 2001}, {"words": "\x00"}, {"more": 1}], ids=str
)
async def test_a_dispute_must_be_whole(quarrel: Quarrel, change: dict[str, Any]) -> None:
    problem_of(await quarrel.open(**change), "malformed-request")
    assert await quarrel.read() == []


async def test_only_what_was_spent_is_disputed(quarrel: Quarrel) -> None:
    held = Quarrel(
        quarrel.api, quarrel.books, quarrel.banker, await quarrel.books.redeem(YESTERDAY, captured=False, queued=False)
    )
    problem_of(await held.open(), "nothing-to-dispute")
    missing = f"/v1/participants/{quarrel.found.participant_id}/redemptions/{uuid4()}/disputes"
    problem_of(await quarrel.api.client.post(missing, headers=quarrel.own, json=WANTED), "dispute-not-found")


async def test_a_bank_lists_its_disputes_page_by_page(quarrel: Quarrel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.v1.disputes.LISTED", 2)
    made = []
    for _ in range(3):
        found = await quarrel.books.redeem(YESTERDAY, queued=False)
        each = Quarrel(quarrel.api, quarrel.books, quarrel.banker, found)
        made.append((await each.open()).json()["dispute_id"])
    await each.answer(made[-1])
    await each.decide(made[-1])
    first = (await quarrel.banker.get("/v1/disputes")).json()
    assert [dispute["dispute_id"] for dispute in first["disputes"]] == made[:2]
    rest = (await quarrel.banker.get(f"/v1/disputes?after={first['next']}")).json()
    assert [dispute["dispute_id"] for dispute in rest["disputes"]] == made[2:]
    assert rest["next"] is None
    still = (await quarrel.banker.get("/v1/disputes?open=true")).json()
    assert [dispute["dispute_id"] for dispute in still["disputes"]] == made[:2]
    problem_of(await quarrel.banker.get(f"/v1/disputes?open=true&after={first['next']}"), "invalid-cursor")
    problem_of(await quarrel.api.client.get("/v1/disputes", headers=quarrel.own), "forbidden")
    seen = await quarrel.api.client.get("/v1/disputes", headers=quarrel.api.bearer("operator"))
    assert seen.status_code == 200


async def test_a_decision_that_was_broken_off_can_only_be_gone_on_with(quarrel: Quarrel) -> None:
    platform = quarrel.api.platform
    dispute_id = (await quarrel.open()).json()["dispute_id"]
    await quarrel.answer(dispute_id, position="accepts")
    which = Which(quarrel.found.participant_id, quarrel.found.redemption_id, UUID(dispute_id))
    async with platform.pool.acquire() as connection, connection.transaction(isolation="read_committed"):
        kept = await keep_decision(connection, platform.vault, which, [quarrel.found.capture_id], platform.fresh)
        assert await keep_decision(connection, platform.vault, which, [], platform.fresh) == kept
    problem_of(await quarrel.decide(dispute_id, "bank"), "dispute-step-refused")
    assert (await quarrel.read())[0]["state"] == "answered"


async def test_a_decision_for_the_participant_gives_the_points_back(fresh_api: Api, fresh_database: Database) -> None:
    market = await open_market(fresh_api, fresh_database)
    key = new_key()
    assert (await put_key(fresh_api, BANK, public_jwk(key))).status_code == 200
    fresh_api.platform.banks.clear()  # what this process remembers of the bank has no key yet
    person, offer = await market.person(), await market.offer(await market.pool())
    held = await market.done(market.place(person, offer, 5))
    first = await market.done(market.capture(held, 2))
    await market.done(market.capture(held, 2))
    back = await market.done(market.capture(held, 1))
    await market.done(market.refund(back))
    state = first.redemption
    found = Redeemed(state.participant_id, state.redemption_id, first.step.transfer_id, 5)
    async with pooled(fresh_database.app) as app, pooled(fresh_database.sequencer) as sequencer:
        books = Books(app, sequencer, BANK, market.bank_id, fresh_api.platform.fresh)
        quarrel = Quarrel(fresh_api, books, Banker(fresh_api, BANK, key), found)
        dispute_id = (await quarrel.open()).json()["dispute_id"]
        assert (await quarrel.answer(dispute_id, position="accepts")).status_code == 200
        assert (await fresh_api.balance(person.participant_id))["points"]["available"] == 30
        decided = await quarrel.decide(dispute_id, "participant")
        assert decided.status_code == 200, decided.text
        assert decided.json()["state"] == "resolved_for_participant"
        problem_of(await quarrel.decide(dispute_id, "participant"), "dispute-step-refused")
    assert (await fresh_api.balance(person.participant_id))["points"]["available"] == 70
    async with fresh_api.platform.pool.acquire() as connection:
        reasons = await connection.fetch(
            "SELECT reason FROM service.redemption_entry WHERE kind = 'refund' ORDER BY recorded_at"
        )
        leaves = [read_leaf(row["leaf"]) for row in await connection.fetch("SELECT leaf FROM ledger.leaf_queue")]
        (record,) = await connection.fetch("SELECT dispute_id, commitment, sealed FROM service.dispute_decision")
        sealing = await read_key(connection, fresh_api.platform.vault, found.participant_id)
    assert [row["reason"] for row in reasons] == ["cancelled", "not_fulfilled", "not_fulfilled"]
    refunds = {leaf["reverses"]: leaf["decision"] for leaf in leaves if leaf["kind"] == "refund"}
    assert sealing is not None
    opened = open_decision(sealing, record["dispute_id"], record["sealed"])
    assert decision_commitment(opened.salt, opened.document) == record["commitment"].hex()
    said = json.loads(opened.document)
    assert (said["outcome"], said["redemption"], said["reason"]) == (
        "participant",
        str(found.redemption_id),
        "benefit_missing",
    )
    assert {capture for capture, decision in refunds.items() if decision == record["commitment"].hex()} == {
        *said["captures"]
    }
    assert refunds[str(back.step.transfer_id)] is None, "what the bank refunded itself nobody decided"
    assert await market.findings() == []

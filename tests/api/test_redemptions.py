"""Redeeming over HTTP: the participant's routes, the bank's signed ones, and the operator's pools."""

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest

from service.products.model import Offer
from tests.api.bankers import Banker, open_bank
from tests.conftest import Database, clone
from tests.running import Api, Person, problem_of
from tests.service.redemption.redemption_world import BANK, Market, open_market

pytestmark = pytest.mark.anyio

UNKNOWN = "0192f0c1-0000-7000-8000-000000000000"


def new_key() -> str:
    return os.urandom(9).hex()


@dataclass(frozen=True, slots=True)
class Shop:
    """A bank that signs, an offer of ten points and a yuan a unit, and how a participant asks for it."""

    market: Market
    bank: Banker

    @property
    def api(self) -> Api:
        return self.market.api

    async def offer(self, pool: str | None = None, **changes: Any) -> Offer:
        made = await self.market.offer(pool or await self.market.pool(), **changes)
        async with self.api.platform.pool.acquire() as tx:
            await self.api.platform.offers.refresh(tx)
        return made

    async def post(self, person: Person, rest: str, content: Any = None, key: str | None = None) -> httpx.Response:
        """A participant's own call, in English."""
        path = f"/v1/participants/{person.participant_id}/{rest}"
        headers = self.api.bearer("participant", person.participant_id) | {"Accept-Language": "en"}
        if key:
            headers["Idempotency-Key"] = f'"{key}"'
        return await self.api.client.post(path, headers=headers, json=content)

    async def quote(self, person: Person, offer: Offer, units: int) -> dict[str, Any]:
        answer = await self.post(person, "quotes", {"offer": offer.id, "units": units})
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    async def redeem(
        self, person: Person, offer: Offer, units: int, /, *, key: str | None = None, **changes: Any
    ) -> Any:
        return await self.post(person, "redemptions", wanted(offer, units, **changes), key or new_key())

    async def held(self, person: Person, offer: Offer, units: int, *, accepted: bool = True) -> str:
        """A redemption that is held; its id."""
        answer = await self.redeem(person, offer, units)
        assert answer.status_code == 201, answer.text
        redemption_id = str(answer.json()["redemption"]["redemption_id"])
        if accepted:
            entitlement = await self.post(person, f"redemptions/{redemption_id}/entitlement")
            answer = await self.step(redemption_id, "accept", {"entitlement": entitlement.json()["entitlement"]})
            assert answer.status_code == 200, answer.text
        return redemption_id

    async def step(
        self, redemption_id: str, step: str, content: Any, key: str | None = None, bank: Banker | None = None
    ) -> httpx.Response:
        """The bank's signed call about a redemption."""
        path = f"/v1/bank/redemptions/{redemption_id}/{step}"
        return await (bank or self.bank).call(path, content, idempotency_key=key or new_key())


def wanted(offer: Offer, units: Any, /, **changes: Any) -> dict[str, Any]:
    consent = {"text_version": offer.text_version, "given_at": datetime.now(UTC).isoformat()}
    points = units * offer.points_per_unit if isinstance(units, int) else 1
    return {"offer": offer.id, "version": 1, "units": units, "points": points, "consent": consent} | changes


@pytest.fixture(scope="module")
def database(template: Database) -> Database:
    """These tests' own: nothing in it may be wrong afterwards."""
    return clone(template, f"redemptions_{os.urandom(6).hex()}")


@pytest.fixture(scope="module")
async def shop(api: Api, database: Database) -> AsyncIterator[Shop]:
    market = await open_market(api, database)
    yield Shop(market, await open_bank(api, BANK))
    assert await market.findings() == []


async def test_a_redemption_from_its_quote_to_its_refund(shop: Shop) -> None:
    offer, person = await shop.offer(), await shop.market.person()
    quote = await shop.quote(person, offer, 5)
    assert (quote["points"], quote["value_fen"], quote["eligible"], quote["why_not"]) == (50, 500, True, [])
    answer = await shop.redeem(person, offer, 5, points=quote["points"])
    assert answer.status_code == 201, answer.text
    done = answer.json()
    redemption_id = done["redemption"]["redemption_id"]
    assert (done["step"]["kind"], done["step"]["points"], done["repeated"]) == ("hold", 50, False)
    assert (done["redemption"]["state"], done["redemption"]["accepted_at"]) == ("held", None)
    entitlement = (await shop.post(person, f"redemptions/{redemption_id}/entitlement")).json()["entitlement"]
    for _ in range(2):
        accepted = await shop.step(redemption_id, "accept", {"entitlement": entitlement})
        assert accepted.status_code == 200, accepted.text
        assert accepted.json()["accepted_at"]
    part = (await shop.step(redemption_id, "capture", {"units": 2})).json()
    assert (part["step"]["points"], part["redemption"]["units_held"], part["rest"]) == (20, 3, None)
    last = (await shop.step(redemption_id, "capture", {"units": 1, "final": True})).json()
    assert (last["step"]["units"], last["rest"]["units"], last["redemption"]["state"]) == (1, 2, "captured")
    told = await shop.step(redemption_id, "fulfilment", {"reference": "LOAN-1", "on": "2026-05-01"})
    assert [one["reference"] for one in told.json()["fulfilments"]] == ["LOAN-1"]
    for captured, units in ((part, 2), (last, 1)):
        path = f"captures/{captured['step']['transfer_id']}/refund"
        back = (await shop.step(redemption_id, path, {"reason": "cancelled"})).json()
        assert (back["step"]["kind"], back["step"]["units"], back["step"]["lapsed_points"]) == ("refund", units, 0)
    assert back["redemption"]["state"] == "refunded"
    seen = (await shop.api.read(person.participant_id, f"redemptions/{redemption_id}")).json()
    kinds = [step["kind"] for step in seen["steps"]]
    assert (kinds[0], sorted(kinds)) == ("hold", ["capture", "capture", "hold", "refund", "refund", "release"])
    banks = (await shop.bank.get(f"/v1/bank/redemptions/{redemption_id}")).json()
    assert {name: banks[name] for name in seen} == seen
    assert person.participant_id not in str(banks), "a bank learns no participant"
    assert (await shop.api.balance(person.participant_id))["points"]["available"] == 70


async def test_a_quote_is_what_the_hold_takes(shop: Shop) -> None:
    offer, person = await shop.offer(grams_mg_per_point=500), await shop.market.person(rides=2)
    for units in (1, 4, 9):
        before = await shop.api.balance(person.participant_id)
        quote = await shop.quote(person, offer, units)
        taken = (await shop.redeem(person, offer, units)).json()["step"]
        after = await shop.api.balance(person.participant_id)
        for name in ("points", "value_fen", "reduction_mg", "units"):
            assert quote[name] == taken[name]
        gone = before["points"]["available"] - after["points"]["available"]
        assert gone == quote["points"] == sum(one["points"] for one in quote["expiring"])
        assert before["reduction"]["credited_mg"] - after["reduction"]["credited_mg"] == quote["reduction_mg"]
        assert quote["expiring"][0]["on"] == before["points"]["expiring"][0]["on"]


async def test_a_quote_says_why_not_as_the_hold_does(shop: Shop) -> None:
    person = await shop.market.person()
    small = await shop.offer(await shop.market.pool(points=20, fen=200))
    for offer, units, slug in (
        (small, 3, "pool-exhausted"),
        (small, 8, "points-not-enough"),
        (await shop.offer(max_units=2), 3, "units-out-of-range"),
        (await shop.offer(per_person_per_year=2), 3, "yearly-cap"),
        (await shop.offer(kinds=["firm"]), 1, "kind"),
        (await shop.offer(grams_mg_per_point=100_000), 1, "grams-not-enough"),
    ):
        quote = await shop.quote(person, offer, units)
        assert not quote["eligible"]
        assert slug in {one["code"] for one in quote["why_not"]}, quote["why_not"]
        refused = await shop.redeem(person, offer, units)
        assert slug in refused.text.replace("not-eligible", slug if "reason" in refused.json() else "")


async def test_a_quote_counts_what_a_dead_hold_gave_back(shop: Shop) -> None:
    offer, person = await shop.offer(), await shop.market.person()
    await shop.held(person, offer, 7)
    assert "points-not-enough" in {one["code"] for one in (await shop.quote(person, offer, 7))["why_not"]}
    async with shop.market.later(hours=1, seconds=5):
        balance = await shop.market.balance(person)
        assert (balance.points_available, balance.points_held) == (70, 0)
        quote = await shop.quote(person, offer, 7)
        assert (quote["eligible"], sum(one["points"] for one in quote["expiring"])) == (True, 70)


@pytest.mark.parametrize(
    "change",
    [
        {"units": 0},
        {"units": -1},
        {"units": True},
        {"units": "1"},
        {"units": 1.0},
        {"units": 1_000_001},
        {"points": 0},
        {"points": 2**63},
        {"version": 0},
        {"offer": "Not A Name"},
        {"offer": "a\x00b"},
        {"consent": None},
        {"consent": {"text_version": "1"}},
        {"consent": {"text_version": "", "given_at": "2026-01-01T00:00:00Z"}},
        {"consent": {"text_version": "1", "given_at": "2026-01-01T00:00:00"}},
        {"surplus": 1},
    ],
)
async def test_what_is_malformed_is_named_and_nothing_is_kept_under_its_key(shop: Shop, change: dict[str, Any]) -> None:
    offer, person = await shop.offer(), await shop.market.person()
    key = new_key()
    problem_of(await shop.redeem(person, offer, 1, key=key, **change), "malformed-request")
    assert (await shop.redeem(person, offer, 1, key=key)).status_code == 201


async def test_what_stands_before_the_decision_is_told_and_may_be_mended(shop: Shop) -> None:
    offer, person = await shop.offer(), await shop.market.person()
    problem_of(await shop.post(person, "redemptions", wanted(offer, 1)), "idempotency-key-missing")
    problem_of(await shop.post(person, "quotes", {"offer": "no-such-offer", "units": 1}), "offer-not-found")
    problem_of(await shop.redeem(person, offer, 1, offer="no-such-offer"), "offer-not-found")
    problem_of(await shop.redeem(person, offer, 1, version=2), "offer-not-found")
    soon = (datetime.now(UTC) + timedelta(minutes=10)).isoformat()
    for consent in (
        {"text_version": "another", "given_at": "2026-01-01T00:00:00Z"},
        {"text_version": offer.text_version, "given_at": soon},
    ):
        problem_of(await shop.redeem(person, offer, 1, consent=consent), "consent-not-valid")
    text = await shop.api.client.post(
        f"/v1/participants/{person.participant_id}/redemptions",
        headers=shop.api.bearer("participant", person.participant_id) | {"Content-Type": "text/plain"},
        content=b"{}",
    )
    problem_of(text, "unsupported-media-type")
    assert (await shop.api.balance(person.participant_id))["points"]["available"] == 70


async def test_what_is_refused_is_refused_again_and_takes_nothing(shop: Shop) -> None:
    offer, person = await shop.offer(max_units=8), await shop.market.person()
    limited = await shop.offer(await shop.market.pool(points_per_person_per_day=10))
    daily = await shop.offer(await shop.market.pool(points_per_day=10))
    short = await shop.offer(await shop.market.pool(points=10, fen=100))
    shut = await shop.offer()
    await set_pool(shop, shut.pool, "suspended")
    for refused, units, change, slug in (
        (offer, 1, {"points": 9}, "price-changed"),
        (offer, 9, {}, "not-eligible"),
        (offer, 8, {}, "points-not-enough"),
        (limited, 2, {}, "pool-person-limit"),
        (daily, 2, {}, "pool-daily-limit"),
        (short, 2, {}, "pool-exhausted"),
        (shut, 1, {}, "pool-not-open"),
    ):
        key = new_key()
        first = problem_of(await shop.redeem(person, refused, units, key=key, **change), slug)
        again = problem_of(await shop.redeem(person, refused, units, key=key, **change), slug)
        assert {**first, "instance": None} == {**again, "instance": None}
    assert (await shop.api.balance(person.participant_id))["points"]["available"] == 70
    assert (await shop.api.read(person.participant_id, "redemptions")).json()["redemptions"] == []


async def test_the_same_call_again_is_answered_as_the_first_time(shop: Shop) -> None:
    offer, person, somebody = await shop.offer(), await shop.market.person(), await shop.market.person()
    key = new_key()
    first = await shop.redeem(person, offer, 2, key=key)
    again = await shop.redeem(person, offer, 2, key=key)
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json() == {**first.json(), "repeated": True}
    problem_of(await shop.redeem(person, offer, 3, key=key), "idempotency-conflict")
    assert (await shop.redeem(somebody, offer, 3, key=key)).status_code == 201  # their own key
    answers = await asyncio.gather(*(shop.redeem(person, offer, 1, key=key + "x") for _ in range(6)))
    assert sorted(answer.status_code for answer in answers) == [200] * 5 + [201]
    redemption_id, cancel_key = first.json()["redemption"]["redemption_id"], new_key()
    for repeated in (False, True):
        cancelled = await shop.post(person, f"redemptions/{redemption_id}/cancel", key=cancel_key)
        assert (cancelled.status_code, cancelled.json()["repeated"]) == (200, repeated)
    problem_of(await shop.post(person, f"redemptions/{redemption_id}/cancel", key=new_key()), "hold-ended")
    problem_of(await shop.post(person, f"redemptions/{redemption_id}/cancel", key=key), "idempotency-conflict")
    problem_of(await shop.post(person, f"redemptions/{redemption_id}/entitlement"), "hold-ended")
    assert (await shop.api.balance(person.participant_id))["points"]["available"] == 60


async def test_a_banks_key_is_for_one_call(shop: Shop) -> None:
    offer, person, somebody = await shop.offer(), await shop.market.person(), await shop.market.person()
    one, other = await shop.held(person, offer, 3), await shop.held(somebody, offer, 3)
    key = new_key()
    first = (await shop.step(one, "capture", {"units": 1, "final": True}, key)).json()
    again = (await shop.step(one, "capture", {"units": 1, "final": True}, key)).json()
    assert again == {**first, "repeated": True}
    for redemption_id, content in ((one, {"units": 2}), (other, {"units": 1, "final": True})):
        problem_of(await shop.step(redemption_id, "capture", content, key), "idempotency-conflict")
    problem_of(await shop.step(one, "void", {}, key), "idempotency-conflict")
    refund, key = f"captures/{first['step']['transfer_id']}/refund", new_key()
    assert (await shop.step(one, refund, {"reason": "cancelled"}, key)).status_code == 200
    assert (await shop.step(one, refund, {"reason": "cancelled"}, key)).json()["repeated"]
    problem_of(await shop.step(other, refund, {"reason": "cancelled"}, key), "idempotency-conflict")
    problem_of(await shop.step(other, refund, {"reason": "cancelled"}), "redemption-not-found")
    problem_of(await shop.step(one, refund, {"reason": "not_fulfilled"}), "already-refunded")
    unkeyed = await shop.bank.call(f"/v1/bank/redemptions/{other}/void", {})
    problem_of(unkeyed, "idempotency-key-missing")


async def test_a_bank_does_only_what_the_hold_lets_it(shop: Shop) -> None:
    offer, person = await shop.offer(), await shop.market.person()
    fresh = await shop.held(person, offer, 2, accepted=False)
    for step in ("capture", "void"):
        problem_of(await shop.step(fresh, step, {}), "not-accepted")
    problem_of(await shop.step(fresh, "fulfilment", {"reference": "R", "on": "2026-05-01"}), "nothing-captured")
    problem_of(await shop.bank.get(f"/v1/bank/redemptions/{fresh}"), "redemption-not-found")
    problem_of(await shop.step(fresh, "accept", {"entitlement": "no.such.token"}), "entitlement-refused")
    held = await shop.held(person, offer, 2)
    others = (await shop.post(person, f"redemptions/{held}/entitlement")).json()["entitlement"]
    problem_of(await shop.step(fresh, "accept", {"entitlement": others}), "entitlement-refused")
    problem_of(await shop.post(person, f"redemptions/{held}/cancel", key=new_key()), "not-cancellable")
    problem_of(await shop.step(held, "capture", {"units": 3}), "units-beyond-hold")
    malformed: tuple[Any, ...] = ({"units": 0}, {"units": True}, {"units": "1"}, {"points": 1}, [])
    for content in malformed:
        problem_of(await shop.step(held, "capture", content), "malformed-request")
    problem_of(await shop.step(held, "void", {"units": 1}), "malformed-request")
    assert (await shop.step(held, "void", {})).json()["redemption"]["state"] == "voided"
    problem_of(await shop.step(held, "capture", {}), "hold-ended")
    assert problem_of(await shop.step(held, "void", {}), "hold-ended")["state"] == "voided"
    fulfilment = {"reference": "x\x00y", "on": "2026-05-01"}
    problem_of(await shop.step(held, "fulfilment", fulfilment), "malformed-request")


async def test_another_bank_and_other_people_find_nothing(shop: Shop) -> None:
    offer, person, somebody = await shop.offer(), await shop.market.person(), await shop.market.person()
    held, stranger = await shop.held(person, offer, 3), await open_bank(shop.api)
    taken = (await shop.step(held, "capture", {"units": 1})).json()["step"]["transfer_id"]
    entitlement = (await shop.post(person, f"redemptions/{held}/entitlement")).json()["entitlement"]
    for step, content in (
        ("accept", {"entitlement": entitlement}),
        ("capture", {}),
        ("void", {}),
        (f"captures/{taken}/refund", {"reason": "cancelled"}),
        ("fulfilment", {"reference": "R", "on": "2026-05-01"}),
    ):
        found = problem_of(await shop.step(held, step, content, bank=stranger), "redemption-not-found")
        unknown = problem_of(await shop.step(UNKNOWN, step, content, bank=stranger), "redemption-not-found")
        assert _same(found, unknown)
    assert (await stranger.get("/v1/bank/redemptions")).json()["redemptions"] == []
    problem_of(await stranger.get(f"/v1/bank/redemptions/{held}"), "redemption-not-found")
    for rest, key in ((f"redemptions/{held}/cancel", new_key()), (f"redemptions/{held}/entitlement", None)):
        found = problem_of(await shop.post(somebody, rest, key=key), "redemption-not-found")
        unknown = problem_of(
            await shop.post(somebody, rest.replace(held, UNKNOWN), key=new_key()), "redemption-not-found"
        )
        assert _same(found, unknown)
    problem_of(await shop.api.read(somebody.participant_id, f"redemptions/{held}"), "redemption-not-found")
    base = f"/v1/participants/{person.participant_id}"
    nobody = f"/v1/participants/{uuid4()}"
    for caller in (shop.api.bearer("participant", somebody.participant_id), shop.bank.bearer):
        for rest in ("redemptions", f"redemptions/{held}"):
            told = [
                problem_of(await shop.api.client.get(f"{at}/{rest}", headers=caller), "forbidden")
                for at in (base, nobody)
            ]
            assert _same(*told)
        keyed = caller | {"Idempotency-Key": new_key()}
        for rest in ("quotes", "redemptions", f"redemptions/{held}/cancel", f"redemptions/{held}/entitlement"):
            answer = await shop.api.client.post(f"{base}/{rest}", headers=keyed, json=wanted(offer, 1))
            problem_of(answer, "forbidden")
    operator = shop.api.bearer("operator") | {"Idempotency-Key": new_key()}
    for rest in ("redemptions", f"redemptions/{held}/cancel", f"redemptions/{held}/entitlement"):
        problem_of(await shop.api.client.post(f"{base}/{rest}", headers=operator, json=wanted(offer, 1)), "forbidden")
    assert (await shop.api.client.get(f"{base}/redemptions/{held}", headers=operator)).status_code == 200
    participant = shop.api.bearer("participant", person.participant_id)
    problem_of(await shop.api.client.get("/v1/bank/redemptions", headers=participant), "forbidden")


def _same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return {**one, "instance": None} == {**other, "instance": None}


async def test_lists_are_read_page_by_page_and_only_ones_own(shop: Shop) -> None:
    offer, person, somebody = await shop.offer(), await shop.market.person(), await shop.market.person()
    made = [await shop.held(person, offer, 1) for _ in range(3)]
    seen: list[str] = []
    after = ""
    while True:
        page = (await shop.api.read(person.participant_id, f"redemptions?limit=2{after}")).json()
        seen += [one["redemption_id"] for one in page["redemptions"]]
        if page["next"] is None:
            break
        after = f"&after={page['next']}"
        problem_of(await shop.api.read(somebody.participant_id, f"redemptions?limit=2{after}"), "invalid-cursor")
        problem_of(await shop.bank.get(f"/v1/bank/redemptions?limit=2{after}"), "invalid-cursor")
    assert seen == made[::-1]
    problem_of(await shop.api.read(person.participant_id, "redemptions?limit=0"), "malformed-request")
    seen, after = [], ""
    while True:
        page = (await shop.bank.get(f"/v1/bank/redemptions?limit=200{after}")).json()
        seen += [one["redemption_id"] for one in page["redemptions"]]
        if page["next"] is None:
            break
        after = f"&after={page['next']}"
    assert seen == sorted(set(seen), reverse=True)
    assert set(made) <= set(seen)
    problem_of(await shop.api.read(person.participant_id, "redemptions/not-an-id"), "malformed-request")


async def test_a_dead_hold_is_told_as_dead(shop: Shop) -> None:
    offer, person = await shop.offer(), await shop.market.person()
    held, part = await shop.held(person, offer, 2), await shop.held(person, offer, 2)
    await shop.step(part, "capture", {"units": 1})
    async with shop.market.later(hours=2):
        shop.bank.shift = timedelta()
        for redemption_id, state in ((held, "lapsed"), (part, "captured")):
            found = (await shop.api.read(person.participant_id, f"redemptions/{redemption_id}")).json()
            assert (found["state"], found["units_held"], found["ended_at"]) == (state, 0, found["expires_at"])
            problem_of(await shop.post(person, f"redemptions/{redemption_id}/entitlement"), "hold-ended")
        assert problem_of(await shop.step(held, "capture", {}), "hold-ended")["state"] == "lapsed"


async def set_pool(shop: Shop, pool: str, state: str) -> httpx.Response:
    headers = shop.api.bearer("operator")
    return await shop.api.client.post(f"/v1/pools/{pool}/state", headers=headers, json={"state": state})


async def test_pools_are_opened_changed_and_suspended_by_operators(shop: Shop) -> None:
    client, operator = shop.api.client, shop.api.bearer("operator") | {"Accept-Language": "en"}
    pool = f"pool-{os.urandom(4).hex()}"
    terms = {
        "pool": pool,
        "funder": "https://fund.example/demo",
        "title_zh": "测试",
        "title_en": "A test",
        "rate_fen": 10,
        "rate_points": 1,
        "shortage": "stop",
        "points": 100,
        "value_fen": 1000,
    }
    for _ in range(2):
        opened = await client.put("/v1/pools", headers=operator, json=terms)
        assert opened.status_code == 200, opened.text
    problem_of(await client.put("/v1/pools", headers=operator, json=terms | {"rate_fen": 11}), "pool-conflict")
    for change in ({"points": -1}, {"rate_points": 0}, {"shortage": "maybe"}, {"funder": "nobody"}, {"points": True}):
        problem_of(await client.put("/v1/pools", headers=operator, json=terms | change), "malformed-request")
    changes = f"/v1/pools/{pool}/changes"
    for change, slug in (
        ({"points": 1, "value_fen": -1}, "pool-change-mixed"),
        ({"points": -101, "value_fen": 0}, "pool-budget-spent"),
        ({"points": 10**16, "value_fen": 0}, "malformed-request"),
    ):
        problem_of(await client.post(changes, headers=operator | {"Idempotency-Key": slug}, json=change), slug)
    keyed, more = operator | {"Idempotency-Key": '"a raise"'}, {"points": 50, "value_fen": 500}
    problem_of(await client.post(changes, headers=operator, json=more), "idempotency-key-missing")
    for _ in range(2):
        raised = await client.post(changes, headers=operator | {"Idempotency-Key": "raise-1"}, json=more)
        assert raised.status_code == 200, raised.text
    other = await client.post(changes, headers=operator | {"Idempotency-Key": "raise-1"}, json=more | {"points": 51})
    problem_of(other, "idempotency-conflict")
    problem_of(await client.post(changes, headers=keyed, json=more), "idempotency-key-missing")
    left = await shop.market.state_of(pool)
    assert (left.left_points, left.left_fen) == (150, 1500)
    assert (await set_pool(shop, pool, "suspended")).status_code == 200
    assert (await shop.market.state_of(pool)).state == "suspended"
    problem_of(await set_pool(shop, pool, "ajar"), "malformed-request")
    for unknown in ("no-such-pool", "a%00b", "%F0%9F%8C%B1"):
        problem_of(await set_pool(shop, unknown, "open"), "pool-not-found")
        change = {"points": 1, "value_fen": 1}
        problem_of(await client.get(f"/v1/pools/{unknown}"), "pool-not-found")
        keyed = operator | {"Idempotency-Key": "raise-2"}
        problem_of(await client.post(f"/v1/pools/{unknown}/changes", headers=keyed, json=change), "pool-not-found")
    person = shop.api.bearer("participant", str(uuid4()))
    for caller in (person, shop.bank.bearer):
        problem_of(await client.put("/v1/pools", headers=caller, json=terms), "forbidden")
        problem_of(await client.post(changes, headers=caller, json={"points": 1, "value_fen": 1}), "forbidden")
        problem_of(await client.post(f"/v1/pools/{pool}/state", headers=caller, json={"state": "open"}), "forbidden")

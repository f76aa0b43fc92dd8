"""Reviews over HTTP: what is found waits, the person reads why and answers, operators decide, and nobody waits for
ever."""

import os
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import asyncpg
import httpx
import pytest

from service.clock import Fresh, system_clock
from service.signals.check import check_reviews
from service.signals.finding import Found
from service.signals.opening import REVIEW_WITHIN, record_found
from service.signals.reviews import decide_review
from service.signals.rules import shipped_rules
from tests.api.bankers import open_bank
from tests.api.test_redemptions import Shop
from tests.conftest import Database, clone
from tests.running import Api, problem_of
from tests.service.redemption.redemption_world import BANK, open_market
from tests.service.signals.riding import SERIES, Looker, looking

pytestmark = pytest.mark.anyio

WORDS = "Two of us share a house, and ride together."


@pytest.fixture(scope="module")
def database(template: Database) -> Database:
    """These tests' own: nothing in it may be wrong afterwards."""
    return clone(template, f"reviews_{os.urandom(6).hex()}")


@pytest.fixture(scope="module")
async def shop(api: Api, database: Database) -> AsyncIterator[Shop]:
    market = await open_market(api, database)
    yield Shop(market, await open_bank(api, BANK))
    assert await market.findings() == []
    auditor = await asyncpg.connect(database.auditor)
    assert await check_reviews(auditor) == []
    await auditor.close()


@pytest.fixture
async def looker(api: Api, database: Database) -> AsyncIterator[Looker]:
    async with looking(api, database) as looker:
        yield looker


async def decide(api: Api, review_id: str, who: str = "op-1", **content: str) -> httpx.Response:
    body = {"outcome": "release", "reason": "explained", "words": "We have heard you."} | content
    headers = api.bearer("operator", who) | {"Accept-Language": "en"}
    return await api.client.post(f"/v1/reviews/{review_id}/decisions", headers=headers, json=body)


async def test_what_is_under_review_cannot_be_spent_and_the_rest_can(shop: Shop, looker: Looker) -> None:
    person, offer = await looker.person(), await shop.offer()
    honest = 2
    await looker.rode(person, ["4"] * honest)  # 140 points each
    held = await shop.held(person, offer, 2)
    await looker.rode(person, SERIES * 2)
    await looker.look()
    (review,) = await looker.reviews(person)
    balance = (await shop.api.balance(person.participant_id))["points"]
    withheld = review["points"]
    assert withheld == sum(int(Decimal(km) * Decimal("35.01")) for km in SERIES)
    free = balance["available"] - withheld
    assert 0 < free < balance["available"]
    refused = problem_of(await shop.redeem(person, offer, free // 10 + 1), "under-review")
    assert (refused["available"], refused["withheld"]) == (str(balance["available"]), str(withheld))
    assert (await shop.redeem(person, offer, free // 10)).status_code == 201
    captured = await shop.step(held, "capture", {"units": 2})  # a hold that was given can be captured
    assert captured.status_code == 200, captured.text
    assert balance["under_review"] == withheld


async def test_the_person_reads_why_in_both_languages_and_answers(api: Api, looker: Looker) -> None:
    person = await looker.suspicious()
    (review,) = await looker.reviews(person)
    (signal,) = review["signals"]
    assert (review["state"], signal["rule"], signal["strength"]) == ("open", "replayed-series", "strong")
    assert "in the same order" in signal["told"]
    assert signal["values"]["count"] == "1"
    assert len(review["credits"]) == 3
    headers = api.bearer("participant", person.participant_id)
    chinese = (await api.client.get("/v1/me/reviews", headers=headers)).json()["reviews"][0]
    assert "完全相同" in chinese["signals"][0]["told"]
    told = await looker.api.read(
        person.participant_id, f"transfers/{review['credits'][0]}", **{"Accept-Language": "en"}
    )
    assert told.json()["review"]["told"] == [signal["told"]]
    assert told.json()["review"]["review_id"] == review["review_id"]
    path = f"/v1/me/reviews/{review['review_id']}/answer"
    answer = await api.client.post(path, headers=headers, json={"words": WORDS})
    assert answer.status_code == 200, answer.text
    assert [step["step"] for step in answer.json()["steps"]] == ["open", "answer"]
    queue = await api.client.get(f"/v1/reviews/{review['review_id']}", headers=api.bearer("operator"))
    assert queue.json()["steps"][1]["words"] == WORDS
    somebody = await api.person()
    stranger = api.bearer("participant", somebody.participant_id)
    problem_of(await api.client.post(path, headers=stranger, json={"words": WORDS}), "review-not-found")
    assert await looker.reviews(somebody) == []


async def test_what_is_released_is_free_and_opens_no_second_review(api: Api, looker: Looker) -> None:
    person = await looker.suspicious()
    (review,) = await looker.reviews(person)
    problem_of(await decide(api, review["review_id"], reason="copied"), "review-reason")
    problem_of(await decide(api, review["review_id"], words=""), "malformed-request")
    done = await decide(api, review["review_id"])
    assert (done.status_code, done.json()["state"], done.json()["points"]) == (200, "released", 0)
    assert problem_of(await decide(api, review["review_id"]), "review-ended")["state"] == "released"
    await looker.rode(person, ["5.5"])
    await looker.look()
    (after,) = await looker.reviews(person)
    assert (after["state"], after["steps"][-1]["words"]) == ("released", "We have heard you.")
    assert after["steps"][-1]["operator"] is None  # the person reads what was decided, not by whom


async def test_confirmed_credits_are_reversed_and_the_others_stay(api: Api, looker: Looker) -> None:
    person = await looker.person()
    await looker.rode(person, ["4"])
    first, second = await looker.rode(person, SERIES), await looker.rode(person, SERIES)
    await looker.look()
    (review,) = await looker.reviews(person)
    assert sorted(review["credits"]) == sorted(second)
    before = (await api.balance(person.participant_id))["points"]["available"]
    done = await decide(api, review["review_id"], outcome="confirm", reason="invented")
    assert (done.status_code, done.json()["state"]) == (200, "confirmed")
    balance = (await api.balance(person.participant_id))["points"]
    assert (balance["available"], balance["debt"], balance["under_review"]) == (before - review["points"], 0, 0)
    kinds = [each["kind"] for each in await api.statement(person.participant_id)]
    assert (kinds.count("reversal"), len(first)) == (3, 3)


async def test_what_joins_while_it_is_confirmed_is_reversed_too(
    api: Api, looker: Looker, monkeypatch: pytest.MonkeyPatch
) -> None:
    person = await looker.suspicious()
    (review,) = await looker.reviews(person)
    joined: list[str] = []

    async def join_first(*words: Any) -> Any:
        if not joined:
            joined.extend(await looker.rode(person, SERIES))
            await looker.look()
        return await decide_review(*words)

    monkeypatch.setattr("api.v1.reviews.decide_review", join_first)
    done = await decide(api, review["review_id"], outcome="confirm", reason="invented")
    assert (done.status_code, done.json()["state"]) == (200, "confirmed")
    assert set(joined) < set(done.json()["credits"])
    kinds = [each["kind"] for each in await api.statement(person.participant_id)]
    assert kinds.count("reversal") == len(done.json()["credits"]) == 6


async def test_confirming_takes_two_people_where_they_are_asked_for(
    api: Api, looker: Looker, monkeypatch: pytest.MonkeyPatch
) -> None:
    person = await looker.suspicious()
    (review,) = await looker.reviews(person)
    settings = api.platform.settings.model_copy(update={"two_person": True})
    monkeypatch.setattr(api.platform, "settings", settings)
    words: dict[str, Any] = {"outcome": "confirm", "reason": "copied"}
    proposed = await decide(api, review["review_id"], **words)
    assert proposed.status_code == 202
    path = f"/v1/reviews/{review['review_id']}/decisions"
    body = {"words": "We have heard you."} | words
    approves = {"Approves": proposed.json()["proposal_id"], "Accept-Language": "en"}
    content = {"outcome": "confirm", "reason": "copied", "words": body["words"]}
    own = await api.client.post(path, headers=api.bearer("operator", "op-1") | approves, json=content)
    problem_of(own, "proposal-refused")
    assert (await looker.reviews(person))[0]["state"] == "open"
    other = await api.client.post(path, headers=api.bearer("operator", "op-2") | approves, json=content)
    assert (other.status_code, other.json()["state"]) == (200, "confirmed"), other.text


async def test_a_review_that_nobody_decides_ends_in_the_persons_favour(shop: Shop, looker: Looker) -> None:
    person, offer = await looker.person(), await shop.offer()
    credits = await looker.rode(person, ["4"])
    rule = next(rule for rule in shipped_rules() if rule.id == "acts-a-day")
    values = {"day": "2026-05-01", "count": "30", "limit": "24", "usual": "2"}
    found = Found(rule, "2026-05-01/5", values, tuple(UUID(each) for each in credits))
    async with looker.pool.acquire() as tx, tx.transaction():
        await record_found(tx, UUID(person.participant_id), [found], Fresh(system_clock(-REVIEW_WITHIN)))
    (review,) = await looker.reviews(person)
    assert review["state"] == "lapsed"  # whether or not anybody has written it down
    assert (await shop.api.balance(person.participant_id))["points"]["under_review"] == 0
    assert (await shop.redeem(person, offer, 14)).status_code == 201
    problem_of(await decide(shop.api, review["review_id"], outcome="confirm", reason="copied"), "review-ended")
    await looker.look()
    (review,) = await looker.reviews(person)
    assert [step["step"] for step in review["steps"]] == ["open", "lapse"]
    assert len(await looker.reviews(person)) == 1


async def test_the_queue_is_read_page_by_page_and_by_those_who_may(api: Api, looker: Looker) -> None:
    person = await looker.suspicious()
    headers = api.bearer("operator")
    shown: list[str] = []
    after = ""
    while True:
        page = (await api.client.get(f"/v1/reviews?open=true{after}", headers=headers)).json()
        shown += [each["review_id"] for each in page["reviews"]]
        if page["next"] is None:
            break
        after = f"&after={page['next']}"
    (review,) = await looker.reviews(person)
    assert review["review_id"] in shown
    assert len(shown) == len(set(shown))
    latest = (await api.client.get("/v1/signals", headers=headers)).json()["signals"]
    mine = [one for one in latest if one["participant_id"] == person.participant_id]
    assert [(one["rule"], one["review_id"]) for one in mine] == [("replayed-series", review["review_id"])]
    authority = await api.client.get(f"/v1/reviews/{review['review_id']}", headers=api.bearer("authority"))
    assert authority.status_code == 200
    refused = await api.client.post(
        f"/v1/reviews/{review['review_id']}/decisions", headers=api.bearer("authority"), json={}
    )
    assert problem_of(refused, "forbidden")["missing_scope"] == "reviews:decide"
    for path in ("/v1/reviews", "/v1/signals", "/v1/signals/sources"):
        problem_of(await api.client.get(path, headers=api.bearer("provider", source="urn:x:y")), "forbidden")
    problem_of(await api.client.get(f"/v1/reviews/{UUID(int=5)}", headers=headers), "review-not-found")


async def test_credits_of_a_series_that_goes_on_join_the_open_review(api: Api, looker: Looker) -> None:
    person = await looker.suspicious()
    (review,) = await looker.reviews(person)
    await looker.rode(person, SERIES)
    await looker.look()
    (more,) = await looker.reviews(person)
    assert more["review_id"] == review["review_id"]
    assert len(more["credits"]) == len(review["credits"]) + 3
    assert more["points"] > review["points"]
    assert timedelta(days=6) < _until(more) <= REVIEW_WITHIN


def _until(review: dict[str, Any]) -> timedelta:
    opened, due = (datetime.fromisoformat(review[name]) for name in ("opened_at", "due_at"))
    return due - opened

"""What a thief has of a token: of a citizen's the day's limit, of a provider's nobody who is not linked there."""

import os
from collections.abc import AsyncIterator

import pytest

from tests.api.bankers import open_bank
from tests.api.test_redemptions import Shop, new_key, wanted
from tests.conftest import Database, clone
from tests.running import Api, problem_of, ride
from tests.service.redemption.redemption_world import BANK, open_market

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def database(template: Database) -> Database:
    return clone(template, f"stolen_{os.urandom(6).hex()}")


@pytest.fixture(scope="module")
async def shop(api: Api, database: Database) -> AsyncIterator[Shop]:
    market = await open_market(api, database)
    yield Shop(market, await open_bank(api, BANK))
    assert await market.findings() == []


async def test_a_citizens_token_reports_nothing_and_reads_nobody_else(api: Api) -> None:
    person, somebody = await api.person(), await api.person()
    stolen = api.bearer("participant", person.participant_id)
    event = ride(person.source, person.subject)
    posted = await api.client.post("/v1/activities", headers=stolen, json=event)
    assert problem_of(posted, "forbidden")["missing_scope"] == "activities:write"
    for rest in ("balance", "statement", "redemptions", "wishes"):
        answer = await api.client.get(f"/v1/participants/{somebody.participant_id}/{rest}", headers=stolen)
        problem_of(answer, "forbidden")
    for path in ("/v1/reviews", "/v1/sources", "/v1/disputes", "/v1/liability"):
        problem_of(await api.client.get(path, headers=stolen), "forbidden")
    reversal = f"/v1/participants/{person.participant_id}/transfers/{person.link_id}/reversal"
    problem_of(await api.client.post(reversal, headers=stolen, json={"reason": "posted_in_error"}), "forbidden")


async def test_a_citizens_token_spends_no_more_than_the_day_allows(shop: Shop) -> None:
    person = await shop.market.person(rides=5)  # 350 points
    offer = await shop.offer(await shop.market.pool(points_per_person_per_day=100))
    spent = 0
    for units in (7, 3, 1, 5, 1):
        answer = await shop.redeem(person, offer, units)
        spent += units * 10 if answer.status_code == 201 else 0
    assert spent == 100
    assert problem_of(await shop.redeem(person, offer, 1), "pool-person-limit")["left"] == "0"
    balance = (await shop.api.balance(person.participant_id))["points"]
    assert (balance["held"], balance["available"]) == (100, 250)


async def test_what_a_thief_holds_the_owner_cancels_until_a_bank_has_taken_it(shop: Shop) -> None:
    person, offer = await shop.market.person(), await shop.offer()
    held = await shop.held(person, offer, 5, accepted=False)
    cancelled = await shop.post(person, f"redemptions/{held}/cancel", key=new_key())
    assert cancelled.status_code == 200
    assert (await shop.api.balance(person.participant_id))["points"]["available"] == 70


async def test_a_providers_token_credits_nobody_who_is_not_linked_there(api: Api) -> None:
    mine, other = await api.person(), await api.person()
    (refused,) = await api.report(mine.source, [ride(mine.source, other.subject)])
    assert (refused["outcome"], refused["problem"]["type"].rpartition(":")[2]) == ("refused", "subject-not-linked")
    headers = api.bearer("provider", source=mine.source) | {"Content-Type": "application/cloudevents+json"}
    event = ride(other.source, other.subject)
    problem_of(await api.client.post("/v1/activities", headers=headers, json=event), "source-mismatch")
    assert (await api.balance(other.participant_id))["points"]["available"] == 0
    for path in (f"/v1/participants/{mine.participant_id}/balance", "/v1/reviews"):
        problem_of(await api.client.get(path, headers=headers), "forbidden")


async def test_a_redemption_of_somebody_elses_points_is_refused(shop: Shop) -> None:
    rich, thief = await shop.market.person(), await shop.market.person()
    offer = await shop.offer()
    headers = shop.api.bearer("participant", thief.participant_id) | {"Idempotency-Key": f'"{new_key()}"'}
    path = f"/v1/participants/{rich.participant_id}/redemptions"
    problem_of(await shop.api.client.post(path, headers=headers, json=wanted(offer, 1)), "forbidden")

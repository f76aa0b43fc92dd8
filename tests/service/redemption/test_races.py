"""Two who want what only one can have: each outcome is the documented one, and nothing is lost or had twice."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from uuid import UUID

import pytest

from service.activities.intake import Refusal
from service.banks.registry import set_bank_state
from service.participants import exclude_postings
from service.poster import Poster
from service.posting import Outcome, Reverse, Reversed
from service.products.listing import resume, suspend
from service.redemption.commands import Redeemed, RedemptionCommand
from service.redemption.pools import BudgetSpent, PoolState, set_pool_state
from service.redemption.sweeping import sweep_dead
from tests.conftest import Database
from tests.running import Api, Person, ride
from tests.service.redemption.redemption_world import BANK, Market, open_market

pytestmark = pytest.mark.anyio

ROUNDS = 6  # of a race: each may fall either way
NEVER = timedelta()


@pytest.fixture
async def market(api: Api, database: Database) -> AsyncIterator[Market]:
    """The checks of the platform find nothing afterwards."""
    found = await open_market(api, database)
    yield found
    assert await found.findings() == []


@pytest.fixture
async def other(api: Api) -> AsyncIterator[Poster]:
    """The poster of another process."""
    platform = api.platform
    poster = Poster(
        platform.pool, platform.rules, platform.vault, platform.fresh, clock_offset=NEVER, lanes=2, queue_items=1000
    )
    yield poster
    await poster.stop()


async def both(market: Market, other: Poster, *commands: RedemptionCommand) -> list[Outcome]:
    """Two commands at the same moment, each through a process of its own."""
    one, two = commands
    outcomes = await asyncio.gather(market.post(one), other.post([two]))
    return [outcome for (outcome,) in outcomes]


def slugs(outcomes: list[Outcome]) -> list[str]:
    return sorted(one.slug if isinstance(one, Refusal) else "done" for one in outcomes)


def state_of(outcome: Outcome) -> object:
    assert isinstance(outcome, Refusal), outcome
    return outcome.params["state"]


async def reverse_rides(market: Market, person: Person) -> int:
    """Take back every ride of a person; how many."""
    credits = [one for one in await market.api.statement(person.participant_id) if one["kind"] == "credit"]
    for credit in credits:
        answer = await market.api.reverse(person.participant_id, credit["transfer_id"])
        assert answer.status_code == 201, answer.text
    return len(credits)


async def test_capture_against_void(market: Market, other: Poster) -> None:
    offer, person = await market.offer(await market.pool()), await market.person(rides=2)
    for number in range(ROUNDS):
        held = await market.done(market.place(person, offer, 2))
        commands: list[RedemptionCommand] = [market.capture(held), market.release(held)]
        outcomes = await both(market, other, *(commands if number % 2 else commands[::-1]))
        assert slugs(outcomes) == ["done", "hold-ended"]
        ended = (await market.read(held)).state
        assert ended in ("captured", "voided")
        assert [state_of(one) for one in outcomes if isinstance(one, Refusal)] == [ended]


async def test_a_second_capture_under_another_key_finds_only_what_is_left(market: Market, other: Poster) -> None:
    offer, person = await market.offer(await market.pool()), await market.person(rides=6)
    for _ in range(ROUNDS):
        held = await market.done(market.place(person, offer, 5))
        assert slugs(await both(market, other, market.capture(held), market.capture(held))) == ["done", "hold-ended"]
        held = await market.done(market.place(person, offer, 2))
        parts = await both(market, other, market.capture(held, 1), market.capture(held, 2))
        assert slugs(parts) in (["done", "units-beyond-hold"], ["done", "hold-ended"])
        if (await market.read(held)).state == "held":
            await market.done(market.release(held))
    assert (await market.balance(person)).points_held == 0


async def test_the_same_call_at_two_processes_is_done_once(market: Market, other: Poster) -> None:
    offer, person = await market.offer(await market.pool()), await market.person()
    for number in range(ROUNDS):
        holds = [market.place(person, offer, 1, key=f"h{number} {person.participant_id}") for _ in range(2)]
        one, two = await both(market, other, *holds)
        assert isinstance(one, Redeemed)
        assert isinstance(two, Redeemed)
        assert one.redemption.redemption_id == two.redemption.redemption_id
        assert {one.repeated, two.repeated} == {True, False}
        captures = [market.capture(one, key=f"c{number} {person.participant_id}") for _ in range(2)]
        first, second = await both(market, other, *captures)
        assert isinstance(first, Redeemed)
        assert isinstance(second, Redeemed)
        assert first.step.transfer_id == second.step.transfer_id
        assert {first.repeated, second.repeated} == {True, False}
    assert (await market.balance(person)).points_available == 70 - 10 * ROUNDS


async def test_two_keys_spend_points_once(market: Market, other: Poster) -> None:
    offer = await market.offer(await market.pool())
    for _ in range(ROUNDS):
        person = await market.person()
        outcomes = await both(market, other, market.place(person, offer, 4), market.place(person, offer, 4))
        assert slugs(outcomes) == ["done", "points-not-enough"]


async def test_a_refusal_stands_under_its_key_and_nothing_was_taken(market: Market) -> None:
    offer, person = await market.offer(await market.pool()), await market.person()
    key = f"refused {person.participant_id}"
    assert (await market.refused(market.place(person, offer, 8, key=key))).slug == "points-not-enough"
    await market.api.report(person.source, [ride(person.source, person.subject, km="2")])
    again = await market.refused(market.place(person, offer, 8, key=key))
    assert (again.slug, again.params) == ("points-not-enough", {"points": "80", "available": "70"})
    assert (await market.refused(market.place(person, offer, 7, key=key))).slug == "idempotency-conflict"
    assert (await market.balance(person)).points_available == 140
    await market.done(market.place(person, offer, 8))


async def test_capture_against_the_end_of_its_time(market: Market) -> None:
    offer, person = await market.offer(await market.pool()), await market.person(rides=2)
    for _ in range(ROUNDS):
        held = await market.done(market.place(person, offer, 2))
        poster, early = market.api.platform.poster, market.capture(held)
        async with market.later(hours=1, seconds=1) as late:
            swept = sweep_dead(market.api.platform.pool, late, market.api.platform.fresh, timedelta(hours=1, seconds=1))
            (outcome,), _ = await asyncio.gather(poster.post([early]), swept)
            state = (await market.read(held)).state
            assert state == ("captured" if isinstance(outcome, Redeemed) else "lapsed")
            if isinstance(outcome, Refusal):
                assert (outcome.slug, state_of(outcome)) == ("hold-ended", "lapsed")
            assert state_of(await market.refused(market.capture(held))) == state


async def test_a_dead_hold_is_dead_before_anybody_wrote_it_down(market: Market) -> None:
    pool = await market.pool(points=100, fen=1000)
    offer, person = await market.offer(pool), await market.person()
    held = await market.done(market.place(person, offer, 5))
    await market.done(market.capture(held, 2))
    async with market.later(hours=1, seconds=1):
        shown = await market.balance(person)
        assert (shown.points_available, shown.points_held) == (50, 0)
        for command in (market.capture(held), market.release(held)):
            assert state_of(await market.refused(command)) == "captured"  # the rest has lapsed
    assert (await market.state_of(pool)).left_points == 80
    state = await market.read(held)
    assert (state.units_left, state.units_captured, state.state) == (0, 2, "captured")


async def test_cancel_against_accept(market: Market, other: Poster) -> None:
    offer, person = await market.offer(await market.pool()), await market.person(rides=2)
    for number in range(ROUNDS):
        held = await market.done(market.place(person, offer, 1, from_bank=False))
        cancelling = asyncio.create_task(other.post([market.release(held, "cancelled")]))
        await asyncio.sleep(0.003 * (number % 3))
        await market.accept(held)
        (outcome,) = await cancelling
        state = await market.read(held)
        if isinstance(outcome, Refusal):
            assert (outcome.slug, state.state) == ("not-cancellable", "held")
            await market.done(market.capture(held))
        else:
            assert (state.state, state.accepted_at) == ("cancelled", None)
            assert (await market.refused(market.capture(held))).slug == "hold-ended"


async def test_nobody_captures_or_voids_before_accepting(market: Market) -> None:
    offer, person = await market.offer(await market.pool()), await market.person()
    held = await market.done(market.place(person, offer, 1, from_bank=False))
    cancelled = await market.done(market.place(person, offer, 1, from_bank=False))
    await market.done(market.release(cancelled, "cancelled"))
    await market.accept(cancelled)
    assert (await market.read(cancelled)).accepted_at is None
    for command in (market.capture(held), market.release(held)):
        assert (await market.refused(command)).slug == "not-accepted"
    async with market.later(hours=2):
        await market.accept(held, timedelta(hours=2))
        assert (await market.read(held)).accepted_at is None


async def test_reversing_the_credit_behind_a_hold_leaves_it_to_be_captured(market: Market, other: Poster) -> None:
    offer = await market.offer(await market.pool())
    for _ in range(ROUNDS):
        person = await market.person()
        held = await market.done(market.place(person, offer, 5))
        await asyncio.gather(other.post([market.capture(held, 2)]), reverse_rides(market, person))
        shown = await market.balance(person)
        assert (shown.points_available, shown.points_held, shown.points_debt) == (0, 30, 50)
        voided = await market.done(market.release(held))
        assert (voided.step.points, voided.step.repaid_points, voided.redemption.state) == (30, 30, "captured")
        shown = await market.balance(person)
        assert (shown.points_available, shown.points_held, shown.points_debt) == (0, 0, 20)


async def test_a_dead_hold_repays_in_the_balance_what_is_owed(market: Market) -> None:
    offer, person = await market.offer(await market.pool()), await market.person()
    await market.done(market.place(person, offer, 6))
    await reverse_rides(market, person)
    shown = await market.balance(person)
    assert (shown.points_available, shown.points_held, shown.points_debt) == (0, 60, 60)
    async with market.later(hours=2):
        shown = await market.balance(person)
        assert (shown.points_available, shown.points_held, shown.points_debt, shown.expiring) == (0, 0, 0, ())


async def test_what_comes_back_after_its_bucket_ran_out_repays_or_lapses(market: Market) -> None:
    offer, person = await market.offer(await market.pool(), hold_seconds=90 * 86_400), await market.person(rides=3)
    captures = [await market.done(market.capture(await market.done(market.place(person, offer, 4)))) for _ in range(3)]
    async with market.later(days=710):
        held = await market.done(market.place(person, offer, 5))
    async with market.later(days=795):
        shown = await market.balance(person)
        assert (shown.points_available, shown.points_held) == (0, 50)
        refunded = await market.done(market.refund(captures[0]))
        assert (refunded.step.points, refunded.step.lapsed_points, refunded.redemption.state) == (40, 40, "refunded")
        credit = (await market.api.statement(person.participant_id))[-1]
        await market.api.reverse(person.participant_id, credit["transfer_id"])
        assert (await market.balance(person)).points_debt == 70
        refunded = await market.done(market.refund(captures[1]))
        assert (refunded.step.repaid_points, refunded.step.lapsed_points) == (40, 0)
        again = await market.refused(market.refund(captures[1]))
        assert (again.slug, again.params) == ("already-refunded", {"refund": str(refunded.step.transfer_id)})
        voided = await market.done(market.release(held))
        assert (voided.step.repaid_points, voided.step.lapsed_points) == (30, 20)
        shown = await market.balance(person)
        assert (shown.points_available, shown.points_held, shown.points_debt) == (0, 0, 0)


async def test_a_balance_is_whole_while_its_dead_hold_is_swept(market: Market) -> None:
    offer, person = await market.offer(await market.pool()), await market.person()
    pool = market.api.platform.pool
    await market.done(market.place(person, offer, 6))
    async with market.later(hours=2) as late:
        swept = asyncio.create_task(sweep_dead(pool, late, market.api.platform.fresh, timedelta(hours=2)))
        for _ in range(40):
            shown = await market.balance(person)
            assert (shown.points_available, shown.points_held, sum(left for _, left in shown.expiring)) == (70, 0, 70)
        await swept
        assert (await market.balance(person)).transfers == 3


async def test_a_dead_hold_of_what_ran_out_is_shown_as_gone(market: Market) -> None:
    offer, person = await market.offer(await market.pool(), hold_seconds=40 * 86_400), await market.person()
    async with market.later(days=710):
        await market.done(market.place(person, offer, 5))
    async with market.later(days=770):
        shown = await market.balance(person)
        assert (shown.points_available, shown.points_held, shown.expiring) == (0, 0, ())


async def test_all_that_was_captured_and_refunded_is_refunded_however_it_ends(market: Market) -> None:
    offer, person = await market.offer(await market.pool()), await market.person(rides=2)
    held = await market.done(market.place(person, offer, 5))
    part = await market.done(market.capture(held, 2))
    assert (await market.done(market.refund(part))).redemption.state == "held"
    assert (await market.done(market.release(held))).redemption.state == "refunded"
    held = await market.done(market.place(person, offer, 5))
    part = await market.done(market.capture(held, 2))
    await market.done(market.refund(part))
    rest = await market.done(market.capture(held))
    assert (rest.redemption.state, rest.redemption.units_refunded) == ("captured", 2)
    assert (await market.balance(person)).points_available == 110


async def test_a_capture_is_refunded_once(market: Market, other: Poster) -> None:
    offer, person = await market.offer(await market.pool()), await market.person(rides=2)
    for _ in range(ROUNDS):
        taken = await market.done(market.capture(await market.done(market.place(person, offer, 3))))
        outcomes = await both(market, other, market.refund(taken), market.refund(taken, "not_fulfilled"))
        assert slugs(outcomes) == ["already-refunded", "done"]
    assert (await market.balance(person)).points_available == 140


Stop = Callable[[Market, str, str, bool], Awaitable[None]]


async def stop_document(market: Market, kind: str, name: str, on: bool) -> None:
    async with market.api.platform.pool.acquire() as tx, tx.transaction(isolation="read_committed"):
        if kind == "pool":
            await exclude_postings(tx)
            state: PoolState = "open" if on else "suspended"
            await set_pool_state(tx, name, state, by="op-1", fresh=market.api.platform.fresh)
        elif kind == "bank":
            await exclude_postings(tx)
            await set_bank_state(tx, name, "resumed" if on else "suspended", "complaints", NEVER)
        elif on:
            await resume(tx, "offer" if kind == "offer" else "product", name, 1, "op-1", market.desk)
        else:
            await suspend(tx, "offer" if kind == "offer" else "product", name, 1, "op-1", "complaints", market.desk)


@pytest.mark.parametrize(
    ("kind", "refusal", "because"),
    [
        ("offer", "offer-not-listed", "offer-suspended"),
        ("product", "offer-not-listed", "product-suspended"),
        ("bank", "offer-not-listed", "bank-suspended"),
        ("pool", "pool-not-open", None),
    ],
)
async def test_who_is_suspended_gives_out_no_more_and_strands_nothing(
    market: Market, kind: str, refusal: str, because: str | None
) -> None:
    pool = await market.pool()
    offer, person = await market.offer(pool), await market.person()
    name = {"offer": offer.id, "product": market.product, "bank": BANK, "pool": pool}[kind]
    stood = await market.done(market.place(person, offer, 1))
    stopping = stop_document(market, kind, name, on=False)
    racing = [market.post(market.place(person, offer, 1)) for _ in range(2)]
    try:
        first, _, second = await asyncio.gather(racing[0], stopping, racing[1])
        held = [one for (one,) in (first, second) if isinstance(one, Redeemed)]
        assert {one.slug for (one,) in (first, second) if isinstance(one, Refusal)} <= {refusal}
        refused = await market.refused(market.place(person, offer, 1))
        assert (refused.slug, refused.params.get("because")) == (refusal, because)
        for one in (stood, *held):
            await market.done(market.capture(one))
    finally:
        await stop_document(market, kind, name, on=True)
    await market.done(market.place(person, offer, 1))


async def test_the_yearly_cap_counts_what_stands_and_no_more(market: Market, other: Poster) -> None:
    offer, person = await market.offer(await market.pool(), per_person_per_year=3), await market.person(rides=2)
    holds = await both(market, other, market.place(person, offer, 2), market.place(person, offer, 2))
    assert slugs(holds) == ["done", "not-eligible"]
    held = next(one for one in holds if isinstance(one, Redeemed))
    assert (await market.refused(market.place(person, offer, 2))).params["reason"] == "yearly-cap"
    taken = await market.done(market.capture(held, 1, final=True))
    second = await market.done(market.place(person, offer, 2))
    assert (await market.refused(market.place(person, offer, 1))).slug == "not-eligible"
    await market.done(market.refund(taken))
    await market.done(market.place(person, offer, 1))
    assert second.redemption.units_left == 2


async def test_a_dead_hold_counts_against_no_limit(market: Market) -> None:
    pool = await market.pool(points_per_person_per_day=30, points_per_day=30)
    offer, person = await market.offer(pool, hold_seconds=60), await market.person()
    await market.done(market.place(person, offer, 3))
    assert (await market.refused(market.place(person, offer, 1))).slug == "pool-person-limit"
    somebody = await market.person()
    assert (await market.refused(market.place(somebody, offer, 1))).slug == "pool-daily-limit"
    async with market.later(seconds=61):  # unless midnight falls into this minute, when both begin anew anyhow
        await market.done(market.place(person, offer, 3))


async def test_a_reversal_in_the_same_batch_comes_after_the_hold_that_looked_before_it(market: Market) -> None:
    pool = await market.pool()
    offer, person = await market.offer(pool, grams_mg_per_point=1000), await market.person()
    credit = UUID((await market.api.statement(person.participant_id))[0]["transfer_id"])
    fresh_id = market.api.platform.fresh.id()
    reversal = Reverse(UUID(person.participant_id), credit, "posted_in_error", "operator", fresh_id, bytes(16))
    outcomes = await market.api.platform.poster.post([reversal, market.place(person, offer, 7)])
    assert isinstance(outcomes[0], Reversed)
    assert isinstance(outcomes[1], Redeemed)
    shown = await market.balance(person)
    assert (shown.points_held, shown.points_debt, shown.reduction_debt_mg) == (70, 70, 70_000)
    assert shown.reduction_mg == 0


async def test_a_budget_is_taken_back_only_where_nothing_was_drawn(market: Market) -> None:
    pool = await market.pool(points=100, fen=1000)
    offer, people = await market.offer(pool), [await market.person() for _ in range(4)]

    async def lower() -> int:
        try:
            await market.change(pool, points=-60, fen=-600)
        except BudgetSpent:
            return 0
        return 60

    *outcomes, lowered = await asyncio.gather(*(market.post(market.place(one, offer, 2)) for one in people), lower())
    held = sum(1 for each in outcomes if isinstance(each, list) and isinstance(each[0], Redeemed))
    assert isinstance(lowered, int)
    assert held == (2 if lowered else 4)
    assert (await market.state_of(pool)).left_points == 100 - lowered - 20 * held


async def test_sixty_four_at_once_on_a_pool_for_a_thousand(market: Market) -> None:
    """They want 1,088 holds, and there are 1,000."""
    offer = await market.offer(await market.pool(points=10_000, fen=100_000))
    source = await market.api.source()
    people = [await market.api.person(source) for _ in range(64)]
    rides = [ride(source, person.subject, km="4.9") for person in people]
    for outcome in await market.api.report(source, rides):
        assert outcome["points"] == 171
    pool = offer.pool

    async def client(person: Person) -> list[Outcome]:
        return [(await market.post(market.place(person, offer, 1)))[0] for _ in range(17)]

    outcomes = [one for mine in await asyncio.gather(*map(client, people)) for one in mine]
    assert sum(isinstance(one, Redeemed) for one in outcomes) == 1000
    assert {one.slug for one in outcomes if isinstance(one, Refusal)} == {"pool-exhausted"}
    left = await market.state_of(pool)
    assert (left.left_points, left.left_fen) == (0, 0)

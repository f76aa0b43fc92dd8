"""What counts once counts once: whatever the order, the cut into batches, the sources, and however many ask at once."""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, Literal

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from service.poster import Poster
from service.posting import Command
from tests.service.counting_model import (
    Act,
    Answer,
    Model,
    Order,
    Repeat,
    Retract,
    Reverse,
    Settle,
    corrected,
    without_sets,
)
from tests.service.counting_world import Stage, World, balances, crowd, expected, fetch, findings, post_at_once, stored

pytestmark = pytest.mark.anyio

JANUARY = 2026 * 12  # months are counted from the year 0
# Few people, few things and little time, so that much meets. The third person is a firm, which cannot ride or board.
_WHO = st.sampled_from([0, 0, 0, 1, 1, 2])
_SOURCE = st.sampled_from(["north", "north", "south", "phone", "phone", "diary"])
_FEW = st.integers(0, 1)
_BEGINS = st.builds(lambda day, ten: day * 1440 + ten * 10, st.sampled_from([0, 0, 0, 1, 2]), st.integers(0, 17))
_RIDE = st.builds(
    Act,
    st.just("ride"),
    _WHO,
    _SOURCE,
    _BEGINS,
    st.sampled_from([10, 20]),
    st.sampled_from([500, 2345, 4000]),
    order=st.integers(0, 15),
    payment=st.none() | st.integers(0, 15),
    thing=st.integers(0, 3),
)
_BOARDING = st.builds(
    Act,
    st.just("boarding"),
    _WHO,
    _SOURCE,
    _BEGINS,
    st.sampled_from([0, 10]),
    st.sampled_from([1, 4, 6]),
    payment=st.integers(0, 15),
)
_HOME = st.builds(
    Act,
    st.just("home"),
    _WHO,
    _SOURCE,
    st.sampled_from([JANUARY, JANUARY + 1, JANUARY - 12, JANUARY - 11]),
    st.sampled_from([1, 1, 2]),
    st.sampled_from([10, 20]),
    thing=_FEW,
    address=_FEW,
    before=st.sampled_from([20, 30, 30]),
)
_PV = st.builds(
    Act,
    st.just("pv"),
    _WHO,
    _SOURCE,
    st.integers(JANUARY, JANUARY + 1),
    st.just(1),
    st.just(7),
    thing=st.integers(0, 5),
    address=_FEW,
)
_ACT = st.one_of(_RIDE, _RIDE, _RIDE, _BOARDING, _BOARDING, _HOME, _PV)
_REASON = st.sampled_from(["posted_in_error", "posted_in_error", "evidence_disproved"])
_WHAT = ["new"] * 8 + ["record"] * 3 + ["same", "right", "right", "wrong", "again", "back", "undo", "settle", "lost"]


@st.composite
def stories(draw: st.DrawFn) -> list[Order]:
    """Reports, and what is done to them afterwards."""
    orders: list[Order] = draw(st.lists(_ACT, min_size=8, max_size=12))
    for what in draw(st.lists(st.sampled_from(_WHAT), min_size=8, max_size=24)):
        acts = [(number, act) for number, act in enumerate(orders) if isinstance(act, Act)]
        number, act = draw(st.sampled_from(acts))
        other = draw(_ACT)
        orders.append(
            {
                "new": other,
                "again": Repeat(number),
                # the operator's record of the same, and somebody's through any source
                "record": replace(act, source="north", who=draw(st.sampled_from([act.who, act.who, 1])), replaces=None),
                "same": replace(act, source=other.source, who=other.who, replaces=None),
                # corrected a little, or altogether
                "right": corrected(act, number, amount=act.amount + 1, who=other.who),
                "wrong": corrected(replace(other, source=act.source), number),
                "lost": corrected(other, 99),
                "back": Retract(number),
                "undo": Reverse(number, draw(_REASON)),
                "settle": Settle(act.who, act.source, draw(st.sampled_from([1, 1, 3]))),
            }[what]
        )
    return orders


def cut(length: int, places: set[int]) -> list[range]:
    edges = [0, *sorted(place for place in places if 0 < place < length), length]
    return [range(first, last) for first, last in pairwise(edges)]


async def play(poster: Poster, stage: Stage, orders: Sequence[Order], batches: Sequence[range]) -> list[Answer]:
    """Post a story in these batches; its answers."""
    commands = stage.commands(orders)
    outcomes = []
    for batch in batches:
        outcomes += await poster.post([commands[place] for place in batch])
    return [stage.answer(outcome) for outcome in outcomes]


async def agree(stage: Stage, orders: Sequence[Order], answers: Sequence[Answer]) -> Model:
    """Hold the answers and all that is stored against the model."""
    model = Model()
    for number, (order, answer) in enumerate(zip(orders, answers, strict=True)):
        should = model.obey(number, order)
        assert without_sets(answer) == without_sets(should), f"command {number}, {order}: {answer}, not {should}"
        if should[0] == "refused" and should[2] is not None:
            assert answer[2] in should[2], f"command {number}, {order}: {answer} names none of {should[2]}"
    assert await stored(stage) == expected(stage, model)
    assert await balances(stage) == [model.balance(who) for who in range(len(stage.participant_ids))]
    return model


@given(stories(), st.sets(st.integers(1, 30)))
@settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # without shrinking: minutes of it
)
async def test_any_cut_of_a_story_is_counted_as_the_model_counts(
    world: World, orders: list[Order], places: set[int]
) -> None:
    for batches in (cut(len(orders), places), cut(len(orders), set())):
        stage = await world.people()
        answers = await play(world.api.platform.poster, stage, orders, batches)
        await agree(stage, orders, answers)


CLIENTS = 16


def contended(wave: int, client: int) -> dict[str, Act]:
    """What every client of a wave sends, of days of its own: one thing each, through its own source and for its own
    person; everything else in it is the client's alone."""
    source, own = ("north", "south", "diary")[client % 3], 1000 + wave * CLIENTS + client

    def ride(day: int, **changes: Any) -> Act:
        begins = (wave * 5 + day) * 1440
        return replace(Act("ride", client, source, begins, 10, 100, order=own, thing=own), **changes)

    def month(scenario: Literal["home", "pv"], **changes: Any) -> Act:
        return replace(Act(scenario, client, source, JANUARY - 24 + wave, 1, 10, 0, None, own, own, 11), **changes)

    boards = Act("boarding", client, source, (wave * 5 + 1) * 1440, 0, 1, payment=wave)
    rides = ride(1, order=own + 500, thing=own + 500, payment=wave)
    return {
        "already-claimed/operator+order": ride(0, order=wave),
        "already-claimed/payment": boards if client % 2 else rides,
        "overlaps-claim/operator+vehicle": ride(
            3, begins=(wave * 5 + 3) * 1440 + client % 5, order=own + 2000, thing=wave
        ),
        "already-claimed/meter": month("home", thing=wave),
        "already-claimed/installation": month("pv", thing=wave, address=own + 5000),
    }


async def test_one_thing_asked_for_by_sixteen_at_once_is_credited_once(world: World) -> None:
    stage = await world.people(["citizen"] * CLIENTS)
    async with crowd(world, CLIENTS) as posters:
        for wave in range(8):
            sent: list[list[tuple[str, int]]] = []
            batches: list[list[Command]] = []
            for client in range(CLIENTS):
                things = list(enumerate(contended(wave, client).items()))
                random.shuffle(things)
                numbers = {reason: 1000 * wave + 10 * client + place for place, (reason, _) in things}
                batches.append([stage.command(numbers[reason], act, []) for _, (reason, act) in things])
                sent.append([(reason, numbers[reason]) for _, (reason, _) in things])
            answers: dict[str, list[tuple[int, Answer]]] = {}
            for numbered, outcomes in zip(sent, await post_at_once(posters, batches), strict=True):
                for (reason, number), outcome in zip(numbered, outcomes, strict=True):
                    answers.setdefault(reason, []).append((number, stage.answer(outcome)))
            for reason, told in answers.items():
                (winner,) = [number for number, answer in told if answer[0] == "credited"]
                assert [answer for number, answer in told if number != winner] == [("refused", reason, winner)] * 15


async def test_photovoltaics_and_saving_exclude_each_other_at_once_too(world: World) -> None:
    stage = await world.people(["citizen"] * CLIENTS)
    async with crowd(world, CLIENTS) as posters:
        for wave in range(6):
            month, address = JANUARY + wave, wave // 2  # new, and known
            acts = [
                Act("home", client, "north", month, 1, 10, 0, None, 100 * wave + client, address, 11)
                if client % 2
                else Act("pv", client, "south", month, 1, 7, 0, None, 100 * wave + client, address)
                for client in range(CLIENTS)
            ]
            batches = [[stage.command(CLIENTS * wave + client, act, [])] for client, act in enumerate(acts)]
            answers = [stage.answer(outcome) for (outcome,) in await post_at_once(posters, batches)]
            credited = {client for client, answer in enumerate(answers) if answer[0] == "credited"}
            assert credited in (set(range(0, CLIENTS, 2)), set(range(1, CLIENTS, 2)))
            refused = [answer[1] for answer in answers if answer[0] == "refused"]
            assert refused == ["overlaps-claim/address"] * 8


async def test_batches_that_want_the_same_things_in_any_order_never_deadlock(world: World) -> None:
    """Six payments, of which each is one client's in the end, and six addresses, which all may share."""
    stage = await world.people(["citizen"] * CLIENTS)
    async with crowd(world, CLIENTS) as posters:
        for wave in range(6):
            batches = []
            for client in range(CLIENTS):
                acts = [
                    # a wave has a month of its own: whoever wins all of it is below the cap of the month
                    Act("boarding", client, "north", 1440 * (31 * wave + thing), 0, 1, payment=6 * wave + thing)
                    for thing in range(6)
                ] + [
                    Act("pv", client, "south", JANUARY + wave // 2, 1, 7, 0, None, 6 * (CLIENTS * wave + client) + n, n)
                    for n in range(6 * (wave // 2), 6 * (wave // 2) + 6)
                ]
                random.shuffle(acts)
                first = 1000 * wave + 20 * client
                batches.append([stage.command(first + place, act, []) for place, act in enumerate(acts)])
            outcomes = [one for batch in await post_at_once(posters, batches) for one in batch]
            told = Counter(stage.answer(one)[:2] for one in outcomes)
            assert told == {
                ("credited", 3000): 6,
                ("credited", 7000): 6 * CLIENTS,
                ("refused", "already-claimed/payment"): 6 * (CLIENTS - 1),
            }


async def test_of_phones_and_operators_at_once_one_operator_has_it(world: World) -> None:
    """Whatever the order: all but one wait or are refused, and only one holds the thing."""
    stage = await world.people(["citizen"] * CLIENTS)
    async with crowd(world, CLIENTS) as posters:
        for wave in range(6):
            numbers = [CLIENTS * wave + client for client in range(CLIENTS)]
            sources = ["phone" if client % 2 else "north" for client in range(CLIENTS)]
            acts = [
                Act("ride", client, source, wave * 1440, 10, 100, wave, None, numbers[client])
                for client, source in enumerate(sources)
            ]
            batches = [[stage.command(number, act, [])] for number, act in zip(numbers, acts, strict=True)]
            answers = [stage.answer(outcome) for (outcome,) in await post_at_once(posters, batches)]
            (winner,) = [place for place, answer in enumerate(answers) if answer[0] == "credited" and not answer[3]]
            assert acts[winner].source == "north"
            assert sum(answer[0] == "credited" for answer in answers) <= 2
            left = await stored(stage)
            waiting = {row[1] for row in left.provisional}  # nobody: a phone's credit is taken back with the record's
            assert not waiting & {stage.reports[number].activity_id for number in numbers}
            holding = {row[2] for row in left.claims}
            assert holding & {stage.reports[number].activity_id for number in numbers} == {
                stage.reports[numbers[winner]].activity_id
            }


async def test_a_cap_is_exact_however_many_draw_on_it(world: World) -> None:
    stage = await world.people(["citizen"])
    rides = [Act("ride", 0, "north", 20 * number, 10, 100, number, None, number) for number in range(CLIENTS)]
    boards = [Act("boarding", 0, "south", 1440 + number, 0, 4, payment=50 + number) for number in range(CLIENTS)]
    async with crowd(world, CLIENTS) as posters:
        for first, acts in ((0, rides), (100, boards)):
            batches = [[stage.command(first + number, act, [])] for number, act in enumerate(acts)]
            answers = [stage.answer(outcome) for (outcome,) in await post_at_once(posters, batches)]
            if acts is rides:
                told = Counter(answer[1] for answer in answers)
                assert told == {1000: 2, "cap-reached/rides-per-day": 14}
            else:
                assert sorted(answer[2] for answer in answers) == [0] * 14 + [3, 12]
                assert [answer[1] for answer in answers] == [12_000] * CLIENTS  # a cap of points leaves the grams


async def test_a_campaign_is_drawn_to_the_last_point_and_no_further(fresh_world: World) -> None:
    """1,000 points are there; 16 clients ask for 68 at a time."""
    stage = await fresh_world.people(["citizen"] * CLIENTS)
    points = 0
    async with crowd(fresh_world, CLIENTS) as posters:
        for wave in range(3):
            acts = [Act("bonus", client, "north", wave, 10, 13_700) for client in range(CLIENTS) for _ in range(2)]
            commands = [stage.command(100 * wave + place, act, []) for place, act in enumerate(acts)]
            outcomes = await post_at_once(posters, list(zip(commands[::2], commands[1::2], strict=True)))
            answers = [stage.answer(outcome) for pair in outcomes for outcome in pair]
            assert {answer[0] for answer in answers} == {"credited"}
            assert {answer[1] for answer in answers} == {137_000}
            points += sum(answer[2] - 137 for answer in answers)
            query = "SELECT sum(amount)::int8 AS n FROM ledger.movement WHERE from_account = 'partner'"
            (drawn,) = await fetch(fresh_world.database, query)
            left = await fetch(fresh_world.database, "SELECT left_points FROM service.campaign_slot")
            assert points == drawn["n"] == 1000 - sum(row["left_points"] for row in left)
        assert points == 1000
        assert len(left) == 16


async def test_afterwards_no_check_finds_anything(world: World) -> None:
    """Runs behind the others, over everything they left."""
    assert await findings(world.database) == []

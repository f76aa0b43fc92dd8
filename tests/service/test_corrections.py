"""What is taken back and told anew: corrections, retractions, reversals, matches, settlements, and dry runs of them."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import asyncpg
import pytest

from service.activities.intake import Refusal
from service.clock import SHANGHAI
from service.poster import Poster
from service.posting import Outcome
from tests.conftest import Database
from tests.service.counting_model import Act, Answer, Model, Order, Repeat, Retract, Reverse, Settle, corrected
from tests.service.counting_model import without_sets as plain
from tests.service.counting_world import (
    Stage,
    World,
    balances,
    crowd,
    expected,
    fetch,
    findings,
    no_deadlock,
    post_at_once,
    poster_on,
    stored,
)

pytestmark = pytest.mark.anyio

JANUARY = 2026 * 12
RIDE = Act("ride", 0, "north", 0, 10, 1500, order=1, payment=1, thing=1)
BOARDING = Act("boarding", 0, "north", 0, 0, 4, payment=1)
HOME = Act("home", 0, "north", JANUARY, 1, 10, thing=1, address=1, before=30)
PV = Act("pv", 1, "south", JANUARY, 1, 7, thing=1, address=1)


async def tell(world: World, *orders: Order) -> list[Answer]:
    """Post a story one command at a time, hold everything against the model, and return the answers."""
    stage, model = await world.people(), Model()
    answers = []
    for number, order in enumerate(orders):
        (outcome,) = await world.api.platform.poster.post([stage.command(number, order, orders)])
        answers.append(stage.answer(outcome))
        assert plain(answers[-1]) == plain(model.obey(number, order)), f"command {number}, {order}"
    assert await stored(stage) == expected(stage, model)
    assert await balances(stage) == [model.balance(who) for who in range(3)]
    return answers


def credited(mg: int, points: int, *, pending: bool = False) -> Answer:
    return ("credited", mg, points, pending)


def refused(reason: str, earlier: int | None = None) -> Answer:
    return ("refused", reason, earlier)


async def test_what_is_retracted_can_be_claimed_by_another(world: World) -> None:
    other = replace(RIDE, who=1, source="south")
    answers = await tell(world, RIDE, other, Retract(0), replace(other, amount=2000), Retract(0), RIDE, Repeat(0))
    assert answers == [
        credited(15_000, 15),
        refused("already-claimed/operator+order", 0),
        ("reversed", 0, "source_retracted", False),
        credited(20_000, 20),
        ("reversed", 0, "source_retracted", True),
        refused("already-claimed/operator+order", 3),
        ("duplicate", credited(15_000, 15)),
    ]


@pytest.mark.parametrize("taking_back", [Retract(0), Reverse(0)], ids=["retracted", "reversed"])
@pytest.mark.parametrize(
    ("first", "then", "reason"),
    [
        (replace(RIDE, payment=None), replace(RIDE, who=1, payment=None, order=2), "overlaps-claim/operator+vehicle"),
        (RIDE, replace(BOARDING, who=1), "already-claimed/payment"),
        (BOARDING, replace(BOARDING, payment=2), "overlaps-activity/travel"),
        (replace(RIDE, lasts=20), replace(BOARDING, begins=19, payment=2), "overlaps-activity/travel"),
        (HOME, replace(HOME, who=2, address=2), "already-claimed/meter"),
        (replace(HOME, lasts=2, before=11), replace(HOME, begins=JANUARY + 1, address=2), "already-claimed/meter"),
        (HOME, PV, "overlaps-claim/address"),
        (PV, HOME, "overlaps-claim/address"),
        (PV, replace(PV, who=0, address=2), "already-claimed/installation"),
        (HOME, replace(HOME, begins=JANUARY - 12, amount=20, address=2), "baseline-differs/use_kwh"),
        (replace(HOME, begins=JANUARY - 12), replace(HOME, amount=5, before=20), "baseline-differs/baseline_kwh"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.scenario,
)
async def test_what_stands_in_the_way_does_so_until_it_is_taken_back(
    world: World, first: Act, then: Act, reason: str, taking_back: Order
) -> None:
    answers = await tell(world, first, then, taking_back, then)
    assert answers[0][0] == "credited"
    assert answers[1] == refused(reason, 0)
    assert answers[3][0] == "credited"


@pytest.mark.parametrize(
    ("first", "then"),
    [
        (RIDE, replace(RIDE, begins=10, order=2, payment=2)),  # where one ends the other begins
        (HOME, replace(HOME, begins=JANUARY - 12, amount=30, before=40, who=1)),  # a use that agrees with the baseline
        (replace(HOME, begins=JANUARY - 12, amount=20), replace(HOME, before=20, who=1)),  # and the other way round
        (HOME, replace(HOME, thing=2, who=1)),  # two meters save at one address
        (PV, replace(PV, thing=2)),
        (HOME, replace(PV, begins=JANUARY + 1)),
    ],
)
async def test_what_does_not_meet_is_credited(world: World, first: Act, then: Act) -> None:
    assert [answer[0] for answer in await tell(world, first, then)] == ["credited"] * 2


async def test_a_correction_takes_the_place_of_what_it_corrects(world: World) -> None:
    answers = await tell(
        world,
        RIDE,
        corrected(RIDE, 0, amount=2000),  # the same order, vehicle, payment and time
        corrected(RIDE, 0, amount=2500),  # a correction corrects what stands
        corrected(RIDE, 1, amount=3000, who=1),  # the provider had the wrong person
        Retract(1),
        Retract(3),
        Retract(3),
        corrected(RIDE, 3),
        corrected(RIDE, 99),
        RIDE,
    )
    assert answers == [
        credited(15_000, 15),
        credited(20_000, 20),
        refused("already-corrected"),
        credited(30_000, 30),
        refused("already-reversed"),
        ("reversed", 3, "source_retracted", False),
        ("reversed", 3, "source_retracted", True),
        refused("already-corrected"),
        refused("activity-not-found"),
        credited(15_000, 15),
    ]


async def test_a_correction_that_is_refused_still_takes_back_the_first(world: World) -> None:
    held = replace(RIDE, who=1, order=7, payment=7, thing=7, begins=100)
    answers = await tell(
        world,
        held,
        RIDE,
        corrected(RIDE, 1, order=7),  # somebody else's order
        RIDE,  # so the first is free
        HOME,
        corrected(HOME, 4, before=10),  # nothing was saved
        replace(HOME, who=2),
        corrected(RIDE, 2, order=8),  # what was refused is corrected as if it had never come
        BOARDING,
    )
    assert answers == [
        credited(15_000, 15),
        credited(15_000, 15),
        refused("already-claimed/operator+order", 0),
        credited(15_000, 15),
        credited(20_000, 20, pending=True),
        refused("no-reduction"),
        credited(20_000, 20, pending=True),
        refused("already-claimed/payment", 3),
        refused("already-claimed/payment", 3),
    ]


async def test_an_event_that_was_refused_is_corrected_once(world: World) -> None:
    """Nothing but the chain of corrections ties these together: a ride without a payment, each of another order."""

    def ride(order: int) -> Act:
        return replace(RIDE, order=order, payment=None, thing=order, begins=100 * order)

    answers = await tell(
        world,
        replace(HOME, before=10),  # refused: nothing was saved
        corrected(ride(2), 0),
        corrected(ride(3), 0),  # the second correction of one event
        corrected(ride(4), 2),  # and a way around it
        corrected(replace(HOME, before=10), 1),  # of the correction, which it takes back
        corrected(ride(6), 4),
        corrected(ride(7), 4),
        Retract(5),
        corrected(ride(8), 0),
        corrected(ride(9), 4),
        Repeat(2),
        Repeat(5),
    )
    too_late = refused("already-corrected")
    assert answers == [
        refused("no-reduction"),
        credited(15_000, 15),
        too_late,
        too_late,
        refused("no-reduction"),
        credited(15_000, 15),
        too_late,
        ("reversed", 5, "source_retracted", False),
        too_late,
        too_late,
        ("duplicate", too_late),
        ("duplicate", credited(15_000, 15)),
    ]


async def test_a_second_correction_names_the_first(world: World) -> None:
    stage = await world.people()
    orders = [replace(HOME, before=10), corrected(RIDE, 0), corrected(replace(RIDE, order=2), 0)]
    commands = stage.commands([*orders, corrected(replace(RIDE, order=3), 2)])
    *_, second, around = await world.api.platform.poster.post(commands)
    assert isinstance(second, Refusal)
    assert isinstance(around, Refusal)
    assert second.params == around.params == {"correction": str(stage.reports[1].activity_id)}
    assert (second.activity_id, around.activity_id) == tuple(stage.reports[number].activity_id for number in (2, 3))


async def test_a_meter_that_was_told_wrongly_can_be_corrected(world: World) -> None:
    """The first telling stands against everybody but its own correction, and as long as anybody rests on it."""
    before = replace(HOME, begins=JANUARY - 12, amount=30, before=40, who=1)  # rests on the same 30 kWh
    answers = await tell(
        world,
        HOME,
        before,
        Retract(0),
        replace(HOME, before=28),  # the neighbour's use still says 30
        Retract(1),
        replace(HOME, before=28),
        corrected(HOME, 5, before=29),
    )
    assert answers == [
        credited(20_000, 20, pending=True),
        credited(10_000, 10, pending=True),
        ("reversed", 0, "source_retracted", False),
        refused("baseline-differs/baseline_kwh", 1),
        ("reversed", 1, "source_retracted", False),
        credited(18_000, 18, pending=True),
        credited(19_000, 19, pending=True),
    ]


async def test_a_reversal_gives_a_cap_back_only_where_the_rule_says_so(world: World) -> None:
    def ride(number: int, amount: int = 1500) -> Act:
        return replace(RIDE, order=number, payment=None, thing=number, begins=20 * number, amount=amount)

    # two rides a day, restored; 50 g a month, not
    rides: list[Order] = [ride(0, 2000), ride(1, 2000), ride(2), Reverse(0), ride(2), Reverse(1), ride(3)]
    answers = await tell(world, *rides)
    assert [answer[1] for answer in answers] == [
        20_000,
        20_000,
        "cap-reached/rides-per-day",
        0,
        10_000,  # what is left of the month
        1,
        "cap-reached/grams-per-month",
    ]

    def board(number: int, day: int = 0) -> Act:
        return replace(BOARDING, payment=number, begins=1440 * day + number)

    # 15 points a day, clipped and restored; 30 a month, refused and not
    boards: list[Order] = [
        board(0),
        board(1),
        board(2),
        Retract(0),
        board(3),
        board(4, day=1),
        corrected(board(0), 1),
        board(5),
    ]
    answers = await tell(world, *boards)
    assert [answer[2] for answer in answers] == [12, 3, 0, "source_retracted", 12, None, 3, 0]
    assert answers[5] == refused("cap-reached/points-per-month")
    assert {answer[1] for answer in answers if answer[0] == "credited"} == {12_000}  # grams are not capped


async def test_a_correction_keeps_the_claim_window_of_what_it_corrects_and_opens_no_closed_one(world: World) -> None:
    stage = await world.people()
    walk = Act("walk", 0, "north", 0, 10, 2000)
    in_time = datetime(2026, 4, 6, 23, 59, tzinfo=SHANGHAI)  # the seventh day after it
    too_late = in_time + timedelta(minutes=1)
    reports = [
        stage.report(0, walk, in_time),
        stage.report(1, walk, too_late),
        stage.report(2, corrected(walk, 1), too_late),  # of what was refused: it would be a way around the window
        stage.report(3, corrected(walk, 0, amount=3000), too_late),
        stage.report(4, corrected(walk, 0, amount=4000), too_late),
    ]
    answers = [stage.answer(one) for one in await world.api.platform.poster.post(reports)]
    assert answers == [
        credited(20_000, 20),
        refused("claim-window-closed"),
        refused("claim-window-closed"),
        credited(30_000, 30),
        refused("already-corrected"),
    ]


PHONE = replace(RIDE, source="phone", begins=2)


async def test_a_phone_waits_for_the_operators_record(world: World) -> None:
    answers = await tell(world, PHONE, RIDE, replace(RIDE, source="south"), replace(PHONE, begins=30))
    assert answers == [
        credited(15_000, 15, pending=True),
        credited(15_000, 15),
        refused("already-claimed/operator+order", 1),
        refused("already-claimed/operator+order", 1),
    ]


async def test_an_operators_record_stands_against_every_phone(world: World) -> None:
    later = replace(PHONE, who=1)
    assert (await tell(world, RIDE, PHONE, later))[1:] == [refused("already-claimed/operator+order", 0)] * 2


async def test_only_an_operators_record_matches_a_phone(world: World) -> None:
    """Not what the person says, not the phone again, not another's phone."""
    diary, again, other = replace(RIDE, source="diary"), replace(PHONE, amount=1600), replace(PHONE, who=1)
    answers = await tell(world, PHONE, diary, again, other, Retract(0), diary)
    assert answers[1:4] == [refused("already-claimed/operator+order", 0)] * 3
    assert answers[5] == credited(15_000, 0)  # what is declared earns grams alone


async def test_another_persons_phone_is_outranked_and_taken_back(world: World) -> None:
    mine = replace(PHONE, who=1)
    answers = await tell(world, mine, RIDE, Retract(1), RIDE, Retract(0), replace(mine, begins=100))
    assert answers == [
        credited(15_000, 15, pending=True),
        credited(15_000, 15),
        ("reversed", 1, "source_retracted", False),
        credited(15_000, 15),
        refused("already-reversed"),  # it was taken back when the record came
        refused("already-claimed/operator+order", 3),
    ]


async def test_many_peoples_phones_give_way_to_one_batch_of_records(world: World) -> None:
    """Whatever locks the batch has already, and whoever is busy: each phone's credit is taken back, with its caps."""
    stage = await world.people(["citizen"] * 8)
    phones = [replace(PHONE, who=who, order=who, payment=None, thing=who, begins=20 * who) for who in range(1, 8)]
    records = [replace(phone, source="north", who=0 if n % 2 else phone.who - 1) for n, phone in enumerate(phones)]
    records = [replace(one, begins=1440 * n) for n, one in enumerate(records)]
    async with no_deadlock(world.database), poster_on(world) as one, poster_on(world) as other:
        told = await one.post([stage.command(n, phone, []) for n, phone in enumerate(phones)])
        assert {stage.answer(outcome) for outcome in told} == {credited(15_000, 15, pending=True)}
        rehearsed = await one.rehearse([stage.command(20 + n, record, []) for n, record in enumerate(records)])
        batches = [[stage.command(20 + n, record, []) for n, record in enumerate(records)]]
        batches += [[stage.command(40 + n, replace(phone, order=50 + n, begins=60_000 + 20 * n, thing=50 + n), [])
                     for n, phone in enumerate(phones)]]  # fmt: skip
        posted, _ = await post_at_once([one, other], batches)
    assert [stage.answer(outcome) for outcome in posted] == [stage.answer(outcome) for outcome in rehearsed]
    assert {stage.answer(outcome)[0] for outcome in posted} == {"credited"}
    left = await stored(stage)
    assert len(left.provisional) == 7  # the phones' later rides
    assert {row[1] for row in left.provisional} == {stage.reports[40 + n].activity_id for n in range(7)}
    reasons = await fetch(
        world.database,
        "SELECT reason, count(*) AS n FROM ledger.transfer WHERE participant_id = ANY($1) AND kind = 'reversal' "
        "GROUP BY reason",
        stage.participant_ids,
    )
    assert [(row["reason"], row["n"]) for row in reasons] == [("superseded", 7)]


async def test_a_record_that_is_refused_leaves_the_phone_alone(world: World) -> None:
    """Its vehicle was somebody else's at that time: neither the person's phone nor another's gives way."""
    driven = replace(RIDE, who=1, order=5, payment=None)
    mine = replace(PHONE, payment=None, thing=2)
    answers = await tell(world, driven, mine, replace(RIDE, payment=None), Retract(0), replace(RIDE, payment=None))
    assert answers[1:3] == [credited(15_000, 15, pending=True), refused("overlaps-claim/operator+vehicle", 0)]
    assert answers[4] == credited(15_000, 15)
    others = replace(PHONE, who=1, payment=None, thing=2, begins=40)
    answers = await tell(world, driven, others, replace(RIDE, payment=None), replace(others, source="diary", begins=60))
    assert answers[2:] == [refused("overlaps-claim/operator+vehicle", 0), refused("already-claimed/operator+order", 1)]


async def test_a_match_counts_once_towards_every_cap(world: World) -> None:
    rides = [replace(RIDE, order=n, payment=None, thing=n, begins=20 * n, amount=2000) for n in range(2)]
    phones = [replace(ride, source="phone") for ride in rides]
    assert [answer[1] for answer in await tell(world, *phones, *rides)] == [20_000] * 4


async def test_a_settlement_decides_what_waits_and_nothing_twice(world: World) -> None:
    later, elsewhere = replace(HOME, begins=JANUARY + 1, before=11), replace(HOME, who=1, thing=2, source="south")
    answers = await tell(
        world, HOME, later, elsewhere, Settle(0, "north", 2), Settle(0, "north", 3), Settle(1, "south", 3), elsewhere
    )
    assert answers[3:6] == [
        ("settled", frozenset({(0, "matured", 20_000, 20), (1, "matured", 1_000, 1)})),
        ("settled", frozenset()),
        ("settled", frozenset({(2, "withdrawn", 20_000, 20)})),
    ]
    assert answers[6] == credited(20_000, 20, pending=True)  # what was withdrawn holds nothing
    assert (await tell(world, HOME, Settle(0, "north", 1), Retract(0), HOME))[3] == credited(20_000, 20, pending=True)


async def test_a_project_earns_points_only_once_trading_was_given_up_and_its_grams_wait(world: World) -> None:
    stage = await world.people()
    path = f"/v1/participants/{stage.participant_ids[1]}/waivers"
    given = {"installation": f"{stage.name} n 1", "text_version": "trading-1", "given_at": "2026-01-01T08:00:00+08:00"}
    post = world.api.platform.poster.post
    traded, waived = PV, replace(PV, begins=JANUARY + 1)
    before = [stage.answer(one) for one in await post([stage.command(0, traded, [])])]
    answer = await world.api.client.post(path, headers=world.api.bearer("operator"), json=given)
    assert answer.status_code == 201, answer.text
    after = [stage.answer(one) for one in await post([stage.command(1, waived, [])])]
    assert [before, after] == [[credited(7_000, 0, pending=True)], [credited(7_000, 7)]]
    owner = (await balances(stage))[1]
    assert (owner["co2e_pending"], owner["co2e_available"]) == (14_000, 0)
    assert (owner["points_pending"], owner["points_available"]) == (0, 7)
    await post([stage.command(2 + number, Retract(number), [traded, waived]) for number in range(2)])
    assert set((await balances(stage))[1].values()) == {0}


@pytest.mark.parametrize("tier", [0, 4])
async def test_impossible_facts_settle_nothing(world: World, tier: int) -> None:
    stage = await world.people()
    orders: list[Order] = [HOME, Settle(0, "north", tier), Settle(0, "north", 1)]
    answers = [stage.answer(one) for one in await world.api.platform.poster.post(stage.commands(orders))]
    assert answers[1] == refused("input-out-of-range/tier")
    assert answers[2] == ("settled", frozenset({(0, "matured", 20_000, 20)}))


async def rival(posters: Sequence[Poster], stage: Stage, rivals: Sequence[Order]) -> list[Answer]:
    """Post a ride, and then all rivals at the same moment."""
    orders = [RIDE, *rivals]
    first, *others = [[stage.command(number, order, orders)] for number, order in enumerate(orders)]
    await posters[0].post(first)
    return [stage.answer(one) for (one,) in await post_at_once(posters, others)]


async def test_of_sixteen_corrections_at_once_one_is_credited(world: World) -> None:
    rivals: list[Order] = [corrected(RIDE, 0, amount=1600 + n, who=n % 2) for n in range(16)]
    async with crowd(world, 16) as posters:
        for _ in range(6):
            stage = await world.people()
            answers = await rival(posters, stage, rivals)
            assert sorted(answer[0] for answer in answers) == ["credited"] + ["refused"] * 15
            assert {answer[1] for answer in answers if answer[0] == "refused"} == {"already-corrected"}
            assert len((await stored(stage)).claims) == 2


async def test_of_sixteen_corrections_of_a_refused_event_at_once_one_is_credited(world: World) -> None:
    """Each of another ride, of another person: only the event they replace is one."""
    rivals = [
        corrected(replace(RIDE, order=10 + n, payment=None, thing=n, who=n % 2, begins=20 * n), 0) for n in range(16)
    ]
    async with crowd(world, 16) as posters:
        for _ in range(6):
            stage = await world.people()
            first, *others = [
                [stage.command(n, order, [])] for n, order in enumerate([replace(HOME, before=10), *rivals])
            ]
            await posters[0].post(first)
            answers = [stage.answer(one) for (one,) in await post_at_once(posters, others)]
            assert sorted(answer[0] for answer in answers) == ["credited"] + ["refused"] * 15
            assert {answer[1] for answer in answers if answer[0] == "refused"} == {"already-corrected"}
            assert len((await stored(stage)).claims) == 1


async def test_of_corrections_and_retractions_at_once_one_takes_it_back(world: World) -> None:
    kinds: list[Order] = [corrected(RIDE, 0, amount=1700), Retract(0), Reverse(0), replace(RIDE, who=1)]
    async with crowd(world, 16) as posters:
        for _ in range(6):
            stage = await world.people()
            answers = await rival(posters, stage, kinds * 4)
            first = [answer for answer in answers if answer[0] == "reversed" and not answer[3]]
            fixed = [answer for answer in answers[::4] if answer[0] == "credited"]
            holders = {row[2] for row in (await stored(stage)).claims}
            standing = sum(balance["points_available"] for balance in await balances(stage))
            assert len(first) + len(fixed) == 1
            assert len(holders) <= 1
            assert (standing > 0) == bool(holders)


async def everything(database: Database) -> dict[str, tuple[int, str | None]]:
    """How many rows each table has, and a hash of them all."""
    connection = await asyncpg.connect(database.admin)
    try:
        tables = await connection.fetch(
            "SELECT schemaname || '.' || tablename AS name FROM pg_tables WHERE schemaname IN ('ledger', 'service')"
        )
        found = {}
        for (name,) in tables:
            row = await connection.fetchrow(
                f"SELECT count(*), md5(string_agg(md5(t::text), '' ORDER BY t::text)) FROM {name} AS t"
            )
            assert row is not None
            found[name] = (row[0], row[1])
        return found
    finally:
        await connection.close()


_STORY: list[Order] = [
    RIDE,
    PHONE,
    replace(PHONE, who=1, order=2, payment=None, thing=3),
    replace(RIDE, who=1, order=2, payment=None, thing=3),
    corrected(RIDE, 0, amount=2000),
    Repeat(0),
    BOARDING,
    Retract(4),
    BOARDING,
    HOME,
    PV,
    Settle(0, "north", 1),
    Reverse(9),
    PV,
    Act("bonus", 2, "north", 0, 10, 5000),
]


async def test_a_rehearsal_answers_as_the_real_thing_and_changes_nothing(world: World) -> None:
    stage = await world.people()
    await world.api.platform.poster.post([stage.command(100, replace(RIDE, who=1, begins=300, order=9, thing=9), [])])
    commands = stage.commands(_STORY)
    before = await everything(world.database)
    async with poster_on(world) as poster:
        told = [stage.answer(one) for one in await poster.rehearse(commands)]
        again = [stage.answer(one) for one in await poster.rehearse(commands)]
    assert await everything(world.database) == before
    real = [stage.answer(one) for one in await world.api.platform.poster.post(commands)]
    assert told == again == real
    assert await everything(world.database) != before


async def test_rehearsals_among_the_real_thing_change_nothing_and_deadlock_nobody(world: World) -> None:
    stage = await world.people()
    commands = stage.commands(_STORY)

    async def many_times(ask: Callable[[], Awaitable[list[Outcome]]], times: int) -> list[list[Outcome]]:
        return [await ask() for _ in range(times)]

    async with (
        no_deadlock(world.database),
        poster_on(world) as one,
        poster_on(world) as other,
        poster_on(world) as third,
    ):
        told = await asyncio.gather(
            many_times(lambda: one.rehearse(commands), 12),
            many_times(lambda: other.rehearse(commands), 12),
            many_times(lambda: third.post(commands), 12),
        )
    real = [stage.answer(outcome) for outcome in told[2][0]]
    model = Model()
    for number, (order, answer) in enumerate(zip(_STORY[:-1], real[:-1], strict=True)):  # of campaigns it knows nothing
        assert plain(answer) == plain(model.obey(number, order))


async def test_afterwards_no_check_finds_anything(world: World) -> None:
    """Runs behind the others, over everything they left."""
    assert await findings(world.database) == []

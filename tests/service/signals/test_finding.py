"""What the rules find, each with the last good value and the first bad one."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.clock import SHANGHAI
from service.signals.drift import SourceDay, find_drift, median, moved_permille, percentile_99
from service.signals.finding import Act, Found, Person, find, find_shared
from service.signals.rules import SignalRule, shipped_rules

RULES = {rule.id: rule for rule in shipped_rules()}
DAY = date(2026, 5, 12)
MIDNIGHT = datetime(2026, 5, 12, tzinfo=SHANGHAI)
BIKE = b"b" * 32


def act(number: int, *, mg: int | None = None, minute: int | None = None, **changes: object) -> Act:
    """A ride of ten minutes; with a minute of the day its hours are known."""
    begins = None if minute is None else MIDNIGHT + timedelta(minutes=minute)
    ends = None if begins is None else begins + timedelta(minutes=10)
    made = Act(UUID(int=number), 1, "docked-ebike", DAY, None, 40_000 + number if mg is None else mg, begins, ends)
    return replace(made, **changes)  # type: ignore[arg-type]  # each test names fields of the class


def found(name: str, acts: Sequence[Act], **rest: object) -> list[Found]:
    person = Person(sorted(acts, key=lambda each: each.day), **rest)  # type: ignore[arg-type]  # as above
    return find([RULES[name]], person, DAY)


def test_a_day_has_so_many_and_not_one_more() -> None:
    limit = RULES["acts-a-day"].limits["more_than"]
    acts = [act(number) for number in range(limit + 1)]
    assert found("acts-a-day", acts[:-1]) == []
    (one,) = found("acts-a-day", acts)
    assert one.values == {"day": "2026-05-12", "count": str(limit + 1), "limit": str(limit), "usual": "0"}
    assert len(one.activities) == limit + 1


def test_what_is_usual_at_a_source_is_not_unusual_of_a_person() -> None:
    acts = [act(number) for number in range(40)]
    assert found("acts-a-day", acts, usual={1: 5})
    assert found("acts-a-day", acts, usual={1: 10}) == []
    assert found("acts-a-day", acts, usual={2: 10})  # another source's


def test_a_finding_is_told_again_when_it_has_doubled() -> None:
    abouts = [found("acts-a-day", [act(number) for number in range(many)])[0].about for many in (25, 31, 32, 63, 64)]
    assert abouts == ["2026-05-12/5", "2026-05-12/5", "2026-05-12/6", "2026-05-12/6", "2026-05-12/7"]


def test_an_hour_is_any_sixty_minutes() -> None:
    limit = RULES["acts-an-hour"].limits["more_than"]
    within = [act(number, minute=50 + 7 * number) for number in range(limit + 1)]
    assert (within[-1].started_at or MIDNIGHT) - (within[0].started_at or MIDNIGHT) < timedelta(hours=1)
    (one,) = found("acts-an-hour", within)
    assert one.values["count"] == str(limit + 1)
    apart = [act(number, minute=50 + 60 * number // limit) for number in range(limit + 1)]
    assert found("acts-an-hour", apart) == []
    assert found("acts-an-hour", [replace(each, started_at=None, ended_at=None) for each in within]) == []


def test_no_time_lies_between_rides_at_two_ends_of_the_city() -> None:
    least = RULES["no-time-between"].limits["at_least"]

    def chain(gap_s: int, many: int, *, same_bike: bool = False) -> list[Act]:
        step = timedelta(minutes=10, seconds=gap_s)
        return [
            act(
                number,
                started_at=MIDNIGHT + number * step,
                ended_at=MIDNIGHT + number * step + timedelta(minutes=10),
                vehicle=BIKE if same_bike else bytes([number]) * 32,
            )
            for number in range(many)
        ]

    (one,) = found("no-time-between", chain(9, least + 1))
    assert one.values["count"] == str(least)
    assert found("no-time-between", chain(9, least)) == []
    assert found("no-time-between", chain(10, least + 1)) == []
    assert found("no-time-between", chain(0, least + 1, same_bike=True)) == []
    elsewhere = [replace(each, vehicle=None, source_id=number % 2) for number, each in enumerate(chain(9, least + 1))]
    assert found("no-time-between", elsewhere)  # two providers, and no bicycle to tell them apart


def test_speed_is_of_grams_and_time() -> None:
    least, distance = RULES["too-fast"].limits["at_least"], RULES["too-fast"].distances["docked-ebike"]
    assert distance.km_per_hour is not None
    most = distance.mg_per_km * distance.km_per_hour // 6  # in ten minutes
    at_limit = [act(number, mg=most, minute=20 * number) for number in range(least)]
    assert found("too-fast", at_limit) == []
    assert found("too-fast", [replace(each, mg=most + 1) for each in at_limit])
    assert found("too-fast", [replace(each, mg=most + 1) for each in at_limit[1:]]) == []
    assert found("too-fast", [replace(each, mg=most + 1, scenario="metro-ride") for each in at_limit]) == []


def test_the_same_distances_in_the_same_order_are_a_replay() -> None:
    figures = [71_111, 82_222, 93_333]
    rounded = [35_010 * tenths // 10 for tenths in (21, 17, 34)]
    daily = [act(number, mg=mg, minute=20 * number) for number, mg in enumerate(rounded * 2)]
    assert found("replayed-series", daily) == []  # a provider that rounds, and somebody with one way to work
    finer = [replace(each, mg=mg) for each, mg in zip(daily, [*rounded[:2], 71_111] * 2, strict=True)]
    assert found("replayed-series", finer)
    rides = [act(number, mg=mg, minute=20 * number) for number, mg in enumerate(figures + figures)]
    (one,) = found("replayed-series", rides)
    assert sorted(each.int for each in one.activities) == [3, 4, 5]  # the first telling may be true
    other = [replace(each, mg=mg) for each, mg in zip(rides, figures + figures[:2] + [5], strict=True)]
    assert found("replayed-series", other) == []
    backwards = [replace(each, mg=mg) for each, mg in zip(rides, figures + figures[::-1], strict=True)]
    assert found("replayed-series", backwards) == []
    steady = [act(number, mg=70_020, minute=20 * number) for number in range(6)]
    assert found("replayed-series", steady) == []  # equal rides are a habit


def test_a_copied_list_is_told_of_whoever_told_it_later() -> None:
    rule, figures = RULES["shared-series"], [71_111, 82_222, 93_333]
    people = {
        UUID(int=who): [act(100 * who + number, mg=mg, minute=20 * number) for number, mg in enumerate(figures)]
        for who in (1, 2, 3)
    }
    shared = find_shared(rule, people, DAY)
    assert sorted(who.int for who in shared) == [2, 3]
    assert shared[UUID(int=2)].values["count"] == "3"
    assert find_shared(rule, {UUID(int=1): people[UUID(int=1)]}, DAY) == {}


def test_round_distances_are_whole_steps_of_the_grams() -> None:
    least = RULES["round-figures"].limits["at_least"]
    halves = [act(number, mg=35_010 * (number + 1) // 2) for number in range(least)]
    (one,) = found("round-figures", halves)
    assert (one.values["count"], one.values["of"], one.values["step_m"]) == (str(least), str(least), "500")
    assert found("round-figures", halves[1:]) == []
    measured = [act(100 + number) for number in range(least + 1)]
    assert found("round-figures", halves + measured) == []  # less than half of them
    assert found("round-figures", halves + measured[1:])


def test_one_distance_again_and_again() -> None:
    least = RULES["same-figure"].limits["at_least"]
    same = [act(number, mg=82_273) for number in range(least)]
    (one,) = found("same-figure", same)
    assert (one.values["count"], one.values["of"]) == (str(least), str(least))
    assert found("same-figure", same[1:]) == []
    assert found("same-figure", [*same, *(act(100 + number) for number in range(least))])
    assert found("same-figure", [*same, *(act(100 + number) for number in range(least + 1))]) == []


def test_refusals_that_say_elsewhere_are_counted_beside_credits() -> None:
    least = RULES["two-places"].limits["at_least"]
    refused = [
        act(number, mg=0, reason=slug) for number, slug in enumerate(["overlaps-activity", "overlaps-claim"] * 9)
    ]
    assert found("two-places", [*refused[:least], act(99)])
    assert found("two-places", [*refused[: least - 1], act(99)]) == []
    assert found("two-places", refused) == []  # nothing was credited, so nothing is held
    others = [replace(each, reason="condition-not-met") for each in refused]
    assert found("two-places", [*others, act(99)]) == []


def test_a_bicycle_that_everybody_rides_and_a_new_account() -> None:
    limit = RULES["vehicle-a-day"].limits["more_than"]
    ride = act(1, vehicle=BIKE)
    assert found("vehicle-a-day", [ride], vehicles={(BIKE, DAY): limit}) == []
    assert found("vehicle-a-day", [ride], vehicles={(BIKE, DAY): limit + 1})
    limit = RULES["new-account"].limits["more_than"]
    acts = [act(number) for number in range(limit + 1)]
    assert found("new-account", acts, enrolled_on=DAY)
    assert found("new-account", acts[1:], enrolled_on=DAY) == []
    assert found("new-account", acts, enrolled_on=DAY - timedelta(days=3)) == []
    assert found("new-account", acts, enrolled_on=DAY + timedelta(days=1)) == []  # told from before the account


@pytest.mark.parametrize("name", [name for name, rule in RULES.items() if rule.strength == "strong"])
def test_a_window_ends_with_its_day(name: str) -> None:
    acts = [act(number, mg=35_010, minute=2 * number, day=DAY + timedelta(days=1)) for number in range(60)]
    assert found(name, acts) == []


def source_day(number: int, **changes: object) -> SourceDay:
    plain = SourceDay(
        DAY - timedelta(days=number), 100 + number % 3, 5, 100 * 40_000, 3, (0,) * 7 + (60, 40) + (0,) * 15
    )
    return replace(plain, **changes)  # type: ignore[arg-type]  # each test names fields of the class


def drifted(**changes: object) -> set[str]:
    past = [source_day(number) for number in range(1, 29)]
    return {one.rule.id for one in find_drift(RULES.values(), source_day(0, **changes), past)}


def test_a_source_is_held_against_its_own_past() -> None:
    assert drifted() == set()
    assert drifted(credited=151, mg=151 * 40_000) == set()
    assert drifted(credited=152, mg=152 * 40_000) == {"drift-credits"}
    assert drifted(mg=100 * 49_000) == {"drift-grams"}
    assert drifted(refused=30) == {"drift-refusals"}
    assert drifted(hours=(0,) * 7 + (24, 40) + (36,) + (0,) * 14) == {"drift-hours"}
    assert drifted(hours=(0,) * 24) == set()  # its hours are not kept


def test_a_young_or_small_source_is_left_alone() -> None:
    rule: list[SignalRule] = list(RULES.values())
    wild = source_day(0, credited=5_000)
    assert find_drift(rule, wild, [source_day(number) for number in range(1, 14)]) == []
    assert find_drift(rule, wild, [source_day(number, credited=29) for number in range(1, 29)]) == []
    assert find_drift(rule, wild, [source_day(number) for number in range(30, 58)]) == []


@given(st.lists(st.integers(0, 50), min_size=24, max_size=24), st.integers(1, 9))
def test_a_day_of_the_same_shape_moves_nothing(hours: list[int], times: int) -> None:
    hours[0] += 1
    assert moved_permille(hours, [times * count for count in hours]) == 0
    apart = moved_permille([1] + [0] * 23, [0] * 23 + [1])
    assert apart == 1000


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=300))
def test_middle_and_edge_are_values_that_were_there(values: list[int]) -> None:
    assert median(values) in values
    assert percentile_99(values) in values
    assert sum(value <= percentile_99(values) for value in values) * 100 >= 99 * len(values)
    assert sum(value <= median(values) for value in values) * 2 >= len(values)

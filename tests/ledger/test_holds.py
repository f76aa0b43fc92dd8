"""Properties of holds: what each step takes and gives back, alone and through any sequence of steps and credits."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ledger.errors import LedgerInvariantBroken
from ledger.holds import (
    PASSING_CLASSES,
    Hold,
    capture_lines,
    hold_lines,
    passing,
    refund_lines,
    release_lines,
    still_held,
)
from ledger.journal import (
    CREDIT_CLASSES,
    Account,
    Line,
    buckets_after,
    credit_lines,
    lapse_lines,
    no_balances,
    posted,
    reversal_lines,
)
from tests.strategies import PARTICIPANT, month_ends

_buckets = st.dictionaries(month_ends(), st.integers(0, 50), min_size=1, max_size=5)
_grams = st.dictionaries(
    st.tuples(st.integers(2024, 2028), st.sampled_from(CREDIT_CLASSES)), st.integers(-50, 100), max_size=6
)


def total(lines: Any, asset: str) -> int:
    return sum(line.amount for line in lines if line.asset == asset)


def account_of(buckets: dict[date, int], *, debt: int = 0, held: int = 0, grams: tuple[int, int] = (0, 0)) -> Account:
    balances = no_balances()
    balances["points", "available"], balances["points", "debt"] = sum(buckets.values()), debt
    balances["points", "held"], balances["co2e_mg", "held"] = held, grams[0]
    balances["co2e_mg", "debt"] = grams[1]
    return Account(PARTICIPANT, "citizen", "demo", "310000", 0, balances, None)


@st.composite
def holds(draw: st.DrawFn) -> tuple[dict[date, int], dict[tuple[int, str], int], tuple[Line, ...]]:
    """Buckets, grams, and a hold out of them."""
    buckets = draw(_buckets.filter(lambda found: sum(found.values()) > 0))
    grams = draw(_grams)
    points = draw(st.integers(1, sum(buckets.values())))
    return buckets, grams, hold_lines(buckets, grams, points=points, co2e_mg=draw(st.integers(0, passing(grams))))


@given(_buckets, _grams, st.data())
def test_a_hold_adds_up_and_takes_first_what_runs_out_first(
    buckets: dict[date, int], grams: dict[tuple[int, str], int], data: st.DataObject
) -> None:
    points = data.draw(st.integers(1, sum(buckets.values()) + 1))
    co2e_mg = data.draw(st.integers(0, passing(grams) + 1))
    if points > sum(buckets.values()) or co2e_mg > passing(grams):
        with pytest.raises(LedgerInvariantBroken):
            hold_lines(buckets, grams, points=points, co2e_mg=co2e_mg)
        return
    lines = hold_lines(buckets, grams, points=points, co2e_mg=co2e_mg)
    assert (total(lines, "points"), total(lines, "co2e_mg")) == (points, co2e_mg)
    assert {(line.from_account, line.to_account) for line in lines} == {("available", "held")}
    left = buckets_after(buckets, lines)
    last = max(line.expires_on for line in lines if line.expires_on)
    assert not any(amount for day, amount in left.items() if day < last), "a bucket that runs out sooner was passed by"
    for line in lines:
        if line.asset == "co2e_mg":
            assert line.credit_class in PASSING_CLASSES
            assert line.amount <= grams[line.vintage or 0, line.credit_class or ""]


@given(_grams)
def test_a_projects_grams_never_pass_not_even_in_anothers_place(grams: dict[tuple[int, str], int]) -> None:
    able = passing(grams)
    assert able >= 0
    able_classes = sum(mg for (_, credit_class), mg in grams.items() if credit_class in PASSING_CLASSES)
    assert able <= max(0, able_classes)
    assert able <= max(0, sum(grams.values()))


@given(holds(), st.data())
def test_captures_and_the_release_of_the_rest_are_the_hold(
    held: tuple[dict[date, int], dict[tuple[int, str], int], tuple[Line, ...]], data: st.DataObject
) -> None:
    _, _, lines = held
    points, co2e_mg = total(lines, "points"), total(lines, "co2e_mg")
    steps: list[Line] = []
    while points and data.draw(st.booleans()):
        taken, grams = data.draw(st.integers(1, points)), data.draw(st.integers(0, co2e_mg))
        steps += capture_lines(still_held(lines, points=points, co2e_mg=co2e_mg), points=taken, co2e_mg=grams)
        points, co2e_mg = points - taken, co2e_mg - grams
    rest = still_held(lines, points=points, co2e_mg=co2e_mg)
    assert (total(rest, "points"), total(rest, "co2e_mg")) == (points, co2e_mg)
    if rest:
        after = account_of({}, held=points, grams=(co2e_mg, 0))
        released = release_lines(after, rest)
        assert all(line.to_account == "available" for line in released)
        steps += released
    assert _by_place(steps) == _by_place(lines)
    captured = [line for line in steps if line.to_account in ("redeemed", "partner")]
    first = [line.expires_on for line in captured if line.expires_on]
    assert first == sorted(first), "captures take first what runs out first"
    assert {line.to_account for line in captured} <= {"redeemed", "partner"}
    assert all((line.to_account == "redeemed") == (line.asset == "points") for line in captured)


def _by_place(lines: Any) -> dict[Any, int]:
    places: dict[Any, int] = {}
    for line in lines:
        place = (line.asset, line.expires_on, line.credit_class, line.vintage)
        places[place] = places.get(place, 0) + line.amount
    return places


@given(holds(), st.integers(0, 300), st.integers(0, 300), st.booleans())
def test_what_comes_back_repays_first_what_is_owed(
    held: tuple[dict[date, int], dict[tuple[int, str], int], tuple[Line, ...]], owed: int, owed_mg: int, captured: bool
) -> None:
    _, _, lines = held
    points, co2e_mg = total(lines, "points"), total(lines, "co2e_mg")
    account = account_of({}, debt=owed, held=0 if captured else points, grams=(0 if captured else co2e_mg, owed_mg))
    if captured:
        back = refund_lines(account, capture_lines(lines, points=points, co2e_mg=co2e_mg))
    else:
        back = release_lines(account, lines)
    assert _by_place(back) == _by_place(lines)
    after = posted(account, back)
    assert after.balance("points", "debt") == max(0, owed - points)
    assert after.balance("points", "available") == max(0, points - owed)
    assert after.balance("co2e_mg", "debt") == max(0, owed_mg - co2e_mg)
    assert after.balance("co2e_mg", "available") == max(0, co2e_mg - owed_mg)
    days = [line.expires_on for line in back if line.to_account == "debt" and line.expires_on]
    kept = [line.expires_on for line in back if line.to_account == "available" and line.expires_on]
    assert all(repaid <= day for repaid in days for day in kept), "what runs out first repays first"


@given(holds(), st.integers(1, 10))
def test_nothing_is_taken_or_given_back_that_is_not_held(
    held: tuple[dict[date, int], dict[tuple[int, str], int], tuple[Line, ...]], more: int
) -> None:
    _, _, lines = held
    points, co2e_mg = total(lines, "points"), total(lines, "co2e_mg")
    with pytest.raises(LedgerInvariantBroken):
        capture_lines(lines, points=points + more, co2e_mg=0)
    with pytest.raises(LedgerInvariantBroken):
        capture_lines(lines, points=points, co2e_mg=co2e_mg + more)
    with pytest.raises(LedgerInvariantBroken):
        still_held(lines, points=points + more, co2e_mg=0)
    with pytest.raises(LedgerInvariantBroken):
        capture_lines(lines, points=0, co2e_mg=0)
    with pytest.raises(LedgerInvariantBroken):
        capture_lines(lines, points=1, co2e_mg=-1)
    with pytest.raises(LedgerInvariantBroken):
        release_lines(account_of({}), still_held(lines, points=0, co2e_mg=0))


def test_a_hold_of_nothing_is_none() -> None:
    for points, co2e_mg in ((0, 0), (-1, 0), (1, -1)):
        with pytest.raises(LedgerInvariantBroken):
            hold_lines({date(2026, 5, 31): 5}, {}, points=points, co2e_mg=co2e_mg)


def test_a_hold_is_dead_from_its_last_second_on() -> None:
    end = datetime(2026, 5, 31, 16, tzinfo=UTC)
    hold = Hold(PARTICIPANT, UUID(int=1), end, 5, 0)
    assert not hold.is_dead(end - timedelta(microseconds=1))
    assert hold.is_dead(end)
    assert hold.is_dead(end + timedelta(microseconds=1))


_PLACE = st.integers(0, 10**6)
_DAYS = [date(2026, month, 28) for month in range(1, 7)]


class Purse(RuleBasedStateMachine):
    """One participant's account by the ledger's own functions, through credits, reversals, lapses and holds."""

    def __init__(self) -> None:
        super().__init__()
        self.account, self.buckets = account_of({}), dict[date, int]()
        self.grams: dict[tuple[int, str], int] = {}
        self.month = 0
        self.credits: list[tuple[Line, ...]] = []
        self.holds: list[tuple[tuple[Line, ...], int, int]] = []
        self.captures: list[tuple[Line, ...]] = []
        self.system: dict[str, int] = {"points": 0, "co2e_mg": 0}

    def post(self, lines: tuple[Line, ...]) -> None:
        self.account, self.buckets = posted(self.account, lines), buckets_after(self.buckets, lines)
        own = ("available", "held", "debt")
        for line in lines:
            crossing = (line.from_account not in own) - (line.to_account not in own)
            self.system[line.asset] += crossing * line.amount
            change = (line.to_account == "available") - (line.from_account == "available")
            if line.asset == "co2e_mg" and change and line.vintage and line.credit_class:
                lot = (line.vintage, line.credit_class)
                self.grams[lot] = self.grams.get(lot, 0) + change * line.amount

    @rule(points=st.integers(0, 60), mg=st.integers(1, 60), place=_PLACE, kind=st.sampled_from(CREDIT_CLASSES))
    def credit(self, points: int, mg: int, place: int, kind: str) -> None:
        day = _DAYS[self.month + place % (len(_DAYS) - self.month)]
        lines = credit_lines(
            self.account, co2e_mg=mg, points=points, credit_class=kind, vintage=2024 + place % 2, expires_on=day
        )
        self.credits.append(lines)
        self.post(lines)

    @precondition(lambda self: self.credits)
    @rule(place=_PLACE)
    def reverse(self, place: int) -> None:
        credit = self.credits.pop(place % len(self.credits))
        self.post(reversal_lines(self.account, self.buckets, credit))

    @precondition(lambda self: self.month < len(_DAYS) - 1)
    @rule()
    def lapse(self) -> None:
        self.month += 1
        self.close()

    def close(self) -> None:
        self.post(lapse_lines(self.buckets, _DAYS[self.month]))

    @precondition(lambda self: sum(self.buckets.values()) > 0)
    @rule(place=_PLACE, grams=_PLACE)
    def hold(self, place: int, grams: int) -> None:
        points, mg = 1 + place % sum(self.buckets.values()), grams % (passing(self.grams) + 1)
        lines = hold_lines(self.buckets, self.grams, points=points, co2e_mg=mg)
        self.post(lines)
        self.holds.append((lines, points, mg))

    @precondition(lambda self: self.holds)
    @rule(place=_PLACE, share=_PLACE)
    def capture(self, place: int, share: int) -> None:
        which = place % len(self.holds)
        lines, points, mg = self.holds[which]
        taken, grams = 1 + share % points, share % (mg + 1)
        taken, grams = (points, mg) if taken == points else (taken, grams)
        capture = capture_lines(still_held(lines, points=points, co2e_mg=mg), points=taken, co2e_mg=grams)
        self.post(capture)
        self.captures.append(capture)
        self.holds[which] = (lines, points - taken, mg - grams)
        if taken == points:
            self.holds.pop(which)

    @precondition(lambda self: self.holds)
    @rule(place=_PLACE)
    def release(self, place: int) -> None:
        lines, points, mg = self.holds.pop(place % len(self.holds))
        self.post(release_lines(self.account, still_held(lines, points=points, co2e_mg=mg)))
        self.close()

    @precondition(lambda self: self.captures)
    @rule(place=_PLACE)
    def refund(self, place: int) -> None:
        self.post(refund_lines(self.account, self.captures.pop(place % len(self.captures))))
        self.close()

    @invariant()
    def nothing_is_owed_while_something_is_free(self) -> None:
        for asset in ("points", "co2e_mg"):
            assert not (self.account.balance(asset, "debt") and self.account.balance(asset, "available"))

    @invariant()
    def it_adds_up(self) -> None:
        balance = self.account.balance
        assert balance("points", "available") == sum(self.buckets.values())
        assert balance("co2e_mg", "available") == sum(self.grams.values())
        assert balance("points", "held") == sum(points for _, points, _ in self.holds)
        assert balance("co2e_mg", "held") == sum(mg for _, _, mg in self.holds)
        for asset, came in self.system.items():
            assert balance(asset, "available") + balance(asset, "held") - balance(asset, "debt") == came
        assert not any(left for day, left in self.buckets.items() if day < _DAYS[self.month])


TestPurse = Purse.TestCase
TestPurse.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)


def test_lines_of_a_hold_keep_their_bucket_on_every_way() -> None:
    buckets = {date(2026, 5, 31): 3, date(2026, 6, 30): 4}
    held = hold_lines(buckets, {(2026, "scenario"): 9}, points=5, co2e_mg=7)
    may, june, grams = held
    assert (may.amount, june.amount, grams.amount) == (3, 2, 7)
    captured = capture_lines(held, points=4, co2e_mg=5)
    assert [line.expires_on for line in captured] == [date(2026, 5, 31), date(2026, 6, 30), None]
    left = still_held(held, points=1, co2e_mg=2)
    assert left == (replace(june, amount=1), replace(grams, amount=2))
    owing = account_of({}, debt=2)
    assert [(line.to_account, line.amount) for line in refund_lines(owing, captured)] == [
        ("debt", 2),
        ("available", 1),
        ("available", 1),
        ("available", 5),
    ]

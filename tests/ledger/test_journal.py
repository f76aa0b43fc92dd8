"""The pure decisions: what a credit, a reversal and a lapse post, and that nothing is ever lost or negative."""

from dataclasses import replace
from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import LedgerInvariantBroken
from ledger.journal import (
    AMOUNT_MAX,
    Account,
    Line,
    buckets_after,
    credit_lines,
    lapse_lines,
    no_balances,
    posted,
    reversal_lines,
)
from tests.strategies import PARTICIPANT, amounts, buckets, month_ends, points_amounts, standing_accounts

Standing = tuple[Account, dict[date, int]]
JANUARY, FEBRUARY, MARCH = date(2027, 1, 31), date(2027, 2, 28), date(2027, 3, 31)


def account(**balances: int) -> Account:
    """An account with these balances: `points_available=3`."""
    found = no_balances()
    for name, amount in balances.items():
        asset, _, kind = name.rpartition("_")
        found["co2e_mg" if asset == "co2e" else asset, kind] = amount
    return Account(PARTICIPANT, "citizen", "demo", "310000", 4, found, None)


def credit(to: Account, co2e_mg: int, points: int, expires_on: date = JANUARY) -> tuple[Line, ...]:
    return credit_lines(
        to, co2e_mg=co2e_mg, points=points, credit_class="behaviour", vintage=2026, expires_on=expires_on
    )


def sums(lines: tuple[Line, ...], account_name: str) -> dict[str, int]:
    """What these lines change an account by, for each asset."""
    found = {"co2e_mg": 0, "points": 0}
    for line in lines:
        found[line.asset] += line.amount * ((line.to_account == account_name) - (line.from_account == account_name))
    return found


def test_a_credit_is_a_line_for_each_asset() -> None:
    assert credit(account(), 82273, 82) == (
        Line("issuance", "available", "co2e_mg", 82273, "behaviour", 2026),
        Line("issuance", "available", "points", 82, expires_on=JANUARY),
    )
    assert [line.asset for line in credit(account(), 999, 0)] == ["co2e_mg"]


@pytest.mark.parametrize(
    ("debt", "repaid", "free"),
    [(0, None, 82), (1, 1, 81), (81, 81, 1), (82, 82, None), (83, 82, None), (500, 82, None)],
)
def test_a_credit_repays_debt_first(debt: int, repaid: int | None, free: int | None) -> None:
    lines = [line for line in credit(account(points_debt=debt), 1, 82) if line.asset == "points"]
    assert [(line.to_account, line.amount) for line in lines] == [
        (name, amount) for name, amount in (("debt", repaid), ("available", free)) if amount
    ]
    assert all((line.expires_on is None) == (line.to_account == "debt") for line in lines)


def test_a_reversal_takes_its_own_bucket_then_the_next_to_expire_then_debt() -> None:
    found = {JANUARY: 10, FEBRUARY: 20, MARCH: 30}
    lines = reversal_lines(account(points_available=60, co2e_available=5), found, credit(account(), 5, 100, FEBRUARY))
    assert lines == (
        Line("available", "issuance", "co2e_mg", 5, "behaviour", 2026),
        Line("available", "issuance", "points", 20, expires_on=FEBRUARY),
        Line("available", "issuance", "points", 10, expires_on=JANUARY),
        Line("available", "issuance", "points", 30, expires_on=MARCH),
        Line("debt", "issuance", "points", 40),
    )


def test_a_reversal_never_takes_what_is_held_or_pending() -> None:
    holding = account(points_held=50, points_pending=50, co2e_held=5)
    assert sums(reversal_lines(holding, {}, credit(account(), 5, 7)), "debt") == {"co2e_mg": -5, "points": -7}


@pytest.mark.parametrize("today", [JANUARY - timedelta(days=1), JANUARY])
def test_points_live_through_their_last_day(today: date) -> None:
    assert lapse_lines({JANUARY: 5}, today) == ()


def test_points_lapse_the_day_after_and_an_empty_bucket_does_not() -> None:
    assert lapse_lines({FEBRUARY: 2, JANUARY: 5, MARCH: 9, date(2026, 12, 31): 0}, date(2027, 3, 1)) == (
        Line("available", "lapsed", "points", 5, expires_on=JANUARY),
        Line("available", "lapsed", "points", 2, expires_on=FEBRUARY),
    )


@pytest.mark.parametrize("amount", [0, -1])
def test_a_line_moves_something(amount: int) -> None:
    with pytest.raises(LedgerInvariantBroken, match="positive amount"):
        posted(account(), [Line("issuance", "available", "points", amount, expires_on=JANUARY)])


def test_a_balance_stays_between_nothing_and_64_bits() -> None:
    line = Line("issuance", "available", "co2e_mg", 1, "behaviour", 2026)
    assert posted(account(co2e_available=AMOUNT_MAX - 1), [line]).balance("co2e_mg", "available") == AMOUNT_MAX
    with pytest.raises(LedgerInvariantBroken, match="available co2e_mg"):
        posted(account(co2e_available=AMOUNT_MAX), [line])
    back = replace(line, from_account="available", to_account="issuance")
    assert posted(account(co2e_available=1), [back]).balance("co2e_mg", "available") == 0
    with pytest.raises(LedgerInvariantBroken, match="would be -1"):
        posted(account(), [back])
    with pytest.raises(LedgerInvariantBroken, match="debt"):
        posted(account(), [replace(line, to_account="debt")])  # more paid back than was owed


def test_a_bucket_cannot_give_more_than_it_has() -> None:
    line = Line("available", "issuance", "points", 6, expires_on=JANUARY)
    assert buckets_after({JANUARY: 6}, [line]) == {JANUARY: 0}
    with pytest.raises(LedgerInvariantBroken, match="2027-01-31 would hold -1"):
        buckets_after({JANUARY: 5}, [line])


@given(standing_accounts(), amounts, points_amounts, month_ends())
def test_a_credit_gives_exactly_what_was_earned(standing: Standing, co2e_mg: int, points: int, end: date) -> None:
    lines = credit(standing[0], co2e_mg, points, end)
    assert sums(lines, "issuance") == {"co2e_mg": -co2e_mg, "points": -points}
    after = posted(standing[0], lines)
    for asset, amount in (("co2e_mg", co2e_mg), ("points", points)):
        net = after.balance(asset, "available") - after.balance(asset, "debt")
        assert net == standing[0].balance(asset, "available") - standing[0].balance(asset, "debt") + amount


@given(standing_accounts(), amounts, points_amounts, month_ends())
def test_a_credit_taken_back_at_once_leaves_nothing_behind(
    standing: Standing, co2e_mg: int, points: int, end: date
) -> None:
    before, found = standing
    lines = credit(before, co2e_mg, points, end)
    after, held = posted(before, lines), buckets_after(found, lines)
    back = reversal_lines(after, held, lines)
    assert sums(back, "issuance") == {"co2e_mg": co2e_mg, "points": points}
    last, left = posted(after, back), buckets_after(held, back)
    assert last.balances == before.balances
    assert {day: amount for day, amount in left.items() if amount} == found
    assert last.counter == before.counter + 2


@given(standing_accounts(), amounts, points_amounts, month_ends())
def test_a_reversal_takes_from_buckets_before_it_makes_debt(
    standing: Standing, co2e_mg: int, points: int, end: date
) -> None:
    before, found = standing
    lines = reversal_lines(before, found, credit(account(), co2e_mg, points, end))
    assert sums(lines, "issuance") == {"co2e_mg": co2e_mg, "points": points}
    left = buckets_after(found, lines)
    owed = -sums(lines, "debt")["points"]
    assert owed == max(0, points - sum(found.values()))
    taken = [line.expires_on for line in lines if line.asset == "points" and line.expires_on]
    assert taken == sorted(taken, key=lambda day: (day != end, day))
    others = [day for day in taken if day != end]
    untouched = [day for day, amount in left.items() if amount == found[day] and day != end]
    assert not others or all(day > max(others) for day in untouched)
    posted(before, lines)


@given(standing_accounts(), st.dates(date(2026, 1, 1), date(2030, 12, 31)))
def test_a_lapse_closes_what_is_over_and_nothing_else(standing: Standing, today: date) -> None:
    before, found = standing
    lines = lapse_lines(found, today)
    after = posted(before, lines)
    left = {day: amount for day, amount in buckets_after(found, lines).items() if amount}
    assert left == {day: amount for day, amount in found.items() if day >= today}
    assert after.balance("points", "available") == sum(left.values())


@given(standing_accounts(), buckets)
def test_next_expiry_is_never_later_than_a_bucket_with_points(standing: Standing, more: dict[date, int]) -> None:
    before, found = standing
    for end, points in more.items():
        lines = credit(before, 1, points, end)
        before, found = posted(before, lines), buckets_after(found, lines)
    live = [day for day, amount in found.items() if amount]
    assert not live or (before.next_expiry is not None and before.next_expiry <= min(live))

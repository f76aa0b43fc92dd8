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
    maturity_lines,
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


def provisional(
    to: Account, co2e_mg: int, points: int, *, funded: int = 0, pending: bool = True, grams: bool | None = None
) -> tuple[Line, ...]:
    """A credit that waits, in whole or in part."""
    return credit_lines(
        to,
        co2e_mg=co2e_mg,
        points=points,
        credit_class="scenario",
        vintage=2026,
        expires_on=FEBRUARY,
        pending=pending,
        grams_pending=grams,
        funded_points=funded,
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


def test_a_pending_credit_has_no_bucket_and_repays_nothing() -> None:
    indebted = account(points_debt=50, co2e_debt=50)
    assert provisional(indebted, 1000, 7, funded=3) == (
        Line("issuance", "pending", "co2e_mg", 1000, "scenario", 2026),
        Line("issuance", "pending", "points", 7),
        Line("partner", "pending", "points", 3),
    )


def test_grams_wait_alone_where_the_points_do_not() -> None:
    assert provisional(account(), 1000, 7, pending=False, grams=True) == (
        Line("issuance", "pending", "co2e_mg", 1000, "scenario", 2026),
        Line("issuance", "available", "points", 7, expires_on=FEBRUARY),
    )
    assert [line.to_account for line in provisional(account(), 1000, 7, grams=False)] == ["available", "pending"]
    assert [line.asset for line in provisional(account(), 1000, 0)] == ["co2e_mg"]


@pytest.mark.parametrize(
    ("debt", "expected"),
    [
        (0, [("issuance", "available", 7), ("partner", "available", 3)]),
        (7, [("issuance", "debt", 7), ("partner", "available", 3)]),
        (8, [("issuance", "debt", 7), ("partner", "debt", 1), ("partner", "available", 2)]),
        (99, [("issuance", "debt", 7), ("partner", "debt", 3)]),
    ],
)
def test_funded_points_come_from_the_partner_and_repay_debt_too(debt: int, expected: list[object]) -> None:
    lines = provisional(account(points_debt=debt), 1, 7, funded=3, pending=False)
    found = [(line.from_account, line.to_account, line.amount) for line in lines if line.asset == "points"]
    assert found == expected
    assert {line.expires_on for line in lines if line.to_account == "available" and line.asset == "points"} <= {
        FEBRUARY
    }


@pytest.mark.parametrize(("co2e_mg", "points", "funded"), [(0, 0, 0), (0, 7, 0), (-1, 0, 0), (1, -1, 0), (1, 0, -1)])
def test_a_credit_has_grams(co2e_mg: int, points: int, funded: int) -> None:
    with pytest.raises(ValueError, match="a credit has grams"):
        provisional(account(), co2e_mg, points, funded=funded)


def test_a_maturity_repays_what_is_owed_by_then_and_fills_the_bucket_of_its_own_month() -> None:
    waiting = provisional(account(), 1000, 7, funded=3)
    indebted = account(points_debt=4, co2e_debt=1, points_pending=10, co2e_pending=1000)
    assert maturity_lines(indebted, waiting, expires_on=MARCH) == (
        Line("pending", "debt", "co2e_mg", 1, "scenario", 2026),
        Line("pending", "available", "co2e_mg", 999, "scenario", 2026),
        Line("pending", "debt", "points", 4),
        Line("pending", "available", "points", 6, expires_on=MARCH),
    )
    mixed = provisional(account(), 1000, 7, pending=False, grams=True)
    assert maturity_lines(account(co2e_pending=1000), mixed, expires_on=MARCH) == (
        Line("pending", "available", "co2e_mg", 1000, "scenario", 2026),
    )


def test_what_is_not_pending_does_not_mature() -> None:
    with pytest.raises(LedgerInvariantBroken, match="nothing of this credit is pending"):
        maturity_lines(account(), credit(account(), 1000, 7), expires_on=MARCH)


def test_a_withdrawn_credit_leaves_pending_and_nothing_else() -> None:
    waiting = provisional(account(), 1000, 7, funded=3)
    rich = account(points_available=99, points_pending=10, co2e_pending=1000, co2e_available=5)
    assert reversal_lines(rich, {JANUARY: 99}, waiting) == (
        Line("pending", "issuance", "co2e_mg", 1000, "scenario", 2026),
        Line("pending", "issuance", "points", 7),
        Line("pending", "partner", "points", 3),
    )


def test_a_matured_credit_is_taken_from_the_bucket_of_its_maturity_and_returned_to_where_it_came_from() -> None:
    waiting = provisional(account(), 1000, 7, funded=3)
    matured = maturity_lines(account(points_pending=10, co2e_pending=1000), waiting, expires_on=MARCH)
    found = {JANUARY: 1, MARCH: 8}
    lines = reversal_lines(account(points_available=9, co2e_available=400, points_pending=5), found, waiting, matured)
    assert lines == (
        Line("available", "issuance", "co2e_mg", 400, "scenario", 2026),
        Line("debt", "issuance", "co2e_mg", 600, "scenario", 2026),
        Line("available", "issuance", "points", 7, expires_on=MARCH),
        Line("available", "partner", "points", 1, expires_on=MARCH),
        Line("available", "partner", "points", 1, expires_on=JANUARY),
        Line("debt", "partner", "points", 1),
    )


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


_FUNDED = st.integers(0, 1000)
_WAITING = st.sampled_from([(True, None), (False, True), (True, False), (False, None)])


@given(standing_accounts(), amounts, points_amounts, _FUNDED, _WAITING)
def test_every_credit_gives_what_it_says_and_takes_it_from_its_sources(
    standing: Standing, co2e_mg: int, points: int, funded: int, waiting: tuple[bool, bool | None]
) -> None:
    pending, grams = waiting
    lines = provisional(standing[0], co2e_mg, points, funded=funded, pending=pending, grams=grams)
    assert sums(lines, "issuance") == {"co2e_mg": -co2e_mg, "points": -points}
    assert sums(lines, "partner") == {"co2e_mg": 0, "points": -funded}
    grams_wait = pending if grams is None else grams
    assert sums(lines, "pending") == {
        "co2e_mg": co2e_mg if grams_wait else 0,
        "points": points + funded if pending else 0,
    }
    bucketed = sum(line.amount for line in lines if line.expires_on)
    assert bucketed == (0 if pending else points + funded - min(points + funded, standing[0].balance("points", "debt")))
    posted(standing[0], lines)


@given(standing_accounts(), amounts, points_amounts, _FUNDED)
def test_a_credit_that_matures_at_once_is_a_credit(standing: Standing, co2e_mg: int, points: int, funded: int) -> None:
    before, found = standing
    waiting = provisional(before, co2e_mg, points, funded=funded)
    between = posted(before, waiting)
    assert buckets_after(found, waiting) == found
    matured = maturity_lines(between, waiting, expires_on=FEBRUARY)
    direct = provisional(before, co2e_mg, points, funded=funded, pending=False)
    assert posted(between, matured).balances == posted(before, direct).balances
    assert buckets_after(found, matured) == buckets_after(found, direct)
    assert sums(matured, "pending") == {"co2e_mg": -co2e_mg, "points": -points - funded}


@given(standing_accounts(), amounts, points_amounts, _FUNDED, _WAITING, st.booleans(), month_ends())
def test_a_credit_taken_back_leaves_nothing_behind_before_and_after_its_maturity(
    standing: Standing,
    co2e_mg: int,
    points: int,
    funded: int,
    waiting: tuple[bool, bool | None],
    matures: bool,
    end: date,
) -> None:
    before, found = standing
    pending, grams = waiting
    given_lines = provisional(before, co2e_mg, points, funded=funded, pending=pending, grams=grams)
    now, left = posted(before, given_lines), buckets_after(found, given_lines)
    matured: tuple[Line, ...] = ()
    if matures and (pending or grams):
        matured = maturity_lines(now, given_lines, expires_on=end)
        now, left = posted(now, matured), buckets_after(left, matured)
    back = reversal_lines(now, left, given_lines, matured)
    assert sums(back, "issuance") == {"co2e_mg": co2e_mg, "points": points}
    assert sums(back, "partner") == {"co2e_mg": 0, "points": funded}
    after = posted(now, back)
    assert after.balances == before.balances
    assert {day: amount for day, amount in buckets_after(left, back).items() if amount} == found

"""Points rules: whole points, rounded down once, usable until the end of a month."""

from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction
from math import floor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.units import CO2e, Points
from service.quantification.points import (
    DIRECTORY,
    NoPointsRuleInForce,
    PointsRuleInvalid,
    UnknownPointsRule,
    expires_on,
    load_points_rules,
    parse_points_rule,
    points_catalogue_of,
    points_for,
)

TEXT = (DIRECTORY / "demo-points.yaml").read_text(encoding="utf-8")
RULE = load_points_rules().in_force(date(2025, 6, 1))

# An approved document never changes; a correction is a new version, one more line.
APPROVED = {("demo-points", 1): "2977c2f6a8c3469c3e4ceca08fa8facd72dd38d8f8864e91436e70c7188bb4a7"}

masses = st.integers(min_value=0, max_value=10**15).map(CO2e)


def test_approved_points_rules_have_not_changed() -> None:
    assert {(one.id, one.version): one.digest for one in load_points_rules().all()} == APPROVED
    assert parse_points_rule(RULE.document) == RULE
    assert parse_points_rule(RULE.document).document == RULE.document


@pytest.mark.parametrize(("mg", "points"), [(0, 0), (999, 0), (1000, 1), (82273, 82), (1999, 1)])
def test_one_gram_is_one_point(mg: int, points: int) -> None:
    assert points_for(RULE, CO2e(mg)) == Points(points)


@given(masses, st.decimals(min_value="0.000001", max_value=1000, places=6))
def test_points_are_the_exact_product_rounded_down_once(co2e: CO2e, rate: Decimal) -> None:
    rule = parse_points_rule(TEXT.replace('points_per_gram: "1"', f"points_per_gram: {rate}").encode())
    assert points_for(rule, co2e).n == floor(Fraction(co2e.mg, 1000) * Fraction(rate))


@given(masses, masses)
def test_two_reductions_never_earn_more_points_than_their_sum(one: CO2e, other: CO2e) -> None:
    assert points_for(RULE, one) + points_for(RULE, other) <= points_for(RULE, one + other)


def test_a_negative_mass_has_no_points() -> None:
    with pytest.raises(ValueError, match="-1 mg"):
        points_for(RULE, CO2e(-1))


@pytest.mark.parametrize(
    ("recorded", "last_day"),
    [
        (date(2025, 3, 1), date(2027, 3, 31)),
        (date(2025, 3, 31), date(2027, 3, 31)),
        (date(2025, 12, 31), date(2027, 12, 31)),
        (date(2022, 2, 28), date(2024, 2, 29)),
        (date(2024, 2, 29), date(2026, 2, 28)),
    ],
)
def test_points_may_be_used_until_the_end_of_the_month_two_years_on(recorded: date, last_day: date) -> None:
    assert expires_on(RULE, recorded) == last_day


@given(st.dates(min_value=date(2016, 1, 1), max_value=date(9000, 1, 1)))
def test_expiry_is_a_month_end_and_never_moves_back(day: date) -> None:
    last = expires_on(RULE, day)
    assert (last + timedelta(days=1)).day == 1
    assert (last.year * 12 + last.month) - (day.year * 12 + day.month) == 24
    assert last <= expires_on(RULE, day + timedelta(days=1))


def test_the_rule_of_the_day_is_found_or_said_to_be_missing() -> None:
    catalogue = load_points_rules()
    assert catalogue.by_digest(RULE.digest) is catalogue.in_force(date(2016, 1, 1))
    with pytest.raises(NoPointsRuleInForce, match="2015-12-31") as caught:
        catalogue.in_force(date(2015, 12, 31))
    assert (caught.value.reason, caught.value.params) == ("no-points-rule-in-force", {"day": "2015-12-31"})
    with pytest.raises(UnknownPointsRule):
        catalogue.by_digest("0" * 64)


def test_of_two_versions_the_newest_is_in_force_and_of_two_rules_only_one_may_be() -> None:
    second = parse_points_rule(TEXT.replace("version: 1", "version: 2").encode())
    assert points_catalogue_of([second, RULE]).in_force(date(2026, 1, 1)) == second
    other = parse_points_rule(TEXT.replace("id: demo-points", "id: other-points").encode())
    with pytest.raises(PointsRuleInvalid, match="in force on the same days"):
        points_catalogue_of([RULE, other])


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ('points_per_gram: "1"', "points_per_gram: 0", "more than 0 points"),
        ('points_per_gram: "1"', "points_per_gram: -1", "more than 0 points"),
        ('points_per_gram: "1"', "points_per_gram: 1e3", "decimal number"),
        ("rounding: floor", "rounding: nearest", "expected one of floor"),
        ("  months: 24", "  months: 0", "from 1 to 1200"),
        ("  ends: month_end", "  ends: same_day", "expected one of month_end"),
        ("version: 1", "version: 1\nbonus: 2", "unknown field 'bonus'"),
    ],
)
def test_a_faulty_rule_is_refused_on_the_line_of_the_fault(old: str, new: str, reason: str) -> None:
    document = TEXT.replace(old, new)
    with pytest.raises(PointsRuleInvalid, match=reason) as caught:
        parse_points_rule(document.encode())
    assert caught.value.line == document[: document.index(new)].count("\n") + new.count("\n") + 1

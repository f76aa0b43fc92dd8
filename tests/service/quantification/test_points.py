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
    campaign_points,
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


CAMPAIGNS = """
programmes: [shanghai, jiading]
campaigns:
  - id: spring
    title: {zh: 春季骑行, en: Spring rides}
    scenarios: [shared-ebike]
    from: 2026-03-01
    to: 2026-05-31
    multiplier: "1.5"
    budget_points: "1000000"
    because: {zh: 鼓励骑行, en: to encourage riding}
  - id: waterfront
    title: {zh: 浦东双倍, en: Double in Pudong}
    scenarios: [shared-ebike, test-metro]
    regions: [310115]
    from: 2026-05-01
    to: 2029-12-31
    multiplier: "2"
    budget_points: "500"
    because: {zh: 区级预算, en: the district pays}
"""
CAMPAIGN_RULE = parse_points_rule((TEXT.replace("id: demo-points", "id: city-points") + CAMPAIGNS).encode())


@pytest.mark.parametrize(
    ("points", "scenario", "region", "day", "found"),
    [
        (101, "shared-ebike", "310101", date(2026, 3, 1), ("spring", 50)),
        (101, "shared-ebike", "310115", date(2026, 5, 31), ("waterfront", 101)),
        (101, "shared-ebike", "310115", date(2026, 4, 30), ("spring", 50)),
        (101, "test-metro", "310115", date(2029, 1, 1), ("waterfront", 101)),
        (101, "test-metro", "310101", date(2026, 5, 31), None),
        (101, "shared-ebike", "310101", date(2026, 2, 28), None),
        (101, "shared-ebike", "310101", date(2026, 6, 1), None),
        (1, "shared-ebike", "310101", date(2026, 3, 1), None),
        (0, "shared-ebike", "310115", date(2026, 5, 1), None),
    ],
)
def test_the_best_campaign_alone_adds_to_the_points(
    points: int, scenario: str, region: str, day: date, found: tuple[str, int] | None
) -> None:
    extra = campaign_points(CAMPAIGN_RULE, Points(points), scenario, region, day)
    assert extra == (found and (found[0], Points(found[1])))


@given(st.integers(min_value=0, max_value=10**15), st.decimals(min_value="1.000001", max_value=100, places=6))
def test_what_a_campaign_adds_is_exact_and_rounded_down_once(points: int, multiplier: Decimal) -> None:
    document = TEXT + CAMPAIGNS.replace('multiplier: "2"', f"multiplier: {multiplier}").replace('"1.5"', '"1.0000001"')
    rule = parse_points_rule(document.encode())
    extra = campaign_points(rule, Points(points), "test-metro", "310115", date(2026, 5, 1))
    assert (extra[1].n if extra else 0) == floor(points * (Fraction(multiplier) - 1))


@given(st.integers(0, 12), st.integers(0, 20_000), st.sampled_from(["1.4999", "1.5", "1.50", "1.5001", "1.6"]))
def test_a_cap_that_clips_the_points_does_not_change_the_campaign(one: int, other: int, multiplier: str) -> None:
    """Its budget was locked for the points before the cap: no tie, of multipliers or of rounded points, turns to
    another."""
    rule = parse_points_rule((TEXT + CAMPAIGNS.replace('multiplier: "2"', f'multiplier: "{multiplier}"')).encode())
    found = [campaign_points(rule, Points(n), "shared-ebike", "310115", date(2026, 5, 1)) for n in (one, other)]
    assert len({extra[0] for extra in found if extra}) <= 1
    fewer, more = sorted(found, key=lambda extra: extra[1].n if extra else 0)
    assert fewer is None or more is not None


def test_a_rule_for_a_programme_goes_before_a_rule_for_any() -> None:
    catalogue = points_catalogue_of([RULE, CAMPAIGN_RULE])
    for programme, found in (("shanghai", CAMPAIGN_RULE), ("jiading", CAMPAIGN_RULE), ("demo", RULE), (None, RULE)):
        assert catalogue.in_force(date(2026, 1, 1), programme) == found
    with pytest.raises(NoPointsRuleInForce):
        points_catalogue_of([CAMPAIGN_RULE]).in_force(date(2026, 1, 1), "demo")
    rival = parse_points_rule((TEXT.replace("demo-points", "rival") + CAMPAIGNS).encode())
    with pytest.raises(PointsRuleInvalid, match="in force on the same days"):
        points_catalogue_of([CAMPAIGN_RULE, rival])
    elsewhere = (TEXT.replace("demo-points", "rival") + CAMPAIGNS).replace("[shanghai, jiading]", "[nanjing]")
    assert (
        points_catalogue_of([CAMPAIGN_RULE, parse_points_rule(elsewhere.encode())])
        .in_force(date(2026, 1, 1), "nanjing")
        .digest
        != CAMPAIGN_RULE.digest
    )


def test_the_canonical_form_of_a_rule_with_campaigns_reads_back_to_itself() -> None:
    again = parse_points_rule(CAMPAIGN_RULE.document)
    assert (again.document, again.campaigns, again.programmes) == (
        CAMPAIGN_RULE.document,
        CAMPAIGN_RULE.campaigns,
        CAMPAIGN_RULE.programmes,
    )


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ('multiplier: "2"', 'multiplier: "1"', "a multiplier above 1"),
        ('multiplier: "2"', 'multiplier: "100.1"', "at most 100"),
        ("regions: [310115]", "regions: [pudong]", "a region such as 310115"),
        ("regions: [310115]", "regions: []", "at least one item"),
        ("id: waterfront", "id: spring", "stands here twice"),
        ('budget_points: "500"', 'budget_points: "0"', "a whole number from 1"),
        ("    to: 2029-12-31", "    to: 2026-04-30", "before it starts"),
        ("    to: 2029-12-31\n", "", "'to' is missing"),
        ("programmes: [shanghai, jiading]", "programmes: Shanghai", "expected a list"),
    ],
)
def test_a_faulty_campaign_is_refused_on_a_line(old: str, new: str, reason: str) -> None:
    assert old in CAMPAIGNS
    with pytest.raises(PointsRuleInvalid, match=reason) as caught:
        parse_points_rule((TEXT + CAMPAIGNS.replace(old, new)).encode())
    assert caught.value.line > TEXT.count("\n")

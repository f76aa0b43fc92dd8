"""What units cost and who may have them: tiers, caps, conditions; points and fen always whole multiples."""

from dataclasses import replace
from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.products.model import Facts, lacking, price, reasons, tier_of
from tests.service.products.documents import offer

FACTS = Facts(
    kind="citizen",
    region="310000",
    verified_g=0,
    redeemed_units_this_year=0,
    redeemed_before=False,
    covered=False,
    available_points=100,
    day=date(2026, 6, 1),
)


def condition(value: str, limit: str, **comparison: str) -> dict[str, Any]:
    unit = "g" if "verified" in value else "1"
    text = {"zh": "不符", "en": "it does not fit"}
    return {"id": "the-condition", "title": text, "value": value, "unit": unit, "because": text} | (
        comparison or {"at_most": limit}
    )


def codes(facts: Facts = FACTS, units: int = 1, **changes: Any) -> list[str]:
    return [reason.code for reason in reasons(offer(**changes), facts, units)]


def tier(grams: int, points: int) -> dict[str, Any]:
    return {"name": {"zh": "级", "en": "tier"}, "min_verified_g": str(grams), "points_per_unit": str(points)}


@pytest.mark.parametrize(
    ("changes", "good", "bad", "code"),
    [
        ({"valid": {"from": "2026-01-01", "to": "2026-06-01"}}, {}, {"day": date(2026, 6, 2)}, "not-valid-today"),
        ({"valid": {"from": "2026-06-01"}}, {}, {"day": date(2026, 5, 31)}, "not-valid-today"),
        ({"kinds": ["citizen"]}, {}, {"kind": "firm"}, "kind"),
        ({"regions": ["310000"]}, {}, {"region": "110000"}, "region"),
        (
            {"per_person_per_year": "5"},
            {"redeemed_units_this_year": 4},
            {"redeemed_units_this_year": 5},
            "yearly-cap",
        ),
        ({"conditions": [condition("covered", "0")]}, {}, {"covered": True}, "the-condition"),
        ({"conditions": [condition("redeemed_before", "0")]}, {}, {"redeemed_before": True}, "the-condition"),
        (
            {"conditions": [condition("verified_g", "", at_least="1000")]},
            {"verified_g": 1000},
            {"verified_g": 999},
            "the-condition",
        ),
        (
            {"conditions": [condition("available_points - 10 * units", "", at_least="90")]},
            {"available_points": 100},
            {"available_points": 99},
            "the-condition",
        ),
    ],
)
def test_the_last_who_may_and_the_first_who_may_not(
    changes: dict[str, Any], good: dict[str, Any], bad: dict[str, Any], code: str
) -> None:
    assert codes(replace(FACTS, **good), **changes) == []
    assert codes(replace(FACTS, **bad), **changes) == [code]


def test_what_cannot_be_computed_is_not_met() -> None:
    dividing = condition("available_points / redeemed_units_this_year", "", above="0")
    assert codes(conditions=[dividing]) == ["the-condition"]


def test_units_are_counted_from_the_least_to_the_most() -> None:
    limits: dict[str, Any] = {"min_units": "2", "max_units": "4", "per_person_per_year": "100"}
    assert [codes(units=units, **limits) for units in (1, 2, 4, 5)] == [
        ["units-out-of-range"],
        [],
        [],
        ["units-out-of-range"],
    ]


def test_every_reason_is_given_at_once_in_both_languages() -> None:
    made = offer(kinds=["firm"], regions=["110000"], per_person_per_year="1", conditions=[condition("covered", "0")])
    found = reasons(made, replace(FACTS, redeemed_units_this_year=1, covered=True), 200)
    assert [reason.code for reason in found] == ["units-out-of-range", "kind", "region", "yearly-cap", "the-condition"]
    assert all(reason.zh and reason.en for reason in found)


def test_points_that_do_not_suffice_are_no_matter_of_eligibility() -> None:
    made = offer(points_per_unit="10")
    assert reasons(made, replace(FACTS, available_points=0), 1) == ()
    assert lacking(made, FACTS, 10) is None
    short = lacking(made, FACTS, 11)
    assert short is not None
    assert (short.code, "10 points" in short.en) == ("points-not-enough", True)


def test_the_highest_tier_that_the_grams_reach_decides_the_price() -> None:
    made = offer(tiers=[tier(1000, 9), tier(5000, 7)])
    prices = [price(made, replace(FACTS, verified_g=grams)) for grams in (0, 999, 1000, 4999, 5000, 10**9)]
    assert prices == [10, 10, 9, 9, 7, 7]
    assert tier_of(made, FACTS) is None


@given(
    points=st.integers(1, 10**6),
    fen=st.integers(1, 10**6),
    grams=st.integers(0, 10**6),
    units=st.integers(1, 1000),
    tiers=st.dictionaries(st.integers(1, 10**9), st.integers(1, 10**6), max_size=4),
    verified_g=st.integers(0, 10**9),
)
def test_parts_of_a_redemption_add_up_to_the_whole(
    points: int, fen: int, grams: int, units: int, tiers: dict[int, int], verified_g: int
) -> None:
    """However a redemption is captured in parts, points, fen and milligrams are those of the whole; all in 64 bits."""
    made = offer(
        points_per_unit=str(points),
        value_fen_per_unit=str(fen),
        grams_mg_per_point=str(grams),
        max_units="1000",
        tiers=[tier(least, tiers[least]) for least in sorted(tiers)] or None,
    )
    facts = replace(FACTS, verified_g=verified_g)
    whole = made.points(units, facts)
    part = units // 3
    assert made.points(part, facts) + made.points(units - part, facts) == whole
    assert made.value_fen(part) + made.value_fen(units - part) == made.value_fen(units)
    assert made.co2e_mg(made.points(part, facts)) + made.co2e_mg(made.points(units - part, facts)) == made.co2e_mg(
        whole
    )
    assert whole > 0
    assert made.co2e_mg(whole) < 2**63
    expected = (
        tiers[max(least for least in tiers if least <= verified_g)]
        if min(tiers, default=2**60) <= verified_g
        else points
    )
    assert price(made, facts) == expected

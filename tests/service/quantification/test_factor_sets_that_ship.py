"""The factor sets that ship: none ever changes, and what methodologies pin to them is computed exactly."""

from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from math import floor

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from service.quantification.factor_sets import load_factor_sets
from service.quantification.methodology import load_catalogue
from service.quantification.model import Methodology
from service.quantification.quantify import SHANGHAI, ActivityData, explain, quantify
from service.quantification.readings import Readings, parse_readings
from service.quantification.refusals import MethodologyIncomplete

# Another announcement is another set: methodologies name these digests for ever.
ANNOUNCED = {
    "legacy-0-5703": "a96386a6d81b431a60aaaef884a2b6fd36ef4e08fe277e2fb71eaed9271bc52e",
    "mee-2021": "81572020833ebe2f9f36409573bded0070fee9d0a60b834faae2ff926d78b2e2",
    "mee-2022": "3a29da4f1be8b27c90b66137286c04c702513e0e6a149938b6017fc2c9a5a2c8",
    "mee-2023": "419fd013ee96d730167d1c7684dc9b1177f99f049189d388253667e3e3a3f987",
    "sh-ets-2022": "edc07c32b11932143f88f5acfaf82ac9163649e844d163de2695aa0cfa0f62f1",
}
SETS = load_factor_sets()
SHIPPED = {one.id: one for one in load_catalogue(None, SETS).all()}
WEEK, MONTH = SHIPPED["demo-home-electricity-week"], SHIPPED["demo-home-electricity"]


def figure(name: str, of: str) -> tuple[Decimal | None, str | None]:
    found = SETS[name].figures[of]
    return found.value, found.confidence


def test_announced_sets_have_not_changed() -> None:
    assert {name: one.digest for name, one in SETS.items()} == ANNOUNCED


def test_every_pin_is_to_a_set_that_ships_and_the_older_figure_is_pinned_by_none() -> None:
    values = [value for one in SHIPPED.values() for factor in one.factors.values() for value in factor.values]
    pins = {value.pinned.set: value.pinned.digest for value in values if value.pinned}
    assert pins
    assert pins.items() <= ANNOUNCED.items()
    assert "legacy-0-5703" not in pins


@pytest.mark.parametrize("methodology", [one for one in SHIPPED.values() if one.missing], ids=lambda one: one.id)
def test_a_document_that_says_what_is_missing_computes_nothing(methodology: Methodology) -> None:
    assert "methodology-incomplete" in methodology.faults
    began = datetime(2025, 6, 1, tzinfo=SHANGHAI)
    with pytest.raises(MethodologyIncomplete):
        quantify(methodology, ActivityData(began, began + timedelta(days=30), {}))


def test_the_scheme_value_and_the_statistical_factors_of_shanghai_are_three_figures() -> None:
    assert figure("sh-ets-2022", "shanghai") == (Decimal("0.42"), "confirmed")  # 4.2 t for each 10,000 kWh
    assert figure("mee-2021", "shanghai") == (None, None)
    assert figure("mee-2022", "shanghai") == (Decimal("0.5849"), "single")
    assert figure("mee-2023", "shanghai") == (Decimal("0.5737"), "confirmed")


def test_the_national_figures_are_of_their_years_and_not_swapped() -> None:
    national = [figure(f"mee-{year}", "national")[0] for year in (2021, 2022, 2023)]
    assert national == [Decimal("0.5568"), Decimal("0.5366"), Decimal("0.5306")]
    assert figure("mee-2022", "east_china_grid") == (Decimal("0.5617"), "single")
    assert figure("mee-2022", "national_excluding_traded_non_fossil") == (
        round(Decimal("0.6096") / Decimal("1.041"), 4),
        "confirmed",
    )


kwh = st.decimals(min_value=Decimal("7.7"), max_value=Decimal("9000"), places=3)


@given(week=kwh, saved=st.decimals(min_value=Decimal("0.001"), max_value=Decimal("0.5"), places=3))
def test_a_mean_of_seven_days_costs_no_milligram(week: Decimal, saved: Decimal) -> None:
    """420 / 7 is 60: where the sum of the week is known to a watt-hour, the result is a whole number of milligrams."""
    used = round(week / 7 * (1 - saved), 3)
    day = datetime(2025, 6, 8, tzinfo=SHANGHAI)
    activity = ActivityData(
        day,
        day + timedelta(days=1),
        {},
        {"use_kwh": spans((day, day + timedelta(days=1), used))},
        {"baseline_kwh": spans((day - timedelta(days=7), day, week))},
    )
    exact = (Fraction(week) / 7 - Fraction(used)) * 420
    assume(Fraction(used) * 14 >= Fraction(week) and exact > 0)  # else refused for a stated reason
    assert quantify(WEEK, activity).co2e.mg == floor(exact * 1000)
    assert explain(WEEK, activity).co2e.mg == floor(exact * 1000)


@given(
    watt_hours=st.integers(min_value=10_000, max_value=500_000),
    more=st.decimals(min_value=Decimal("1.001"), max_value=Decimal("1.99"), places=3),
)
def test_a_filled_gap_costs_no_milligram(watt_hours: int, more: Decimal) -> None:
    """Six of 720 hours are missing: 720 / 714 is 120 / 119, and 119 divides the sum times 420."""
    used = Decimal(watt_hours) * 17 / 1000
    begins = datetime(2025, 4, 1, tzinfo=SHANGHAI)
    gap, resumes, ends = begins + timedelta(days=10), begins + timedelta(days=10, hours=6), begins + timedelta(days=30)
    earlier, before = begins.replace(year=2024), round(used * more, 3)
    activity = ActivityData(
        begins,
        ends,
        {},
        {"use_kwh": spans((begins, gap, used - 1), (resumes, ends, Decimal(1)))},
        {"baseline_kwh": spans((earlier, earlier + timedelta(days=30), before))},
    )
    filled = Fraction(used) * 120 / 119
    exact = (Fraction(before) - filled) * 420
    assume(filled * 2 >= Fraction(before) and exact > 0)  # else refused for a stated reason
    assert exact * 1000 == floor(exact * 1000)
    assert quantify(MONTH, activity).co2e.mg == floor(exact * 1000)


def spans(*measured: tuple[datetime, datetime, Decimal]) -> Readings:
    rows = [[begins.isoformat(), ends.isoformat(), str(value)] for begins, ends, value in measured]
    return parse_readings({"kind": "interval", "spans": rows})

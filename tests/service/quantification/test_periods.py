"""Whole calendar units of Asia/Shanghai, and the days a baseline is measured on."""

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.quantification.document import Bilingual
from service.quantification.model import BaselineRule, Period
from service.quantification.periods import SHANGHAI, baseline_days, counted_days
from service.quantification.refusals import NotOneDay, NotWholePeriod, PeriodTooLong
from tests.service.quantification.documents import rule

BOARDING, DAY, MONTHS, DAYS = (
    rule(name) for name in ("test-metro-boarding", "test-walking-day", "test-rooftop-pv", "test-load-shifting")
)
days = st.dates(min_value=date(1993, 1, 1), max_value=date(2199, 1, 1))
SAID = Bilingual("基准", "baseline")


def midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=SHANGHAI)


def test_a_boarding_may_end_when_it_begins() -> None:
    moment = datetime(2025, 12, 31, 16, tzinfo=UTC)
    assert counted_days(BOARDING, moment, moment) == (date(2026, 1, 1), date(2026, 1, 1))


@given(days)
def test_a_day_is_from_midnight_to_midnight_of_shanghai(day: date) -> None:
    begins, ends = midnight(day), midnight(day + timedelta(days=1))
    assert counted_days(DAY, begins, ends) == (day, day)
    assert counted_days(DAY, begins.astimezone(UTC), ends.astimezone(UTC)) == (day, day)
    second = timedelta(microseconds=1)
    for wrong in (
        (begins + second, ends),
        (begins - second, ends),
        (begins, ends - second),
        (begins, begins),
        (begins, ends + timedelta(days=1)),
        (begins + timedelta(hours=8), ends + timedelta(hours=8)),
    ):
        with pytest.raises(NotOneDay):
            counted_days(DAY, *wrong)


@given(days, st.integers(min_value=1, max_value=40))
def test_a_period_is_whole_units_and_at_most_so_many(first: date, units: int) -> None:
    last = first + timedelta(days=units - 1)
    if units <= 31:
        assert counted_days(DAYS, midnight(first), midnight(last + timedelta(days=1))) == (first, last)
    else:
        with pytest.raises(PeriodTooLong, match=f"has {units} days, at most 31"):
            counted_days(DAYS, midnight(first), midnight(last + timedelta(days=1)))


@pytest.mark.parametrize(
    ("begins", "ends", "found"),
    [
        (date(2024, 2, 1), date(2024, 3, 1), date(2024, 2, 29)),
        (date(2025, 2, 1), date(2025, 3, 1), date(2025, 2, 28)),
        (date(2025, 1, 1), date(2026, 1, 1), date(2025, 12, 31)),
        (date(2025, 7, 1), date(2026, 7, 1), date(2026, 6, 30)),
        (date(2025, 1, 1), date(2026, 2, 1), PeriodTooLong),
        (date(2025, 1, 2), date(2025, 2, 2), NotWholePeriod),
        (date(2025, 1, 1), date(2025, 1, 31), NotWholePeriod),
        (date(2025, 1, 1), date(2025, 1, 1), NotWholePeriod),
        (date(2025, 2, 1), date(2025, 1, 1), NotWholePeriod),
    ],
)
def test_months_are_calendar_months(begins: date, ends: date, found: date | type[Exception]) -> None:
    if isinstance(found, date):
        assert counted_days(MONTHS, midnight(begins), midnight(ends)) == (begins, found)
        return
    with pytest.raises(found):
        counted_days(MONTHS, midnight(begins), midnight(ends))


def test_times_beyond_the_calendar_are_no_whole_period() -> None:
    latest = datetime.max.replace(tzinfo=UTC)
    for methodology, refusal in ((DAY, NotOneDay), (MONTHS, NotWholePeriod)):
        with pytest.raises(refusal):
            counted_days(methodology, midnight(date(2025, 1, 1)), latest)


def earlier(unit: str, first: date, last: date) -> tuple[date, date]:
    return baseline_days(BaselineRule("b", "a", "earlier_year", 1, SAID), Period(unit, 12), first, last)


@pytest.mark.parametrize(
    ("unit", "first", "last", "begins", "ends"),
    [
        ("month", date(2025, 2, 1), date(2025, 2, 28), date(2024, 2, 1), date(2024, 2, 29)),
        ("month", date(2024, 2, 1), date(2024, 2, 29), date(2023, 2, 1), date(2023, 2, 28)),
        ("month", date(2024, 11, 1), date(2025, 2, 28), date(2023, 11, 1), date(2024, 2, 29)),
        ("year", date(2025, 1, 1), date(2025, 12, 31), date(2024, 1, 1), date(2024, 12, 31)),
        ("day", date(2024, 2, 29), date(2024, 2, 29), date(2023, 2, 28), date(2023, 2, 28)),
        ("day", date(2025, 2, 28), date(2025, 3, 1), date(2024, 2, 28), date(2024, 2, 29)),
        ("day", date(2025, 3, 1), date(2025, 3, 1), date(2024, 3, 1), date(2024, 3, 1)),
    ],
)
def test_an_earlier_year_has_the_same_calendar_units(
    unit: str, first: date, last: date, begins: date, ends: date
) -> None:
    assert earlier(unit, first, last) == (begins, ends)


@given(days, st.integers(min_value=0, max_value=364))
def test_days_are_compared_with_as_many_days_that_came_before_them(first: date, more: int) -> None:
    last = first + timedelta(days=more)
    begins, ends = earlier("day", first, last)
    assert ends - begins == last - first
    assert ends < first


@given(days, st.integers(min_value=1, max_value=60), st.sampled_from(["day", "month", "year"]))
def test_preceding_units_end_the_day_before(day: date, periods: int, unit: str) -> None:
    first = {"day": day, "month": day.replace(day=1), "year": day.replace(month=1, day=1)}[unit]
    begins, ends = baseline_days(BaselineRule("b", "a", "preceding", periods, SAID), Period(unit, 1), first, first)
    assert ends == first - timedelta(days=1)
    months = (first.year - begins.year) * 12 + first.month - begins.month
    expected = {
        "day": timedelta(days=periods) == first - begins,
        "month": months == periods,
        "year": months == periods * 12,
    }
    assert expected[unit]
    assert unit == "day" or begins.day == 1

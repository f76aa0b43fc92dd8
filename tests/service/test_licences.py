"""Licences by the day: what a span covers, what ends when, and from when on that is said."""

from datetime import date, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.activities.licences import Days, current_run, days_left, endings, runs, warned_from

DAY = timedelta(days=1)
near = st.integers(0, 60).map(lambda days: date(2026, 1, 1) + days * DAY)


@st.composite
def licences(draw: st.DrawFn) -> list[Days]:
    """Some spans that share no day, as a registration has them; the last may have no end."""
    edges = sorted(draw(st.lists(near, min_size=2, max_size=8, unique=True)))
    spans = [Days(first, last) for first, last in zip(edges[::2], edges[1::2], strict=False)]
    if draw(st.booleans()):
        spans[-1] = Days(spans[-1].first, None)
    return draw(st.permutations(spans))


@given(licences(), near)
def test_runs_cover_the_days_that_the_spans_cover(spans: list[Days], day: date) -> None:
    assert any(run.covers(day) for run in runs(spans)) == any(span.covers(day) for span in spans)


@given(licences())
def test_between_two_runs_lies_a_day_that_neither_covers(spans: list[Days]) -> None:
    joined = runs(spans)
    for before, after in pairwise(joined):
        assert before.last is not None
        assert before.last + DAY < after.first


@given(licences(), near)
def test_days_left_are_the_days_still_to_come(spans: list[Days], today: date) -> None:
    run = current_run(spans, today)
    left = days_left(run, today)
    if run.last is None:
        assert left is None
    else:
        to_come = [today + n * DAY for n in range(70) if run.covers(today + n * DAY)]
        assert left == len(to_come)


@pytest.mark.parametrize(
    ("last", "from_day"),
    [
        (date(2026, 12, 31), date(2026, 9, 30)),
        (date(2026, 5, 31), date(2026, 2, 28)),
        (date(2028, 5, 31), date(2028, 2, 29)),
        (date(2026, 3, 15), date(2025, 12, 15)),
        (date(2026, 1, 1), date(2025, 10, 1)),
        (date.min, date(1, 1, 1)),
        (date.max, date(9999, 9, 30)),
    ],
)
def test_the_end_is_announced_three_calendar_months_before(last: date, from_day: date) -> None:
    assert warned_from(last) == from_day
    spans = {"metro": [Days(date.min, last)]}
    assert endings(spans, from_day) == {"metro": last}
    if from_day > date.min:
        assert endings(spans, from_day - DAY) == {}


def test_what_is_renewed_in_time_does_not_end() -> None:
    year, today = Days(date(2026, 1, 1), date(2026, 12, 31)), date(2026, 12, 30)
    assert endings({"metro": [year]}, today) == {"metro": date(2026, 12, 31)}
    assert endings({"metro": [year, Days(date(2027, 1, 1), date(2027, 12, 31))]}, today) == {}
    assert endings({"metro": [year, Days(date(2027, 1, 2), None)]}, today) == {"metro": date(2026, 12, 31)}
    assert endings({"metro": [year]}, date(2027, 6, 1)) == {"metro": date(2026, 12, 31)}  # and stays said
    assert days_left(year, date(2026, 12, 31)) == 1
    assert days_left(year, date(2027, 1, 1)) == 0

"""Licences 许可: which scenarios a source may report and on which days, and the warning before they end.

Pure: the day on which somebody asks comes in as an argument. Nothing has to stop a licence that ends; an activity of a
later day is refused because no span covers it.
"""

from calendar import monthrange
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta

WARNED_MONTHS = 3  # calendar months before the last day from which on the end is announced


@dataclass(frozen=True, slots=True)
class Days:
    """Shanghai days in a row, both ends included; `last` is None while no end is set."""

    first: date
    last: date | None

    def covers(self, day: date) -> bool:
        """Whether this day is one of them."""
        return self.first <= day and (self.last is None or day <= self.last)


@dataclass(frozen=True, slots=True)
class Licence:
    """A registered source as it stands now: what it may report on which days, and how far its evidence is trusted.

    spans    by scenario, in order, not overlapping; a scenario without a licence is absent
    ending   the last day of each scenario that is warned of, as of the day the registration was read
    """

    source_id: int
    uri: str
    grade: str
    spans: Mapping[str, tuple[Days, ...]]
    programme: str
    region: str
    ending: Mapping[str, date] = field(default_factory=dict)

    def span_shown(self, scenario: str, day: date) -> Days:
        """The span to name when none covers the day: the last that began by then, or else the first to come."""
        spans = self.spans[scenario]
        return next((span for span in reversed(spans) if span.first <= day), spans[0])


def runs(spans: Sequence[Days]) -> list[Days]:
    """The spans in order, those that follow each other without a day between them as one: a renewal ends nothing."""
    joined: list[Days] = []
    for span in sorted(spans, key=lambda span: span.first):
        before = joined[-1] if joined else None
        if before is None or (before.last is not None and span.first > before.last + timedelta(days=1)):
            joined.append(span)
            continue
        last = None if before.last is None or span.last is None else max(before.last, span.last)
        joined[-1] = Days(before.first, last)
    return joined


def current_run(spans: Sequence[Days], today: date) -> Days:
    """The run of days that today lies in; between two the next, after the last one that. `spans` holds at least one."""
    joined = runs(spans)
    return next((run for run in joined if run.last is None or run.last >= today), joined[-1])


def days_left(run: Days, today: date) -> int | None:
    """How many days of the run are still to come, today included; None when no end is set."""
    return None if run.last is None else max(0, (run.last - max(today, run.first)).days + 1)


def warned_from(last: date) -> date:
    """The day from which on the end is announced: WARNED_MONTHS calendar months before the last day, or the month's
    end where that month is shorter."""
    months = max(last.year * 12 + last.month - 1 - WARNED_MONTHS, 12)  # the calendar begins with the year 1
    year, month = months // 12, months % 12 + 1
    return date(year, month, min(last.day, monthrange(year, month)[1]))


def endings(spans: Mapping[str, Sequence[Days]], today: date) -> dict[str, date]:
    """The last day of each scenario whose licence ends within WARNED_MONTHS or has ended, and is not renewed."""
    last_days = {scenario: current_run(of, today).last for scenario, of in spans.items()}
    return {scenario: last for scenario, last in last_days.items() if last is not None and warned_from(last) <= today}

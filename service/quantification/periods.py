"""Days and periods of Asia/Shanghai: the day an activity is of, and the days that a methodology counts."""

from __future__ import annotations

from calendar import monthrange
from datetime import date, datetime, timedelta, timezone

from service.quantification.model import BaselineRule, Methodology, Period
from service.quantification.refusals import NotOneDay, NotWholePeriod, OutsideCalendar, PeriodTooLong

# Asia/Shanghai has been UTC+8 without summer time since 15 September 1991; documents start in 1992 at the earliest. A
# fixed offset needs no time zone database, so every machine that replays finds the same day.
SHANGHAI = timezone(timedelta(hours=8), "Asia/Shanghai")
ONE_DAY = timedelta(days=1)
UNITS_ZH = {"day": "日", "month": "月", "year": "年"}
WHOLE_DAYS = ("day", "period")  # triggers that count whole days
LONGEST_TRIP = timedelta(hours=48)  # of what is claimed hour by hour, so that a look for overlaps goes back no further
INSTANT = timedelta(microseconds=1)  # how long a boarding lasts: two at one moment overlap


def activity_day(started_at: datetime) -> date:
    """The Asia/Shanghai day on which the activity began; that day decides on rules and factors.

    Raises ValueError for a time without an offset, OutsideCalendar for one that falls on no day of the years 1 to 9999.
    """
    if started_at.utcoffset() is None:
        raise ValueError("a time needs its offset from UTC")
    try:
        return started_at.astimezone(SHANGHAI).date()
    except OverflowError as error:
        raise OutsideCalendar(started_at.isoformat()) from error


def counted_days(methodology: Methodology, started_at: datetime, ended_at: datetime) -> tuple[date, date]:
    """The first and the last day an activity is of, both included; for a trip or a boarding, the day it began, twice.

    A claim window counts from the last. Raises OutsideCalendar, NotOneDay, NotWholePeriod, PeriodTooLong.
    """
    first = activity_day(started_at)
    if methodology.trigger == "day":
        days = _whole_days(started_at, ended_at)
        if days is None or days[0] != days[1]:
            raise NotOneDay(started_at.isoformat(), ended_at.isoformat())
        return days
    if methodology.period is not None:
        return _whole_period(methodology.period, started_at, ended_at)
    return first, first


def baseline_days(rule: BaselineRule, period: Period, first: date, last: date) -> tuple[date, date]:
    """The days a baseline is measured on, for a period from `first` to `last`, all included.

    An earlier year takes the months or the year of the same name; of a period counted in days, as many days from the
    same date on. Where that date is February 29 and the earlier year has none, it is February 28.
    """
    if rule.origin == "preceding":
        before = first - ONE_DAY
        if period.unit == "day":
            return first - rule.periods * ONE_DAY, before
        return _months_before(first, rule.periods * (12 if period.unit == "year" else 1)), before
    if period.unit == "day":
        begins = first.replace(year=first.year - 1, day=min(first.day, _days_in(first.year - 1, first.month)))
        return begins, begins + (last - first)
    return first.replace(year=first.year - 1), last.replace(year=last.year - 1, day=_days_in(last.year - 1, last.month))


def last_whole(unit: str, now: datetime) -> tuple[datetime, datetime]:
    """The last day, month or year of Asia/Shanghai that is over: its first midnight and the one after its last day."""
    end = now.astimezone(SHANGHAI).replace(hour=0, minute=0, second=0, microsecond=0)
    if unit == "day":
        return end - ONE_DAY, end
    end = end.replace(day=1) if unit == "month" else end.replace(month=1, day=1)
    return (end - ONE_DAY).replace(day=1, month=(end - ONE_DAY).month if unit == "month" else 1), end


def _whole_days(started_at: datetime, ended_at: datetime) -> tuple[date, date] | None:
    """The days between two midnights, both included; None when they are no midnights, or the same."""
    try:
        begins, ends = started_at.astimezone(SHANGHAI), ended_at.astimezone(SHANGHAI)
    except OverflowError:
        return None
    midnights = begins.time() == ends.time() == datetime.min.time()
    return (begins.date(), ends.date() - ONE_DAY) if midnights and begins < ends else None


def _whole_period(period: Period, started_at: datetime, ended_at: datetime) -> tuple[date, date]:
    days = _whole_days(started_at, ended_at)
    units = days and _units(period.unit, *days)
    if not days or not units:
        raise NotWholePeriod(started_at.isoformat(), ended_at.isoformat(), UNITS_ZH[period.unit], period.unit)
    if units > period.at_most:
        raise PeriodTooLong(str(units), str(period.at_most), UNITS_ZH[period.unit], period.unit)
    return days


def _units(unit: str, first: date, last: date) -> int:
    """How many whole calendar units the days are; 0 when they are no whole ones."""
    if unit == "day":
        return (last - first).days + 1
    months = (last.year - first.year) * 12 + last.month - first.month + 1
    if first.day != 1 or last.day != _days_in(last.year, last.month):
        return 0
    if unit == "month":
        return months
    return months // 12 if first.month == 1 and last.month == 12 else 0


def _months_before(day: date, months: int) -> date:
    year, month = divmod(day.year * 12 + day.month - 1 - months, 12)
    return date(year, month + 1, 1)


def _days_in(year: int, month: int) -> int:
    return monthrange(year, month)[1]

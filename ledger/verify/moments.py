"""Moments and days as leaves write them. The platform's only kind of day is that of Asia/Shanghai, UTC+8 since 1991;
the zone's own table is not asked for, as an auditor's machine may have none."""

from datetime import UTC, datetime, timedelta
from functools import lru_cache

_SHANGHAI = timedelta(hours=8)
AHEAD = timedelta(
    minutes=10
)  # an activity's clock may be five minutes ahead of the platform's, and two machines differ


@lru_cache(maxsize=4_096)
def _day_of_hour(hour: str) -> str:
    return _later(_parsed(f"{hour}:00:00"), _SHANGHAI)


def shanghai_day(moment: str) -> str:
    """The day of a moment such as `2026-05-01T00:20:07Z`."""
    return _day_of_hour(moment[:13])


def latest_day(moment: str) -> str:
    """The latest day of an activity that may be posted at this moment: the next one, shortly before midnight."""
    return _later(_parsed(moment), _SHANGHAI + AHEAD)


def seconds_back(earlier: str, later: str) -> float:
    """By how many seconds the later of two entries lies before the earlier one; negative when it does not."""
    return (_parsed(earlier) - _parsed(later)).total_seconds()


def days_between(first: str, second: str) -> int:
    """Days from the first to the second."""
    return (datetime.fromisoformat(second) - datetime.fromisoformat(first)).days


def _later(moment: datetime, by: timedelta) -> str:
    last = datetime.max.replace(tzinfo=UTC)
    return (moment + by if moment < last - by else last).date().isoformat()


def _parsed(moment: str) -> datetime:
    return datetime.fromisoformat(moment[:19]).replace(tzinfo=UTC)

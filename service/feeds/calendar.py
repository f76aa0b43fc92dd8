"""Asia/Shanghai days and months in whole seconds since 1970-01-01T00:00:00Z: what readings are cut into."""

from calendar import monthrange
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import NamedTuple

DAY_S = 86_400
_SHANGHAI_S = 8 * 3_600  # UTC+8 without summer time since 1991; readings begin in 1992 at the earliest
_EPOCH_DAY = date(1970, 1, 1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Bucket(NamedTuple):
    """One calendar period: its days, first and last included, and its edges in seconds."""

    first: date
    last: date
    begins: int
    ends: int

    def name(self, unit: str) -> str:
        """2013-02-03, or 2013-02 for a month."""
        return self.first.isoformat() if unit == "day" else f"{self.first:%Y-%m}"


def bucket_of(seconds: int, unit: str) -> Bucket:
    """The day or month that a moment falls into."""
    return _bucket((seconds + _SHANGHAI_S) // DAY_S, unit)


@lru_cache(1 << 15)
def _bucket(number: int, unit: str) -> Bucket:
    day = _EPOCH_DAY + timedelta(days=number)
    if unit == "day":
        return Bucket(day, day, midnight(day), midnight(day) + DAY_S)
    first, last = day.replace(day=1), day.replace(day=monthrange(day.year, day.month)[1])
    return Bucket(first, last, midnight(first), midnight(last) + DAY_S)


def midnight(day: date) -> int:
    """When a day begins."""
    return (day - _EPOCH_DAY).days * DAY_S - _SHANGHAI_S


def second_of_day(seconds: int) -> int:
    """How long after midnight a moment is."""
    return (seconds + _SHANGHAI_S) % DAY_S


def moment_of(seconds: int) -> datetime:
    return _EPOCH + timedelta(seconds=seconds)


def seconds_of(moment: datetime) -> int:
    """Whole seconds; fractions are cut off."""
    return (moment - _EPOCH) // timedelta(seconds=1)


def utc_text(seconds: int) -> str:
    """A moment as the canonical form of readings has it."""
    return moment_of(seconds).strftime("%Y-%m-%dT%H:%M:%SZ")

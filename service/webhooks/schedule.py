"""When a delivery that failed is tried again: the schedule of Standard Webhooks, and later where the receiver asks."""

import random
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

_AFTER = (
    timedelta(seconds=5),
    timedelta(minutes=5),
    timedelta(minutes=30),
    timedelta(hours=2),
    timedelta(hours=5),
    timedelta(hours=10),
    timedelta(hours=14),
    timedelta(hours=20),
    timedelta(hours=24),
)
ATTEMPTS = 1 + len(_AFTER)  # the first is made at once; the last comes a good three days later
LONGEST_ASKED = _AFTER[-1]  # a receiver's wish moves an attempt by no more: its other events wait as long
JITTER = 0.1  # of a pause, at most: what failed together does not come back together


def pause_after(failed: int, chance: float) -> timedelta | None:
    """How long to wait after so many failed attempts, or None when there are no more.

    failed  1 or more
    chance  0 to below 1, at random; the pause is never shorter than the schedule's
    """
    if failed >= ATTEMPTS:
        return None
    return _AFTER[failed - 1] * (1 + JITTER * chance)


def pause_asked(retry_after: str | None, at: datetime) -> timedelta:
    """How long a receiver asks to be left alone, LONGEST_ASKED at most; nothing where it asks for nothing, or for what
    is no Retry-After (RFC 9110, 10.2.3: whole seconds, or an HTTP date).

    at   when it answered
    """
    text = (retry_after or "").strip()
    if text.isascii() and text.isdigit():
        wanted = LONGEST_ASKED if len(text) > 9 else timedelta(seconds=int(text))
    else:
        try:
            date = parsedate_to_datetime(text)
        except (TypeError, ValueError):
            return timedelta(0)
        wanted = (date if date.tzinfo else date.replace(tzinfo=UTC)) - at
    return min(max(wanted, timedelta(0)), LONGEST_ASKED)


def chance() -> float:
    """Where in the jitter the next pause falls."""
    return random.random()

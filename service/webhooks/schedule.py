"""When a delivery that failed is tried again: the schedule of Standard Webhooks."""

import random
from datetime import timedelta

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
JITTER = 0.1  # of a pause, at most: what failed together does not come back together


def pause_after(failed: int, chance: float) -> timedelta | None:
    """How long to wait after so many failed attempts, or None when there are no more.

    failed  1 or more
    chance  0 to below 1, at random; the pause is never shorter than the schedule's
    """
    if failed >= ATTEMPTS:
        return None
    return _AFTER[failed - 1] * (1 + JITTER * chance)


def chance() -> float:
    """Where in the jitter the next pause falls."""
    return random.random()

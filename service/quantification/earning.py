"""What an activity earns once its reduction is known: what its credit waits for, and how caps cut it.

Pure, so that a replay decides what posting decided by the same code: posting asks the database how much of a cap is
used, a replay adds it up from the log.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date
from functools import lru_cache
from typing import NamedTuple

from ledger.units import CO2e
from service.quantification.model import Cap, Methodology
from service.quantification.points import PointsRule, points_for

MATCH, SETTLEMENT, REGISTRATION = "match", "settlement", "registration"  # what a pending credit may await


class Earned(NamedTuple):
    """Whole milligrams and whole points after all caps, without what a campaign adds."""

    co2e_mg: int
    points: int

    def counted(self, of: str) -> int:
        """How much of a cap of `actions`, `grams` or `points` this uses."""
        return 1 if of == "actions" else self.co2e_mg if of == "grams" else self.points


class CapReached(NamedTuple):
    """The cap under which nothing is left for the activity, and how much of it was used before."""

    cap: Cap
    used: int


def awaited(methodology: Methodology, grade: str) -> str | None:
    """What a credit under this methodology waits for, by the grade of its evidence; None when it waits for nothing."""
    if methodology.credit_class == "project":
        return REGISTRATION
    if methodology.grades[grade] == MATCH:
        return MATCH
    return SETTLEMENT if methodology.settlement else None


@lru_cache(maxsize=1024)
def caps_of(rule: Methodology) -> Mapping[str, Cap]:
    """The rule's caps by the name they are counted under."""
    return {cap_name(rule, cap): cap for cap in rule.caps}


def cap_name(rule: Methodology, cap: Cap) -> str:
    """What a cap is counted under: the methodology's whatever its version, as long as it counts the same thing."""
    return f"{rule.id}/{cap.id}/{cap.per}/{cap.of}"


@lru_cache(maxsize=1024)
def window_start(per: str, day: date) -> date:
    """The first day of the day, month or year a cap counts in."""
    if per == "day":
        return day
    return day.replace(day=1) if per == "month" else day.replace(month=1, day=1)


def capped(
    methodology: Methodology, co2e: CO2e, rule: PointsRule | None, room: Callable[[str, Cap], int]
) -> Earned | CapReached:
    """What is left of a reduction and its points under the methodology's caps: actions, then grams, then points.

    rule   None where no points are earned
    room   how much of a cap is left, by the name it is counted under
    """
    amounts = {"actions": 1, "grams": co2e.mg, "points": 0}
    for what in ("actions", "grams", "points"):
        if what == "points" and rule is not None:
            amounts["points"] = points_for(rule, CO2e(amounts["grams"])).n
        for name, cap in caps_of(methodology).items():
            if cap.of != what:
                continue
            left = room(name, cap)
            if amounts[what] <= left:
                continue
            if cap.beyond == "refuse" or (left == 0 and what == "grams"):
                return CapReached(cap, cap.at_most - left)
            amounts[what] = left
    return Earned(amounts["grams"], amounts["points"])

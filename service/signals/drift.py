"""How a source's day differs from its own past: pure and exact.

A day is held against the median of the days before it, in units of their median absolute deviation: both stay where
they are when a few of those days were unusual themselves. The hours of a day are compared by how many rides of a
thousand would have to be moved for both days to look alike; the population stability index needs logarithms, and says
nothing that this does not.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from service.signals.finding import Found
from service.signals.rules import SignalRule

HOURS = 24


@dataclass(frozen=True, slots=True)
class SourceDay:
    """What a source reported on one Asia/Shanghai day of recording.

    usual_acts  credits that 99 in 100 of its people stayed within
    hours       24 counts: credits whose activity began in that hour, of those whose hours are kept
    """

    day: date
    credited: int
    refused: int
    mg: int
    usual_acts: int
    hours: tuple[int, ...]


def find_drift(rules: Iterable[SignalRule], today: SourceDay, before: Sequence[SourceDay]) -> list[Found]:
    """What of this day is unlike the days before it."""
    found = []
    for rule in rules:
        limits = rule.limits
        if rule.kind not in (*_MEASURES, "drift-hours"):
            continue
        since = today.day - timedelta(days=rule.window_days)
        past = [one for one in before if since <= one.day < today.day and one.credited >= limits["credits_at_least"]]
        if len(past) < limits["days_at_least"] or today.credited < limits["credits_at_least"]:
            continue
        told = _hours(rule, today, past) if rule.kind == "drift-hours" else _level(rule, today, past)
        if told is not None:
            found.append(Found(rule, str(today.day), {"day": str(today.day), **told}, ()))
    return found


def _credits(one: SourceDay) -> int:
    return one.credited


def _mean_mg(one: SourceDay) -> int:
    return one.mg // one.credited


def _refused_permille(one: SourceDay) -> int:
    return one.refused * 1000 // (one.refused + one.credited)


_MEASURES = {"drift-credits": _credits, "drift-grams": _mean_mg, "drift-refusals": _refused_permille}


def _level(rule: SignalRule, today: SourceDay, past: Sequence[SourceDay]) -> Mapping[str, str] | None:
    """Beyond so many deviations of the median, and beyond so many thousandths of it: a source that never varied is not
    told of for a trifle."""
    measure = _MEASURES[rule.kind]
    values = [measure(one) for one in past]
    usual = median(values)
    deviation = median([abs(value - usual) for value in values])
    scale = 1000 if rule.kind == "drift-refusals" else usual  # a share is of a thousand already
    limit = max(rule.limits["deviations"] * deviation, rule.limits["permille"] * scale // 1000)
    found = measure(today)
    if abs(found - usual) <= limit:
        return None
    return {"found": str(found), "usual": str(usual), "limit": str(limit)}


def _hours(rule: SignalRule, today: SourceDay, past: Sequence[SourceDay]) -> Mapping[str, str] | None:
    usual = [sum(one.hours[hour] for one in past) for hour in range(HOURS)]
    moved = moved_permille(today.hours, usual)
    limit = rule.limits["permille"]
    return {"found": str(moved), "limit": str(limit)} if moved is not None and moved > limit else None


def moved_permille(one: Sequence[int], other: Sequence[int]) -> int | None:
    """Of a thousand, how many stand in another hour; None where one of them has no hours."""
    all_one, all_other = sum(one), sum(other)
    if not all_one or not all_other:
        return None
    apart = sum(abs(a * all_other - b * all_one) for a, b in zip(one, other, strict=True))
    return apart * 1000 // (2 * all_one * all_other)


def median(values: Sequence[int]) -> int:
    """The middle one; of an even number the lower of the two, so that it is a value that was there."""
    return sorted(values)[(len(values) - 1) // 2]


def percentile_99(values: Sequence[int]) -> int:
    """The least value that 99 in 100 stay within; 0 of none."""
    return sorted(values)[(len(values) * 99 + 99) // 100 - 1] if values else 0

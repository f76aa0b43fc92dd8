"""Readings added up over whole Asia/Shanghai days: by windows of the day, with gaps filled or refused by a stated rule.

Each window, and the hours outside every window, is a part of its own: what is missing in it is filled from what was
measured in it, and the total is the sum of the parts. So peak and valley always add up to the whole.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from fractions import Fraction
from functools import reduce

from service.quantification.expression import OPERATIONS, plain
from service.quantification.model import ReadingRule
from service.quantification.readings import DAY_S, Measured, Readings, ReadingsInvalid
from service.quantification.refusals import ReadingsIncomplete

_SHANGHAI_S = 8 * 3_600  # how far the wall clock is ahead of UTC; never summer time since 1992
_EPOCH_DAY = date(1970, 1, 1)


@dataclass(frozen=True, slots=True)
class Part:
    """The share of a total that falls into one window of the day (`name` empty: the hours outside every window)."""

    name: str
    measured: Decimal
    covered_s: int
    span_s: int
    value: Decimal


@dataclass(frozen=True, slots=True)
class Total:
    """A series added up over whole Asia/Shanghai days, `first` to `last`, both included.

    measured   the sum of what was measured, nothing filled
    parts      one for each window, and one for the hours outside them; one alone where there are no windows
    """

    name: str
    unit: str
    first: date
    last: date
    measured: Decimal
    covered_s: int
    span_s: int
    longest_gap_s: int
    gaps: str
    parts: tuple[Part, ...]

    @property
    def value(self) -> Decimal:
        """What the formula uses: the sum of the parts, each with its own gaps filled by the rule."""
        return reduce(OPERATIONS["+"], (part.value for part in self.parts))

    def mean(self, periods: int) -> Decimal:
        """The total divided by `periods`, rounded once, to 50 significant digits."""
        if periods == 1:
            return self.value
        exact = sum(
            (
                Fraction(part.measured) * Fraction(part.span_s, part.covered_s)
                if self.gaps == "pro_rata"
                else Fraction(part.measured)
                for part in self.parts
            ),
            Fraction(0),
        )
        exact /= periods
        return OPERATIONS["/"](Decimal(exact.numerator), Decimal(exact.denominator))

    @property
    def covered_share(self) -> Decimal:
        """Of the whole, from 0 to 1, to 50 significant digits."""
        return OPERATIONS["/"](Decimal(self.covered_s), Decimal(self.span_s))


def total(readings: Readings, rule: ReadingRule, first: date, last: date, *, name: str = "") -> Total:
    """Add a series up over the days from `first` to `last`, both included; `name` is told instead of the rule's.

    Raises ReadingsInvalid for a span that crosses or lies outside an edge of the period or crosses an edge of a
    window, ReadingsIncomplete when the rule's coverage, longest gap or refusal of gaps says so.
    """
    begins, ends = _midnight(first), _midnight(last) + DAY_S
    if readings.spans and (readings.spans[0].begins < begins or readings.spans[-1].ends > ends):
        raise ReadingsInvalid("有读数在时段之外或跨越其边界", "a span lies outside the period, or crosses its edge")
    measured, covered = _measured(readings.spans, rule)
    lengths = {one: window.seconds * ((ends - begins) // DAY_S) for one, window in rule.windows.items()}
    lengths[""] = ends - begins - sum(lengths.values())  # the hours outside every window
    found = Total(
        name=name or rule.name,
        unit=rule.unit,
        first=first,
        last=last,
        measured=reduce(OPERATIONS["+"], measured.values()),
        covered_s=sum(covered.values()),
        span_s=ends - begins,
        longest_gap_s=_longest_gap(readings.spans, begins, ends),
        gaps=rule.gaps,
        parts=tuple(
            Part(one, measured[one], covered[one], length, _filled(rule.gaps, measured[one], covered[one], length))
            for one, length in lengths.items()
            if length
        ),
    )
    if not _complete(found, rule):
        raise ReadingsIncomplete(
            found.name,
            covered=f"{min(part.covered_s * 100 // part.span_s for part in found.parts)} %",
            longest_gap=f"{-(-found.longest_gap_s // 3600)} h",
            coverage_at_least=plain(rule.coverage_at_least),
            longest_gap_h=plain(rule.longest_gap_h),
        )
    return found


def _measured(spans: tuple[Measured, ...], rule: ReadingRule) -> tuple[dict[str, Decimal], dict[str, int]]:
    """The sum and the seconds covered in each window, and outside them under the empty name."""
    sums, covered = dict.fromkeys(("", *rule.windows), Decimal(0)), dict.fromkeys(("", *rule.windows), 0)
    slots, add = _slots(rule), OPERATIONS["+"]
    for span in spans:
        window = _window_of(span, slots)
        sums[window] = add(sums[window], span.value)
        covered[window] += span.ends - span.begins
    return sums, covered


def _longest_gap(spans: tuple[Measured, ...], begins: int, ends: int) -> int:
    starts, stops = [*(span.begins for span in spans), ends], [begins, *(span.ends for span in spans)]
    return max(start - stop for start, stop in zip(starts, stops, strict=True))


def _complete(found: Total, rule: ReadingRule) -> bool:
    if rule.gaps == "refuse":
        return found.covered_s == found.span_s
    if rule.gaps == "pro_rata" and not all(part.covered_s for part in found.parts):
        return False  # nothing to go by in one of the windows
    # In every window, or the dear hours could be left out; multiplied, not divided: exactly at the limit is good.
    enough = all(OPERATIONS["*"](rule.coverage_at_least, Decimal(one.span_s)) <= one.covered_s for one in found.parts)
    return enough and found.longest_gap_s <= OPERATIONS["*"](rule.longest_gap_h, Decimal(3600))


def _filled(gaps: str, measured: Decimal, covered_s: int, span_s: int) -> Decimal:
    if gaps != "pro_rata" or covered_s in (0, span_s):
        return measured
    return OPERATIONS["/"](OPERATIONS["*"](measured, Decimal(span_s)), Decimal(covered_s))


def _midnight(day: date) -> int:
    return (day - _EPOCH_DAY).days * DAY_S - _SHANGHAI_S


def _slots(rule: ReadingRule) -> tuple[list[int], list[str]]:
    """The edges of the day's windows in seconds after midnight, and the window that begins at each; empty: none."""
    begins = {window.begins_s: one for one, window in rule.windows.items()}
    edges = sorted({*begins, *(window.ends_s for window in rule.windows.values())})
    return edges, [begins.get(edge, "") for edge in edges]


def _window_of(span: Measured, slots: tuple[list[int], list[str]]) -> str:
    edges, names = slots
    if not edges:
        return ""
    at = (span.begins + _SHANGHAI_S) % DAY_S
    index = bisect_right(edges, at) - 1  # -1 is the slot that runs over midnight, which the last edge begins
    following = edges[index + 1] if index + 1 < len(edges) else edges[0] + DAY_S
    if at + span.ends - span.begins > following:
        raise ReadingsInvalid(
            "有读数跨越峰谷等时段的边界,须更细的读数", "a span crosses the edge of a window: finer readings are needed"
        )
    return names[index]

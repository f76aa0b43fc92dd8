"""From a report's readings to the quantities of a formula: totals, windows, baselines and how much was covered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from service.quantification.expression import plain
from service.quantification.model import ActivityData, BaselineRule, Methodology, ReadingRule
from service.quantification.periods import baseline_days, counted_days
from service.quantification.readings import Readings, ReadingsInvalid
from service.quantification.refusals import (
    MissingBaseline,
    MissingReading,
    ReadingsNotValid,
    UnknownReading,
    shown,
)
from service.quantification.totals import Total, total

COVERED_SHARE = "covered_share"


@dataclass(frozen=True, slots=True)
class Compared:
    """A baseline: the total of the days it was measured on, and its value, the mean of `rule.periods` such periods."""

    rule: BaselineRule
    total: Total
    value: Decimal


@dataclass(frozen=True, slots=True)
class Measurement:
    """Everything a report's readings come to, by name; `first` and `last` are the days of the activity, included."""

    first: date
    last: date
    readings: Mapping[str, Total]
    baseline: Mapping[str, Compared]

    @property
    def quantities(self) -> dict[str, Decimal]:
        """What a formula may name: each series, each of its windows, each baseline, and the smallest covered share."""
        values = {name: one.value for name, one in self.readings.items()}
        values |= {part.name: part.value for one in self.readings.values() for part in one.parts if part.name}
        values |= {name: one.value for name, one in self.baseline.items()}
        if self.readings:
            values[COVERED_SHARE] = min(one.covered_share for one in self.readings.values())
        return values

    @property
    def steps(self) -> tuple[str, ...]:
        """The arithmetic before the formula: what was measured when, how much was covered, what was filled in."""
        steps = [step for one in self.readings.values() for step in _steps(one)]
        for name, one in self.baseline.items():
            steps += _steps(one.total)
            if one.rule.periods > 1:
                whole, mean = (f"{plain(value)} {one.total.unit}" for value in (one.total.value, one.value))
                steps.append(f"{whole} ÷ {one.rule.periods} = {mean} ({name})")
        return tuple(steps)


def measure(methodology: Methodology, activity: ActivityData) -> Measurement:
    """Add up what was reported over the days it is of.

    Raises what counted_days raises, then by name UnknownReading, MissingReading, MissingBaseline, ReadingsNotValid,
    ReadingsIncomplete.
    """
    first, last = counted_days(methodology, activity.started_at, activity.ended_at)
    known = (*methodology.readings, *methodology.baseline)
    for reported, declared in ((activity.readings, methodology.readings), (activity.baseline, methodology.baseline)):
        for name in sorted(reported):
            if name not in declared:
                raise UnknownReading(shown(name), known)
    for name in methodology.readings:
        if name not in activity.readings:
            raise MissingReading(name)
    readings = {
        name: _total(name, rule, activity.readings[name], first, last) for name, rule in methodology.readings.items()
    }
    compared = {
        name: _compared(methodology, rule, activity, first, last) for name, rule in methodology.baseline.items()
    }
    return Measurement(first, last, readings, compared)


def _compared(
    methodology: Methodology, rule: BaselineRule, activity: ActivityData, first: date, last: date
) -> Compared:
    assert methodology.period is not None, "a baseline is refused where a document counts no periods"
    begins, ends = baseline_days(rule, methodology.period, first, last)
    if rule.name not in activity.baseline:
        raise MissingBaseline(rule.name, begins.isoformat(), ends.isoformat())
    found = _total(rule.name, methodology.readings[rule.of], activity.baseline[rule.name], begins, ends)
    return Compared(rule, found, found.mean(rule.periods))


def _total(name: str, rule: ReadingRule, readings: Readings, first: date, last: date) -> Total:
    try:
        return total(readings, rule, first, last, name=name)
    except ReadingsInvalid as error:
        raise ReadingsNotValid(name, error.zh, error.en) from error


def _steps(one: Total) -> list[str]:
    said = [f"Σ {one.name} [{one.first} … {one.last}] = {plain(one.measured)} {one.unit}"]
    if one.covered_s != one.span_s:
        said.append(
            f"{one.covered_s} s ÷ {one.span_s} s = {plain(one.covered_share)} ({COVERED_SHARE}, {one.name}, "
            f"⌈{one.longest_gap_s} s⌉, {one.gaps})"
        )
    for part in one.parts:
        name = part.name or one.name
        if part.value != part.measured:
            said.append(
                f"{plain(part.measured)} {one.unit} × {part.span_s} s ÷ {part.covered_s} s = "
                f"{plain(part.value)} {one.unit} ({name})"
            )
        elif part.name:
            said.append(f"Σ {name} = {plain(part.value)} {one.unit}")
    if len(one.parts) > 1:
        terms = " + ".join(f"{plain(part.value)} {one.unit}" for part in one.parts)
        said.append(f"{terms} = {plain(one.value)} {one.unit} ({one.name})")
    return said

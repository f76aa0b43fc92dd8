"""Apply one methodology version to one activity, and say how: no clock, no I/O, exact decimals.

The order of checks is fixed: times, inputs (unknown, missing, then improper or out of range; by name), factors, the
conditions in the order of the document, the reduction. The first that fails is the refusal; refusals.py draws the tree.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from decimal import Context, Decimal, Inexact

from ledger.units import CO2e
from service.quantification.document import Bilingual
from service.quantification.expression import exact_input, plain
from service.quantification.model import (
    CONVERSIONS,
    ActivityData,
    Condition,
    FactorValue,
    Formula,
    Methodology,
)
from service.quantification.refusals import (
    ConditionNotMet,
    EndsBeforeStart,
    ImproperNumber,
    InputOutOfRange,
    MissingFactor,
    MissingInput,
    NoMethodologyInForce,
    NoReduction,
    NotComputable,
    NotCredited,
    OutsideCalendar,
    UnknownInput,
    shown,
)
from service.quantification.trace import trace

__all__ = [
    "SHANGHAI",
    "ActivityData",
    "ConditionNotMet",
    "ConditionShown",
    "EndsBeforeStart",
    "Explanation",
    "FactorUsed",
    "ImproperNumber",
    "InputOutOfRange",
    "MissingFactor",
    "MissingInput",
    "NoReduction",
    "NotComputable",
    "NotCredited",
    "OutsideCalendar",
    "QuantityUsed",
    "Reduction",
    "UnknownInput",
    "activity_day",
    "explain",
    "quantify",
]

# Asia/Shanghai has been UTC+8 without summer time since 15 September 1991; documents start in 1992 at the earliest. A
# fixed offset needs no time zone database, so every machine that replays finds the same day.
SHANGHAI = timezone(timedelta(hours=8), "Asia/Shanghai")

_MICROSECONDS = Context(prec=20, traps=[Inexact])  # ten thousand years are 3.2e17 microseconds
_CONSTANTS = {name: value for name, (_, value) in CONVERSIONS.items()}


@dataclass(frozen=True, slots=True)
class Reduction:
    """A reduction 减排量: whole milligrams, rounded down once, with the rule, the day of the activity and its year."""

    co2e: CO2e
    methodology: Methodology
    day: date
    vintage: int


@dataclass(frozen=True, slots=True)
class QuantityUsed:
    """An input, a derived quantity or a conversion as it entered the formula."""

    name: str
    value: Decimal
    unit: str
    meaning: Bilingual


@dataclass(frozen=True, slots=True)
class FactorUsed:
    name: str
    unit: str
    meaning: Bilingual
    used: FactorValue  # value, span, source, confidence, quality, note


@dataclass(frozen=True, slots=True)
class ConditionShown:
    """A condition that was met, its value and the arithmetic; `steps` is empty when the value is a name alone."""

    condition: Condition
    value: Decimal
    steps: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """How a reduction came about. `co2e` is the same as quantify's; `steps` ends in the rounding down to milligrams."""

    co2e: CO2e
    grams: Decimal
    methodology: Methodology
    day: date
    vintage: int
    inputs: tuple[QuantityUsed, ...]
    factors: tuple[FactorUsed, ...]
    conditions: tuple[ConditionShown, ...]
    formula: str
    steps: tuple[str, ...]


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


def quantify(methodology: Methodology, activity: ActivityData) -> Reduction:
    """Apply one methodology version to one activity; no clock, no I/O, exact decimals.

    activity   inputs in the units the methodology declares; a value outside its range is refused, not clipped
    returns    whole mgCO2e, rounded down once, with the day and its year as vintage

    Raises NotCredited (see refusals.py), NoMethodologyInForce when the methodology is not in force on the day,
    ValueError for a time without an offset, TypeError for an input that is no Decimal.
    """
    day = activity_day(activity.started_at)
    values = _quantities(methodology, activity, day)
    for condition in methodology.conditions:
        value = _evaluate(condition.formula, values, condition.id)
        if not condition.holds(value):
            raise _not_met(condition, value)
    return Reduction(_floor(_evaluate(methodology.reduction, values, "reduction")), methodology, day, day.year)


def explain(methodology: Methodology, activity: ActivityData) -> Explanation:
    """The same computation, slower, with every figure, source and step. Raises what quantify raises."""
    day = activity_day(activity.started_at)
    values = _quantities(methodology, activity, day)
    conditions = []
    for condition in methodology.conditions:
        value, steps = _trace(condition.formula, values, condition.id)
        if not condition.holds(value):
            raise _not_met(condition, value)
        conditions.append(ConditionShown(condition, value, steps))
    grams, steps = _trace(methodology.reduction, values, "reduction")
    co2e = _floor(grams)
    return Explanation(
        co2e=co2e,
        grams=grams,
        methodology=methodology,
        day=day,
        vintage=day.year,
        inputs=tuple(
            QuantityUsed(name, values[name], one.unit, one.meaning) for name, one in methodology.inputs.items()
        ),
        factors=tuple(
            FactorUsed(name, factor.unit, factor.meaning, used)
            for name, factor in methodology.factors.items()
            if (used := factor.on(day)) is not None
        ),
        conditions=tuple(conditions),
        formula=methodology.reduction.expression.source,
        steps=(*steps, f"⌊{plain(grams)} g⌋ = {co2e.mg} mg"),
    )


def _quantities(methodology: Methodology, activity: ActivityData, day: date) -> dict[str, Decimal]:
    """Every name a formula may use, checked, with its value on the day."""
    if day not in methodology.in_force:
        raise NoMethodologyInForce(methodology.scenario.id, day.isoformat(), (str(methodology.in_force),))
    values = dict(_CONSTANTS)
    values["duration_s"] = _duration_s(activity.started_at, activity.ended_at)
    reported, declared = activity.inputs, methodology.inputs
    if reported.keys() != declared.keys():
        _refuse_names(reported, methodology)
    for name, expected in declared.items():
        value = reported[name]
        if type(value) is not Decimal:
            raise TypeError(f"{name} must be an exact Decimal, not {type(value).__name__}")
        number = exact_input(value)
        if number is None:
            raise ImproperNumber(name, str(value)[:64])
        if not expected.admits(number):
            raise InputOutOfRange(name, plain(number), expected.unit, expected.limits)
        values[name] = number
    for name, factor in methodology.factors.items():
        used = factor.on(day)
        if used is None:
            raise MissingFactor(name, day.isoformat())
        values[name] = used.value
    return values


def _refuse_names(reported: Mapping[str, Decimal], methodology: Methodology) -> None:
    known = tuple(methodology.inputs)
    for name in sorted(reported):
        if name not in methodology.inputs:
            raise UnknownInput(shown(name), known)
    for name in known:
        if name not in reported:
            raise MissingInput(name, methodology.inputs[name].unit)


def _duration_s(started_at: datetime, ended_at: datetime) -> Decimal:
    """Elapsed seconds, exact to the microsecond; equal times are 0 and left to the conditions."""
    if ended_at.utcoffset() is None:
        raise ValueError("a time needs its offset from UTC")
    if type(started_at.tzinfo) is timezone and type(ended_at.tzinfo) is timezone:
        elapsed = ended_at - started_at
    else:  # two times in one zone with summer time would be subtracted by the clock on the wall
        elapsed = ended_at.astimezone(SHANGHAI) - started_at.astimezone(SHANGHAI)
    if elapsed.days < 0:
        raise EndsBeforeStart(started_at.isoformat(), ended_at.isoformat())
    seconds = Decimal(elapsed.days * 86400 + elapsed.seconds)
    if not elapsed.microseconds:
        return seconds
    return _MICROSECONDS.add(seconds, _MICROSECONDS.scaleb(Decimal(elapsed.microseconds), -6))


def _evaluate(formula: Formula, values: Mapping[str, Decimal], where: str) -> Decimal:
    try:
        return formula.expression.evaluate(values)
    except ArithmeticError as error:
        raise NotComputable(where) from error


def _floor(grams: Decimal) -> CO2e:
    co2e = CO2e.from_grams_floor(grams)
    if co2e.mg <= 0:
        raise NoReduction(plain(grams), "g")
    return co2e


def _trace(formula: Formula, values: Mapping[str, Decimal], where: str) -> tuple[Decimal, tuple[str, ...]]:
    try:
        return trace(formula, values)
    except ArithmeticError as error:
        raise NotComputable(where) from error


def _not_met(condition: Condition, value: Decimal) -> ConditionNotMet:
    return ConditionNotMet(
        condition.id,
        condition.title.zh,
        condition.title.en,
        plain(value),
        condition.formula.unit,
        condition.comparison,
        plain(condition.limit),
    )

"""Apply one methodology version to one activity, and say how: no clock, no I/O, exact decimals.

The order of checks is fixed: times, inputs (unknown, missing, then improper or out of range; by name), the days a
report is of and its readings where the methodology counts days, factors, the conditions in the order of the document,
the reduction. The first that fails is the refusal; refusals.py draws the tree.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timezone
from decimal import ROUND_HALF_EVEN, Context, Decimal, Inexact, InvalidOperation

from ledger.units import CO2e
from service.quantification.document import Bilingual
from service.quantification.expression import exact_input, plain
from service.quantification.measuring import Measurement, measure
from service.quantification.model import (
    CONVERSIONS,
    ActivityData,
    Condition,
    FactorValue,
    Formula,
    Input,
    Methodology,
)
from service.quantification.periods import SHANGHAI, activity_day
from service.quantification.refusals import (
    ConditionNotMet,
    EndsBeforeStart,
    ImproperNumber,
    InputOutOfRange,
    MethodologyIncomplete,
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
    "admitted",
    "explain",
    "explain_conditions",
    "quantify",
]

_MICROSECONDS = Context(prec=20, traps=[Inexact])  # ten thousand years are 3.2e17 microseconds
# A quotient ends after 50 digits, so that 420 g/kWh times a mean over seven days can come out as 127.4999…9 g where it
# is 127.5 g, and rounding down would cost a milligram. Behind the 30th decimal of a gram there is nothing but that.
_SETTLING = Context(prec=600, rounding=ROUND_HALF_EVEN, traps=[InvalidOperation])
_SETTLED = Decimal(1).scaleb(-30)
_COUNTING = ("day", "period")
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
    """How a reduction came about. `co2e` is the same as quantify's.

    steps   one line for each operation, from the sums of readings to the rounding down to milligrams
    """

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
    measurement: Measurement | None = None  # what the readings come to, where the methodology counts days


def quantify(methodology: Methodology, activity: ActivityData) -> Reduction:
    """Apply one methodology version to one activity; no clock, no I/O, exact decimals.

    activity   inputs in the units the methodology declares; a value outside its range is refused, not clipped
    returns    whole mgCO2e, rounded down once, with the day and its year as vintage

    Raises NotCredited (see refusals.py), NoMethodologyInForce when the methodology is not in force on the day,
    MethodologyIncomplete when its document says what is not known, ValueError for a time without an offset, TypeError
    for an input that is no Decimal.
    """
    day = activity_day(activity.started_at)
    formula = methodology.reduction
    if formula is None or methodology.missing:
        raise MethodologyIncomplete(methodology.id)
    values = _quantities(methodology, activity, day)
    where = ""
    try:
        for condition in methodology.conditions:
            where = condition.id
            value = condition.formula.expression.evaluate(values)
            if not condition.holds(value):
                raise _not_met(condition, value)
        where = "reduction"
        grams = _settled(formula.expression.evaluate(values))
    except ArithmeticError as error:
        raise NotComputable(where) from error
    return Reduction(_floor(grams), methodology, day, day.year)


def explain(methodology: Methodology, activity: ActivityData) -> Explanation:
    """The same computation, slower, with every figure, source and step. Raises what quantify raises."""
    day = activity_day(activity.started_at)
    formula = methodology.reduction
    if formula is None or methodology.missing:
        raise MethodologyIncomplete(methodology.id)
    values = _quantities(methodology, activity, day)
    conditions = explain_conditions(methodology.conditions, values)
    measurement = measure(methodology, activity) if methodology.trigger in _COUNTING else None
    traced, steps = _trace(formula, values, "reduction")
    grams = _settled(traced)
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
        conditions=conditions,
        formula=formula.expression.source,
        steps=(*(measurement.steps if measurement else ()), *steps, f"⌊{plain(grams)} g⌋ = {co2e.mg} mg"),
        measurement=measurement,
    )


def explain_conditions(conditions: Sequence[Condition], values: Mapping[str, Decimal]) -> tuple[ConditionShown, ...]:
    """Each condition with its value and arithmetic. Raises ConditionNotMet for the first that does not hold."""
    found = []
    for condition in conditions:
        value, steps = _trace(condition.formula, values, condition.id)
        if not condition.holds(value):
            raise _not_met(condition, value)
        found.append(ConditionShown(condition, value, steps))
    return tuple(found)


def admitted(reported: Mapping[str, Decimal], declared: Mapping[str, Input]) -> dict[str, Decimal]:
    """What was reported, exact and within its range.

    Raises UnknownInput, MissingInput, ImproperNumber, InputOutOfRange; TypeError for what is no Decimal.
    """
    values: dict[str, Decimal] = {}
    if reported.keys() != declared.keys():
        _refuse_names(reported, declared)
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
    return values


def _quantities(methodology: Methodology, activity: ActivityData, day: date) -> dict[str, Decimal]:
    """Every name a formula may use, checked, with its value on the day."""
    if not methodology.covers(day):
        raise NoMethodologyInForce(methodology.scenario.id, day.isoformat(), (methodology.in_force_shown,))
    duration_s = _duration_s(activity.started_at, activity.ended_at)
    values = admitted(activity.inputs, methodology.inputs)
    values.update(_CONSTANTS)
    values["duration_s"] = duration_s
    if methodology.trigger in _COUNTING or activity.readings or activity.baseline:  # which a trip has not: refused
        values.update(measure(methodology, activity).quantities)
    for name, factor in methodology.factors.items():
        used = factor.on(day)
        if used is None:
            raise MissingFactor(name, day.isoformat())
        values[name] = used.value
    return values


def _refuse_names(reported: Mapping[str, Decimal], declared: Mapping[str, Input]) -> None:
    known = tuple(declared)
    for name in sorted(reported):
        if name not in declared:
            raise UnknownInput(shown(name), known)
    for name in known:
        if name not in reported:
            raise MissingInput(name, declared[name].unit)


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


def _settled(grams: Decimal) -> Decimal:
    """The same grams without what the end of a quotient left behind; unchanged where there are 30 decimals or fewer."""
    settled = _SETTLING.quantize(grams, _SETTLED)
    return grams if settled == grams else _SETTLING.normalize(settled)


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

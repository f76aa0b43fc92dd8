"""The same act under every document about it: what each gives, or why it gives nothing. Pure, like quantify.

One activity is told once, by the names that documents share (`distance_km`, `use_kwh`). Each document takes what it
declares; what it does not take is passed over and named. A total may be told where a document declares readings: it is
then one span over the whole period, or over the days of the baseline.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from decimal import Decimal

from service.quantification.expression import plain
from service.quantification.model import ActivityData, BaselineRule, Factor, Methodology
from service.quantification.periods import (
    ONE_DAY,
    SHANGHAI,
    activity_day,
    baseline_days,
    counted_days,
    last_whole,
)
from service.quantification.quantify import Explanation, explain
from service.quantification.readings import Readings, ReadingsInvalid, parse_readings
from service.quantification.refusals import MethodologyIncomplete, ReadingsNotValid, Refusal

TIMES = ("started_at", "ended_at")
_ONE_HOUR = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Told:
    """What somebody did, as far as it is told: the same for every document. Times are aware, or both None.

    figures   by name, in the unit that documents declare for the name
    """

    started_at: datetime | None = None
    ended_at: datetime | None = None
    figures: Mapping[str, Decimal] = field(default_factory=dict)
    readings: Mapping[str, Readings] = field(default_factory=dict)
    baseline: Mapping[str, Readings] = field(default_factory=dict)

    @property
    def names(self) -> frozenset[str]:
        return frozenset({*self.figures, *self.readings, *self.baseline})


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one document gives: an explanation, or what stands against it.

    day           that the act is of; None where no time could be given to it
    in_force      on that day; where it is not, the document is computed as if it were, by its nearest figures
    refusal       what computing was refused with; also MethodologyIncomplete
    lacking       what the document needs and nobody told: inputs, readings, baselines, or the times
    not_used      what was told and this document does not take
    not_checked   conditions on the duration, where no times were told
    """

    methodology: Methodology
    day: date
    in_force: bool
    explanation: Explanation | None = None
    refusal: Refusal | None = None
    lacking: tuple[str, ...] = ()
    not_used: tuple[str, ...] = ()
    not_checked: tuple[str, ...] = ()

    @property
    def mg(self) -> int | None:
        """The reduction in milligrams, None where there is none to tell."""
        return None if self.explanation is None else self.explanation.co2e.mg


def acts_of(methodologies: Iterable[Methodology]) -> tuple[str, ...]:
    """The acts there are documents about, by name."""
    return tuple(sorted({one.act for one in methodologies if one.act}))


def same_act(methodologies: Iterable[Methodology], act: str, day: date) -> tuple[Methodology, ...]:
    """The documents about an act, one version of each: the newest in force on the day, else the newest there is."""
    newest: dict[str, Methodology] = {}
    for one in sorted((one for one in methodologies if one.act == act), key=lambda one: one.version):
        if one.covers(day) or not (one.id in newest and newest[one.id].covers(day)):
            newest[one.id] = one
    return tuple(newest[name] for name in sorted(newest))


def compare(methodologies: Iterable[Methodology], act: str, told: Told, now: datetime) -> tuple[Outcome, ...]:
    """What every document about the act gives: the largest reduction first, then those that give none, by id.

    Without times it is of now; where documents count days, months or years, of the last whole one: a month where they
    count different units. Raises what activity_day raises.
    """
    found = same_act(methodologies, act, activity_day(told.started_at or now))
    units = {one.period.unit for one in found if one.period is not None}
    unit = units.pop() if len(units) == 1 else "month"
    outcomes = [_outcome(one, told, now, unit) for one in found]
    return tuple(sorted(outcomes, key=lambda one: (-1 if one.mg is None else -one.mg, one.methodology.id)))


def _outcome(methodology: Methodology, told: Told, now: datetime, unit: str) -> Outcome:
    started_at, ended_at = _times(methodology, told, now, unit)
    day = activity_day(started_at)
    declared = {*methodology.inputs, *methodology.readings, *methodology.baseline}
    lacking = tuple(sorted(declared - told.names))
    timeless = told.started_at is None and methodology.trigger not in ("day", "period")  # those last as long as they do
    if timeless and methodology.reduction and "duration_s" in methodology.reduction.expression.names:
        lacking += TIMES
    found = Outcome(
        methodology=methodology,
        day=day,
        in_force=methodology.covers(day),
        lacking=lacking,
        not_used=tuple(sorted(told.names - declared)),
        not_checked=tuple(
            one.id for one in methodology.conditions if timeless and "duration_s" in one.formula.expression.names
        ),
    )
    if methodology.reduction is None or methodology.missing:
        return replace(found, refusal=MethodologyIncomplete(methodology.id))
    if lacking:
        return found
    asked = replace(
        _as_of(methodology, day),
        conditions=tuple(one for one in methodology.conditions if one.id not in found.not_checked),
    )
    try:
        explanation = explain(asked, _data(methodology, told, started_at, ended_at))
    except Refusal as refusal:
        return replace(found, refusal=refusal)
    return replace(found, explanation=_with_factors_as_written(explanation, methodology))


def _times(methodology: Methodology, told: Told, now: datetime, unit: str) -> tuple[datetime, datetime]:
    """A document that counts days takes the day on which the act began."""
    if told.started_at is not None and told.ended_at is not None:
        if methodology.trigger != "day":
            return told.started_at, told.ended_at
        begins = _midnight(activity_day(told.started_at))
        return begins, begins + ONE_DAY
    if methodology.period is not None:
        return last_whole(unit, now)
    return last_whole("day", now) if methodology.trigger == "day" else (now - _ONE_HOUR, now)


def _as_of(methodology: Methodology, day: date) -> Methodology:
    """The document as if it were in force on the day: with the figures of its nearest day, where it has none for it."""
    if methodology.covers(day):
        return methodology
    span = None if methodology.in_force is None else replace(methodology.in_force, first=day, last=day)
    factors = {name: _factor_as_of(factor, day) for name, factor in methodology.factors.items()}
    return replace(methodology, in_force=span, factors=factors)


def _factor_as_of(factor: Factor, day: date) -> Factor:
    if factor.on(day) is not None or not factor.values:
        return factor
    nearest = min(factor.values, key=lambda one: _days_from(day, one.span.first, one.span.last))
    return replace(factor, values=(replace(nearest, span=replace(nearest.span, first=day, last=day)),))


def _days_from(day: date, first: date, last: date | None) -> int:
    return (first - day).days if day < first else (day - (last or day)).days


def _with_factors_as_written(explanation: Explanation, methodology: Methodology) -> Explanation:
    """Figures with the days that the document gives them, and the document with all its conditions."""
    written = []
    for used in explanation.factors:
        same = [one for one in methodology.factors[used.name].values if one.value == used.used.value]
        on_the_day = [one for one in same if explanation.day in one.span]
        written.append(replace(used, used=(on_the_day or same)[0]))
    return replace(explanation, factors=tuple(written), methodology=methodology)


def _data(methodology: Methodology, told: Told, started_at: datetime, ended_at: datetime) -> ActivityData:
    """What the document takes of what was told. Raises ReadingsNotValid, and what counted_days raises."""
    inputs = {name: told.figures[name] for name in methodology.inputs if name in told.figures}
    readings = {name: told.readings[name] for name in methodology.readings if name in told.readings}
    baseline = {name: told.baseline[name] for name in methodology.baseline if name in told.baseline}
    if methodology.readings:
        first, last = counted_days(methodology, started_at, ended_at)
        for name in methodology.readings.keys() - readings.keys():
            readings[name] = _whole(name, told.figures[name], first, last)
        for name in methodology.baseline.keys() - baseline.keys():
            baseline[name] = _before(methodology, methodology.baseline[name], told.figures[name], first, last)
    return ActivityData(started_at, ended_at, inputs, readings, baseline)


def _before(methodology: Methodology, rule: BaselineRule, figure: Decimal, first: date, last: date) -> Readings:
    """The figure is of one period, as the formula takes it: a mean of several periods stands for all of them."""
    assert methodology.period is not None, "a baseline is refused where a document counts no periods"
    begins, ends = baseline_days(rule, methodology.period, first, last)
    return _whole(rule.name, figure * rule.periods, begins, ends)


def _whole(name: str, figure: Decimal, first: date, last: date) -> Readings:
    span = [_midnight(first).isoformat(), _midnight(last + ONE_DAY).isoformat(), plain(figure)]
    try:
        return parse_readings({"kind": "interval", "spans": [span]})
    except ReadingsInvalid as error:
        raise ReadingsNotValid(name, error.zh, error.en) from error


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=SHANGHAI)

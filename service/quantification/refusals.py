"""Why an activity earns nothing, as facts an interface can render in Chinese and English.

    Refusal                       reason (a stable code), params (texts to fill a message with)
    ├── NotRuled                  no rule says anything yet: nothing is stored, the report may be sent again
    │   ├── UnknownScenario
    │   ├── NoMethodologyInForce
    │   ├── MethodologyIncomplete the document itself says what is not known
    │   └── NoPointsRuleInForce
    └── NotCredited               the report or the activity is at fault; activities/intake.py says which are final
        ├── OutsideCalendar       the times belong to no day
        ├── EndsBeforeStart
        ├── NotOneDay             of a methodology that counts days
        ├── NotWholePeriod        of one that counts periods: whole calendar units
        ├── PeriodTooLong
        ├── UnknownInput
        ├── MissingInput
        ├── ImproperNumber        NaN, infinite, minus zero or too many digits
        ├── InputOutOfRange
        ├── UnknownReading
        ├── MissingReading
        ├── MissingBaseline
        ├── ReadingsNotValid      crossing an edge of the period or of a window, or not in one of the forms
        ├── ReadingsIncomplete    gaps beyond what the methodology allows
        ├── MissingFactor         no value in force on the day
        ├── ConditionNotMet       the condition, the value and the limit
        ├── NotComputable         a division by zero
        └── NoReduction           the formula gives less than a milligram

Numbers stand in these as decimal text, days as YYYY-MM-DD. What a caller wrote is made fit to show (`shown`)
and never is part of a reason, so that reasons can label a metric.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import ClassVar


def shown(written: str) -> str:
    """A caller's text, fit for an answer and a database: 64 characters at most, U+FFFD for what cannot be printed."""
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in written[:64])


@dataclass(eq=False)
class Refusal(Exception):
    slug: ClassVar[str] = "refused"
    about: ClassVar[str] = ""  # the field that completes the reason, when the document names it

    @property
    def reason(self) -> str:
        """For example `condition-not-met/min-duration`."""
        return f"{self.slug}/{getattr(self, self.about)}" if self.about else self.slug

    @property
    def params(self) -> dict[str, str]:
        """Every field as text."""
        values = ((field.name, getattr(self, field.name)) for field in fields(self))
        return {name: ", ".join(value) if isinstance(value, tuple) else str(value) for name, value in values}

    def __str__(self) -> str:
        return self.reason


class NotRuled(Refusal):
    pass


class NotCredited(Refusal):
    pass


@dataclass(eq=False)
class UnknownScenario(NotRuled):
    slug: ClassVar[str] = "unknown-scenario"
    scenario: str
    known: tuple[str, ...]

    def __str__(self) -> str:
        return f"no methodology covers the scenario {self.scenario!r}; known: {', '.join(self.known) or 'none'}"


@dataclass(eq=False)
class NoMethodologyInForce(NotRuled):
    slug: ClassVar[str] = "no-methodology-in-force"
    scenario: str
    day: str
    spans: tuple[str, ...]

    def __str__(self) -> str:
        return f"no methodology for {self.scenario!r} is in force on {self.day}; in force: {', '.join(self.spans)}"


@dataclass(eq=False)
class NoPointsRuleInForce(NotRuled):
    slug: ClassVar[str] = "no-points-rule-in-force"
    day: str

    def __str__(self) -> str:
        return f"no points rule is in force on {self.day}"


@dataclass(eq=False)
class MethodologyIncomplete(NotRuled):
    slug: ClassVar[str] = "methodology-incomplete"
    methodology: str

    def __str__(self) -> str:
        return f"the methodology {self.methodology} says itself that parts of it are not known; nothing is computed"


@dataclass(eq=False)
class OutsideCalendar(NotCredited):
    slug: ClassVar[str] = "outside-calendar"
    started_at: str

    def __str__(self) -> str:
        return f"started_at {self.started_at} falls on no calendar day in Shanghai; report the time the activity began"


@dataclass(eq=False)
class EndsBeforeStart(NotCredited):
    slug: ClassVar[str] = "ends-before-start"
    started_at: str
    ended_at: str

    def __str__(self) -> str:
        return f"the activity ends at {self.ended_at}, before it starts at {self.started_at}"


@dataclass(eq=False)
class NotOneDay(NotCredited):
    slug: ClassVar[str] = "not-one-day"
    started_at: str
    ended_at: str

    def __str__(self) -> str:
        return (
            f"{self.started_at} to {self.ended_at} is not one Asia/Shanghai day; "
            "report it from midnight to the following midnight"
        )


@dataclass(eq=False)
class NotWholePeriod(NotCredited):
    slug: ClassVar[str] = "not-whole-period"
    started_at: str
    ended_at: str
    unit_zh: str
    unit_en: str

    def __str__(self) -> str:
        return (
            f"{self.started_at} to {self.ended_at} is not whole calendar {self.unit_en}s of Asia/Shanghai; report it "
            "from the first midnight to the midnight after the last day"
        )


@dataclass(eq=False)
class PeriodTooLong(NotCredited):
    slug: ClassVar[str] = "period-too-long"
    units: str
    at_most: str
    unit_zh: str
    unit_en: str

    def __str__(self) -> str:
        return f"the period has {self.units} {self.unit_en}s, at most {self.at_most} may be reported together"


@dataclass(eq=False)
class UnknownReading(NotCredited):
    slug: ClassVar[str] = "unknown-reading"
    name: str
    known: tuple[str, ...]

    def __str__(self) -> str:
        return f"the methodology has no readings or baseline {self.name!r}; it has {', '.join(self.known) or 'none'}"


@dataclass(eq=False)
class MissingReading(NotCredited):
    slug: ClassVar[str] = "missing-reading"
    about: ClassVar[str] = "name"
    name: str

    def __str__(self) -> str:
        return f"the readings {self.name} are missing; the methodology needs them"


@dataclass(eq=False)
class MissingBaseline(NotCredited):
    """`first` and `last` are the days, both included, of which the baseline has to be reported."""

    slug: ClassVar[str] = "missing-baseline"
    about: ClassVar[str] = "name"
    name: str
    first: str
    last: str

    def __str__(self) -> str:
        return f"the baseline {self.name} is missing: readings from {self.first} to the end of {self.last} are needed"


@dataclass(eq=False)
class ReadingsNotValid(NotCredited):
    slug: ClassVar[str] = "readings-invalid"
    about: ClassVar[str] = "name"
    name: str
    why_zh: str
    why_en: str

    def __str__(self) -> str:
        return f"the readings {self.name} cannot be taken: {self.why_en}"


@dataclass(eq=False)
class ReadingsIncomplete(NotCredited):
    """`covered` (in the window that has least) and `longest_gap` are what came, rounded against the report."""

    slug: ClassVar[str] = "readings-incomplete"
    about: ClassVar[str] = "name"
    name: str
    covered: str
    longest_gap: str
    coverage_at_least: str
    longest_gap_h: str

    def __str__(self) -> str:
        return (
            f"the readings {self.name} cover {self.covered} with a gap of up to {self.longest_gap}; a share of "
            f"{self.coverage_at_least} in every window, and no gap over {self.longest_gap_h} h, are needed"
        )


@dataclass(eq=False)
class UnknownInput(NotCredited):
    slug: ClassVar[str] = "unknown-input"
    name: str
    known: tuple[str, ...]

    def __str__(self) -> str:
        return f"the methodology has no input {self.name!r}; it has {', '.join(self.known)}"


@dataclass(eq=False)
class MissingInput(NotCredited):
    slug: ClassVar[str] = "missing-input"
    about: ClassVar[str] = "name"
    name: str
    unit: str

    def __str__(self) -> str:
        return f"the input {self.name} ({self.unit}) is missing; the methodology needs it"


@dataclass(eq=False)
class ImproperNumber(NotCredited):
    slug: ClassVar[str] = "improper-number"
    about: ClassVar[str] = "name"
    name: str
    value: str

    def __str__(self) -> str:
        return (
            f"{self.name} = {self.value} is not a number this platform takes: finite, not -0, "
            "at most 18 significant digits, 19 before and 30 after the point"
        )


@dataclass(eq=False)
class InputOutOfRange(NotCredited):
    slug: ClassVar[str] = "input-out-of-range"
    about: ClassVar[str] = "name"
    name: str
    value: str
    unit: str
    limits: str

    def __str__(self) -> str:
        return f"{self.name} = {self.value} {self.unit} is outside its range {self.limits}"


@dataclass(eq=False)
class MissingFactor(NotCredited):
    slug: ClassVar[str] = "missing-factor"
    about: ClassVar[str] = "name"
    name: str
    day: str

    def __str__(self) -> str:
        return f"the factor {self.name} has no value in force on {self.day}"


@dataclass(eq=False)
class ConditionNotMet(NotCredited):
    """`comparison` is at_least, at_most, above or below: what the value had to be, measured against the limit."""

    slug: ClassVar[str] = "condition-not-met"
    about: ClassVar[str] = "condition"
    condition: str
    title_zh: str
    title_en: str
    value: str
    unit: str
    comparison: str
    limit: str

    def __str__(self) -> str:
        wanted = f"{self.comparison.replace('_', ' ')} {self.limit} {self.unit}"
        return f"{self.title_en}: {self.value} {self.unit}, must be {wanted}"


@dataclass(eq=False)
class NotComputable(NotCredited):
    """`where` is the condition's id, or `reduction`."""

    slug: ClassVar[str] = "not-computable"
    about: ClassVar[str] = "where"
    where: str

    def __str__(self) -> str:
        return f"{self.where} cannot be computed from these inputs: a divisor is zero"


@dataclass(eq=False)
class NoReduction(NotCredited):
    """What was computed is negative, zero or less than a milligram: nothing is credited, and nothing is taken."""

    slug: ClassVar[str] = "no-reduction"
    value: str
    unit: str

    def __str__(self) -> str:
        return f"the computed reduction is {self.value} {self.unit}; less than one milligram earns nothing"

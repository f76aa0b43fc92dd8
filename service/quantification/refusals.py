"""Why an activity earns nothing, as facts an interface can render in Chinese and English.

    Refusal                       reason (a stable code), params (texts to fill a message with)
    ├── NotRuled                  no rule says anything yet: nothing is stored, the report may be sent again
    │   ├── UnknownScenario
    │   ├── NoMethodologyInForce
    │   └── NoPointsRuleInForce
    └── NotCredited               the report or the activity is at fault; activities/intake.py says which are final
        ├── OutsideCalendar       the times belong to no day
        ├── EndsBeforeStart
        ├── UnknownInput
        ├── MissingInput
        ├── ImproperNumber        NaN, infinite, minus zero or too many digits
        ├── InputOutOfRange
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

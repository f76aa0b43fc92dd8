"""What a methodology is, once its document was read and checked. Values only; reading is in methodology.py."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal

from service.quantification.document import Bilingual, Span
from service.quantification.expression import Expression, Term, plain

STATUSES = ("official", "group_standard", "platform_table", "demonstration")
TRIGGERS = ("trip", "boarding", "day", "period")
CREDIT_CLASSES = ("behaviour", "scenario", "project")
CONFIDENCES = ("confirmed", "single", "inferred")
COMPARISONS: dict[str, Callable[[Decimal, Decimal], bool]] = {
    "at_least": operator.ge,
    "at_most": operator.le,
    "above": operator.gt,
    "below": operator.lt,
}

# What a trip offers to every formula besides inputs and factors. Durations are exact to the microsecond. A conversion
# is exactly 1, written in two units, and changes units in plain sight: distance_km * s_per_h / duration_s is in km/h.
TRIP_QUANTITIES = {"duration_s": "s"}
CONVERSIONS: dict[str, tuple[str, Decimal]] = {
    "s_per_h": ("s/h", Decimal(3600)),
    "m_per_km": ("m/km", Decimal(1000)),
    "g_per_kg": ("g/kg", Decimal(1000)),
}


@dataclass(frozen=True, slots=True)
class Scenario:
    """A low-carbon scenario 低碳场景."""

    id: str
    title: Bilingual


@dataclass(frozen=True, slots=True)
class Source:
    """Where a figure comes from."""

    id: str
    title: Bilingual
    publisher: Bilingual
    published: str
    url: str | None


@dataclass(frozen=True, slots=True)
class Input:
    """One figure of activity data, and the range in which it is believed; a value outside is refused, not clipped."""

    name: str
    unit: str
    meaning: Bilingual
    low: Decimal
    low_included: bool
    high: Decimal
    high_included: bool

    def admits(self, value: Decimal) -> bool:
        above = self.low <= value if self.low_included else self.low < value
        return above and (value <= self.high if self.high_included else value < self.high)

    @property
    def limits(self) -> str:
        """For example `> 0 km, ≤ 120 km`."""
        low, high = ("≥" if self.low_included else ">"), ("≤" if self.high_included else "<")
        return f"{low} {plain(self.low)} {self.unit}, {high} {plain(self.high)} {self.unit}"


@dataclass(frozen=True, slots=True)
class FactorValue:
    """A factor's value over a span of days, with what stands behind it."""

    span: Span
    value: Decimal
    source: Source
    confidence: str
    quality: str | None
    note: Bilingual | None


@dataclass(frozen=True, slots=True)
class Factor:
    name: str
    unit: str
    meaning: Bilingual
    values: tuple[FactorValue, ...]

    def on(self, day: date) -> FactorValue | None:
        for value in self.values:
            if day in value.span:
                return value
        return None


@dataclass(frozen=True, slots=True)
class Formula:
    """An expression whose units were checked: `units` names the unit of every term, for the explanation."""

    expression: Expression
    unit: str
    units: Mapping[Term, str]


@dataclass(frozen=True, slots=True)
class Condition:
    """A requirement on the activity: `formula` compared with `limit`; checked in the order of the document."""

    id: str
    title: Bilingual
    formula: Formula
    comparison: str
    limit: Decimal
    because: Bilingual

    def holds(self, value: Decimal) -> bool:
        return COMPARISONS[self.comparison](value, self.limit)


@dataclass(frozen=True, slots=True)
class ActivityData:
    """What was measured. Times are aware; inputs are in the units the methodology declares, exact decimals."""

    started_at: datetime
    ended_at: datetime
    inputs: Mapping[str, Decimal]


@dataclass(frozen=True, slots=True)
class Example:
    """A worked example; it is recomputed whenever the document is read."""

    title: Bilingual
    activity: ActivityData
    expected_mg: int


@dataclass(frozen=True, slots=True, eq=False)
class Methodology:
    """One version of a methodology 方法学, pinned by the digest of its canonical document bytes."""

    id: str
    version: int
    title: Bilingual
    status: str
    jurisdiction: str
    issuer: Bilingual
    scenario: Scenario
    trigger: str
    credit_class: str
    in_force: Span
    claim_window_days: int | None
    notes: tuple[Bilingual, ...]
    inputs: Mapping[str, Input]
    factors: Mapping[str, Factor]
    conditions: tuple[Condition, ...]
    reduction: Formula
    sources: tuple[Source, ...]
    examples: tuple[Example, ...]
    document: bytes = field(repr=False)
    digest: str

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Methodology) and self.document == other.document

    def __hash__(self) -> int:
        return hash(self.document)

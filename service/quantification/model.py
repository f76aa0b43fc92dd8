"""What a methodology is, once its document was read and checked. Values only; reading is in parsing.py."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal

from service.quantification.document import Bilingual, Span
from service.quantification.expression import Expression, Term, plain
from service.quantification.readings import DAY_S, Readings

STATUSES = ("official", "group_standard", "platform_table", "demonstration")
TRIGGERS = ("trip", "boarding", "day", "period")
CREDIT_CLASSES = ("behaviour", "scenario", "project")
CONFIDENCES = ("confirmed", "single", "inferred")
UNKNOWN = "unknown"  # stands where nothing was published, in documents that say what is missing
# What a person does, by the same word in the documents of every city: what documents are compared by.
ACTS = (
    "metro",
    "bus",
    "electric-bus",
    "shared-bike",
    "shared-ebike",
    "ride-hailing",
    "carpool",
    "walking",
    "cycling",
    "electric-car",
    "home-electricity",
    "office-electricity",
    "rooftop-pv",
    "heat-pump",
    "air-conditioner",
    "forest",
    "clothing-reuse",
    "no-cutlery",
    "clean-plate",
    "own-bag",
    "toll-payment",
    "citizen-acts",
    "low-carbon-travel",
    "ev-charging",
)
# Documents from before there was a field for it; their bytes are registered and stay.
ACT_OF_OLDER: Mapping[str, str] = {
    "demo-shared-ebike": "shared-ebike",
    "demo-docked-ebike": "shared-ebike",
    "office-electricity": "office-electricity",
}
# The kinds of a participant, as the ledger names them; a test holds the two lists together.
PARTICIPANT_KINDS = ("citizen", "firm", "social_organisation", "government_body", "public_institution")
# What a report may name besides its figures, in the order in which a claim's names are joined.
REFERENCES = ("operator", "order", "payment", "vehicle", "meter", "installation", "address", "site")
REGISTERS = ("coverage", "elsewhere")
PERIOD_UNITS = ("day", "month", "year")
# What evidence of each grade may earn. match: pending until an operator's record with the same claims comes. grams:
# self-declared evidence never earns points.
GRADES: Mapping[str, tuple[str, ...]] = {"A": ("credit",), "B": ("credit", "match"), "C": ("grams",)}
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
class PartOf:
    """The published rule or table of which a document states one act."""

    id: str
    title: Bilingual


@dataclass(frozen=True, slots=True)
class Source:
    """Where a figure comes from. `published` is a year, a month or a day, or unknown."""

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
class Pin:
    """The figure of a factor set that a value was taken from; `digest` is of the set, which never changes."""

    set: str
    figure: str
    digest: str


@dataclass(frozen=True, slots=True)
class FactorValue:
    """A factor's value over a span of days, with what stands behind it."""

    span: Span
    value: Decimal
    source: Source
    confidence: str
    quality: str | None
    note: Bilingual | None
    pinned: Pin | None = None


@dataclass(frozen=True, slots=True)
class UnknownFigure:
    """A span of days for which no figure was found; `source` is where it would stand."""

    span: Span
    source: Source | None
    note: Bilingual | None


@dataclass(frozen=True, slots=True)
class Factor:
    name: str
    unit: str
    meaning: Bilingual
    values: tuple[FactorValue, ...]
    unknown: tuple[UnknownFigure, ...] = ()

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
class Period:
    """What a period methodology counts: whole calendar units of Asia/Shanghai, at most so many in one report."""

    unit: str
    at_most: int


@dataclass(frozen=True, slots=True)
class Window:
    """Hours of every day, such as peak and valley; `begins_s` and `ends_s` are seconds after midnight, below 86,400."""

    name: str
    meaning: Bilingual
    begins_s: int
    ends_s: int

    @property
    def seconds(self) -> int:
        """Its length in one day; one that ends where it begins is the whole day."""
        return (self.ends_s - self.begins_s) % DAY_S or DAY_S


@dataclass(frozen=True, slots=True)
class ReadingRule:
    """One series of meter readings, and what is done where it has gaps: pro_rata, as_zero or refuse.

    coverage_at_least   the smallest share that has to be measured, of the period and of each window in it, 0 to 1
    longest_gap_h       no gap may be longer, in hours
    """

    name: str
    unit: str
    meaning: Bilingual
    coverage_at_least: Decimal
    longest_gap_h: Decimal
    gaps: str
    windows: Mapping[str, Window]


@dataclass(frozen=True, slots=True)
class BaselineRule:
    """What the readings `of` are compared with: the participant's own, of another time.

    origin    earlier_year: the same calendar units a year before; preceding: the mean of the `periods` units before
    """

    name: str
    of: str
    origin: str
    periods: int
    meaning: Bilingual


@dataclass(frozen=True, slots=True)
class ClaimRule:
    """What makes the thing behind an activity unique, across all sources and participants.

    of          names of references, in the order of REFERENCES
    over_time   False: one activity holds it for ever; True: no two activities hold it at the same time
    use         with over_time: activities of this use may overlap at the thing, those of another use may not
    optional    a report may come without it
    """

    of: tuple[str, ...]
    over_time: bool
    use: str | None
    optional: bool


@dataclass(frozen=True, slots=True)
class Cap:
    """How much a participant may earn by one methodology in one Asia/Shanghai day, month or year.

    of         actions, grams or points
    at_most    whole actions or points; for grams, whole milligrams
    beyond     clip: the item that crosses it earns what is left; refuse: it earns nothing
    restored   whether taking a credit back gives its share of the cap back
    """

    id: str
    per: str
    of: str
    at_most: int
    beyond: str
    restored: bool
    because: Bilingual


@dataclass(frozen=True, slots=True)
class Settlement:
    """What is only known later: credits stay pending until these facts are there, and mature or are withdrawn by them.

    due_days   after so many days from the activity's day a settlement is overdue; nothing happens by itself
    """

    facts: Mapping[str, Input]
    conditions: tuple[Condition, ...]
    due_days: int


@dataclass(frozen=True, slots=True)
class ActivityData:
    """What was measured. Times are aware; inputs are in the units the methodology declares, exact decimals.

    readings, baseline   meter readings by the names the methodology declares
    """

    started_at: datetime
    ended_at: datetime
    inputs: Mapping[str, Decimal]
    readings: Mapping[str, Readings] = field(default_factory=dict)
    baseline: Mapping[str, Readings] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Example:
    """A worked example; it is recomputed whenever the document is read."""

    title: Bilingual
    activity: ActivityData
    expected_mg: int


def default_grades() -> Mapping[str, str]:
    """What evidence earns where a document says nothing of it: the first each grade may."""
    return {grade: outcomes[0] for grade, outcomes in GRADES.items()}


@dataclass(frozen=True, slots=True, eq=False)
class Methodology:
    """One version of a methodology 方法学, pinned by the digest of its canonical document bytes.

    reduction     None only where `missing` says what is not known: such a document is shown, and never computed with
    exclusive     of the activities of one group a person does one at a time
    settlement    when there is one, credits are pending until it
    act           what a person does, one of ACTS: the same word in every document about it
    part_of       the published rule or table of which this document states one act
    unknown       the fields of which nothing was published: trigger and credit_class are then "unknown", participants
                  are empty, in_force, claim_window_days and period are None; such a document is never in force
    """

    id: str
    version: int
    title: Bilingual
    status: str
    jurisdiction: str
    issuer: Bilingual
    scenario: Scenario
    trigger: str
    credit_class: str
    in_force: Span | None
    claim_window_days: int | None
    notes: tuple[Bilingual, ...]
    inputs: Mapping[str, Input]
    factors: Mapping[str, Factor]
    conditions: tuple[Condition, ...]
    reduction: Formula | None
    sources: tuple[Source, ...]
    examples: tuple[Example, ...]
    document: bytes = field(repr=False)
    digest: str
    formula_confidence: str = "single"
    missing: tuple[Bilingual, ...] = ()
    participants: frozenset[str] = frozenset(PARTICIPANT_KINDS)
    grades: Mapping[str, str] = field(default_factory=default_grades)
    period: Period | None = None
    exclusive: str | None = None
    claims: tuple[ClaimRule, ...] = ()
    caps: tuple[Cap, ...] = ()
    readings: Mapping[str, ReadingRule] = field(default_factory=dict)
    baseline: Mapping[str, BaselineRule] = field(default_factory=dict)
    settlement: Settlement | None = None
    registers: frozenset[str] = frozenset({"coverage"})
    act: str | None = None
    part_of: PartOf | None = None
    baseline_scenario: Bilingual | None = None
    unknown: frozenset[str] = frozenset()

    def covers(self, day: date) -> bool:
        """Whether it is in force on the day."""
        return self.in_force is not None and day in self.in_force

    @property
    def in_force_shown(self) -> str:
        """The days it is in force as text; `unknown` where none were published."""
        return UNKNOWN if self.in_force is None else str(self.in_force)

    @property
    def faults(self) -> tuple[str, ...]:
        """Why the document itself can never credit, whatever a deployment allows; empty when nothing stands against it.

        methodology-incomplete, missing-figure, low-quality-figure.
        """
        found = {
            "methodology-incomplete": bool(self.missing),
            "missing-figure": any(factor.unknown for factor in self.factors.values()),
            "low-quality-figure": any(value.quality == "low" for value in self._values()),
        }
        return tuple(code for code, applies in found.items() if applies)

    @property
    def inferred(self) -> tuple[str, ...]:
        """What nobody has published in this form, as codes: inferred-formula, inferred-figure."""
        found = {
            "inferred-formula": self.formula_confidence == "inferred",
            "inferred-figure": any(value.confidence == "inferred" for value in self._values()),
        }
        return tuple(code for code, applies in found.items() if applies)

    @property
    def credited_as(self) -> str:
        """The status its credits have: its own, but a demonstration where the formula or a figure is inferred."""
        return "demonstration" if self.inferred else self.status

    def _values(self) -> Iterator[FactorValue]:
        return (value for factor in self.factors.values() for value in factor.values)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Methodology) and self.document == other.document

    def __hash__(self) -> int:
        return hash(self.document)

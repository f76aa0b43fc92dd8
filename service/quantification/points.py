"""Points rules: how many points a reduction earns and until when they may be used. Documents, like methodologies."""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from pathlib import Path

from ledger.units import CO2e, Points
from service.quantification.document import Bilingual, DocumentInvalid, Node, Span, digest_of, read_document, read_file
from service.quantification.model import STATUSES
from service.quantification.refusals import NoPointsRuleInForce

__all__ = [
    "DIRECTORY",
    "NoPointsRuleInForce",
    "PointsCatalogue",
    "PointsRule",
    "PointsRuleInvalid",
    "UnknownPointsRule",
    "expires_on",
    "load_points_rules",
    "parse_points_rule",
    "points_catalogue_of",
    "points_for",
]

DIRECTORY = Path(__file__).parent / "points"
_FIELDS = "schema id version title status jurisdiction in_force points_per_gram rounding expiry notes"


class PointsRuleInvalid(DocumentInvalid):
    """A points-rule document is refused: `document`, `line`, `reason`."""


class UnknownPointsRule(LookupError):
    """No points rule of this catalogue has the digest."""


@dataclass(frozen=True, slots=True, eq=False)
class PointsRule:
    """One version of a points rule, pinned by the digest of its canonical document bytes."""

    id: str
    version: int
    title: Bilingual
    status: str
    jurisdiction: str
    in_force: Span
    points_per_gram: Decimal
    points_per_mg: tuple[int, int]  # the same as a fraction of whole numbers
    expiry_months: int
    notes: tuple[Bilingual, ...]
    document: bytes = field(repr=False)
    digest: str

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PointsRule) and self.document == other.document

    def __hash__(self) -> int:
        return hash(self.document)


def points_for(rule: PointsRule, co2e: CO2e) -> Points:
    """Whole points for one reduction, rounded down once; the part of a point that is left earns nothing.

    Raises ValueError for a negative reduction: points are taken back by reversing a credit, not by computing.
    """
    if co2e.mg < 0:
        raise ValueError(f"points are computed for a reduction, not for {co2e.mg} mg")
    points, milligrams = rule.points_per_mg
    return Points(co2e.mg * points // milligrams)


def expires_on(rule: PointsRule, recorded_day: date) -> date:
    """The last Asia/Shanghai day on which points recorded on `recorded_day` may be used: always the end of a month."""
    months = recorded_day.year * 12 + recorded_day.month - 1 + rule.expiry_months
    year, month = divmod(months, 12)
    return date(year, month + 1, monthrange(year, month + 1)[1])


@dataclass(frozen=True, slots=True)
class PointsCatalogue:
    """The points rules of a deployment; of the versions of one rule that cover a day, the highest is in force."""

    rules: tuple[PointsRule, ...]
    digests: Mapping[str, PointsRule]

    def in_force(self, day: date) -> PointsRule:
        """The rule for points recorded on `day`. Raises NoPointsRuleInForce."""
        for rule in reversed(self.rules):  # by version: the newest that covers the day
            if day in rule.in_force:
                return rule
        raise NoPointsRuleInForce(day.isoformat())

    def by_digest(self, digest: str) -> PointsRule:
        """Raises UnknownPointsRule."""
        if digest not in self.digests:
            raise UnknownPointsRule(f"no points rule here has the digest {digest[:64]!r}")
        return self.digests[digest]

    def all(self) -> tuple[PointsRule, ...]:
        """By id, then version."""
        return self.rules


def points_catalogue_of(rules: Iterable[PointsRule]) -> PointsCatalogue:
    """Raises PointsRuleInvalid when two documents are one version, or two different rules cover one day."""
    ordered = tuple(sorted(rules, key=lambda one: (one.id, one.version)))
    for index, one in enumerate(ordered):
        for other in ordered[:index]:
            overlapping = one.id != other.id and one.in_force.overlaps(other.in_force)
            if overlapping or (one.id, one.version) == (other.id, other.version):
                reason = f"the same version as, or in force on the same days as, {other.id} version {other.version}"
                raise PointsRuleInvalid(1, reason, f"{one.id} version {one.version}")
    return PointsCatalogue(ordered, {one.digest: one for one in ordered})


def load_points_rules(directory: Path | None = None) -> PointsCatalogue:
    """Read every *.yaml of the directory (default: those that ship). Raises PointsRuleInvalid: file, line, reason."""
    return points_catalogue_of(_load(path) for path in sorted((directory or DIRECTORY).glob("*.yaml")))


def parse_points_rule(source: bytes) -> PointsRule:
    """Read one document, YAML or its canonical JSON. Raises PointsRuleInvalid with the line and what to do."""
    try:
        return _rule(read_document(source))
    except DocumentInvalid as error:
        raise PointsRuleInvalid(error.line, error.reason) from error


def _load(path: Path) -> PointsRule:
    try:
        return parse_points_rule(read_file(path))
    except PointsRuleInvalid as error:
        raise PointsRuleInvalid(error.line, error.reason, path.name) from error


def _rule(root: Node) -> PointsRule:
    named = root.fields(_FIELDS)
    named["schema"].one_of(["1"])
    named["rounding"].one_of(["floor"])
    expiry = named["expiry"].fields("months counted_from ends")
    expiry["counted_from"].one_of(["month_of_recording"])
    expiry["ends"].one_of(["month_end"])
    rate = named["points_per_gram"].number()
    if rate <= 0:
        raise DocumentInvalid(named["points_per_gram"].line, f"expected more than 0 points per gram, found {rate}")
    points, grams = rate.as_integer_ratio()
    document = root.canonical()
    return PointsRule(
        id=named["id"].identifier(),
        version=named["version"].counted(10_000),
        title=named["title"].bilingual(),
        status=named["status"].one_of(STATUSES),
        jurisdiction=named["jurisdiction"].identifier(),
        in_force=named["in_force"].span(),
        points_per_gram=rate,
        points_per_mg=(points, grams * 1000),
        expiry_months=expiry["months"].counted(1200),
        notes=tuple(note.bilingual() for note in named["notes"].items()),
        document=document,
        digest=digest_of(document),
    )

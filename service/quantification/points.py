"""Points rules: how many points a reduction earns, until when they may be used, and which campaigns add to them.

Documents, like methodologies.
"""

from __future__ import annotations

import re
from calendar import monthrange
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from functools import lru_cache
from pathlib import Path

from ledger.units import CO2e, Points
from service.quantification.document import Bilingual, DocumentInvalid, Node, Span, digest_of, read_document, read_file
from service.quantification.model import STATUSES
from service.quantification.refusals import NoPointsRuleInForce

__all__ = [
    "DIRECTORY",
    "Campaign",
    "NoPointsRuleInForce",
    "PointsCatalogue",
    "PointsRule",
    "PointsRuleInvalid",
    "UnknownPointsRule",
    "campaign_of",
    "campaign_points",
    "expires_on",
    "load_points_rules",
    "parse_points_rule",
    "points_catalogue_of",
    "points_for",
    "require_budgets_kept",
]

DIRECTORY = Path(__file__).parent / "points"
_FIELDS = "schema id version title status jurisdiction in_force points_per_gram rounding expiry notes"
_LARGEST_MULTIPLIER = 100
_LARGEST_BUDGET = 10**15  # points
_REGION = re.compile(r"[0-9]{6}")  # GB/T 2260, down to the district


class PointsRuleInvalid(DocumentInvalid):
    """A points-rule document is refused: `document`, `line`, `reason`."""


class UnknownPointsRule(LookupError):
    """No points rule of this catalogue has the digest."""


@dataclass(frozen=True, slots=True)
class Campaign:
    """A multiplier on the points of some scenarios for some days, from a stated budget of points.

    regions      districts by their GB/T 2260 code; None is everywhere
    extra        what comes on top, as a fraction of whole numbers: of a multiplier of 2.5 it is (3, 2)
    """

    id: str
    title: Bilingual
    scenarios: frozenset[str]
    regions: frozenset[str] | None
    span: Span
    multiplier: Decimal
    extra: tuple[int, int]
    budget_points: int
    because: Bilingual

    def applies(self, scenario: str, region: str, day: date) -> bool:
        return scenario in self.scenarios and day in self.span and (self.regions is None or region in self.regions)


@dataclass(frozen=True, slots=True, eq=False)
class PointsRule:
    """One version of a points rule, pinned by the digest of its canonical document bytes.

    programmes   the programmes it is written for; None is any that has no rule of its own
    """

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
    programmes: frozenset[str] | None = None
    campaigns: tuple[Campaign, ...] = ()

    def shares_programmes(self, other: PointsRule) -> bool:
        """Whether both are written for one programme, or both for any: then they cannot both be in force."""
        if self.programmes is None or other.programmes is None:
            return self.programmes is other.programmes
        return bool(self.programmes & other.programmes)

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


def campaign_of(rule: PointsRule, scenario: str, region: str, day: date) -> Campaign | None:
    """The campaign of the highest multiplier that applies on the day."""
    return next((one for one in rule.campaigns if one.applies(scenario, region, day)), None)  # the highest comes first


def campaign_points(
    rule: PointsRule, points: Points, scenario: str, region: str, day: date
) -> tuple[str, Points] | None:
    """The campaign of the highest multiplier on the day, and how many points it adds, rounded down; None without any.

    One campaign alone, never the sum of several; which one does not depend on how many points there are. What is left
    of its budget is not known here: whoever posts takes no more than that.
    """
    campaign = campaign_of(rule, scenario, region, day)
    if campaign is None:
        return None
    whole, part = campaign.extra
    extra = Points(points.n * whole // part)
    return (campaign.id, extra) if extra.n else None


def expires_on(rule: PointsRule, recorded_day: date) -> date:
    """The last Asia/Shanghai day on which points recorded on `recorded_day` may be used: always the end of a month."""
    months = recorded_day.year * 12 + recorded_day.month - 1 + rule.expiry_months
    year, month = divmod(months, 12)
    return date(year, month + 1, monthrange(year, month + 1)[1])


@dataclass(frozen=True, slots=True)
class PointsCatalogue:
    """The points rules of a deployment.

    A rule written for a programme goes before one for any programme; of the versions of one rule that cover a day, the
    highest is in force.
    """

    rules: tuple[PointsRule, ...]
    digests: Mapping[str, PointsRule]

    def in_force(self, day: date, programme: str | None = None) -> PointsRule:
        """The rule for points of the programme recorded on `day`; without one, the rule for any programme.

        Raises NoPointsRuleInForce.
        """
        found = None
        for rule in reversed(self.rules):  # by version: the newest that covers the day
            if day not in rule.in_force:
                continue
            if rule.programmes is None:
                found = found or rule
            elif programme in rule.programmes:
                return rule
        if found is None:
            raise NoPointsRuleInForce(day.isoformat())
        return found

    def by_digest(self, digest: str) -> PointsRule:
        """Raises UnknownPointsRule."""
        if digest not in self.digests:
            raise UnknownPointsRule(f"no points rule here has the digest {digest[:64]!r}")
        return self.digests[digest]

    def all(self) -> tuple[PointsRule, ...]:
        """By id, then version."""
        return self.rules


def points_catalogue_of(rules: Iterable[PointsRule]) -> PointsCatalogue:
    """Raises PointsRuleInvalid when two documents are one version, when two different rules cover one day of a
    programme, and where require_budgets_kept does.

    A rule for any programme may stand beside rules for some.
    """
    ordered = tuple(sorted(rules, key=lambda one: (one.id, one.version)))
    for index, one in enumerate(ordered):
        for other in ordered[:index]:
            rivals = one.id != other.id and one.shares_programmes(other) and one.in_force.overlaps(other.in_force)
            if rivals or (one.id, one.version) == (other.id, other.version):
                reason = f"the same version as, or in force on the same days as, {other.id} version {other.version}"
                raise PointsRuleInvalid(1, reason, f"{one.id} version {one.version}")
    require_budgets_kept(ordered)
    return PointsCatalogue(ordered, {one.digest: one for one in ordered})


def require_budgets_kept(rules: Iterable[PointsRule]) -> None:
    """A campaign keeps its budget through the versions of its rule, and a later one may raise it.

    Raises PointsRuleInvalid where a later one promises less: it may be spent already.
    """
    promised: dict[tuple[str, str], int] = {}
    for rule in sorted(rules, key=lambda one: (one.id, one.version)):
        for campaign in rule.campaigns:
            before = promised.get((rule.id, campaign.id), 0)
            if campaign.budget_points < before:
                reason = (
                    f"the budget of the campaign {campaign.id} falls from {before} to {campaign.budget_points} points: "
                    "a later version keeps it or raises it; a smaller one is another campaign, with an id of its own"
                )
                raise PointsRuleInvalid(1, reason, f"{rule.id} version {rule.version}")
            promised[rule.id, campaign.id] = campaign.budget_points


def load_points_rules(directory: Path | None = None) -> PointsCatalogue:
    """Read every *.yaml of the directory (default: those that ship). Raises PointsRuleInvalid: file, line, reason."""
    return points_catalogue_of(_load(path) for path in sorted((directory or DIRECTORY).glob("*.yaml")))


@lru_cache(maxsize=256)  # the same bytes are the same document
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
    named = root.fields(_FIELDS, optional="programmes campaigns")
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
        programmes=_words(named["programmes"]) if "programmes" in named else None,
        campaigns=_campaigns(named["campaigns"]) if "campaigns" in named else (),
    )


def _campaigns(node: Node) -> tuple[Campaign, ...]:
    made: dict[str, Campaign] = {}
    for item in node.items():
        campaign = _campaign(item)
        if campaign.id in made:
            raise DocumentInvalid(item.line, f"the id {campaign.id!r} stands here twice")
        made[campaign.id] = campaign
    return tuple(sorted(made.values(), key=lambda one: (one.multiplier.copy_negate(), one.id)))


def _campaign(node: Node) -> Campaign:
    named = node.fields("id title scenarios from to multiplier budget_points because", optional="regions")
    multiplier = named["multiplier"].number()
    if not 1 < multiplier <= _LARGEST_MULTIPLIER:
        reason = f"expected a multiplier above 1, at most {_LARGEST_MULTIPLIER}, found {multiplier}"
        raise DocumentInvalid(named["multiplier"].line, reason)
    numerator, denominator = multiplier.as_integer_ratio()
    return Campaign(
        id=named["id"].identifier(),
        title=named["title"].bilingual(),
        scenarios=_words(named["scenarios"]),
        regions=_regions(named["regions"]) if "regions" in named else None,
        span=node.span(shared=True),
        multiplier=multiplier,
        extra=(numerator - denominator, denominator),
        budget_points=named["budget_points"].counted(_LARGEST_BUDGET),
        because=named["because"].bilingual(),
    )


def _words(node: Node) -> frozenset[str]:
    return frozenset(item.identifier() for item in node.items())


def _regions(node: Node) -> frozenset[str]:
    for item in node.items():
        if not _REGION.fullmatch(item.text()):
            raise DocumentInvalid(item.line, f"expected a region such as 310115, found {item.text()[:64]!r}")
    return frozenset(item.text() for item in node.items())

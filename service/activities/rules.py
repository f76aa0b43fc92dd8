"""The rules in use: the shipped documents and the deployment's own, registered in the database so that everything
posted can name the bytes it was posted under; and which of them may credit here."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import NamedTuple

import asyncpg

from service.approvals import Approvals, DocumentKind, RuleName
from service.clock import shanghai_day
from service.database import Connection
from service.quantification.factor_sets import (
    NO_FACTOR_SETS,
    FactorSet,
    FactorSetInvalid,
    factor_sets_of,
    load_factor_sets,
)
from service.quantification.methodology import (
    Catalogue,
    MethodologyInvalid,
    catalogue_of,
    load_catalogue,
    parse_once,
)
from service.quantification.model import Methodology
from service.quantification.points import (
    PointsCatalogue,
    PointsRule,
    PointsRuleInvalid,
    load_points_rules,
    parse_points_rule,
    points_catalogue_of,
    require_budgets_kept,
)
from service.settings import Settings

MOST_REMEMBERED = 10_000  # choices by scenario and day: thirty scenarios for most of a year


@dataclass(frozen=True, slots=True)
class RuleRef:
    """A registered rule document: its row, and the digest that leaves carry."""

    rule_id: int
    digest: str


@dataclass(slots=True)
class _Chosen:
    """What was decided under one set of approvals, so that an activity costs a look-up."""

    approved: frozenset[str] = frozenset()
    methodologies: dict[tuple[str, date], Methodology] = field(default_factory=dict)
    points_rules: dict[tuple[date, str | None], PointsRule] = field(default_factory=dict)
    refused: dict[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RuleBook:
    """Methodologies and points rules with their registrations, and what this deployment credits under.

    posted_methodologies, posted_points_rules   every document ever registered, by digest: what explains old credits
    approvals          which documents both roles have signed, refreshed while the process serves
    require_approvals  only those credit
    factor_sets        by id: what methodologies pin
    """

    methodologies: Catalogue
    points_rules: PointsCatalogue
    refs: Mapping[str, RuleRef]
    posted_methodologies: Mapping[str, Methodology]
    posted_points_rules: Mapping[str, PointsRule]
    allowed_statuses: frozenset[str]
    approvals: Approvals = field(default_factory=Approvals)
    require_approvals: bool = False
    factor_sets: Mapping[str, FactorSet] = field(default_factory=lambda: NO_FACTOR_SETS)
    _chosen: _Chosen = field(default_factory=_Chosen, init=False, repr=False, compare=False)

    def methodology(self, scenario: str, day: date) -> Methodology:
        """The newest version in force on the day; where approvals are required, the newest approved one.

        Where no version of the day is approved it is the newest all the same: cannot_credit says what it lacks.

        Raises UnknownScenario, NoMethodologyInForce.
        """
        chosen = self._choices().methodologies
        found = chosen.get((scenario, day))
        if found is None:
            if len(chosen) >= MOST_REMEMBERED:  # days come from reports: whoever reports made-up ones fills nothing
                chosen.clear()
            found = chosen[scenario, day] = self._choose(scenario, day)
        return found

    def _choose(self, scenario: str, day: date) -> Methodology:
        newest = self.methodologies.in_force(scenario, day)
        if not self.require_approvals:
            return newest
        versions = reversed(self.methodologies.scenarios[scenario])
        approved = (one for one in versions if one.covers(day) and one.digest in self.approvals.digests)
        return next(approved, newest)

    def points_rule(self, recorded_at: datetime, programme: str | None = None) -> PointsRule:
        """The points rule of the day of recording, in this programme; an approved one where approvals are required.

        Raises NoPointsRuleInForce.
        """
        key, chosen = (shanghai_day(recorded_at), programme), self._choices().points_rules
        found = chosen.get(key)
        if found is None:
            if len(chosen) >= MOST_REMEMBERED:
                chosen.clear()
            found = chosen[key] = self._choose_points(*key)
        return found

    def _choose_points(self, day: date, programme: str | None) -> PointsRule:
        rules = self.points_rules
        if self.require_approvals:
            rules = points_catalogue_of(one for one in rules.all() if one.digest in self.approvals.digests)
        return rules.in_force(day, programme)

    def cannot_credit(self, rule: Methodology | PointsRule) -> tuple[str, ...]:
        """Why nothing is credited under this document here, as codes; empty when it may be.

        First what the document itself lacks (Methodology.faults), then what is inferred in it where no demonstration
        is credited (Methodology.credited_as), status-not-allowed, not-approved.
        """
        refused = self._choices().refused
        if rule.digest not in refused:
            refused[rule.digest] = tuple(self._faults(rule))
        return refused[rule.digest]

    def _faults(self, rule: Methodology | PointsRule) -> Iterable[str]:
        if isinstance(rule, Methodology):
            yield from rule.faults
            if rule.credited_as not in self.allowed_statuses:
                yield from rule.inferred if rule.status != rule.credited_as else ()
                if rule.status not in self.allowed_statuses:
                    yield "status-not-allowed"
        if self.require_approvals and rule.digest not in self.approvals.digests:
            yield "not-approved"

    def _choices(self) -> _Chosen:
        """What was decided so far, forgotten when something is approved."""
        if self._chosen.approved is not self.approvals.digests:
            self._chosen.methodologies.clear()
            self._chosen.points_rules.clear()
            self._chosen.refused.clear()
            self._chosen.approved = self.approvals.digests
        return self._chosen


def name_of(rule: Methodology | PointsRule) -> RuleName:
    """The document as approvals name it."""
    kind: DocumentKind = "methodology" if isinstance(rule, Methodology) else "points"
    return RuleName(kind, rule.id, rule.version, rule.digest)


_REGISTER = """
    INSERT INTO service.rule_document (digest, kind, name, version, document)
    SELECT * FROM unnest($1::bytea[], $2::text[], $3::text[], $4::int4[], $5::bytea[])
    ON CONFLICT (digest) DO NOTHING
"""  # the digest is of the document, so a conflict is the same document


class RuleChanged(Exception):
    """A document differs from the one registered under the same name and version."""


class RulesInvalid(Exception):
    """A deployment's documents cannot be used; the message names file, line and reason."""


class Documents(NamedTuple):
    """What a deployment reads from files: its catalogues, and the factor sets by id."""

    methodologies: Catalogue
    points_rules: PointsCatalogue
    factor_sets: Mapping[str, FactorSet]


def read_documents(rules_dir: Path | None) -> Documents:
    """The shipped documents and those of the deployment's directory, without a database.

    A shipped demonstration steps aside where the deployment brings a document of its own: for the same scenario, or a
    points rule for the same programmes. Raises RulesInvalid.
    """
    factor_sets = read_factor_sets(rules_dir)
    if rules_dir is None:
        try:
            return Documents(load_catalogue(None, factor_sets), load_points_rules(), factor_sets)
        except (MethodologyInvalid, PointsRuleInvalid) as error:
            raise RulesInvalid(f"the shipped documents cannot be used: {error}") from error
    try:
        own = load_catalogue(rules_dir / "methodologies", factor_sets)
        own_points = load_points_rules(rules_dir / "points")
        shipped, shipped_points = load_catalogue(None, factor_sets), load_points_rules()
        methodologies = catalogue_of([*own.all(), *own_beside(shipped.all(), own.all())])
        points = points_catalogue_of([*own_points.all(), *own_points_beside(shipped_points.all(), own_points.all())])
    except (MethodologyInvalid, PointsRuleInvalid) as error:
        raise RulesInvalid(f"the documents in {rules_dir} cannot be used: {error}") from error
    return Documents(methodologies, points, factor_sets)


def read_factor_sets(rules_dir: Path | None) -> dict[str, FactorSet]:
    """The shipped factor sets and those of the deployment's directory, by id. Raises RulesInvalid."""
    if rules_dir is not None and not rules_dir.is_dir():
        raise RulesInvalid(f"there is no directory {rules_dir}: make it, or take TANPUHUI_RULES_DIR out")
    try:
        own = {} if rules_dir is None else load_factor_sets(rules_dir / "factor_sets")
        return factor_sets_of([*load_factor_sets().values(), *own.values()])
    except FactorSetInvalid as error:
        raise RulesInvalid(f"the factor sets cannot be used: {error}") from error


def own_beside(shipped: Iterable[Methodology], own: Iterable[Methodology]) -> Iterable[Methodology]:
    """Those of the shipped documents that stay where the deployment brings its own."""
    mine = list(own)
    scenarios, ids, digests = {one.scenario.id for one in mine}, {one.id for one in mine}, {one.digest for one in mine}
    for one in shipped:
        replaced = one.status == "demonstration" and one.scenario.id in scenarios and one.id not in ids
        if one.digest not in digests and not replaced:
            yield one


def own_points_beside(shipped: Iterable[PointsRule], own: Iterable[PointsRule]) -> Iterable[PointsRule]:
    """The same for points rules."""
    mine = list(own)
    digests = {one.digest for one in mine}
    for one in shipped:
        others = [other for other in mine if other.id != one.id]
        replaced = one.status == "demonstration" and any(one.shares_programmes(other) for other in others)
        if one.digest not in digests and not replaced:
            yield one


def read_rulebook(settings: Settings, approvals: Approvals | None = None) -> RuleBook:
    """The rules without a database: to list, show and compute, not to post. Raises RulesInvalid."""
    methodologies, points_rules, factor_sets = read_documents(settings.rules_dir)
    return RuleBook(
        methodologies,
        points_rules,
        {},
        methodologies.digests,
        points_rules.digests,
        settings.allowed_statuses,
        approvals or Approvals(),
        settings.require_approvals,
        factor_sets,
    )


async def load_rulebook(
    tx: Connection,
    allowed_statuses: frozenset[str],
    *,
    rules_dir: Path | None = None,
    approvals: Approvals | None = None,
    require_approvals: bool = False,
) -> RuleBook:
    """Read the documents and register those the database does not know yet.

    Raises RulesInvalid; RuleChanged: an approved version never changes, a correction is a new version.
    """
    methodologies, points_rules, factor_sets = read_documents(rules_dir)
    rules: list[Methodology | PointsRule] = [*methodologies.all(), *points_rules.all()]
    documents = [(name_of(rule), rule.document) for rule in rules]
    registered = await tx.fetch("SELECT document FROM service.rule_document WHERE kind = 'points'")
    try:
        require_budgets_kept([*(parse_points_rule(row["document"]) for row in registered), *points_rules.all()])
    except PointsRuleInvalid as error:
        raise RulesInvalid(f"the points rules cannot be used: {error}") from error
    try:
        await tx.execute(
            _REGISTER,
            [bytes.fromhex(name.digest) for name, _ in documents],
            [name.kind for name, _ in documents],
            [name.id for name, _ in documents],
            [name.version for name, _ in documents],
            [document for _, document in documents],
        )
    except asyncpg.UniqueViolationError as error:
        raise RuleChanged(
            f"a rule document differs from the one already registered under its name and version "
            f"({error.detail}): give the changed document a new version"
        ) from error
    rows = await tx.fetch("SELECT rule_id, digest, kind, document FROM service.rule_document")
    return RuleBook(
        methodologies,
        points_rules,
        {row["digest"].hex(): RuleRef(row["rule_id"], row["digest"].hex()) for row in rows},
        # What was read from a file a moment ago is not read again: that takes hundredths of a second for each.
        {
            (digest := row["digest"].hex()): methodologies.digests.get(digest) or parse_once(row["document"])
            for row in rows
            if row["kind"] == "methodology"
        },
        {row["digest"].hex(): parse_points_rule(row["document"]) for row in rows if row["kind"] == "points"},
        allowed_statuses,
        approvals or Approvals(),
        require_approvals,
        factor_sets,
    )

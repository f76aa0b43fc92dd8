"""The rules in use: the shipped documents, registered in the database so that everything posted can name the bytes it
was posted under."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime

import asyncpg

from service.clock import shanghai_day
from service.database import Connection
from service.quantification.methodology import Catalogue, load_catalogue, parse_methodology
from service.quantification.model import Methodology
from service.quantification.points import PointsCatalogue, PointsRule, load_points_rules, parse_points_rule


@dataclass(frozen=True, slots=True)
class RuleRef:
    """A registered rule document: its row, and the digest that leaves carry."""

    rule_id: int
    digest: str


@dataclass(frozen=True, slots=True)
class RuleBook:
    """Methodologies and points rules with their registrations, and the statuses this deployment credits under.

    posted_methodologies, posted_points_rules   every document ever registered, by digest: what explains old credits
    """

    methodologies: Catalogue
    points_rules: PointsCatalogue
    refs: Mapping[str, RuleRef]
    posted_methodologies: Mapping[str, Methodology]
    posted_points_rules: Mapping[str, PointsRule]
    allowed_statuses: frozenset[str]

    def methodology(self, scenario: str, day: date) -> Methodology:
        """Raises UnknownScenario, NoMethodologyInForce."""
        return self.methodologies.in_force(scenario, day)

    def points_rule(self, recorded_at: datetime) -> PointsRule:
        """The points rule of the day of recording. Raises NoPointsRuleInForce."""
        return self.points_rules.in_force(shanghai_day(recorded_at))


_REGISTER = """
    INSERT INTO service.rule_document (digest, kind, name, version, document)
    SELECT * FROM unnest($1::bytea[], $2::text[], $3::text[], $4::int4[], $5::bytea[])
    ON CONFLICT (digest) DO NOTHING
"""  # the digest is of the document, so a conflict is the same document


class RuleChanged(Exception):
    """A shipped document differs from the one registered under the same name and version."""


async def load_rulebook(tx: Connection, allowed_statuses: frozenset[str]) -> RuleBook:
    """Read the shipped documents and register those the database does not know yet.

    Raises RuleChanged: an approved version never changes, a correction is a new version.
    """
    methodologies, points_rules = load_catalogue(), load_points_rules()
    documents = [("methodology", rule) for rule in methodologies.all()] + [
        ("points", rule) for rule in points_rules.all()
    ]
    try:
        await tx.execute(
            _REGISTER,
            [bytes.fromhex(rule.digest) for _, rule in documents],
            [kind for kind, _ in documents],
            [rule.id for _, rule in documents],
            [rule.version for _, rule in documents],
            [rule.document for _, rule in documents],
        )
    except asyncpg.UniqueViolationError as error:
        raise RuleChanged(
            f"a shipped rule document differs from the one already registered under its name and version "
            f"({error.detail}): give the changed document a new version"
        ) from error
    rows = await tx.fetch("SELECT rule_id, digest, kind, document FROM service.rule_document")
    return RuleBook(
        methodologies,
        points_rules,
        {row["digest"].hex(): RuleRef(row["rule_id"], row["digest"].hex()) for row in rows},
        {row["digest"].hex(): parse_methodology(row["document"]) for row in rows if row["kind"] == "methodology"},
        {row["digest"].hex(): parse_points_rule(row["document"]) for row in rows if row["kind"] == "points"},
        allowed_statuses,
    )

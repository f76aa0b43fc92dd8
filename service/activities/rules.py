"""The rules in use: the shipped documents, registered in the database so that everything posted can name the bytes it
was posted under."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime

from service.clock import shanghai_day
from service.database import Connection
from service.quantification.methodology import Catalogue, Methodology, load_catalogue
from service.quantification.points import PointsCatalogue, PointsRule, load_points_rules


@dataclass(frozen=True, slots=True)
class RuleRef:
    """A registered rule document: its row, and the digest that leaves carry."""

    rule_id: int
    digest: str


@dataclass(frozen=True, slots=True)
class RuleBook:
    """Methodologies and points rules with their registrations, and the statuses this deployment credits under."""

    methodologies: Catalogue
    points_rules: PointsCatalogue
    refs: Mapping[str, RuleRef]
    allowed_statuses: frozenset[str]

    def methodology(self, scenario: str, day: date) -> Methodology:
        """Raises UnknownScenario, NoMethodologyInForce."""
        return self.methodologies.in_force(scenario, day)

    def points_rule(self, now: datetime) -> PointsRule:
        """The points rule of the day of recording."""
        return self.points_rules.in_force(shanghai_day(now))


_REGISTER = """
    INSERT INTO service.rule_document (digest, kind, name, version, document)
    SELECT * FROM unnest($1::bytea[], $2::text[], $3::text[], $4::int4[], $5::bytea[])
    ON CONFLICT (digest) DO NOTHING
"""  # the digest is of the document, so a conflict is the same document


async def load_rulebook(tx: Connection, allowed_statuses: frozenset[str]) -> RuleBook:
    """Read the shipped documents and register those the database does not know yet."""
    methodologies, points_rules = load_catalogue(), load_points_rules()
    documents = [("methodology", rule) for rule in methodologies.all()] + [
        ("points", rule) for rule in points_rules.all()
    ]
    await tx.execute(
        _REGISTER,
        [bytes.fromhex(rule.digest) for _, rule in documents],
        [kind for kind, _ in documents],
        [rule.id for _, rule in documents],
        [rule.version for _, rule in documents],
        [rule.document for _, rule in documents],
    )
    rows = await tx.fetch("SELECT rule_id, digest FROM service.rule_document")
    refs = {row["digest"].hex(): RuleRef(row["rule_id"], row["digest"].hex()) for row in rows}
    return RuleBook(methodologies, points_rules, refs, allowed_statuses)

"""The rules that a bundle carries, parsed once, with what a replay asks of them for every entry.

Nothing is taken from the documents that are installed: a credit is judged by the bytes its leaf names.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import orjson

from ledger.bundle import Bundle
from service.quantification.earning import awaited
from service.quantification.model import GRADES, ClaimRule, Methodology
from service.quantification.parsing import MethodologyInvalid, parse_methodology
from service.quantification.periods import WHOLE_DAYS
from service.quantification.points import PointsRule, PointsRuleInvalid, expires_on, parse_points_rule

FOLDER, SUFFIX = "rules/", ".json"
BY_THING, BY_DAY, BY_SPAN = "thing", "day", "span"


class Claiming(NamedTuple):
    """How one of a methodology's claims is told apart: as a thing, as a thing on each day, or as a thing over a span.

    of       the references that name it, and joined, `names`
    begins   what its mark begins with
    """

    of: tuple[str, ...]
    names: str
    kind: str
    begins: str
    use: str | None
    optional: bool


class Applied(NamedTuple):
    """A methodology as it is applied.

    awaits        what its credits wait for, by the grade of their evidence
    by_the_hour   whether its activities have hours, so that spans of them can meet
    claims        each once
    """

    methodology: Methodology
    scenario: str
    awaits: Mapping[str, str | None]
    by_the_hour: bool
    claims: tuple[Claiming, ...]


@dataclass(frozen=True, slots=True)
class Rules:
    """Every document of a bundle by its digest; `unreadable` says why one could not be read."""

    methodologies: Mapping[str, Applied] = field(default_factory=dict)
    points: Mapping[str, PointsRule] = field(default_factory=dict)
    unreadable: Mapping[str, str] = field(default_factory=dict)


def documents_of(bundle: Bundle) -> tuple[str, ...]:
    """The digests of the documents that a bundle lists."""
    return tuple(path.removeprefix(FOLDER).removesuffix(SUFFIX) for path in bundle.under(FOLDER))


@lru_cache(maxsize=1)
def rules_of(directory: Path, digests: tuple[str, ...], run: str) -> Rules:
    """Parse what a bundle carries, once in each process of a run. A document whose bytes are not those of its name is
    not used."""
    methodologies: dict[str, Applied] = {}
    points: dict[str, PointsRule] = {}
    unreadable: dict[str, str] = {}
    for digest in digests:
        try:
            document = (directory / f"{FOLDER}{digest}{SUFFIX}").read_bytes()
        except OSError as error:
            unreadable[digest] = str(error.strerror)
            continue
        if sha256(document).hexdigest() != digest:
            unreadable[digest] = "other bytes than its digest says"
            continue
        try:
            rule = _parsed(document)
        except (MethodologyInvalid, PointsRuleInvalid) as invalid:
            unreadable[digest] = str(invalid)
            continue
        if rule.digest != digest:
            unreadable[digest] = "the bytes are not the canonical form of the document"
        elif isinstance(rule, Methodology):
            methodologies[digest] = _applied(rule)
        else:
            points[digest] = rule
    return Rules(methodologies, points, unreadable)


def _parsed(document: bytes) -> Methodology | PointsRule:
    try:
        fields = orjson.loads(document)
    except ValueError:
        fields = {}
    of_points = isinstance(fields, dict) and "points_per_gram" in fields  # what only a points rule says
    return parse_points_rule(document) if of_points else parse_methodology(document)


def _applied(methodology: Methodology) -> Applied:
    awaits = {grade: awaited(methodology, grade) for grade in GRADES} if not methodology.unknown else {}
    by_the_hour = methodology.trigger not in WHOLE_DAYS
    claims = {(one.begins, one.use): one for one in (_claiming(rule, by_the_hour) for rule in methodology.claims)}
    return Applied(methodology, methodology.scenario.id, awaits, by_the_hour, tuple(claims.values()))


def _claiming(rule: ClaimRule, by_the_hour: bool) -> Claiming:
    kind = BY_THING if not rule.over_time else BY_SPAN if by_the_hour or rule.use else BY_DAY
    names = "+".join(rule.of)
    return Claiming(rule.of, names, kind, f"{kind}\x1f{names}", rule.use, rule.optional)


@lru_cache(maxsize=4_096)
def bucket(rule: PointsRule, recorded: str) -> str:
    """The bucket of points recorded on a day, as leaves write it."""
    return expires_on(rule, date.fromisoformat(recorded)).isoformat()


def in_programme(rule: PointsRule, programme: str) -> bool:
    """Whether the rule may be used in a programme."""
    return rule.programmes is None or programme in rule.programmes


def budgets(rules: Iterable[PointsRule]) -> dict[tuple[str, str], int]:
    """By a rule's id and a campaign's: the largest budget that a version promises."""
    found: dict[tuple[str, str], int] = {}
    for rule in rules:
        for campaign in rule.campaigns:
            key = (rule.id, campaign.id)
            found[key] = max(found.get(key, 0), campaign.budget_points)
    return found

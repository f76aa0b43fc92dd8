"""What holds for every credit under the same documents, of one kind and on the same days: looked at once."""

from collections.abc import Iterator
from datetime import date
from typing import Any, NamedTuple

from service.audit.rules import Applied, Rules, bucket, in_programme
from service.quantification.points import PointsRule

GRAMS_PENDING, POINTS_PENDING = 1, 2

Complaint = tuple[str, str, str]
"""The code of a finding, what was expected, what was found."""


class Circumstances(NamedTuple):
    """What the documents say of credits like this one.

    applied     None where the document is missing or cannot be read: nothing can be recomputed
    rule        None where no points are credited, or their document cannot be read
    day         of the activity
    bucket      of points that can be used at once
    pending     GRAMS_PENDING and POINTS_PENDING, added up
    complaints  what is wrong with every credit like this one
    open        codes of what cannot be checked of them
    """

    applied: Applied | None
    rule: PointsRule | None
    day: date
    bucket: str
    pending: int
    complaints: tuple[Complaint, ...]
    open: tuple[str, ...]


def circumstances_of(rules: Rules, leaf: dict[str, Any], recorded: str) -> Circumstances:
    """The circumstances of a credit by its leaf; `recorded` is the Asia/Shanghai day on which it was posted.

    Raises ValueError for a day that is none.
    """
    applied, named = rules.methodologies.get(leaf["methodology"]), leaf["points_rule"]
    rule = rules.points.get(named) if named else None
    day, open_ = date.fromisoformat(leaf["day"]), []
    if day.isoformat() != leaf["day"]:
        raise ValueError(f"a day is written {day}, not {leaf['day']}")
    if applied is None or (named and rule is None):
        open_.append("rule-missing")
    complaints = [*_points_rule(rule, leaf["programme"], recorded)] if rule else []
    pending = 0
    if applied is not None:
        complaints += [*_methodology(applied, leaf, day), *_earning(applied, leaf)]
        traded, awaits = applied.methodology.credit_class == "project", applied.awaits.get(leaf["grade"])
        if traded and named:
            open_.append("waiver")
        waits = awaits is not None and not (traded and named)
        pending = (GRAMS_PENDING if traded or waits else 0) | (POINTS_PENDING if waits else 0)
    return Circumstances(
        applied, rule, day, bucket(rule, recorded) if rule else "", pending, tuple(complaints), tuple(open_)
    )


def _methodology(applied: Applied, leaf: dict[str, Any], day: date) -> Iterator[Complaint]:
    methodology, kind = applied.methodology, leaf["participant_kind"]
    if methodology.faults:
        yield "rule-incomplete", "a document that may credit", f"{methodology.id}: {', '.join(methodology.faults)}"
    if not methodology.covers(day):
        yield "in-force", f"{methodology.id} version {methodology.version}: {methodology.in_force_shown}", leaf["day"]
    if kind not in methodology.participants:
        yield "participant-kind", ", ".join(sorted(methodology.participants)), kind


def _earning(applied: Applied, leaf: dict[str, Any]) -> Iterator[Complaint]:
    """Points rest on evidence that is not self-declared; a project may do without them, nothing else does."""
    named, project = leaf["points_rule"], applied.methodology.credit_class == "project"
    if leaf["grade"] == "C" and named:
        yield "grade", "no points rule: self-declared evidence earns none", named
    if leaf["grade"] != "C" and not named and not project:
        yield "points-rule", "a points rule", "none"


def _points_rule(rule: PointsRule, programme: str, recorded: str) -> Iterator[Complaint]:
    if date.fromisoformat(recorded) not in rule.in_force:
        yield "points-rule", f"{rule.id} version {rule.version}: {rule.in_force}", recorded
    if not in_programme(rule, programme):
        yield "points-rule", f"one of {', '.join(sorted(rule.programmes or ()))}", programme

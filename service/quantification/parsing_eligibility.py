"""For whom a methodology counts, how often, and until when: kinds, grades, claims, caps, registers, settlement."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import date
from fractions import Fraction

from service.quantification.document import DocumentInvalid, Node
from service.quantification.model import (
    GRADES,
    PARTICIPANT_KINDS,
    PERIOD_UNITS,
    REFERENCES,
    REGISTERS,
    UNKNOWN,
    Cap,
    ClaimRule,
    Period,
    Settlement,
    default_grades,
)
from service.quantification.parsing_terms import (
    Vocabulary,
    chosen,
    declared,
    read_conditions,
    read_input,
    refuse_repeated,
    refuse_unused,
)

_LONGEST_WINDOW = 3660  # days: ten years
_LARGEST_CAP = 10**15  # points, actions or milligrams: a million tonnes
_YES_OR_NO = ("true", "false")
_MOST_TAGS = 800  # of one activity: a leaf writes each in 73 bytes at most, and has to stay below 65,536
_AN_OPERATORS_OWN = ("order", "vehicle")  # numbers that another operator gives out too
# The days that an activity claims one by one, by its trigger; of a period without one, nobody knows how many.
_DAYS = {"trip": 0, "boarding": 0, "day": 1, "period": 0, UNKNOWN: 0}


def read_claim_window(node: Node) -> int | None:
    if isinstance(node.value, dict):
        return node.fields("days")["days"].counted(_LONGEST_WINDOW)
    node.one_of(["none"])
    return None


def read_participants(named: Mapping[str, Node]) -> frozenset[str]:
    return frozenset(chosen(named["participants"], PARTICIPANT_KINDS) if "participants" in named else PARTICIPANT_KINDS)


def read_registers(named: Mapping[str, Node], participants: Collection[str]) -> frozenset[str]:
    """The registers looked into; by default that of covered entities, unless citizens alone take part."""
    if "registers" in named:
        return frozenset(chosen(named["registers"], REGISTERS))
    return frozenset({"coverage"}) if set(participants) - {"citizen"} else frozenset()


def read_grades(named: Mapping[str, Node], claims: Collection[ClaimRule]) -> Mapping[str, str]:
    """What evidence of each grade earns; a grade that is left out earns what it does by default."""
    if "grades" not in named:
        return default_grades()
    written = named["grades"].fields("", optional=" ".join(GRADES))
    found = {**default_grades(), **{grade: node.one_of(GRADES[grade]) for grade, node in written.items()}}
    if "match" in found.values() and not any(not claim.over_time and not claim.optional for claim in claims):
        raise DocumentInvalid(named["grades"].line, "match needs a claim without over that every report has")
    return found


def read_exclusive(named: Mapping[str, Node], trigger: str) -> str | None:
    if "exclusive" not in named:
        return None
    if trigger not in ("trip", "boarding", UNKNOWN):
        raise DocumentInvalid(named["exclusive"].line, f"a person does many things in a {trigger}: remove exclusive")
    return named["exclusive"].identifier()


def read_claims(named: Mapping[str, Node], trigger: str, period: Period | None) -> tuple[ClaimRule, ...]:
    """What is claimed; the tags of the longest activity have to fit into its leaf."""
    if "claims" not in named:
        return ()
    made = tuple(map(_claim, named["claims"].items()))
    refuse_repeated(["+".join(claim.of) for claim in made], named["claims"], "claim")
    days = _longest_days(period) if period else _DAYS[trigger]
    tags = sum(days if claim.over_time else 1 for claim in made if claim.use is None)
    if tags > _MOST_TAGS:
        reason = (
            f"an activity of {days} days would claim {tags} things one by one, {_MOST_TAGS} at most: shorten period"
        )
        raise DocumentInvalid(named["claims"].line, reason)
    return made


def _longest_days(period: Period) -> int:
    """The days of as many units as one report may have, beginning where they are the most."""
    if period.unit == "day":
        return period.at_most
    months = period.at_most * (12 if period.unit == "year" else 1)
    return max((_month(first + months) - _month(first)).days for first in range(2020 * 12, 2024 * 12))


def _month(number: int) -> date:
    return date(number // 12, number % 12 + 1, 1)


def _claim(node: Node) -> ClaimRule:
    named = node.fields("of", optional="over use optional")
    if "over" in named:
        named["over"].one_of(["time"])
    elif "use" in named:
        raise DocumentInvalid(named["use"].line, "a use belongs to a claim over time")
    claim = ClaimRule(
        of=chosen(named["of"], REFERENCES),
        over_time="over" in named,
        use=named["use"].identifier() if "use" in named else None,
        optional="optional" in named and named["optional"].one_of(_YES_OR_NO) == "true",
    )
    for name in _AN_OPERATORS_OWN:
        if name in claim.of and "operator" not in claim.of:
            reason = f"another operator has the same numbers: write operator beside {name}"
            raise DocumentInvalid(named["of"].line, reason)
    return claim


def read_caps(named: Mapping[str, Node]) -> tuple[Cap, ...]:
    if "caps" not in named:
        return ()
    made = tuple(map(_cap, named["caps"].items()))
    refuse_repeated([cap.id for cap in made], named["caps"])
    return made


def _cap(node: Node) -> Cap:
    named = node.fields("id per of at_most beyond restored because")
    of = named["of"].one_of(("actions", "grams", "points"))
    beyond = named["beyond"].one_of(("clip", "refuse"))
    if of == "actions" and beyond == "clip":
        raise DocumentInvalid(named["beyond"].line, "an action is whole: a cap of actions refuses")
    return Cap(
        id=named["id"].identifier(),
        per=named["per"].one_of(PERIOD_UNITS),
        of=of,
        at_most=_milligrams(named["at_most"]) if of == "grams" else named["at_most"].counted(_LARGEST_CAP),
        beyond=beyond,
        restored=named["restored"].one_of(_YES_OR_NO) == "true",
        because=named["because"].bilingual(),
    )


def _milligrams(node: Node) -> int:
    milligrams = Fraction(node.number()) * 1000
    if not 0 < milligrams <= _LARGEST_CAP or milligrams.denominator != 1:
        raise DocumentInvalid(node.line, f"expected grams above 0, to the milligram, found {node.text()[:64]}")
    return int(milligrams)


def read_settlement(named: Mapping[str, Node], taken: Collection[str]) -> Settlement | None:
    if "settlement" not in named:
        return None
    fields = named["settlement"].fields("facts conditions due")
    facts = declared(fields["facts"], read_input, taken)
    conditions = read_conditions(fields["conditions"], Vocabulary({name: fact.unit for name, fact in facts.items()}))
    refuse_unused(fields["facts"].mapping(), set().union(*(one.formula.expression.names for one in conditions)))
    return Settlement(facts, conditions, fields["due"].fields("days")["days"].counted(_LONGEST_WINDOW))

"""What a methodology counts over time: its period, its meter readings with their windows, and its baselines."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from decimal import Decimal

from service.quantification.document import DocumentInvalid, Node
from service.quantification.model import PERIOD_UNITS, UNKNOWN, BaselineRule, Period, ReadingRule, Window
from service.quantification.parsing_terms import declared, read_unit
from service.quantification.readings import Readings, ReadingsInvalid, parse_readings

_CLOCK = re.compile(r"(?:[01][0-9]|2[0-3]):[0-5][0-9]|24:00")
_GAPS = ("pro_rata", "as_zero", "refuse")
_LONGEST = {"day": 366, "month": 36, "year": 3}  # units of one report; three years of months
_LONGEST_GAP_H = 24 * 366
_DAY_MINUTES = 24 * 60
_MOST_BEFORE = 60  # units a mean goes back: five years of months
_YEAR = {"day": 365, "month": 12, "year": 1}  # more would be compared with days of its own


def read_period(named: Mapping[str, Node], trigger: str) -> Period | None:
    """`period` stands where the trigger is period, and nowhere else; None also where it is not known."""
    if trigger != "period":
        for field in ("period", "readings", "baseline"):
            if field in named:
                raise DocumentInvalid(named[field].line, f"{field} belongs to the trigger period, not to {trigger}")
        return None
    if "period" not in named:
        raise DocumentInvalid(named["trigger"].line, "the trigger period needs the field 'period'")
    if named["period"].value == UNKNOWN:
        if "baseline" in named:
            raise DocumentInvalid(named["baseline"].line, "of an unknown period there is no baseline: remove it")
        return None
    fields = named["period"].fields("unit at_most")
    unit = fields["unit"].one_of(PERIOD_UNITS)
    return Period(unit, fields["at_most"].counted(_LONGEST[unit]))


def read_readings(node: Node, taken: Collection[str]) -> dict[str, ReadingRule]:
    """The series by name; no window has the name of another quantity."""
    rules = declared(node, _reading, taken)
    names = {*taken, *rules}
    for name, child in sorted(node.mapping().items()):
        if "windows" in child.mapping():
            declared(child.mapping()["windows"], lambda one, _: one, names)
            names.update(rules[name].windows)
    return rules


def _reading(name: str, node: Node) -> ReadingRule:
    limits = "coverage_at_least longest_gap_h"
    gaps = node.fields("unit meaning gaps", optional=f"windows {limits}")["gaps"].one_of(_GAPS)
    # where every gap is refused, there is no limit to state
    named = node.fields("unit meaning gaps" if gaps == "refuse" else f"unit meaning gaps {limits}", optional="windows")
    return ReadingRule(
        name=name,
        unit=read_unit(named["unit"]),
        meaning=named["meaning"].bilingual(),
        coverage_at_least=_bounded(named["coverage_at_least"], 1) if gaps != "refuse" else Decimal(1),
        longest_gap_h=_bounded(named["longest_gap_h"], _LONGEST_GAP_H) if gaps != "refuse" else Decimal(0),
        gaps=gaps,
        windows=_windows(named["windows"]) if "windows" in named else {},
    )


def _bounded(node: Node, most: int) -> Decimal:
    if not 0 <= node.number() <= most:
        raise DocumentInvalid(node.line, f"expected a number from 0 to {most}, found {node.text()}")
    return node.number()


def _windows(node: Node) -> dict[str, Window]:
    made: dict[str, Window] = {}
    minutes: set[int] = set()
    for name, child in sorted(node.mapping().items()):
        named = child.fields("from to meaning")
        begins, ends = _clock(named["from"]), _clock(named["to"])
        made[name] = Window(name, named["meaning"].bilingual(), begins * 60, ends * 60)
        length = made[name].seconds // 60
        inside = {(begins + minute) % _DAY_MINUTES for minute in range(length)}
        if minutes & inside:
            raise DocumentInvalid(child.line, f"{name} has hours of another window")
        minutes |= inside
    return made


def _clock(node: Node) -> int:
    """Minutes after midnight; 24:00 is the next midnight, which is 0."""
    if not _CLOCK.fullmatch(node.text()):
        raise DocumentInvalid(node.line, f"expected a time of day such as 06:00, found {node.text()[:64]!r}")
    hours, minutes = node.text().split(":")
    return (int(hours) * 60 + int(minutes)) % _DAY_MINUTES


def read_baseline(
    node: Node, readings: Mapping[str, ReadingRule], period: Period, taken: Collection[str]
) -> dict[str, BaselineRule]:
    return declared(node, lambda name, child: _baseline(name, child, readings, period), taken)


def _baseline(name: str, node: Node, readings: Mapping[str, ReadingRule], period: Period) -> BaselineRule:
    named = node.fields("of from meaning", optional="periods")
    origin = named["from"].one_of(("earlier_year", "preceding"))
    if origin == "earlier_year":
        node.fields("of from meaning")
        if period.at_most > _YEAR[period.unit]:
            raise DocumentInvalid(node.line, "an earlier year needs periods of a year at most: they would overlap")
    elif period.at_most != 1:
        raise DocumentInvalid(node.line, "a mean of preceding periods needs period.at_most 1: one is compared with one")
    return BaselineRule(
        name=name,
        of=named["of"].one_of(readings),
        origin=origin,
        periods=node.fields("of from meaning periods")["periods"].counted(_MOST_BEFORE) if origin == "preceding" else 1,
        meaning=named["meaning"].bilingual(),
    )


def read_series(node: Node) -> dict[str, Readings]:
    """The readings of a worked example, in the forms a report has."""
    return {name: _series(child) for name, child in node.mapping().items()}


def _series(node: Node) -> Readings:
    try:
        return parse_readings(node.plain())
    except ReadingsInvalid as error:
        raise DocumentInvalid(node.line, str(error)) from error

"""What every part of a methodology is written in: names and units, inputs with their ranges, formulas, conditions; and
the sources that stand behind its figures."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from service.quantification.dimensions import UnitUnknown, check_units, parse_unit
from service.quantification.document import DocumentInvalid, Node
from service.quantification.expression import FUNCTIONS, NAME, ExpressionInvalid, parse_expression
from service.quantification.measuring import COVERED_SHARE
from service.quantification.model import (
    COMPARISONS,
    CONVERSIONS,
    TRIP_QUANTITIES,
    UNKNOWN,
    Condition,
    Formula,
    Input,
    Source,
)

_RESERVED = {*TRIP_QUANTITIES, *CONVERSIONS, *FUNCTIONS, COVERED_SHARE}
_MOMENT = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,6})?(?:Z|[+-][0-9]{2}:[0-9]{2})"
)
_PUBLISHED = re.compile(r"[0-9]{4}(?:-[0-9]{2}(?:-[0-9]{2})?)?|unknown")

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What a formula may name, with its unit; `derived` are those that come out of readings."""

    units: Mapping[str, str]
    derived: frozenset[str] = frozenset()


def declared(node: Node, read: Callable[[str, Node], _T], taken: Collection[str] = ()) -> dict[str, _T]:
    """Named inputs, factors or readings, in the order of their names: the canonical form knows no other."""
    made = {}
    for name, child in sorted(node.mapping().items()):
        if not NAME.fullmatch(name) or name in _RESERVED or name in taken:
            raise DocumentInvalid(child.line, f"{name!r} cannot be declared: taken, or not letters, digits and _")
        made[name] = read(name, child)
    if not made:
        raise DocumentInvalid(node.line, "expected at least one name here")
    return made


def read_input(name: str, node: Node) -> Input:
    named = node.fields("unit meaning", optional="above from below to")
    low, high = one_field(node, "above", "from"), one_field(node, "below", "to")
    made = Input(
        name=name,
        unit=read_unit(named["unit"]),
        meaning=named["meaning"].bilingual(),
        low=named[low].number(),
        low_included=low == "from",
        high=named[high].number(),
        high_included=high == "to",
    )
    if made.low >= made.high:
        raise DocumentInvalid(node.line, f"the range {made.limits} is empty")
    return made


def read_conditions(node: Node, words: Vocabulary) -> tuple[Condition, ...]:
    made = tuple(_condition(item, words) for item in node.items())
    refuse_repeated([condition.id for condition in made], node)
    return made


def _condition(node: Node, words: Vocabulary) -> Condition:
    named = node.fields("id title value unit because", optional=" ".join(COMPARISONS))
    comparison = one_field(node, *COMPARISONS)
    return Condition(
        id=named["id"].identifier(),
        title=named["title"].bilingual(),
        formula=read_formula(named["value"], words, read_unit(named["unit"])),
        comparison=comparison,
        limit=named[comparison].number(),
        because=named["because"].bilingual(),
    )


def read_formula(node: Node, words: Vocabulary, unit: str) -> Formula:
    try:
        expression = parse_expression(node.text(), words.units, words.derived)
        return Formula(expression, unit, check_units(expression, words.units, unit))
    except ExpressionInvalid as error:
        raise DocumentInvalid(node.line, str(error)) from error


def read_unit(node: Node) -> str:
    try:
        parse_unit(node.text())
    except UnitUnknown as error:
        raise DocumentInvalid(node.line, str(error)) from error
    return node.text()


def read_sources(node: Node) -> tuple[Source, ...]:
    """Where figures come from, in the order of the document, none twice."""
    sources = tuple(map(_source, node.items()))
    refuse_repeated([source.id for source in sources], node)
    return sources


def _source(node: Node) -> Source:
    named = node.fields("id title publisher published", optional="url")
    if not _PUBLISHED.fullmatch(named["published"].text()):
        raise DocumentInvalid(
            named["published"].line,
            "expected a year, month or day such as 2022, 2022-07, 2022-07-21; unknown where the source bears none",
        )
    return Source(
        id=named["id"].identifier(),
        title=named["title"].bilingual(),
        publisher=named["publisher"].bilingual(),
        published=read_published(named["published"]),
        url=named["url"].text() if "url" in named else None,
    )


def read_published(node: Node) -> str:
    """A year, a month or a day as it was printed, or unknown."""
    if node.text() != UNKNOWN and not _PUBLISHED.fullmatch(node.text()):
        reason = "expected a year, month or day such as 2022, 2022-07, 2022-07-21, or unknown"
        raise DocumentInvalid(node.line, reason)
    return node.text()


def read_moment(node: Node) -> datetime:
    try:
        if _MOMENT.fullmatch(node.text()):
            return datetime.fromisoformat(node.text())
    except ValueError:
        pass  # the form of a time, but no time; the message below is the same
    raise DocumentInvalid(node.line, f"expected a time such as 2025-06-01T08:00:00+08:00, found {node.text()[:64]!r}")


def one_field(node: Node, *names: str) -> str:
    """The one of these fields that stands here."""
    present = [name for name in names if name in node.mapping()]
    if len(present) != 1:
        raise DocumentInvalid(
            node.line, f"exactly one of {', '.join(names)} is needed here, found {', '.join(present) or 'none'}"
        )
    return present[0]


def chosen(node: Node, allowed: Collection[str]) -> tuple[str, ...]:
    """A list of words from a closed list, none twice, in the order of the closed list."""
    words = [item.one_of(allowed) for item in node.items()]
    refuse_repeated(words, node, "word")
    return tuple(word for word in allowed if word in words)


def refuse_repeated(ids: list[str], node: Node, what: str = "id") -> None:
    for index, (one, item) in enumerate(zip(ids, node.items(), strict=True)):
        if one in ids[:index]:
            raise DocumentInvalid(item.line, f"the {what} {one!r} stands here twice")


def refuse_unused(named: Mapping[str, Node], used: Collection[str]) -> None:
    """What is declared and decides nothing is a mistake of the document."""
    for name, node in named.items():
        if name not in used:
            raise DocumentInvalid(node.line, f"{name} is declared but no formula uses it")

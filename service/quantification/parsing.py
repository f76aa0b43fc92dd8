"""From a document's text to a checked methodology: every field known, every unit checked, every example recomputed."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from datetime import date, datetime
from typing import TypeVar

from service.quantification.dimensions import UnitUnknown, check_units, parse_unit
from service.quantification.document import Bilingual, DocumentInvalid, Node, Span, digest_of, read_document
from service.quantification.expression import FUNCTIONS, NAME, ExpressionInvalid, parse_expression
from service.quantification.model import (
    COMPARISONS,
    CONFIDENCES,
    CONVERSIONS,
    CREDIT_CLASSES,
    STATUSES,
    TRIGGERS,
    TRIP_QUANTITIES,
    ActivityData,
    Condition,
    Example,
    Factor,
    FactorValue,
    Formula,
    Input,
    Methodology,
    Scenario,
    Source,
)
from service.quantification.quantify import quantify
from service.quantification.refusals import Refusal

_EARLIEST = date(1992, 1, 1)  # until 1991 Shanghai had summer time, and a fixed offset does not tell the day
_RESERVED = {*TRIP_QUANTITIES, *CONVERSIONS, *FUNCTIONS}
_PUBLISHED = re.compile(r"[0-9]{4}(?:-[0-9]{2}(?:-[0-9]{2})?)?")
_MOMENT = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,6})?(?:Z|[+-][0-9]{2}:[0-9]{2})"
)
_FIELDS = (
    "schema id version title status jurisdiction issuer scenario trigger credit_class in_force claim_window "
    "inputs factors conditions reduction reduction_unit sources examples"
)

_T = TypeVar("_T")


class MethodologyInvalid(DocumentInvalid):
    """A methodology document is refused: `document`, `line`, `reason`."""


def parse_methodology(source: bytes) -> Methodology:
    """Read one document, YAML or its canonical JSON. Raises MethodologyInvalid with the line and what to do."""
    try:
        root = read_document(source)
        methodology = _methodology(root)
        _recompute(methodology, root.mapping()["examples"].items())
    except DocumentInvalid as error:
        raise MethodologyInvalid(error.line, error.reason) from error
    return methodology


def _methodology(root: Node) -> Methodology:
    named = root.fields(_FIELDS, optional="notes")
    named["schema"].one_of(["1"])
    scenario = named["scenario"].fields("id zh en")
    status = named["status"].one_of(STATUSES)
    sources = {source.id: source for source in map(_source, named["sources"].items())}
    inputs = _declared(named["inputs"], _input)
    factors = _declared(named["factors"], lambda name, node: _factor(name, node, sources, status), taken=inputs)
    units = dict(TRIP_QUANTITIES) | {name: unit for name, (unit, _) in CONVERSIONS.items()}
    units |= {name: one.unit for name, one in inputs.items()} | {name: one.unit for name, one in factors.items()}
    conditions = tuple(_condition(node, units) for node in named["conditions"].items())
    reduction = _formula(named["reduction"], units, named["reduction_unit"].one_of(["g"]))
    document = root.canonical()
    methodology = Methodology(
        id=named["id"].identifier(),
        version=named["version"].counted(10_000),
        title=named["title"].bilingual(),
        status=status,
        jurisdiction=named["jurisdiction"].identifier(),
        issuer=named["issuer"].bilingual(),
        scenario=Scenario(scenario["id"].identifier(), Bilingual(scenario["zh"].text(), scenario["en"].text())),
        trigger=_supported(named["trigger"], TRIGGERS, "trip"),
        credit_class=_supported(named["credit_class"], CREDIT_CLASSES, "behaviour", "scenario"),
        in_force=_in_force(named["in_force"]),
        claim_window_days=_claim_window(named["claim_window"]),
        notes=tuple(note.bilingual() for note in named["notes"].items()) if "notes" in named else (),
        inputs=inputs,
        factors=factors,
        conditions=conditions,
        reduction=reduction,
        sources=tuple(sources.values()),
        examples=tuple(map(_example, named["examples"].items())),
        document=document,
        digest=digest_of(document),
    )
    _refuse_unused(methodology, named)
    _refuse_repeated([condition.id for condition in conditions], named["conditions"])
    _refuse_repeated([node.mapping()["id"].text() for node in named["sources"].items()], named["sources"])
    return methodology


def _declared(node: Node, read: Callable[[str, Node], _T], taken: Collection[str] = ()) -> dict[str, _T]:
    """Named inputs or factors, in the order of their names: the canonical form knows no other."""
    made = {}
    for name, child in sorted(node.mapping().items()):
        if not NAME.fullmatch(name) or name in _RESERVED or name in taken:
            raise DocumentInvalid(child.line, f"{name!r} cannot be declared: taken, or not letters, digits and _")
        made[name] = read(name, child)
    if not made:
        raise DocumentInvalid(node.line, "expected at least one name here")
    return made


def _input(name: str, node: Node) -> Input:
    named = node.fields("unit meaning", optional="above from below to")
    low, high = _one_of(node, "above", "from"), _one_of(node, "below", "to")
    made = Input(
        name=name,
        unit=_unit(named["unit"]),
        meaning=named["meaning"].bilingual(),
        low=named[low].number(),
        low_included=low == "from",
        high=named[high].number(),
        high_included=high == "to",
    )
    if made.low >= made.high:
        raise DocumentInvalid(node.line, f"the range {made.limits} is empty")
    return made


def _factor(name: str, node: Node, sources: Mapping[str, Source], status: str) -> Factor:
    named = node.fields("unit meaning values")
    values: list[FactorValue] = []
    for item in named["values"].items():
        value = _factor_value(item, sources, status)
        if any(value.span.overlaps(other.span) for other in values):
            raise DocumentInvalid(item.line, f"{name} has two values on {value.span.first} or later; end one first")
        values.append(value)
    return Factor(
        name, _unit(named["unit"]), named["meaning"].bilingual(), tuple(sorted(values, key=lambda one: one.span.first))
    )


def _factor_value(node: Node, sources: Mapping[str, Source], status: str) -> FactorValue:
    named = node.fields("from value source confidence", optional="to quality note")
    quality = named["quality"].one_of(["low"]) if "quality" in named else None
    if quality and status != "demonstration":
        raise DocumentInvalid(named["quality"].line, f"a figure of low quality never credits, and this is {status}")
    return FactorValue(
        span=node.span(shared=True),
        value=named["value"].number(),
        source=sources[named["source"].one_of(sources)],
        confidence=named["confidence"].one_of(CONFIDENCES),
        quality=quality,
        note=named["note"].bilingual() if "note" in named else None,
    )


def _condition(node: Node, units: Mapping[str, str]) -> Condition:
    named = node.fields("id title value unit because", optional=" ".join(COMPARISONS))
    comparison = _one_of(node, *COMPARISONS)
    return Condition(
        id=named["id"].identifier(),
        title=named["title"].bilingual(),
        formula=_formula(named["value"], units, _unit(named["unit"])),
        comparison=comparison,
        limit=named[comparison].number(),
        because=named["because"].bilingual(),
    )


def _source(node: Node) -> Source:
    named = node.fields("id title publisher published", optional="url")
    if not _PUBLISHED.fullmatch(named["published"].text()):
        raise DocumentInvalid(
            named["published"].line, "expected a year, month or day such as 2022, 2022-07, 2022-07-21"
        )
    return Source(
        id=named["id"].identifier(),
        title=named["title"].bilingual(),
        publisher=named["publisher"].bilingual(),
        published=named["published"].text(),
        url=named["url"].text() if "url" in named else None,
    )


def _formula(node: Node, units: Mapping[str, str], unit: str) -> Formula:
    try:
        expression = parse_expression(node.text(), units)
        return Formula(expression, unit, check_units(expression, units, unit))
    except ExpressionInvalid as error:
        raise DocumentInvalid(node.line, str(error)) from error


def _unit(node: Node) -> str:
    try:
        parse_unit(node.text())
    except UnitUnknown as error:
        raise DocumentInvalid(node.line, str(error)) from error
    return node.text()


def _in_force(node: Node) -> Span:
    span = node.span()
    if span.first < _EARLIEST:
        raise DocumentInvalid(node.line, f"in force from {span.first}; the earliest day possible is {_EARLIEST}")
    return span


def _claim_window(node: Node) -> int | None:
    if isinstance(node.value, dict):
        node.fields("days")["days"].counted(3660)
        raise DocumentInvalid(node.line, "claim windows are not supported yet: write none")
    node.one_of(["none"])
    return None


def _supported(node: Node, known: Collection[str], *supported: str) -> str:
    value = node.one_of(known)
    if value not in supported:
        raise DocumentInvalid(node.line, f"{value!r} is not supported yet; supported: {', '.join(supported)}")
    return value


def _one_of(node: Node, *names: str) -> str:
    present = [name for name in names if name in node.mapping()]
    if len(present) != 1:
        raise DocumentInvalid(
            node.line, f"exactly one of {', '.join(names)} is needed here, found {', '.join(present) or 'none'}"
        )
    return present[0]


def _refuse_unused(methodology: Methodology, named: Mapping[str, Node]) -> None:
    used = set(methodology.reduction.expression.names)
    used = used.union(*(condition.formula.expression.names for condition in methodology.conditions))
    for field in ("inputs", "factors"):
        for name, node in named[field].mapping().items():
            if name not in used:
                raise DocumentInvalid(node.line, f"{name} is declared but no formula uses it")


def _refuse_repeated(ids: list[str], node: Node) -> None:
    for index, (one, item) in enumerate(zip(ids, node.items(), strict=True)):
        if one in ids[:index]:
            raise DocumentInvalid(item.line, f"the id {one!r} stands here twice")


def _example(node: Node) -> Example:
    named = node.fields("title started_at ended_at inputs expected_mg")
    inputs = {name: child.number() for name, child in named["inputs"].mapping().items()}
    activity = ActivityData(_moment(named["started_at"]), _moment(named["ended_at"]), inputs)
    return Example(named["title"].bilingual(), activity, named["expected_mg"].whole())


def _moment(node: Node) -> datetime:
    try:
        if _MOMENT.fullmatch(node.text()):
            return datetime.fromisoformat(node.text())
    except ValueError:
        pass  # the form of a time, but no time; the message below is the same
    raise DocumentInvalid(node.line, f"expected a time such as 2025-06-01T08:00:00+08:00, found {node.text()[:64]!r}")


def _recompute(methodology: Methodology, nodes: list[Node]) -> None:
    for example, node in zip(methodology.examples, nodes, strict=True):
        try:
            mg = quantify(methodology, example.activity).co2e.mg
        except Refusal as refusal:
            raise DocumentInvalid(node.line, f"this example is refused: {refusal}") from refusal
        if mg != example.expected_mg:
            raise DocumentInvalid(node.line, f"this example gives {mg} mg, expected_mg is {example.expected_mg}")

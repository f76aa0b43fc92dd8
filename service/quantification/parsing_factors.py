"""The figures of a methodology: since when each holds, what stands behind it, and which factor set it is of."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from decimal import Decimal
from fractions import Fraction

from service.quantification.dimensions import scale_between
from service.quantification.document import DocumentInvalid, Node, Span
from service.quantification.expression import plain
from service.quantification.factor_sets import FactorSet
from service.quantification.model import CONFIDENCES, UNKNOWN, Factor, FactorValue, Pin, Source, UnknownFigure
from service.quantification.parsing_terms import declared, read_unit


def read_factors(
    node: Node, sources: Collection[Source], taken: Collection[str], factor_sets: Mapping[str, FactorSet]
) -> dict[str, Factor]:
    """The factors by name; a value that is pinned to one of `factor_sets` has to agree with it."""
    known = {source.id: source for source in sources}
    return declared(node, lambda name, child: _factor(name, child, known, factor_sets), taken)


def _factor(name: str, node: Node, sources: Mapping[str, Source], factor_sets: Mapping[str, FactorSet]) -> Factor:
    named = node.fields("unit meaning values")
    unit = read_unit(named["unit"])
    values: list[FactorValue] = []
    unknown: list[UnknownFigure] = []
    spans: list[Span] = []
    for item in named["values"].items():
        figure = _figure(item, sources)
        if any(figure.span.overlaps(other) for other in spans):
            raise DocumentInvalid(item.line, f"{name} has two values on {figure.span.first} or later; end one first")
        spans.append(figure.span)
        if isinstance(figure, UnknownFigure):
            unknown.append(figure)
            continue
        values.append(figure)
        if figure.pinned is not None and figure.pinned.set in factor_sets:
            _require_agreement(figure, figure.pinned, unit, factor_sets[figure.pinned.set], item.mapping())
    return Factor(
        name=name,
        unit=unit,
        meaning=named["meaning"].bilingual(),
        values=tuple(sorted(values, key=lambda one: one.span.first)),
        unknown=tuple(sorted(unknown, key=lambda one: one.span.first)),
    )


def _figure(node: Node, sources: Mapping[str, Source]) -> FactorValue | UnknownFigure:
    named = node.fields("from value", optional="to source confidence quality note pinned")
    span = node.span(shared=True)
    note = named["note"].bilingual() if "note" in named else None
    if named["value"].text() == UNKNOWN:
        node.fields("from value", optional="to source note")  # what is not known has no confidence
        source = sources[named["source"].one_of(sources)] if "source" in named else None
        return UnknownFigure(span, source, note)
    node.fields("from value source confidence", optional="to quality note pinned")
    return FactorValue(
        span=span,
        value=named["value"].number(),
        source=sources[named["source"].one_of(sources)],
        confidence=named["confidence"].one_of(CONFIDENCES),
        quality=named["quality"].one_of(["low"]) if "quality" in named else None,
        note=note,
        pinned=_pin(named["pinned"]) if "pinned" in named else None,
    )


def _pin(node: Node) -> Pin:
    named = node.fields("set figure digest")
    return Pin(named["set"].identifier(), named["figure"].text(), named["digest"].digest())


def _require_agreement(
    value: FactorValue, pin: Pin, unit: str, factor_set: FactorSet, written: Mapping[str, Node]
) -> None:
    """A figure, its confidence and its quality are those of the set, and the digest is the set's."""
    where = written["pinned"].mapping()
    if pin.digest != factor_set.digest:
        raise DocumentInvalid(
            where["digest"].line,
            f"the factor set {pin.set} here has the digest {factor_set.digest}: write that, when its figures are what "
            f"is meant. A set never changes, so another announcement is another set",
        )
    figure = factor_set.figures.get(pin.figure)
    if figure is None:
        reason = f"the factor set {pin.set} has no figure {pin.figure[:64]!r}; it has {', '.join(factor_set.figures)}"
        raise DocumentInvalid(where["figure"].line, reason)
    if figure.value is None:
        reason = f"{pin.figure} is unknown in the factor set {pin.set}: write value: unknown, without pinned"
        raise DocumentInvalid(where["figure"].line, reason)
    expected = _converted(figure.value, factor_set.unit, unit, where["figure"])
    if Fraction(value.value) != expected:
        raise DocumentInvalid(
            written["value"].line,
            f"{pin.figure} of the factor set {pin.set} is {plain(figure.value)} {factor_set.unit}, which is "
            f"{_written(expected)} {unit}; found {plain(value.value)}",
        )
    if value.confidence != figure.confidence or value.quality != figure.quality:
        found, wanted = _standing(value.confidence, value.quality), _standing(figure.confidence, figure.quality)
        reason = f"{pin.figure} of the factor set {pin.set} is {wanted}; found {found}"
        raise DocumentInvalid(written["confidence"].line, reason)


def _converted(value: Decimal, unit: str, wanted: str, node: Node) -> Fraction:
    scale = scale_between(unit, wanted)
    if scale is None:
        raise DocumentInvalid(node.line, f"a figure in {unit} cannot stand for a factor in {wanted}")
    return Fraction(value) * scale


def _written(number: Fraction) -> str:
    return plain(Decimal(number.numerator) / Decimal(number.denominator))


def _standing(confidence: str | None, quality: str | None) -> str:
    return f"{confidence}, of {quality} quality" if quality else str(confidence)

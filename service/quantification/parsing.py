"""From a document's text to a checked methodology: every field known, every unit checked, every example recomputed.

The terms of a formula are read in parsing_terms.py, factors in parsing_factors.py, readings and baselines in
parsing_readings.py, who may earn and how often in parsing_eligibility.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import date

from service.quantification.document import Bilingual, DocumentInvalid, Node, Span, digest_of, read_document
from service.quantification.factor_sets import NO_FACTOR_SETS, FactorSet
from service.quantification.measuring import COVERED_SHARE
from service.quantification.model import (
    ACT_OF_OLDER,
    ACTS,
    CONFIDENCES,
    CONVERSIONS,
    CREDIT_CLASSES,
    STATUSES,
    TRIGGERS,
    TRIP_QUANTITIES,
    UNKNOWN,
    ActivityData,
    BaselineRule,
    Condition,
    Example,
    Factor,
    Formula,
    Input,
    Methodology,
    PartOf,
    ReadingRule,
    Scenario,
)
from service.quantification.parsing_eligibility import (
    read_caps,
    read_claim_window,
    read_claims,
    read_exclusive,
    read_grades,
    read_participants,
    read_registers,
    read_settlement,
)
from service.quantification.parsing_factors import read_factors
from service.quantification.parsing_readings import read_baseline, read_period, read_readings, read_series
from service.quantification.parsing_terms import (
    Vocabulary,
    declared,
    read_conditions,
    read_formula,
    read_input,
    read_moment,
    read_sources,
    refuse_unused,
)
from service.quantification.quantify import quantify
from service.quantification.refusals import Refusal

_EARLIEST = date(1992, 1, 1)  # until 1991 Shanghai had summer time, and a fixed offset does not tell the day
_FIELDS = (
    "schema id version title status jurisdiction issuer scenario trigger credit_class in_force claim_window sources"
)
_COMPUTED = "factors conditions reduction reduction_unit examples"  # what a document may lack that says what is missing
_OPTIONAL = (
    "notes inputs formula_confidence missing participants grades period exclusive claims caps readings baseline "
    "settlement registers act part_of baseline_scenario"
)
_MAY_BE_UNKNOWN = ("trigger", "period", "credit_class", "in_force", "claim_window", "participants", "period")


class MethodologyInvalid(DocumentInvalid):
    """A methodology document is refused: `document`, `line`, `reason`."""


def parse_methodology(source: bytes, factor_sets: Mapping[str, FactorSet] = NO_FACTOR_SETS) -> Methodology:
    """Read one document, YAML or its canonical JSON. Raises MethodologyInvalid with the line and what to do.

    factor_sets   by id: a value pinned to one of them has to agree with it; a pin to another is taken as it is written
    """
    try:
        root = read_document(source)
        methodology = _methodology(root, factor_sets)
        _recompute(methodology, root)
    except DocumentInvalid as error:
        raise MethodologyInvalid(error.line, error.reason) from error
    return methodology


def _methodology(root: Node, factor_sets: Mapping[str, FactorSet]) -> Methodology:
    named = _fields(root)
    named["schema"].one_of(["1"])
    status = named["status"].one_of(STATUSES)
    unknown = _unknown(named)
    trigger = UNKNOWN if "trigger" in unknown else named["trigger"].one_of(TRIGGERS)
    sources = read_sources(named["sources"])
    period = read_period(named, trigger)
    inputs = declared(named["inputs"], read_input) if "inputs" in named else {}
    factors = read_factors(named["factors"], sources, inputs, factor_sets) if "factors" in named else {}
    readings = read_readings(named["readings"], [*inputs, *factors]) if "readings" in named else {}
    taken = [*inputs, *factors, *readings, *(window for rule in readings.values() for window in rule.windows)]
    baseline = read_baseline(named["baseline"], readings, period, taken) if period and "baseline" in named else {}
    words = _vocabulary(inputs, factors, readings, baseline)
    conditions = read_conditions(named["conditions"], words) if "conditions" in named else ()
    reduction = _reduction(named, words)
    participants = frozenset[str]() if "participants" in unknown else read_participants(named)
    claims = read_claims(named, trigger, period)
    document = root.canonical()
    if "missing" not in named:
        _refuse_undeciding(named, conditions, reduction, readings, baseline)
    return Methodology(
        id=named["id"].identifier(),
        version=named["version"].counted(10_000),
        title=named["title"].bilingual(),
        status=status,
        jurisdiction=named["jurisdiction"].identifier(),
        issuer=named["issuer"].bilingual(),
        scenario=_scenario(named["scenario"]),
        trigger=trigger,
        credit_class=UNKNOWN if "credit_class" in unknown else named["credit_class"].one_of(CREDIT_CLASSES),
        in_force=None if "in_force" in unknown else _in_force(named["in_force"]),
        claim_window_days=None if "claim_window" in unknown else read_claim_window(named["claim_window"]),
        notes=_said(named, "notes"),
        inputs=inputs,
        factors=factors,
        conditions=conditions,
        reduction=reduction,
        sources=sources,
        examples=tuple(map(_example, named["examples"].items())) if "examples" in named else (),
        document=document,
        digest=digest_of(document),
        formula_confidence=_formula_confidence(named),
        missing=_said(named, "missing"),
        participants=participants,
        grades=read_grades(named, claims),
        period=period,
        exclusive=read_exclusive(named, trigger),
        claims=claims,
        caps=read_caps(named),
        readings=readings,
        baseline=baseline,
        settlement=read_settlement(named, [*taken, *baseline]),
        registers=read_registers(named, participants),
        act=named["act"].one_of(ACTS) if "act" in named else ACT_OF_OLDER.get(named["id"].text()),
        part_of=_part_of(named["part_of"]) if "part_of" in named else None,
        baseline_scenario=named["baseline_scenario"].bilingual() if "baseline_scenario" in named else None,
        unknown=unknown,
    )


def _fields(root: Node) -> dict[str, Node]:
    if "missing" not in root.mapping():
        return root.fields(f"{_FIELDS} {_COMPUTED}", optional=_OPTIONAL)
    named = root.fields(_FIELDS, optional=f"{_COMPUTED} {_OPTIONAL}")
    if "reduction" not in named and "examples" in named:
        raise DocumentInvalid(named["examples"].line, "examples without a reduction cannot be computed: remove them")
    return named


def _unknown(named: Mapping[str, Node]) -> frozenset[str]:
    """The fields of which the document says that nothing was published."""
    found = frozenset(name for name in _MAY_BE_UNKNOWN if name in named and named[name].value == UNKNOWN)
    if found and "missing" not in named:
        first = min(found, key=lambda name: named[name].line)
        raise DocumentInvalid(
            named[first].line,
            f"{first} is unknown here: say so in the field 'missing' too, in zh and en; such a document never credits",
        )
    return found


def _said(named: Mapping[str, Node], field: str) -> tuple[Bilingual, ...]:
    return tuple(note.bilingual() for note in named[field].items()) if field in named else ()


def _scenario(node: Node) -> Scenario:
    named = node.fields("id zh en")
    return Scenario(named["id"].identifier(), Bilingual(named["zh"].text(), named["en"].text()))


def _part_of(node: Node) -> PartOf:
    named = node.fields("id zh en")
    return PartOf(named["id"].identifier(), Bilingual(named["zh"].text(), named["en"].text()))


def _in_force(node: Node) -> Span:
    span = node.span()
    if span.first < _EARLIEST:
        raise DocumentInvalid(node.line, f"in force from {span.first}; the earliest day possible is {_EARLIEST}")
    return span


def _vocabulary(
    inputs: Mapping[str, Input],
    factors: Mapping[str, Factor],
    readings: Mapping[str, ReadingRule],
    baseline: Mapping[str, BaselineRule],
) -> Vocabulary:
    units = dict(TRIP_QUANTITIES) | {name: unit for name, (unit, _) in CONVERSIONS.items()}
    units |= {name: one.unit for name, one in inputs.items()} | {name: one.unit for name, one in factors.items()}
    measured = {name: one.unit for name, one in readings.items()}
    measured |= {window: one.unit for one in readings.values() for window in one.windows}
    measured |= {name: readings[one.of].unit for name, one in baseline.items()}
    if readings:
        measured[COVERED_SHARE] = "1"
    return Vocabulary(units | measured, frozenset(measured))


def _reduction(named: Mapping[str, Node], words: Vocabulary) -> Formula | None:
    if "reduction" not in named:
        return None
    if "reduction_unit" not in named:
        raise DocumentInvalid(named["reduction"].line, "the field 'reduction_unit' is missing beside it")
    return read_formula(named["reduction"], words, named["reduction_unit"].one_of(["g"]))


def _formula_confidence(named: Mapping[str, Node]) -> str:
    return named["formula_confidence"].one_of(CONFIDENCES) if "formula_confidence" in named else "single"


def _refuse_undeciding(
    named: Mapping[str, Node],
    conditions: tuple[Condition, ...],
    reduction: Formula | None,
    readings: Mapping[str, ReadingRule],
    baseline: Mapping[str, BaselineRule],
) -> None:
    """A series counts as used where one of its windows or a baseline of it is."""
    used = set(reduction.expression.names if reduction else ())
    used = used.union(*(condition.formula.expression.names for condition in conditions))
    serving = {rule.name for rule in readings.values() if used & set(rule.windows)} | {
        rule.of for rule in baseline.values()
    }
    for field in ("inputs", "factors", "readings", "baseline"):
        if field in named:
            refuse_unused(named[field].mapping(), used | serving)
    for name in readings:
        windows = named["readings"].mapping()[name].mapping().get("windows")
        if windows is not None:
            refuse_unused(windows.mapping(), used)


def _example(node: Node) -> Example:
    named = node.fields("title started_at ended_at expected_mg", optional="inputs readings baseline")
    inputs = {name: child.number() for name, child in named["inputs"].mapping().items()} if "inputs" in named else {}
    activity = ActivityData(
        read_moment(named["started_at"]),
        read_moment(named["ended_at"]),
        inputs,
        readings=read_series(named["readings"]) if "readings" in named else {},
        baseline=read_series(named["baseline"]) if "baseline" in named else {},
    )
    return Example(named["title"].bilingual(), activity, named["expected_mg"].whole())


def _recompute(methodology: Methodology, root: Node) -> None:
    """An example is computed also where a document says that something is missing, be it since when it is in force."""
    computable = replace(methodology, missing=(), in_force=methodology.in_force or Span(_EARLIEST))
    nodes = root.mapping()["examples"].items() if methodology.examples else []
    for example, node in zip(methodology.examples, nodes, strict=True):
        try:
            mg = quantify(computable, example.activity).co2e.mg
        except Refusal as refusal:
            raise DocumentInvalid(node.line, f"this example is refused: {refusal}") from refusal
        if mg != example.expected_mg:
            raise DocumentInvalid(node.line, f"this example gives {mg} mg, expected_mg is {example.expected_mg}")

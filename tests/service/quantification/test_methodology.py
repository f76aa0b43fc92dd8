"""Methodology documents: what is refused, on which line and why; which one is in force; approved ones never change."""

import tomllib
from dataclasses import replace
from datetime import date
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest

from service.quantification import methodology as module
from service.quantification.dimensions import parse_unit
from service.quantification.document import Span
from service.quantification.methodology import (
    MethodologyInvalid,
    NoMethodologyInForce,
    UnknownMethodology,
    UnknownScenario,
    catalogue_of,
    load_catalogue,
    parse_methodology,
)
from service.quantification.model import CONVERSIONS

DEMO = (module.DIRECTORY / "demo-shared-ebike.yaml").read_text(encoding="utf-8")

# A line for each document that ships, "id version" = digest. An approved one never changes, as credits point at it for
# ever: a correction is a new version, one more line.
APPROVED: dict[str, str] = tomllib.loads((Path(__file__).parent / "approved.toml").read_text(encoding="utf-8"))


def test_approved_methodologies_have_not_changed() -> None:
    found = {f"{one.id} {one.version}": one.digest for one in load_catalogue().all()}
    assert {name: found.get(name) for name in APPROVED} == APPROVED
    new = "\n".join(f'"{name}" = "{digest}"' for name, digest in found.items() if name not in APPROVED)
    assert not new, f"approved.toml has no line for these; add them once they are right:\n{new}"


def test_the_canonical_document_is_the_methodology() -> None:
    for one in load_catalogue().all():
        again = parse_methodology(one.document)
        assert (again, again.document, again.digest) == (one, one.document, one.digest)
        assert (again.inputs, again.factors, again.sources) == (one.inputs, one.factors, one.sources)


def changed(old: str, new: str, count: int = 1) -> str:
    assert DEMO.count(old) >= 1, old
    return DEMO.replace(old, new, count)


def line_of(document: str, text: str) -> int:
    return document[: document.index(text)].count("\n") + 1


REDUCTION = "reduction: reduction_g_per_pkm * distance_km"
AGAIN = "  - id: min-duration\n    title: {zh: 最长"
SPEED = "value: distance_km * s_per_h / duration_s"


@pytest.mark.parametrize(
    ("old", "new", "reason", "at"),  # `at` begins on the line that is named, when that is not where `new` begins
    [
        ("schema: 1", "schema: 2", "expected one of 1", ""),
        ("version: 1", "version: 0", "from 1 to 10000", ""),
        ("version: 1", "version: one", "whole number", ""),
        ("id: demo-shared-ebike", "id: Demo", "an id is", ""),
        ("status: demonstration", "status: approved", "expected one of official", ""),
        ("trigger: trip", "trigger: period", "the trigger period needs the field 'period'", ""),
        ("trigger: trip", "trigger: hour", "expected one of trip, boarding, day, period", ""),
        ("credit_class: behaviour", "credit_class: A", "expected one of behaviour, scenario, project", ""),
        ("in_force: {from: 2016-01-01}", "in_force: {from: 2016-01-01, to: 2015-12-31}", "before it starts", ""),
        ("in_force: {from: 2016-01-01}", "in_force: {from: 1991-01-01}", "the earliest day possible", ""),
        ("in_force: {from: 2016-01-01}", "in_force: {to: 2016-01-01}", "'from' is missing", ""),
        ("claim_window: none", "claim_window: {days: 0}", "a whole number from 1 to 3660", ""),
        ("claim_window: none", "claim_window: 7", "expected one of none", ""),
        ("jurisdiction: demonstration", "jurisdiction: demonstration\ncaps: {a: 1}", "expected a list here", "caps:"),
        ("version: 1", "version: 1\nmaximum: 1", "unknown field 'maximum'", "maximum:"),
        ("    to: 100000", "    to: 0", "is empty", "  distance_km:"),
        ("    to: 100000", "    to: 1e5", "expected a decimal number", ""),
        ("    to: 100000", "    to: 100000\n    below: 5", "exactly one of below, to", "  distance_km:"),
        ("    unit: km\n", "    unit: furlong\n", "unknown unit 'furlong'", ""),
        ("    unit: km\n", "    unit: km**9999\n", "unknown unit", ""),
        ("    values:", "    values: []", "not YAML", "      - from: 2016-01-01\n        value"),
        ('value: "35.01"', "value: .inf", "expected a decimal number", ""),
        ("source: hello-2022", "source: nobody", "expected one of hello-2022, found 'nobody'", ""),
        ("confidence: single", "confidence: sure", "expected one of confirmed, single, inferred", ""),
        ("    at_least: 60", "    at_least: 60\n    at_most: 70", "exactly one of", "  - id: min-duration"),
        ("    at_least: 60", "    about: 60", "unknown field 'about'", ""),
        (REDUCTION, "reduction: reduction_g_per_pkm * distance", "column 23: 'distance' is not declared", ""),
        (REDUCTION, "reduction: reduction_g_per_pkm + distance_km", "g/km and km: these measure different things", ""),
        (REDUCTION, "reduction: reduction_g_per_pkm * distance_km * m_per_km", "1 g·m/km is 1/1000 g", ""),
        (REDUCTION, "reduction: distance_km", "comes out in km, declared is g", ""),
        (REDUCTION, "reduction: reduction_g_per_pkm * distance_km + 1", "joins g and 1", ""),
        (REDUCTION, "reduction: distance_km ** reduction_g_per_pkm", "powers are not in the language", ""),
        (REDUCTION, "reduction: reduction_g_per_pkm * distance_km / 0", "division by zero", ""),
        (REDUCTION, "reduction: [1]", "expected one value here, found a list", ""),
        ("reduction_unit: g", "reduction_unit: kg", "expected one of g", ""),
        (SPEED, "value: distance_km * distance_km / duration_s / duration_s", "comes out in km·km/s/s", ""),
        (SPEED, "value: distance_km / duration_s", "comes out in km/s, declared is km/h", ""),
        (SPEED, "value: distance_km * 3600 / duration_s", "comes out in km/s, declared is km/h", ""),
        ("  - id: max-duration", "  - id: min-duration", "'min-duration' stands here twice", AGAIN),
        ("published: 2022-07-21", "published: last year", "expected a year, month or day", ""),
        ("    started_at: 2025-06-01T08:00:00+08:00", "    started_at: 2025-06-01 08:00", "expected a time", ""),
        ("    started_at: 2025-06-01T08:00:00+08:00", "    started_at: 2025-06-31T08:00:00Z", "expected a time", ""),
    ],
)
def test_a_faulty_document_is_refused_on_the_line_of_the_fault(old: str, new: str, reason: str, at: str) -> None:
    document = changed(old, new)
    with pytest.raises(MethodologyInvalid) as caught:
        parse_methodology(document.encode())
    assert reason in caught.value.reason, str(caught.value)
    assert caught.value.line == line_of(document, at or new)


@pytest.mark.parametrize(
    ("old", "new", "marker", "reason"),
    [
        ("expected_mg: 82273", "expected_mg: 82274", "- title: {zh: 十二", "gives 82273 mg, expected_mg is 82274"),
        ('inputs: {distance_km: "2.35"}', 'inputs: {km: "2.35"}', "- title: {zh: 十二", "no input 'km'"),
        ("08:12:00", "08:00:59", "- title: {zh: 十二", "Shortest riding time: 59 s, must be at least 60 s"),
    ],
)
def test_examples_are_recomputed(old: str, new: str, marker: str, reason: str) -> None:
    document = changed(old, new)
    with pytest.raises(MethodologyInvalid, match=reason) as caught:
        parse_methodology(document.encode())
    assert caught.value.line == line_of(document, marker)


def test_what_no_formula_uses_is_refused() -> None:
    extra = "  weight_kg: {unit: kg, above: 0, to: 9, meaning: {zh: 重量, en: weight}}\n"
    document = changed("inputs:\n", f"inputs:\n{extra}")
    with pytest.raises(MethodologyInvalid, match="weight_kg is declared but no formula uses it") as caught:
        parse_methodology(document.encode())
    assert caught.value.line == line_of(document, "weight_kg")


@pytest.mark.parametrize("name", ["duration_s", "s_per_h", "min", "reduction_g_per_pkm", "a-b"])
def test_a_name_means_one_thing(name: str) -> None:
    extra = f"  {name}: {{unit: km, above: 0, to: 9, meaning: {{zh: 甲, en: a}}}}\n"
    with pytest.raises(MethodologyInvalid, match="cannot be declared"):
        parse_methodology(changed("inputs:\n", f"inputs:\n{extra}").encode())


VALUE = """\
      - {from: 2016-01-01, to: 2019-12-31, value: "40", source: hello-2022, confidence: single}
      - {from: 2020-01-01, value: "35.01", source: hello-2022, confidence: single%s}
"""


def with_values(values: str) -> str:
    head, rest = DEMO.split("    values:\n")
    return f"{head}    values:\n{values}\nconditions:\n{rest.split('conditions:' + chr(10))[1]}"


def test_factor_values_are_dated_and_never_two_on_a_day() -> None:
    factor = parse_methodology(with_values(VALUE % "").encode()).factors["reduction_g_per_pkm"]
    found = [factor.on(day) for day in (date(2015, 12, 31), date(2019, 12, 31), date(2020, 1, 1))]
    assert [one and one.value for one in found] == [None, Decimal(40), Decimal("35.01")]
    overlapping = with_values((VALUE % "").replace("2019-12-31", "2020-01-01"))
    with pytest.raises(MethodologyInvalid, match="two values") as caught:
        parse_methodology(overlapping.encode())
    assert caught.value.line == line_of(overlapping, "- {from: 2020-01-01")


def test_a_low_quality_figure_is_read_in_every_status_and_stands_against_every_document() -> None:
    for status in ("demonstration", "official"):
        low = with_values(VALUE % ", quality: low").replace("status: demonstration", f"status: {status}")
        found = parse_methodology(low.encode())
        assert found.factors["reduction_g_per_pkm"].values[1].quality == "low"
        assert found.faults == ("low-quality-figure",)


def test_each_conversion_is_exactly_one() -> None:
    for name, (unit, value) in CONVERSIONS.items():
        one = parse_unit(unit)
        scale = Fraction(one._REGISTRY.Quantity(Fraction(1), one).to("dimensionless").magnitude)
        assert Fraction(value) * scale == 1, name


def test_the_methodology_of_the_day_is_found_or_said_to_be_missing() -> None:
    catalogue = load_catalogue()
    found = catalogue.in_force("shared-ebike", date(2016, 1, 1))
    assert found is catalogue.by_digest(found.digest)
    with pytest.raises(NoMethodologyInForce) as missing:
        catalogue.in_force("shared-ebike", date(2015, 12, 31))
    assert missing.value.reason == "no-methodology-in-force"
    assert missing.value.params == {"scenario": "shared-ebike", "day": "2015-12-31", "spans": "2016-01-01 –"}
    with pytest.raises(UnknownScenario, match=r"known: .*shared-ebike"):
        catalogue.in_force("flying", date(2016, 1, 1))
    with pytest.raises(UnknownMethodology):
        catalogue.by_digest("0" * 64)


def test_on_a_day_that_two_versions_cover_the_newest_is_in_force() -> None:
    first = parse_methodology(DEMO.encode())  # open-ended, as approved: it is never edited to end
    second = changed("version: 1", "version: 2")
    later = parse_methodology(
        second.replace("in_force: {from: 2016-01-01}", "in_force: {from: 2026-01-01}")
        .replace("2025-06-01", "2026-06-01")
        .encode()
    )
    catalogue = catalogue_of([later, first])
    assert catalogue.in_force("shared-ebike", date(2025, 12, 31)) == first
    assert catalogue.in_force("shared-ebike", date(2026, 1, 1)) == later
    assert catalogue.by_digest(first.digest) == first


def test_two_methodologies_never_cover_one_scenario_on_one_day() -> None:
    other = parse_methodology(changed("id: demo-shared-ebike", "id: other-rule").encode())
    with pytest.raises(MethodologyInvalid, match="other-rule"):
        catalogue_of([parse_methodology(DEMO.encode()), other])


METERS = (Path(__file__).parents[2] / "rules/methodologies/test-home-electricity.yaml").read_text(encoding="utf-8")
CLAIM = "  - {of: [meter], over: time}\n"


@pytest.mark.parametrize(
    ("claim", "days", "meets"),
    [
        (CLAIM, Span(date(2024, 1, 1), None), True),
        ("  - {of: [meter], over: time, use: heating}\n", Span(date(2024, 1, 1), None), False),
        ("  - {of: [meter], over: time, use: heating, optional: 'true'}\n", Span(date(2030, 1, 1), None), False),
        ("  - {of: [meter], over: time, use: heating}\n", Span(date(2020, 1, 1), date(2023, 12, 31)), True),
        ("  - {of: [meter, payment], over: time, use: heating}\n", Span(date(2024, 1, 1), None), True),
    ],
    ids=["alike", "a use", "a use, optional", "never in force together", "another thing"],
)
def test_claims_over_time_of_two_methodologies_meet(claim: str, days: Span, meets: bool) -> None:
    """By whole days and as a span they would not see each other, and one month of a meter would count twice."""
    other = parse_methodology(METERS.replace("test-home-electricity", "other-rule").replace(CLAIM, claim).encode())
    both = [parse_methodology(METERS.encode()), replace(other, in_force=days)]
    if meets:
        assert len(catalogue_of(both).all()) == 2
        return
    said = "test-home-electricity version 1 line 1: claims meter over time by whole days, .* write a use in both"
    with pytest.raises(MethodologyInvalid, match=said):
        catalogue_of(both)


def test_versions_of_one_methodology_may_claim_otherwise() -> None:
    later = METERS.replace("version: 1\n", "version: 2\n").replace(
        CLAIM, "  - {of: [meter], over: time, use: heating}\n"
    )
    assert len(catalogue_of([parse_methodology(METERS.encode()), parse_methodology(later.encode())]).all()) == 2


def test_a_claim_by_the_hour_meets_one_with_a_use() -> None:
    claims = "trigger: trip\nclaims:\n  - {{of: [operator, vehicle], over: time{}}}\n"
    rides = [
        changed("trigger: trip\n", claims.format(use)).replace("id: demo-shared-ebike", f"id: rule-{number}")
        for number, use in enumerate(("", ", use: rent"))
    ]
    rides[1] = rides[1].replace("id: shared-ebike", "id: rented-ebike")
    assert len(catalogue_of([parse_methodology(one.encode()) for one in rides]).all()) == 2


def test_a_version_stands_in_one_document() -> None:
    first = parse_methodology(DEMO.encode())
    with pytest.raises(MethodologyInvalid, match="two documents"):
        catalogue_of([first, first])


def test_a_faulty_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "faulty.yaml").write_text("id: [\n", encoding="utf-8")
    with pytest.raises(MethodologyInvalid, match=r"faulty\.yaml line 2: not YAML"):
        load_catalogue(tmp_path)
    (tmp_path / "faulty.yaml").write_bytes(b"a" * 10_000_000)
    with pytest.raises(MethodologyInvalid, match=r"faulty\.yaml line 1: a document has at most"):
        load_catalogue(tmp_path)


@pytest.mark.parametrize("source", [b"", b"[]", b"a", b"{}", b"- a", b"examples: [a]"])
def test_what_is_no_methodology_at_all_is_refused_as_a_document(source: bytes) -> None:
    with pytest.raises(MethodologyInvalid):
        parse_methodology(source)

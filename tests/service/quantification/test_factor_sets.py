"""Factor sets: what is refused, on which line and why; and what a methodology that pins one has to agree with."""

from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.activities.rules import RulesInvalid, read_documents
from service.quantification.dimensions import scale_between
from service.quantification.factor_sets import (
    FactorSetInvalid,
    factor_sets_of,
    load_factor_sets,
    parse_factor_set,
)
from service.quantification.methodology import MethodologyInvalid, load_catalogue, parse_methodology
from service.quantification.model import Pin
from tests.documents import changed
from tests.service.quantification.factor_set_documents import FACTOR_SET, PUBLISHED, SET, SETS


def line_of(document: str, text: str) -> int:
    return document[: document.index(text)].count("\n") + 1


def test_a_set_is_read_with_every_figure_and_reads_back_to_itself() -> None:
    assert (SET.id, SET.unit, SET.published, SET.announcement.en) == ("invented-2024", "kg/kWh", "2025-03-14", "no. 7")
    told = {name: (one.value, one.confidence, one.quality) for name, one in SET.figures.items()}
    assert told == {
        "north-grid": (Decimal("0.61"), "single", "low"),
        "shanghai": (Decimal("0.5737"), "confirmed", None),
        "tibet": (None, None, None),
    }
    again = parse_factor_set(SET.document)
    assert (again, again.digest, hash(again)) == (SET, SET.digest, hash(SET))
    assert again.figures == SET.figures


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("schema: 1", "schema: 2", "expected one of 1"),
        ("kind: factor_set", "kind: points", "expected one of factor_set"),
        ("id: invented-2024", "id: Invented", "an id is"),
        ("published: 2025-03-14", "published: soon", "expected a year, month or day"),
        ("unit: kg/kWh", "unit: kg/mile", "unknown unit"),
        ('value: "0.5737"', 'value: "-0.1"', "0 or more"),
        ('value: "0.5737"', "value: 1e3", "expected a decimal number"),
        ('value: "0.5737", confidence: confirmed', 'value: "0.5737"', "'confidence' is missing"),
        ('value: "0.5737"', "value: unknown", "unknown field 'confidence'"),
        ("confidence: confirmed", "confidence: sure", "expected one of confirmed, single, inferred"),
        ("quality: low", "quality: high", "expected one of low"),
        ('confirmed, source: paper', "confirmed, source: rumour", "expected one of paper"),
        ("notes:", "version: 2\nnotes:", "unknown field 'version'"),
    ],
)  # fmt: skip
def test_a_faulty_set_is_refused_on_the_line_of_the_fault(old: str, new: str, reason: str) -> None:
    document = changed(FACTOR_SET, (old, new)).decode()
    with pytest.raises(FactorSetInvalid, match=reason) as caught:
        parse_factor_set(document.encode())
    assert caught.value.line == line_of(document, new)


def test_a_set_without_figures_is_none() -> None:
    head, rest = FACTOR_SET.split("figures:\n")
    document = f"{head}figures: {{}}\nnotes:{rest.split('notes:')[1]}"
    with pytest.raises(FactorSetInvalid, match="at least one figure"):
        parse_factor_set(document.encode())


def test_a_set_never_changes() -> None:
    other = parse_factor_set(FACTOR_SET.replace("0.5737", "0.5738").encode())
    assert factor_sets_of([SET, SET]) == SETS
    with pytest.raises(FactorSetInvalid, match="another announcement another id"):
        factor_sets_of([SET, other])


def test_a_pin_is_read_and_names_set_figure_and_digest() -> None:
    (value,) = parse_methodology(PUBLISHED.encode(), SETS).factors["grid"].values
    assert value.pinned == Pin("invented-2024", "shanghai", SET.digest)


@pytest.mark.parametrize(
    ("old", "new", "reason", "at"),
    [
        ('value: "573.7"', 'value: "573.71"', r"is 0\.5737 kg/kWh, which is 573\.7 g/kWh; found 573\.71", ""),
        ('value: "573.7"', 'value: "0.5737"', "which is 573.7 g/kWh", ""),
        ("confidence: confirmed", "confidence: single", "is confirmed; found single", ""),
        ("confidence: confirmed", "confidence: confirmed\n        quality: low", "found confirmed, of low quality", ""),
        ("figure: shanghai", "figure: north-grid", "0.61 kg/kWh", "        value:"),
        ("figure: shanghai", "figure: tibet", "is unknown in the factor set invented-2024", ""),
        ("figure: shanghai", "figure: peking", "no figure 'peking'; it has north-grid, shanghai, tibet", ""),
        ("unit: g/kWh", "unit: g/km", "kg/kWh cannot stand for a factor in g/km", "          figure: shanghai"),
        (SET.digest, "0" * 64, f"has the digest {SET.digest}", ""),
        (SET.digest, SET.digest.upper(), "64 hexadecimal digits in lower case", ""),
        ("          figure: shanghai\n", "", "'figure' is missing", "        pinned:"),
    ],
)
def test_what_does_not_agree_with_its_set_is_refused_on_its_line(old: str, new: str, reason: str, at: str) -> None:
    document = changed(PUBLISHED, (old, new)).decode()
    with pytest.raises(MethodologyInvalid, match=reason) as caught:
        parse_methodology(document.encode(), SETS)
    assert caught.value.line == line_of(document, at or new)


def test_a_low_quality_figure_stays_one_where_it_is_pinned() -> None:
    low = ('value: "573.7"', 'value: "610"'), ("figure: shanghai", "figure: north-grid")
    weak = ("confidence: confirmed", "confidence: single\n        quality: low")
    assert "low-quality-figure" in parse_methodology(changed(PUBLISHED, *low, weak), SETS).faults
    with pytest.raises(MethodologyInvalid, match="is single, of low quality; found single"):
        parse_methodology(changed(PUBLISHED, *low, ("confidence: confirmed", "confidence: single")), SETS)


def test_a_registered_document_reads_without_its_set_and_an_unknown_value_has_no_pin() -> None:
    wrong = changed(PUBLISHED, ('value: "573.7"', 'value: "1"'))
    assert parse_methodology(wrong).factors["grid"].values[0].value == 1
    with pytest.raises(MethodologyInvalid, match="unknown field"):
        parse_methodology(changed(PUBLISHED, ('value: "573.7"', "value: unknown")), SETS)


@given(st.sampled_from(["kg/kWh", "g/kWh", "t/MWh", "kg/MWh", "g/MJ", "mg/kJ"]), st.decimals(0, 9, places=4))
def test_units_are_converted_exactly(unit: str, value: Decimal) -> None:
    factor_set = parse_factor_set(FACTOR_SET.replace('"0.5737"', f'"{value}"').encode())
    scale = scale_between("kg/kWh", unit)
    assert scale is not None
    converted = Fraction(value) * scale
    units = ("unit: g/kWh", f"unit: {unit}")
    if (converted * 10**18).denominator != 1:  # 1/3.6 of it has no end as a decimal: no document can say it
        converted = Fraction(int(converted * 10**18), 10**18)
        with pytest.raises(MethodologyInvalid, match="found"):
            parse_methodology(_pinning(factor_set.digest, converted, units), {factor_set.id: factor_set})
        return
    parse_methodology(_pinning(factor_set.digest, converted, units), {factor_set.id: factor_set})
    with pytest.raises(MethodologyInvalid, match="found"):
        parse_methodology(_pinning(factor_set.digest, converted + Fraction(1, 10**12), units), {SET.id: factor_set})


def _pinning(digest: str, value: Fraction, *replaced: tuple[str, str]) -> bytes:
    written = f"{value.numerator * 10**18 // value.denominator:019}"
    number = f"{written[:-18]}.{written[-18:]}"
    return changed(PUBLISHED, (SET.digest, digest), ('value: "573.7"', f'value: "{number}"'), *replaced)


def test_a_faulty_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "one.yaml").write_text("schema: 1\n", encoding="utf-8")
    with pytest.raises(FactorSetInvalid, match=r"one\.yaml line 1: the field 'kind' is missing"):
        load_factor_sets(tmp_path)


def test_a_deployment_s_sets_stand_beside_the_shipped_ones(tmp_path: Path) -> None:
    for kind, name, content in (
        ("methodologies", "own", PUBLISHED),
        ("factor_sets", "own", FACTOR_SET),
        ("points", "none", ""),
    ):
        (tmp_path / kind).mkdir()
        if content:
            (tmp_path / kind / f"{name}.yaml").write_text(content, encoding="utf-8")
    found = read_documents(tmp_path)
    assert set(found.factor_sets) == {*read_documents(None).factor_sets, SET.id}
    assert any(one.id == "our-published" for one in found.methodologies.all())
    (tmp_path / "factor_sets" / "own.yaml").write_text(FACTOR_SET.replace("0.5737", "0.6"), encoding="utf-8")
    with pytest.raises(RulesInvalid, match=r"own\.yaml line 31: the factor set invented-2024 here has the digest"):
        read_documents(tmp_path)
    (tmp_path / "factor_sets" / "own.yaml").write_text("[", encoding="utf-8")
    with pytest.raises(RulesInvalid, match="the factor sets cannot be used"):
        read_documents(tmp_path)


def test_every_shipped_pin_is_of_a_shipped_set() -> None:
    sets = load_factor_sets()
    assert sets
    for one in load_catalogue().all():
        for factor in one.factors.values():
            for value in factor.values:
                assert value.pinned is None or value.pinned.digest == sets[value.pinned.set].digest

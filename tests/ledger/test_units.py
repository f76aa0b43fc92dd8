"""Amounts keep their unit, stay whole, and are rounded down exactly once."""

from decimal import Decimal, localcontext
from fractions import Fraction
from math import floor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.units import CO2e, Points

grams = st.decimals(min_value=-(10**12), max_value=10**12, allow_nan=False, allow_infinity=False)


@given(grams)
def test_grams_become_milligrams_by_rounding_down_exactly(value: Decimal) -> None:
    assert CO2e.from_grams_floor(value).mg == floor(Fraction(value) * 1000)


def test_a_fraction_just_below_a_milligram_is_not_rounded_up_whatever_the_threads_context() -> None:
    almost = Decimal("0." + "9" * 60)  # sixty digits; the default context keeps 28 and would make it 1
    with localcontext() as context:
        context.prec = 3
        assert CO2e.from_grams_floor(almost) == CO2e(999)
        assert CO2e.from_grams_floor(Decimal("-0.0001")) == CO2e(-1)


@pytest.mark.parametrize("kind", [CO2e, Points])
@pytest.mark.parametrize("amount", [1.0, True, "1", Decimal(1), None])
def test_only_whole_numbers_are_amounts(kind: type[CO2e] | type[Points], amount: object) -> None:
    with pytest.raises(TypeError):
        kind(amount)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [CO2e, Points])
def test_an_amount_fits_a_bigint(kind: type[CO2e] | type[Points]) -> None:
    kind(2**63 - 1)
    kind(-(2**63))
    for beyond in (2**63, -(2**63) - 1):
        with pytest.raises(OverflowError):
            kind(beyond)


@pytest.mark.parametrize("beyond", ["1E+16", "1E+999999", "9223372036854775.808"])
def test_more_grams_than_a_bigint_holds_are_refused_at_once(beyond: str) -> None:
    assert CO2e.from_grams_floor(Decimal("9223372036854775.807")) == CO2e(2**63 - 1)
    with pytest.raises(OverflowError):
        CO2e.from_grams_floor(Decimal(beyond))


def test_next_to_nothing_is_nothing() -> None:
    assert CO2e.from_grams_floor(Decimal("1E-999999")) == CO2e(0)


@pytest.mark.parametrize("value", ["NaN", "sNaN", "Infinity", "-Infinity"])
def test_only_finite_grams_are_a_mass(value: str) -> None:
    with pytest.raises(ValueError, match="finite"):
        CO2e.from_grams_floor(Decimal(value))


def test_amounts_add_up_and_do_not_mix() -> None:
    assert sum([CO2e(1), CO2e(2)], CO2e(0)) == CO2e(3)
    assert Points(40) + Points(2) == Points(42)
    with pytest.raises(TypeError):
        CO2e(1) + Points(1)  # type: ignore[operator]
    with pytest.raises(TypeError):
        Points(1) + 1  # type: ignore[operator]
    amounts: list[object] = [CO2e(1), Points(1)]
    assert amounts[0] != amounts[1]
    assert CO2e(1) < CO2e(2)

"""The formula language: exact, closed and bounded."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, getcontext, localcontext
from fractions import Fraction
from time import perf_counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.quantification.expression import (
    MAX_DEPTH,
    MAX_TERMS,
    ExpressionInvalid,
    exact_input,
    parse_expression,
    plain,
)

numbers = st.decimals(min_value=-(10**6), max_value=10**6, places=6)
literals = st.decimals(min_value=0, max_value=1000, places=3)
NAMES = ("a", "b", "c")


@dataclass(frozen=True)
class Sample:
    """A formula and the same computation over fractions, built together."""

    source: str
    value: Fraction


def formulas(values: Mapping[str, Decimal]) -> st.SearchStrategy[Sample]:
    leaves = st.one_of(
        literals.map(lambda number: Sample(plain(number), Fraction(number))),
        st.sampled_from(NAMES).map(lambda name: Sample(name, Fraction(values[name]))),
    )

    def grow(inner: st.SearchStrategy[Sample]) -> st.SearchStrategy[Sample]:
        pairs = st.tuples(inner, inner)
        return st.one_of(
            pairs.map(lambda two: Sample(f"({two[0].source} + {two[1].source})", two[0].value + two[1].value)),
            pairs.map(lambda two: Sample(f"({two[0].source} - {two[1].source})", two[0].value - two[1].value)),
            pairs.map(lambda two: Sample(f"{two[0].source} * ({two[1].source})", two[0].value * two[1].value)),
            pairs.map(lambda two: Sample(f"min({two[0].source}, {two[1].source})", min(two[0].value, two[1].value))),
            pairs.map(lambda two: Sample(f"max({two[0].source}, {two[1].source})", max(two[0].value, two[1].value))),
            inner.map(lambda one: Sample(f"-({one.source})", -one.value)),
            inner.map(lambda one: Sample(f"abs({one.source})", abs(one.value))),
        )

    return st.recursive(leaves, grow, max_leaves=6)


@given(st.data())
def test_everything_but_a_quotient_is_exact(data: st.DataObject) -> None:
    values = {name: data.draw(numbers, label=name) for name in NAMES}
    sample = data.draw(formulas(values))
    assert Fraction(parse_expression(sample.source, NAMES).evaluate(values)) == sample.value


@given(numbers, numbers.filter(bool))
def test_a_quotient_carries_fifty_digits(a: Decimal, b: Decimal) -> None:
    found, exact = Fraction(parse_expression("a / b", NAMES).evaluate({"a": a, "b": b})), Fraction(a) / Fraction(b)
    assert abs(found - exact) <= abs(exact) * Fraction(1, 2 * 10**49)


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("1 - 2 - 3", "-4"),
        ("8 / 4 / 2", "1"),
        ("2 + 3 * 4", "14"),
        ("(2 + 3) * 4", "20"),
        ("-2 * -3", "6"),
        ("--1", "1"),
        ("2 - -2", "4"),
        ("min(3, 1, 2)", "1"),
        ("max(3, 1, 2) - abs(-1)", "2"),
        ("0.1 + 0.2", "0.3"),
        (" 1\n + 1 ", "2"),
    ],
)
def test_precedence_and_association_are_the_usual_ones(source: str, value: str) -> None:
    assert parse_expression(source, ()).evaluate({}) == Decimal(value)


def test_the_threads_context_is_neither_used_nor_changed() -> None:
    expression = parse_expression("a * b / 3", NAMES)
    values = {"a": Decimal("1234567.891"), "b": Decimal("7654321.987")}
    expected = expression.evaluate(values)
    with localcontext() as context:
        context.prec = 2
        context.clear_flags()
        assert expression.evaluate(values) == expected
        assert not any(getcontext().flags.values())


@pytest.mark.parametrize(
    ("source", "column", "reason"),
    [
        ("", 1, "expected a number"),
        ("a +", 4, "found 'the end'"),
        ("a ** 2", 4, "powers are not in the language"),
        ("a // 2", 4, "expected a number"),
        ("a % 2", 3, "'%' is not in the formula language"),
        ("a < b", 3, "'<' is not in the formula language"),
        ("a.real", 2, "'.' is not in the formula language"),
        ("a[0]", 2, "'['"),
        ("'a'", 1, '"\'" is not in the formula language'),
        ("a b", 3, "an operator or the end"),
        ("(a", 3, "expected ')'"),
        ("a)", 2, "an operator or the end"),
        ("d * a", 1, "'d' is not declared; declared are a, b, c"),
        ("A", 1, "'A' is not declared"),
        ("__import__(a)", 1, "no function '__import__'"),
        ("pow(a, b)", 1, "there are min, max, abs"),
        ("a(b)", 1, "no function 'a'"),
        ("min(a)", 1, "two arguments or more"),
        ("abs(a, b)", 1, "one argument"),
        ("min()", 5, "expected a number"),
        ("min", 1, "'min' is not declared"),
        ("1e5", 2, "expected an operator"),
        ("1.", 1, "no number"),
        ("007", 1, "no number"),
        ("1.2.3", 1, "no number"),
        ("1" * 19, 1, "no number"),
        ("a / 0", 5, "division by zero"),
        ("a / (1 - 1.0)", 8, "division by zero"),
        ("٣ + 1", 1, "is not in the formula language"),
    ],
)
def test_what_is_not_in_the_language_is_refused_with_its_column(source: str, column: int, reason: str) -> None:
    with pytest.raises(ExpressionInvalid) as caught:
        parse_expression(source, NAMES)
    assert (caught.value.column, reason in caught.value.reason) == (column, True), str(caught.value)


@pytest.mark.parametrize(
    "source",
    [
        "(" * 400 + "a" + ")" * 400,
        "(" * 249 + "a" + ")" * 249,
        "-" * 499 + "a",
        "abs(" * 99 + "a" + ")" * 99,
        "a+" * 200 + "a",
        "*".join(["a"] * 99),
        "/".join(["a"] * 99),
        "*".join(["999999999999999999"] * 25),
        "a * " * 1_000_000 + "a",
    ],
)
def test_formulas_made_to_harm_are_refused_quickly(source: str) -> None:
    begun = perf_counter()
    with pytest.raises(ExpressionInvalid):
        parse_expression(source, NAMES)
    assert perf_counter() - begun < 1


def test_the_last_good_formula_at_each_bound_works() -> None:
    deepest = "(" * (MAX_DEPTH - 1) + "1" + ")" * (MAX_DEPTH - 1)
    assert parse_expression(deepest, ()).evaluate({}) == 1
    longest = "+".join(["1"] * (MAX_TERMS // 2))
    assert parse_expression(longest, ()).evaluate({}) == MAX_TERMS // 2
    for beyond in (f"({deepest})", f"{longest}+1"):
        with pytest.raises(ExpressionInvalid):
            parse_expression(beyond, ())


def test_a_product_of_the_widest_inputs_that_is_read_is_still_exact() -> None:
    expression = parse_expression("*".join(["a"] * 8), NAMES)
    widest = Decimal("0.000000000000999999999999999999")
    assert Fraction(expression.evaluate({"a": widest})) == Fraction(widest) ** 8
    with pytest.raises(ExpressionInvalid, match="digits"):
        parse_expression("*".join(["a"] * 9), NAMES)


@pytest.mark.parametrize("text", ["0", "2.35", "-7", "1E+18", "999999999999999999", "1E-30", "2.350000000000000000000"])
def test_numbers_within_the_bounds_are_taken_as_they_are(text: str) -> None:
    assert exact_input(Decimal(text)) == Decimal(text)


@pytest.mark.parametrize(
    "text",
    ["NaN", "sNaN", "-NaN", "Infinity", "-Infinity", "-0", "-0.00", "1E+19", "1E+999999", "1E-31", "1E-999999"],
)
def test_numbers_beyond_the_bounds_are_not_taken(text: str) -> None:
    assert exact_input(Decimal(text)) is None


@pytest.mark.parametrize("text", ["1.000000000000000001", "9999999999999999999"])
def test_numbers_of_more_than_eighteen_digits_are_not_taken(text: str) -> None:
    assert exact_input(Decimal(text)) is None


@pytest.mark.parametrize(
    ("value", "text"),
    [("70.0200", "70.02"), ("1E+3", "1000"), ("0E-9", "0"), ("0.1234567890129", "0.123456789012…"), ("-5.0", "-5")],
)
def test_numbers_are_written_for_people(value: str, text: str) -> None:
    assert plain(Decimal(value)) == text

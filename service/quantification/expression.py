"""The closed formula language of methodologies: a dozen constructs, exact decimals, no way out.

    expression = term   { ( "+" | "-" ) term } .
    term       = factor { ( "*" | "/" ) factor } .
    factor     = "-" factor | primary .
    primary    = number | name | function "(" expression { "," expression } ")" | "(" expression ")" .
    function   = "min" | "max" | "abs" .
    number     = digits [ "." digits ] .        at most 18 digits on each side, no exponent
    name       = lower-case letter { lower-case letter | digit | "_" } .

The parser is our own rather than Python's, so that a formula means the same under every Python version, a literal is
the decimal that was written, and an error names its column. There are no powers, comparisons, strings, attributes or
names beyond the declared ones: a condition's limit is a field of the document, with its unit and its reason beside it.

**Arithmetic.** Sums, differences and products are exact; a quotient is rounded half-even to 50 significant digits.
Inputs have at most 19 digits before the point and 30 after it (`exact_input`), totals of readings 26 and 66, and a
formula that could need more than 400 digits is refused when it is read, so nothing else is ever rounded. A reduction is
taken to 30 decimals of a gram, half-even, before it is rounded down to milligrams (quantify.py): what is a whole
milligram stays one. The thread's own decimal context is never used.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from decimal import (
    ROUND_HALF_EVEN,
    Context,
    Decimal,
    DivisionByZero,
    Inexact,
    InvalidOperation,
    Overflow,
)
from functools import reduce

MAX_LENGTH = 500  # characters; the longest published formula has 140
MAX_DEPTH = 32  # brackets, signs and calls inside one another
MAX_TERMS = 100  # numbers, names and operations
MAX_DIGITS = 400  # an exact result may need no more
QUOTIENT_DIGITS = 50

INPUT_DIGITS = 18  # significant digits of a reported number: a double has 17
INPUT_INTEGER_DIGITS = 19
INPUT_DECIMALS = 30
# A total of 3,000 readings of 12 digits on each side, filled from one second in a hundred years, or a sixtieth of it:
# what readings.py can bring at most, being quotients of 50 digits.
DERIVED_INTEGER_DIGITS = 26
DERIVED_DECIMALS = 66

_ERRORS = [InvalidOperation, DivisionByZero, Overflow]
_EXACT = Context(prec=MAX_DIGITS + 100, rounding=ROUND_HALF_EVEN, traps=[*_ERRORS, Inexact])
_QUOTIENT = Context(prec=QUOTIENT_DIGITS, rounding=ROUND_HALF_EVEN, traps=_ERRORS)
# One C call checks a reported number: more than 18 digits or 30 decimals is Inexact, 10^19 and above is Overflow.
_INPUT = Context(
    prec=INPUT_DIGITS, Emin=INPUT_DIGITS - 1 - INPUT_DECIMALS, Emax=INPUT_INTEGER_DIGITS - 1, traps=[*_ERRORS, Inexact]
)

Values = Mapping[str, Decimal]
Evaluate = Callable[[Values], Decimal]

_TOKEN = re.compile(r"\s*(?:(?P<number>[0-9][0-9.]*)|(?P<name>[A-Za-z_][A-Za-z0-9_]*)|(?P<symbol>[-+*/(),]))")
_NUMBER = re.compile(r"(?:0|[1-9][0-9]{0,17})(?:\.[0-9]{1,18})?")
NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
FUNCTIONS = {"min": 2, "max": 2, "abs": 1}  # and how many arguments each takes at least; abs takes exactly one

OPERATIONS: dict[str, Callable[[Decimal, Decimal], Decimal]] = {
    "+": _EXACT.add,
    "-": _EXACT.subtract,
    "*": _EXACT.multiply,
    "/": _QUOTIENT.divide,
    "min": _EXACT.min,
    "max": _EXACT.max,
}
UNARY: dict[str, Callable[[Decimal], Decimal]] = {"negate": _EXACT.minus, "abs": _EXACT.abs}


class ExpressionInvalid(Exception):
    """A formula is refused when it is read. `column` counts from 1 in the formula's text."""

    def __init__(self, column: int, reason: str) -> None:
        super().__init__(column, reason)
        self.column, self.reason = column, reason

    def __str__(self) -> str:
        return f"formula column {self.column}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Number:
    column: int
    value: Decimal


@dataclass(frozen=True, slots=True)
class Name:
    column: int
    name: str


@dataclass(frozen=True, slots=True)
class Operation:
    """`symbol` is + - * / min max (two operands or more for min and max), negate or abs (one operand)."""

    column: int
    symbol: str
    operands: tuple[Term, ...]


Term = Number | Name | Operation


@dataclass(frozen=True, slots=True)
class Expression:
    """A checked formula. `evaluate` takes a value for every name; only a division by 0 raises, an ArithmeticError."""

    source: str
    root: Term
    names: frozenset[str]
    evaluate: Evaluate


def exact_input(value: Decimal) -> Decimal | None:
    """The number as reported; None unless finite, of at most 18 significant digits, 19 before and 30 after the point.

    Minus zero is None too: no instrument measures it, and 0 has one form.
    """
    try:
        number = _INPUT.plus(value)
    except ArithmeticError:
        return None
    if not number.is_finite() or (value.is_signed() and not value):
        return None
    return number


def plain(value: Decimal) -> str:
    """A number for people: no exponent, no trailing zeros; more than 12 decimals are cut and end in an ellipsis."""
    text = format(_EXACT.normalize(value), "f") if value else "0"
    whole, point, decimals = text.partition(".")
    return f"{whole}.{decimals[:12]}…" if point and len(decimals) > 12 else text


def parse_expression(source: str, known: Collection[str], derived: Collection[str] = ()) -> Expression:
    """Check and compile a formula over the `known` names. Raises ExpressionInvalid with the column and what to do.

    derived   those of the names whose values are quotients themselves and may have more digits than a reported number
    """
    if len(source) > MAX_LENGTH:
        raise ExpressionInvalid(MAX_LENGTH, f"a formula has at most {MAX_LENGTH} characters, not {len(source)}")
    root = _Parser(_tokens(source), frozenset(known)).parse()
    whole, decimals = _digits(root, derived)
    if whole + decimals > MAX_DIGITS:
        raise ExpressionInvalid(root.column, f"this could need {whole + decimals} digits, more than {MAX_DIGITS}")
    _refuse_division_by_a_constant_zero(root)
    return Expression(source, root, frozenset(_names(root)), _compile(root))


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str  # number, name, symbol, end
    text: str
    column: int


def _tokens(source: str) -> list[_Token]:
    tokens, position = [], 0
    end = len(source.rstrip())
    while position < end:
        found = _TOKEN.match(source, position)
        if found is None or found.lastgroup is None:
            at = position + len(source[position:]) - len(source[position:].lstrip())
            raise ExpressionInvalid(at + 1, f"{source[at]!r} is not in the formula language")
        tokens.append(_Token(found.lastgroup, found.group(found.lastgroup), found.start(found.lastgroup) + 1))
        position = found.end()
    return [*tokens, _Token("end", "the end", end + 1)]


class _Parser:
    """One token ahead, one function per line of the grammar."""

    def __init__(self, tokens: list[_Token], known: frozenset[str]) -> None:
        self.tokens, self.known = tokens, known
        self.position = self.depth = self.terms = 0

    def parse(self) -> Term:
        root = self.expression()
        if self.next.kind != "end":
            raise self.expected("an operator or the end")
        return root

    @property
    def next(self) -> _Token:
        return self.tokens[self.position]

    def expected(self, what: str) -> ExpressionInvalid:
        hint = "; powers are not in the language" if self.next.text == "*" else ""
        return ExpressionInvalid(self.next.column, f"expected {what}, found {self.next.text[:64]!r}{hint}")

    def take(self, *texts: str) -> _Token | None:
        token = self.next
        if token.kind != "symbol" or token.text not in texts:
            return None
        self.position += 1
        return token

    def made(self, term: Term) -> Term:
        self.terms += 1
        if self.terms > MAX_TERMS:
            raise ExpressionInvalid(term.column, f"more than {MAX_TERMS} numbers, names and operations: shorten it")
        return term

    def expression(self) -> Term:
        left = self.term()
        while operator_ := self.take("+", "-"):
            left = self.made(Operation(operator_.column, operator_.text, (left, self.term())))
        return left

    def term(self) -> Term:
        left = self.factor()
        while operator_ := self.take("*", "/"):
            left = self.made(Operation(operator_.column, operator_.text, (left, self.factor())))
        return left

    def factor(self) -> Term:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise ExpressionInvalid(self.next.column, f"nested deeper than {MAX_DEPTH} brackets, signs and calls")
        minus = self.take("-")
        made = self.made(Operation(minus.column, "negate", (self.factor(),))) if minus else self.primary()
        self.depth -= 1
        return made

    def primary(self) -> Term:
        token = self.next
        if self.take("("):
            inside = self.expression()
            if not self.take(")"):
                raise self.expected("')'")
            return inside
        if token.kind == "number":
            self.position += 1
            if not _NUMBER.fullmatch(token.text):
                raise ExpressionInvalid(token.column, f"{token.text[:64]!r} is no number such as 35.01")
            return self.made(Number(token.column, Decimal(token.text)))
        if token.kind == "name":
            self.position += 1
            return self.call(token) if self.take("(") else self.name(token)
        raise self.expected("a number, a name or '('")

    def call(self, token: _Token) -> Term:
        if token.text not in FUNCTIONS:
            raise ExpressionInvalid(token.column, f"no function {token.text[:64]!r}; there are {', '.join(FUNCTIONS)}")
        operands = [self.expression()]
        while self.take(","):
            operands.append(self.expression())
        if not self.take(")"):
            raise self.expected("',' or ')'")
        if len(operands) < FUNCTIONS[token.text] or (token.text == "abs" and len(operands) > 1):
            count = "one argument" if token.text == "abs" else "two arguments or more"
            raise ExpressionInvalid(token.column, f"{token.text} takes {count}, found {len(operands)}")

        return self.made(Operation(token.column, token.text, tuple(operands)))

    def name(self, token: _Token) -> Term:
        if token.text not in self.known:
            known = ", ".join(sorted(self.known))
            raise ExpressionInvalid(token.column, f"{token.text[:64]!r} is not declared; declared are {known}")
        return self.made(Name(token.column, token.text))


def _compile(term: Term) -> Evaluate:
    """Closures, made once: a formula of one product costs half a microsecond."""
    if isinstance(term, Number):
        value = term.value
        return lambda values: value
    if isinstance(term, Name):
        return operator.itemgetter(term.name)
    if term.symbol in UNARY:
        apply, only = UNARY[term.symbol], _compile(term.operands[0])
        return lambda values: apply(only(values))
    combine, parts = OPERATIONS[term.symbol], [_compile(operand) for operand in term.operands]
    if len(parts) == 2:
        left, right = parts
        return lambda values: combine(left(values), right(values))
    return lambda values: reduce(combine, [part(values) for part in parts])


def _digits(term: Term, derived: Collection[str]) -> tuple[int, int]:
    """How many digits before and after the point the exact value can have at most."""
    if isinstance(term, Number):
        return max(term.value.adjusted() + 1, 1), max(-int(term.value.as_tuple().exponent), 0)
    if isinstance(term, Name) and term.name in derived:
        return DERIVED_INTEGER_DIGITS, DERIVED_DECIMALS
    if isinstance(term, Name):
        return INPUT_INTEGER_DIGITS, INPUT_DECIMALS
    sizes = [_digits(operand, derived) for operand in term.operands]
    whole, decimals = max(size[0] for size in sizes), max(size[1] for size in sizes)
    if term.symbol == "*":
        return sum(size[0] for size in sizes), sum(size[1] for size in sizes)
    if term.symbol == "/":  # the smallest divisor has its last decimal only, the largest makes the quotient smallest
        return sizes[0][0] + sizes[1][1], sizes[0][1] + sizes[1][0] + QUOTIENT_DIGITS
    return whole + (term.symbol in "+-"), decimals


def _refuse_division_by_a_constant_zero(term: Term) -> None:
    if not isinstance(term, Operation):
        return
    for operand in term.operands:
        _refuse_division_by_a_constant_zero(operand)
    if term.symbol == "/" and not _names(term.operands[1]) and not _compile(term.operands[1])({}):
        raise ExpressionInvalid(term.operands[1].column, "division by zero")


def _names(term: Term) -> set[str]:
    if isinstance(term, Name):
        return {term.name}
    return set().union(*(_names(operand) for operand in term.operands)) if isinstance(term, Operation) else set()

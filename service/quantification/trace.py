"""A formula's evaluation, said step by step: the same operations as the compiled form, in the same order."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from functools import reduce

from service.quantification.expression import OPERATIONS, UNARY, Name, Number, Operation, Term, plain
from service.quantification.model import Formula

_SIGNS = {"+": "+", "-": "−", "*": "×", "/": "÷"}


def trace(formula: Formula, values: Mapping[str, Decimal]) -> tuple[Decimal, tuple[str, ...]]:
    """The formula's value, and one line for each operation, operands first: `35.01 g/km × 2.35 km = 82.2735 g`.

    Raises ArithmeticError for a division by zero, as the compiled form does.
    """
    steps: list[str] = []
    return _step(formula.expression.root, formula.units, values, steps.append), tuple(steps)


def _step(term: Term, units: Mapping[Term, str], values: Mapping[str, Decimal], say: Callable[[str], None]) -> Decimal:
    if isinstance(term, Number):
        return term.value
    if isinstance(term, Name):
        return values[term.name]
    operands = [_step(operand, units, values, say) for operand in term.operands]
    result = UNARY[term.symbol](operands[0]) if term.symbol in UNARY else reduce(OPERATIONS[term.symbol], operands)
    shown = [_measured(value, units[operand]) for value, operand in zip(operands, term.operands, strict=True)]
    say(f"{_written(term, shown)} = {_measured(result, units[term])}")
    return result


def _written(operation: Operation, operands: list[str]) -> str:
    if operation.symbol == "negate":
        return f"−({operands[0]})"
    if operation.symbol in _SIGNS:
        return f" {_SIGNS[operation.symbol]} ".join(operands)
    return f"{operation.symbol}({', '.join(operands)})"


def _measured(value: Decimal, unit: str) -> str:
    return plain(value) if unit in ("", "1") else f"{plain(value)} {unit}"

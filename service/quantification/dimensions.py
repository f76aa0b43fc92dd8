"""Units of a formula, checked once when a document is read: no factor is ever converted in silence.

Two quantities are added or compared only in the same unit, and a result must be in the unit the document declares, by a
scale of exactly 1. A bare number has no dimension, except 0, which fits every unit. `pint` decides; its import is slow,
so it happens on the first document and never on the way of an activity.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from functools import cache
from typing import TYPE_CHECKING

from service.quantification.expression import Expression, ExpressionInvalid, Name, Number, Term

if TYPE_CHECKING:
    import pint

# A closed list, each an exact multiple of the ones before it; "1" is a plain count.
_DEFINITIONS = {
    "g": "[mass]",
    "mg": "g / 1000",
    "kg": "1000 * g",
    "t": "1000 * kg",
    "m": "[length]",
    "km": "1000 * m",
    "s": "[time]",
    "min": "60 * s",
    "h": "3600 * s",
    "day": "24 * h",
    "J": "kg * m * m / s / s",
    "kJ": "1000 * J",
    "MJ": "1000 * kJ",
    "kWh": "3600 * kJ",
    "MWh": "1000 * kWh",
    "kW": "kJ / s",
}


class UnitUnknown(Exception):
    """The unit is not in the closed list. The message names it and the list."""


@cache
def _registry() -> pint.UnitRegistry[Fraction]:
    import pint

    registry: pint.UnitRegistry[Fraction] = pint.UnitRegistry(None, non_int_type=Fraction)
    for name, meaning in _DEFINITIONS.items():
        registry.define(f"{name} = {meaning}")
    return registry


def parse_unit(text: str) -> pint.Unit:
    """`1`, `km`, `g/km`, `kg*m/s/s`: known units joined by * and /. Raises UnitUnknown."""
    parts = text.replace("/", "*").split("*")
    if len(text) > 40 or not all(part in _DEFINITIONS or part == "1" for part in parts):
        known = ", ".join(["1", *_DEFINITIONS])
        raise UnitUnknown(f"unknown unit {text[:40]!r}: join {known} by * and /")
    return _registry().parse_units("*".join(["dimensionless", text.replace("1", "dimensionless")]))


def check_units(expression: Expression, declared: Mapping[str, str], result: str) -> dict[Term, str]:
    """The unit of every term, when the whole comes out in exactly `result`.

    Raises ExpressionInvalid naming the two units that do not meet and the factor between them; UnitUnknown.
    """
    units: dict[Term, pint.Unit | None] = {}
    outcome = _unit(expression.root, declared, units)
    expected = parse_unit(result)
    if outcome is not None and not _same(outcome, expected):
        reason = f"this comes out in {_text(outcome)}, declared is {_text(expected)}{_factor(outcome, expected)}"
        raise ExpressionInvalid(expression.root.column, reason)
    units[expression.root] = expected
    return {term: "" if unit is None else _text(unit) for term, unit in units.items()}


def scale_between(unit: str, other: str) -> Fraction | None:
    """How many `other` one `unit` is, exactly; None when they measure different things. Raises UnitUnknown."""
    return _scale(parse_unit(unit), parse_unit(other))


def _unit(term: Term, declared: Mapping[str, str], units: dict[Term, pint.Unit | None]) -> pint.Unit | None:
    """None is the unit of 0, which fits any."""
    units[term] = found = _unit_of(term, declared, units)
    return found


def _unit_of(term: Term, declared: Mapping[str, str], units: dict[Term, pint.Unit | None]) -> pint.Unit | None:
    if isinstance(term, Number):
        return parse_unit("1") if term.value else None
    if isinstance(term, Name):
        return parse_unit(declared[term.name])
    parts = [_unit(operand, declared, units) for operand in term.operands]
    known = [part for part in parts if part is not None]
    if term.symbol in ("*", "/"):
        if len(known) < 2:
            return None  # zero times anything; a division by the number 0 was refused before
        combined: pint.Unit = known[0] * known[1] if term.symbol == "*" else known[0] / known[1]
        return combined
    for other in known[1:]:
        if not _same(known[0], other):
            raise ExpressionInvalid(
                term.column, f"{term.symbol} joins {_text(known[0])} and {_text(other)}{_factor(other, known[0])}"
            )
    return known[0] if known else None


def _scale(unit: pint.Unit, other: pint.Unit) -> Fraction | None:
    """How many `other` one `unit` is; None when they measure different things."""
    if unit.dimensionality != other.dimensionality:
        return None
    return Fraction(_registry().Quantity(Fraction(1), unit).to(other).magnitude)


def _same(unit: pint.Unit, other: pint.Unit) -> bool:
    return unit == other or _scale(unit, other) == 1


def _factor(unit: pint.Unit, other: pint.Unit) -> str:
    scale = _scale(unit, other)
    if scale is None:
        return ": these measure different things"
    return f": 1 {_text(unit)} is {scale} {_text(other)}; convert in the formula, for example with s_per_h"


def _text(unit: pint.Unit) -> str:
    """`km·s/h`, `g/kWh/kWh`: each unit as often as it counts, in a form that parse_unit reads with * for the dot."""
    items = _registry().Quantity(Fraction(1), unit).unit_items()
    powers = {str(name): int(str(power)) for name, power in sorted(items)}  # whole, as * and / make no others
    above = "·".join(name for name, power in powers.items() for _ in range(power))
    return (above or "1") + "".join(f"/{name}" for name, power in powers.items() for _ in range(-power))

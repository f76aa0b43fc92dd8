"""Amounts that cannot be mixed: a mass of CO2 equivalent and points, both whole numbers."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import MAX_EMAX, MIN_EMIN, ROUND_FLOOR, Context, Decimal, Inexact, InvalidOperation, Overflow

_INT64 = 2**63  # what a PostgreSQL BIGINT can hold
_TOO_MUCH = "CO2e holds at most 2^63 - 1 milligrams, nine billion tonnes"
# Shifting the decimal point must not round: more than 500 digits raise instead. The thread's own context carries 28.
_EXACT = Context(prec=500, Emin=MIN_EMIN, Emax=MAX_EMAX, traps=[Inexact, InvalidOperation, Overflow])


@dataclass(frozen=True, order=True, slots=True)
class CO2e:
    """A mass of CO2 equivalent in whole milligrams; a BIGINT holds nine billion tonnes.

    Raises TypeError for anything but an int (a float or a bool), OverflowError beyond 64 bits.
    """

    mg: int

    def __post_init__(self) -> None:
        if type(self.mg) is not int:  # bool and float pass an annotation, not this
            raise TypeError(f"CO2e takes whole milligrams, not {self.mg!r}")
        if not -_INT64 <= self.mg < _INT64:
            raise OverflowError(_TOO_MUCH)

    @classmethod
    def from_grams_floor(cls, grams: Decimal) -> CO2e:
        """Round down, once, here: no points are issued for a fraction that was not saved.

        Exact for at most 500 digits. Raises ValueError for NaN and infinity, OverflowError beyond 64 bits.
        """
        if not grams.is_finite():
            raise ValueError(f"CO2e takes a finite number of grams, not {grams}")
        if grams.adjusted() > 15:  # before int() would write out a million digits
            raise OverflowError(_TOO_MUCH)
        return cls(int(_EXACT.scaleb(grams, 3).to_integral_value(ROUND_FLOOR, _EXACT)))

    def __add__(self, other: CO2e) -> CO2e:
        if type(other) is not CO2e:
            return NotImplemented
        return CO2e(self.mg + other.mg)


@dataclass(frozen=True, order=True, slots=True)
class Points:
    """Whole points 碳积分. Raises TypeError for anything but an int, OverflowError beyond 64 bits."""

    n: int

    def __post_init__(self) -> None:
        if type(self.n) is not int:
            raise TypeError(f"Points are whole, not {self.n!r}")
        if not -_INT64 <= self.n < _INT64:
            raise OverflowError("Points hold at most 2^63 - 1")

    def __add__(self, other: Points) -> Points:
        if type(other) is not Points:
            return NotImplemented
        return Points(self.n + other.n)

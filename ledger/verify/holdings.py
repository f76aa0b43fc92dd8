"""What one participant has, as the entries so far leave it, and what the journal's rules expect of the next lines.

The days of buckets are text and compare as text. What a transfer must look like is asked of `ledger.journal`, the
functions that posted it; only the lines of the commonest credit are compared without it.
"""

from calendar import monthrange
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from functools import lru_cache
from uuid import UUID

from ledger.errors import LedgerInvariantBroken
from ledger.holds import hold_lines, refund_lines, release_lines
from ledger.journal import (
    AMOUNT_MAX,
    Account,
    Line,
    credit_lines,
    lapse_lines,
    maturity_lines,
    reversal_lines,
)
from ledger.verify.canonical import as_date

_NOBODY = UUID(int=0)
_NO_DAY = date(1, 1, 31)
BALANCES = tuple(
    (asset, account) for asset in ("co2e_mg", "points") for account in ("available", "debt", "held", "pending")
)
Totals = Counter[tuple[str, str, str]]
"""Amounts by programme, asset and account."""
_PLACE = {balance: place for place, balance in enumerate(BALANCES)}
CO2E_AVAILABLE, CO2E_DEBT, _, _, POINTS_AVAILABLE, POINTS_DEBT, _, _ = range(8)


class _Balances(Mapping[tuple[str, str], int]):
    """A list of balances as the journal reads them, without a copy."""

    __slots__ = ("_amounts",)

    def __init__(self, amounts: list[int]) -> None:
        self._amounts = amounts

    def __getitem__(self, balance: tuple[str, str]) -> int:
        return self._amounts[_PLACE[balance]]

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(BALANCES)

    def __len__(self) -> int:
        return len(BALANCES)


class Holding:
    """A participant's balances in the order of BALANCES, buckets by their last day, and what stays for good.

    next_expiry  the earliest bucket with points in it; empty text where there is none
    unsealed     whether anything was posted since the last seal
    grams        milligrams that are available, by vintage and class; kept of those alone who ever hold some
    returned     the entry, and its moment, that gave points back into a bucket that had run out
    """

    __slots__ = ("at", "balances", "buckets", "counter", "grams", "next_expiry", "returned", "unsealed", "who")

    def __init__(self, who: tuple[str, str, str], *, of_grams: bool = False) -> None:
        self.who = who
        self.counter = 0
        self.at = ""
        self.balances = [0] * 8
        self.buckets: dict[str, int] = {}
        self.next_expiry = ""
        self.unsealed = True
        self.grams: dict[tuple[int, str], int] | None = {} if of_grams else None
        self.returned: tuple[int, str] | None = None

    def move(self, line: Line) -> str | None:
        """Move the balances by a line; what is wrong with one of them then."""
        wrong = None
        expires = line.expires_on
        for name, change in ((line.from_account, -line.amount), (line.to_account, line.amount)):
            place = _PLACE.get((line.asset, name))
            if place is None:
                continue
            self.balances[place] += -change if name == "debt" else change
            if not 0 <= self.balances[place] <= AMOUNT_MAX:
                wrong = f"{name} {line.asset} would be {self.balances[place]}"
            if expires is not None and name == "available":
                day = expires.isoformat()
                self.buckets[day] = self.buckets.get(day, 0) + change
            elif self.grams is not None and name == "available" and line.vintage and line.credit_class:
                lot = line.vintage, line.credit_class
                self.grams[lot] = self.grams.get(lot, 0) + change
        return wrong

    def sweep(self) -> list[str]:
        """Forget buckets that are empty, and those that gave more than was in them, which are told."""
        wrong = [f"{day}: {left}" for day, left in self.buckets.items() if left < 0]
        self.buckets = {day: left for day, left in self.buckets.items() if left > 0}
        self.next_expiry = min(self.buckets, default="")
        return wrong

    def record(self, participant: str) -> bytes:
        """The participant's record in a seal's tree (docs/audit.md)."""
        co2e_available, co2e_debt, co2e_held, co2e_pending, available, debt, held, pending = self.balances
        buckets = self.buckets.items() if len(self.buckets) < 2 else sorted(self.buckets.items())
        free = ",".join([f'"{day}":"{left}"' for day, left in buckets])
        if not (
            co2e_debt or co2e_held or co2e_pending or debt or held or pending
        ):  # most people: a fifth less to write
            return (
                f'{{"balances":{{"co2e_mg":{{"available":"{co2e_available}","debt":"0","held":"0","pending":"0"}},'
                f'"points":{{"available":"{available}","debt":"0","held":"0","pending":"0"}}}},'
                f'"buckets":{{{free}}},"counter":"{self.counter}","participant":"{participant}","v":"1"}}'
            ).encode("ascii")
        return (
            f'{{"balances":{{"co2e_mg":{{"available":"{co2e_available}","debt":"{co2e_debt}","held":"{co2e_held}",'
            f'"pending":"{co2e_pending}"}},"points":{{"available":"{available}","debt":"{debt}","held":"{held}",'
            f'"pending":"{pending}"}}}},"buckets":{{{free}}},"counter":"{self.counter}",'
            f'"participant":"{participant}","v":"1"}}'
        ).encode("ascii")

    def _account(self) -> Account:
        return Account(_NOBODY, *self.who, self.counter, _Balances(self.balances))

    def _buckets(self) -> dict[date, int]:
        return {as_date(day): left for day, left in self.buckets.items()}

    def expected_credit(self, lines: Sequence[Line]) -> tuple[Line, ...] | str:
        """How the journal writes a credit of these amounts, class, vintage and bucket; or why there is no such."""
        grams = [line for line in lines if line.asset == "co2e_mg"]
        points = [line for line in lines if line.asset == "points"]
        if not grams:
            return "grams"
        first = grams[0]
        assert first.credit_class is not None
        assert first.vintage is not None
        try:
            return credit_lines(
                self._account(),
                co2e_mg=sum(line.amount for line in grams),
                points=sum(line.amount for line in points if line.from_account == "issuance"),
                credit_class=first.credit_class,
                vintage=first.vintage,
                expires_on=next((line.expires_on for line in points if line.expires_on), _NO_DAY),
                pending=any(line.to_account == "pending" for line in points),
                grams_pending=any(line.to_account == "pending" for line in grams),
                funded_points=sum(line.amount for line in points if line.from_account == "partner"),
            )
        except (LedgerInvariantBroken, ValueError) as error:
            return str(error)

    def expected_reversal(self, credit: Sequence[Line], matured: Sequence[Line]) -> tuple[Line, ...]:
        """How the journal takes this credit back now."""
        return reversal_lines(self._account(), self._buckets(), credit, matured)

    def expected_maturity(self, credit: Sequence[Line], expires: date | None) -> tuple[Line, ...] | str:
        """How the journal frees what this credit left pending, into this bucket; or why it does not."""
        try:
            return maturity_lines(self._account(), credit, expires_on=expires or _NO_DAY)
        except LedgerInvariantBroken as error:
            return str(error)

    def expected_hold(self, lines: Sequence[Line]) -> tuple[Line, ...] | str:
        """How the journal reserves so many points and milligrams now; or why it does not."""
        points, co2e_mg = (sum(line.amount for line in lines if line.asset == asset) for asset in ("points", "co2e_mg"))
        try:
            return hold_lines(self._buckets(), self.grams or {}, points=points, co2e_mg=co2e_mg)
        except LedgerInvariantBroken as error:
            return str(error)

    def expected_release(self, held: Sequence[Line]) -> tuple[Line, ...] | str:
        """How the journal gives back what is held still; or why it does not."""
        try:
            return release_lines(self._account(), held)
        except LedgerInvariantBroken as error:
            return str(error)

    def expected_refund(self, capture: Sequence[Line]) -> tuple[Line, ...]:
        """How the journal gives back what a capture took."""
        return refund_lines(self._account(), capture)

    def expected_lapse(self, today: str) -> tuple[Line, ...]:
        """The lines that close every bucket whose last day was before today."""
        return lapse_lines(self._buckets(), as_date(today))


@lru_cache(maxsize=4_096)
def is_month_end(day: str) -> bool:
    """Whether it is the last day of its month."""
    when = as_date(day)
    return when.day == monthrange(when.year, when.month)[1]

"""Holds: points reserved for a redemption, and the grams that pass with them. What each step posts, as pure decisions.

A hold names its buckets when it is placed, so that a capture cannot fail. It ends by captures that use it up, or by a
release of what is left. Points that come back, by a release or a refund, first repay what their owner owes; the rest
returns to the bucket it came from, which may have run out meanwhile and then lapses at once.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal
from uuid import UUID

from ledger.errors import LedgerInvariantBroken
from ledger.journal import Account, Buckets, Line

ReleaseReason = Literal["voided", "cancelled", "lapsed", "rest", "withdrawn"]
"""Why what was left of a hold went back: its bank gave it up, its owner did, its time was over, its last capture left
it, an operator ended it."""
RefundReason = Literal["cancelled", "not_fulfilled", "posted_in_error"]
"""Why a capture was taken back: the product was given up, its benefit never came, it should not have been posted."""
PASSING_CLASSES = ("behaviour", "scenario")  # a project's grams may yet be traded: they never pass with points

Grams = Mapping[tuple[int, str], int]
"""Milligrams that are available, by vintage and class. A reversed credit takes from the whole: one of them may be
negative, their sum never."""


@dataclass(frozen=True, slots=True)
class Hold:
    """A hold as it stands: what of it is neither captured nor released.

    expires_at   dead from this moment on, whether or not anybody has written that down; a whole second
    """

    participant_id: UUID
    hold_id: UUID
    expires_at: datetime
    points_left: int
    co2e_left: int

    def is_dead(self, at: datetime) -> bool:
        """Whether its time is over."""
        return at >= self.expires_at


def passing(grams: Grams) -> int:
    """How many milligrams could pass with points: where reversed credits of these classes took more than was left of
    their own, another class stands in for it, and so much less can pass."""
    able = sum(mg for (_, credit_class), mg in grams.items() if credit_class in PASSING_CLASSES)
    return max(0, min(able, sum(grams.values())))


def hold_lines(buckets: Buckets, grams: Grams, *, points: int, co2e_mg: int = 0) -> tuple[Line, ...]:
    """Reserve points, those first that run out first, and milligrams, the oldest first.

    buckets   the participant's free points after what has lapsed was closed

    Raises LedgerInvariantBroken for no points, or for more of either than there is: that was to be refused before.
    """
    if points <= 0 or co2e_mg < 0:
        raise LedgerInvariantBroken(f"a hold has points, and grams from 0: not {points} points, {co2e_mg} mg")
    if points > sum(buckets.values()) or co2e_mg > passing(grams):
        raise LedgerInvariantBroken(f"there is less to hold than {points} points, {co2e_mg} mg")
    lines: list[Line] = []
    for expires_on in sorted(buckets):
        taken = min(points, buckets[expires_on])
        if taken:
            lines.append(Line("available", "held", "points", taken, expires_on=expires_on))
            points -= taken
    for vintage, credit_class in sorted(grams):
        taken = min(co2e_mg, max(0, grams[vintage, credit_class])) if credit_class in PASSING_CLASSES else 0
        if taken:
            lines.append(Line("available", "held", "co2e_mg", taken, credit_class, vintage))
            co2e_mg -= taken
    return tuple(lines)


def still_held(hold: Sequence[Line], *, points: int, co2e_mg: int) -> tuple[Line, ...]:
    """The lines of a hold of which so much is left: captures used up the first ones.

    Raises LedgerInvariantBroken when it never held that much.
    """
    left: list[Line] = []
    for asset, amount in (("points", points), ("co2e_mg", co2e_mg)):
        mine = [line for line in hold if line.asset == asset]
        used = sum(line.amount for line in mine) - amount
        if used < 0:
            raise LedgerInvariantBroken(f"{amount} {asset} cannot be left of a hold of {amount + used}")
        for line in mine:
            gone = min(used, line.amount)
            used -= gone
            if line.amount > gone:
                left.append(replace(line, amount=line.amount - gone))
    return tuple(left)


def capture_lines(held: Sequence[Line], *, points: int, co2e_mg: int) -> tuple[Line, ...]:
    """Use so much of what is held, from its first lines: the points are redeemed, the grams are the funder's.

    Raises LedgerInvariantBroken for no points, or for more than is held.
    """
    if points <= 0 or co2e_mg < 0:
        raise LedgerInvariantBroken(f"a capture has points, and grams from 0: not {points} points, {co2e_mg} mg")
    lines: list[Line] = []
    for asset, amount, taker in (("points", points, "redeemed"), ("co2e_mg", co2e_mg, "partner")):
        for line in held:
            taken = min(amount, line.amount) if line.asset == asset else 0
            if taken:
                lines.append(replace(line, from_account="held", to_account=taker, amount=taken))
                amount -= taken
        if amount:
            raise LedgerInvariantBroken(f"a capture takes {amount} {asset} more than is held")
    return tuple(lines)


def release_lines(account: Account, held: Sequence[Line]) -> tuple[Line, ...]:
    """Give back all that is still held.

    Raises LedgerInvariantBroken when nothing is.
    """
    if not held:
        raise LedgerInvariantBroken("nothing is held, so nothing can be released")
    return _returned(account, (replace(line, from_account="held") for line in held))


def refund_lines(account: Account, capture: Sequence[Line]) -> tuple[Line, ...]:
    """Give back what a capture took, from where it went."""
    return _returned(account, (replace(line, from_account=line.to_account) for line in capture))


def _returned(account: Account, lines: Iterable[Line]) -> tuple[Line, ...]:
    """These lines on their way back: what is owed is repaid first, by what runs out first."""
    owed = {asset: account.balance(asset, "debt") for asset in ("points", "co2e_mg")}
    back: list[Line] = []
    for line in lines:
        repaid = min(owed[line.asset], line.amount)
        owed[line.asset] -= repaid
        if repaid:
            back.append(replace(line, to_account="debt", amount=repaid))
        if line.amount > repaid:
            back.append(replace(line, to_account="available", amount=line.amount - repaid))
    return tuple(back)

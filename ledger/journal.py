"""Accounts, lines and transfers, and what each kind of transfer posts: pure decisions on frozen values.
 A line moves a positive amount of one asset from one account to another, so every transfer balances by construction. A
line touches at most one participant; its other side is a system account, which has no row of its own while posting.
`debt` is what a participant owes after a reversal found too little to take back: it is kept positive, and a line *from*
debt makes it larger.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field, replace
from datetime import date, datetime
from typing import Literal
from uuid import UUID

from ledger.errors import LedgerInvariantBroken
from ledger.records import record

ASSETS = ("co2e_mg", "points")
PARTICIPANT_ACCOUNTS = ("available", "pending", "held", "debt")
SYSTEM_ACCOUNTS = ("issuance", "lapsed", "retired", "clearing", "partner", "redeemed")
PARTICIPANT_KINDS = ("citizen", "firm", "social_organisation", "government_body", "public_institution")
CREDIT_CLASSES = ("project", "scenario", "behaviour")
KINDS = ("credit", "reversal", "lapse", "maturity", "hold", "capture", "release", "refund")
ReversalReason = Literal[
    "source_retracted",
    "evidence_disproved",
    "posted_in_error",
    "not_eligible_at_settlement",
    "superseded",
    "corrected",
    "key_compromised",
]
AMOUNT_MAX = 2**63 - 1  # a BIGINT

Balances = Mapping[tuple[str, str], int]
Buckets = Mapping[date, int]
"""Points still free, by the last day on which they may be used."""


def no_balances() -> dict[tuple[str, str], int]:
    """A new participant's: zero everywhere."""
    return {(asset, account): 0 for asset in ASSETS for account in PARTICIPANT_ACCOUNTS}


@record
class Line:
    """One movement. Milligrams carry their class and vintage; points in or out of `available` or `held` carry the
    bucket they belong to."""

    from_account: str
    to_account: str
    asset: str
    amount: int
    credit_class: str | None = None
    vintage: int | None = None
    expires_on: date | None = None


@record
class Account:
    """What a participant has in the ledger, as locked for posting.

    counter      how many transfers the participant has; the next one is counter + 1, so a missing leaf shows
    next_expiry  a day no later than the first on which a bucket with points in it runs out; None when there is no
                 bucket
    """

    participant_id: UUID
    kind: str
    programme: str
    region: str
    counter: int = 0
    balances: Balances = field(default_factory=no_balances)
    next_expiry: date | None = None

    def balance(self, asset: str, account: str) -> int:
        return self.balances[asset, account]


@record
class Transfer:
    """A decided transfer: balanced lines under one id, numbered within its participant.

    effective_on   the Asia/Shanghai day on which the thing happened
    recorded_at    when it was posted: the database's clock under the participant's lock
    reverses       what it takes back: a reversal a credit, a refund a capture
    reason         why: a ReversalReason, or one of ledger/holds.py for a refund or a release
    matures        the credit whose pending part it frees, for a maturity
    hold_id        the hold it draws on or ends, for a capture or a release
    """

    transfer_id: UUID
    participant_id: UUID
    kind: str
    counter: int
    programme: str
    region: str
    lines: tuple[Line, ...]
    effective_on: date
    recorded_at: datetime
    reverses: UUID | None = None
    reason: str | None = None
    matures: UUID | None = None
    hold_id: UUID | None = None


def credit_lines(
    account: Account,
    *,
    co2e_mg: int,
    points: int,
    credit_class: str,
    vintage: int,
    expires_on: date,
    pending: bool = False,
    grams_pending: bool | None = None,
    funded_points: int = 0,
) -> tuple[Line, ...]:
    """Issue a reduction and its points; what the participant owes of either is paid back first.

    pending        both wait in `pending` for their maturity: no debt is repaid, and the points have no bucket yet
    grams_pending  for the grams alone, where they wait and the points do not
    funded_points  points more, out of a campaign's budget (`partner`), in the same bucket

    Raises ValueError for a credit without grams: points rest on a reduction.
    """
    if co2e_mg <= 0 or points < 0 or funded_points < 0:
        raise ValueError(f"a credit has grams, and points from 0: not {co2e_mg} mg, {points} + {funded_points} points")
    lines: list[Line] = []
    if pending if grams_pending is None else grams_pending:
        lines.append(Line("issuance", "pending", "co2e_mg", co2e_mg, credit_class, vintage))
    else:
        repaid = min(co2e_mg, account.balance("co2e_mg", "debt"))
        if repaid:
            lines.append(Line("issuance", "debt", "co2e_mg", repaid, credit_class, vintage))
        if co2e_mg > repaid:
            lines.append(Line("issuance", "available", "co2e_mg", co2e_mg - repaid, credit_class, vintage))
    if points:
        owed = account.balance("points", "debt")
        _add_points(lines, "issuance", points, owed, None if pending else expires_on)
    if funded_points:
        owed = max(0, account.balance("points", "debt") - points)
        _add_points(lines, "partner", funded_points, owed, None if pending else expires_on)
    return tuple(lines)


def _add_points(lines: list[Line], source: str, points: int, owed: int, expires_on: date | None) -> None:
    """Give these points: what is owed is repaid first, the rest enters its bucket. Without a bucket all are pending."""
    if expires_on is None:
        lines.append(Line(source, "pending", "points", points))
        return
    repaid = min(points, owed)
    if repaid:
        lines.append(Line(source, "debt", "points", repaid))
    if points > repaid:
        lines.append(Line(source, "available", "points", points - repaid, expires_on=expires_on))


def maturity_lines(account: Account, credit: Sequence[Line], *, expires_on: date) -> tuple[Line, ...]:
    """Free what a credit left pending: what the participant owes by now is paid back first, the rest is available.

    credit      the lines of the credit; what it made available at once stays as it is
    expires_on  the bucket the points enter: they could not be used before

    Raises LedgerInvariantBroken when nothing of it was pending.
    """
    lines: list[Line] = []
    points = 0
    for issued in credit:
        if issued.to_account != "pending":
            continue
        if issued.asset == "points":
            points += issued.amount
            continue
        repaid = min(issued.amount, account.balance(issued.asset, "debt"))
        back = replace(issued, from_account="pending", to_account="debt", amount=repaid)
        free = replace(back, to_account="available", amount=issued.amount - repaid)
        lines += [line for line in (back, free) if line.amount]
    if points:
        _add_points(lines, "pending", points, account.balance("points", "debt"), expires_on)
    if not lines:
        raise LedgerInvariantBroken("nothing of this credit is pending, so nothing of it can mature")
    return tuple(lines)


def reversal_lines(
    account: Account, buckets: Buckets, credit: Sequence[Line], matured: Sequence[Line] = ()
) -> tuple[Line, ...]:
    """Take a credit back: what is still pending from `pending`, the rest of its points from their own bucket, then from
    the others as they run out, never from held ones; what is not there is debt. Everything returns to the account it
    came from.

    buckets   the participant's free points after what has lapsed was closed
    matured   the lines of the credit's maturity; none while what it left pending is pending
    """
    lines: list[Line] = []
    points: dict[str, int] = {}
    for issued in credit:
        if issued.to_account == "pending" and not matured:
            lines.append(replace(issued, from_account="pending", to_account=issued.from_account))
        elif issued.asset == "co2e_mg":
            taken = min(issued.amount, account.balance("co2e_mg", "available") - _taken(lines, "co2e_mg"))
            lines += _taking(issued, taken)
        else:
            points[issued.from_account] = points.get(issued.from_account, 0) + issued.amount
    own = next((line.expires_on for line in (*credit, *matured) if line.asset == "points" and line.expires_on), None)
    left = dict(buckets)
    order = sorted(left, key=lambda day: (day != own, day))
    for source, owed in points.items():
        for expires_on in order:
            taken = min(owed, left[expires_on])
            if taken:
                lines.append(Line("available", source, "points", taken, expires_on=expires_on))
                left[expires_on] -= taken
                owed -= taken
        if owed:
            lines.append(Line("debt", source, "points", owed))
    return tuple(lines)


def _taking(issued: Line, taken: int) -> list[Line]:
    back = replace(issued, from_account="available", to_account=issued.from_account, amount=taken)
    owed = replace(back, from_account="debt", amount=issued.amount - taken)
    return [line for line in (back, owed) if line.amount]


def _taken(lines: Iterable[Line], asset: str) -> int:
    return sum(line.amount for line in lines if line.asset == asset and line.from_account == "available")


def lapse_lines(buckets: Buckets, today: date) -> tuple[Line, ...]:
    """Close every bucket whose last day has passed."""
    due = sorted(day for day, left in buckets.items() if day < today and left)
    return tuple(Line("available", "lapsed", "points", buckets[day], expires_on=day) for day in due)


def posted(account: Account, lines: Iterable[Line]) -> Account:
    """The account after one more transfer of these lines.

    Raises LedgerInvariantBroken if an amount is not positive or a balance would leave 0..2^63-1.
    """
    balances = dict(account.balances)
    next_expiry = account.next_expiry
    for line in lines:
        if line.amount <= 0:
            raise LedgerInvariantBroken(f"a line moves a positive amount, not {line.amount} {line.asset}")
        for name, change in ((line.from_account, -line.amount), (line.to_account, line.amount)):
            key = (line.asset, name)
            if key in balances:
                balances[key] += -change if name == "debt" else change
                if not 0 <= balances[key] <= AMOUNT_MAX:
                    raise LedgerInvariantBroken(
                        f"{name} {line.asset} of {account.participant_id} would be {balances[key]}"
                    )
        if line.to_account == "available" and line.expires_on:
            next_expiry = min(line.expires_on, next_expiry or line.expires_on)
    return Account(
        account.participant_id,
        account.kind,
        account.programme,
        account.region,
        account.counter + 1,
        balances,
        next_expiry,
    )


def bucket_change(line: Line) -> int:
    """What the line adds to the bucket it names; nothing where it only moves what is held."""
    if line.to_account == "available":
        return line.amount
    return -line.amount if line.from_account == "available" else 0


def buckets_after(buckets: Buckets, lines: Iterable[Line]) -> dict[date, int]:
    """The free points by bucket after these lines; a bucket that was emptied stays with zero."""
    after = dict(buckets)
    for line in lines:
        change = bucket_change(line)
        if line.expires_on and change:
            after[line.expires_on] = after.get(line.expires_on, 0) + change
            if after[line.expires_on] < 0:
                raise LedgerInvariantBroken(f"the bucket of {line.expires_on} would hold {after[line.expires_on]}")
    return after

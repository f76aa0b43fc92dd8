"""Holds and their steps within the second pass: each against its hold, the board, the banks' keys and the journal."""

from bisect import bisect_left
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, get_args

from ledger.errors import LedgerInvariantBroken
from ledger.holds import RefundReason, ReleaseReason, capture_lines, still_held
from ledger.journal import Line
from ledger.verify.canonical import shown
from ledger.verify.holdings import Holding
from ledger.verify.keys import Key, stands
from ledger.verify.transfers import CAPTURE_KIND, HOLD_KIND, RELEASE_KIND, Profile

AUTHORITY_OF: dict[str, tuple[str, ...]] = {
    "voided": ("bank",),
    "cancelled": ("participant",),
    "lapsed": ("rule",),
    "rest": ("bank",),
    "withdrawn": ("operator",),
}
"""By reason of a release: on whose authority it may be."""
REFUND_AUTHORITIES = ("bank", "operator")
_REFUND_REASONS = get_args(RefundReason)
assert AUTHORITY_OF.keys() == set(get_args(ReleaseReason))

Add = Callable[..., None]


@dataclass(frozen=True, slots=True)
class Board:
    """What holds and their steps may rest on.

    offers  by digest: from which entry on it could be held, or not
    banks   by bank: its keys
    """

    offers: Mapping[str, Sequence[tuple[int, bool]]] = field(default_factory=dict)
    banks: Mapping[str, Sequence[Key]] = field(default_factory=dict)

    def is_listed(self, offer: str, index: int) -> bool:
        """Whether the offer could be held at this place of the log."""
        changes = self.offers.get(offer, ())
        place = bisect_left(changes, (index, False))
        return place > 0 and changes[place - 1][1]


class Step(NamedTuple):
    """A hold, or a step of one, with the fields of its record."""

    entry: int
    at: str
    participant: str
    transfer: str
    profile: Profile
    named: str
    units: int
    value: int
    expires_at: str
    lines: tuple[Line, ...]


@dataclass(slots=True)
class _Hold:
    """A hold of which something is left: what it was, and the rest."""

    step: Step
    left: tuple[Line, ...]
    units_left: int
    value_left: int
    captured: bool = False


class Redemptions:
    """Of one partition: the holds that stand, and the captures that refunds name.

    add    takes a finding
    named  transfers that somebody names: of captures only these are kept
    """

    def __init__(self, add: Add, board: Board, named: Collection[str]) -> None:
        self._add, self._board, self._named = add, board, named
        self._holds: dict[str, _Hold] = {}
        self._captures: dict[str, Step] = {}
        self._refunded: dict[str, int] = {}

    def take(self, step: Step, holding: Holding) -> None:
        """Look at one, whose lines are not posted yet."""
        kind = step.profile.kind
        self._check_signature(step)
        if kind == HOLD_KIND:
            self._hold(step, holding)
        elif kind == CAPTURE_KIND:
            self._capture(step)
        elif kind == RELEASE_KIND:
            self._release(step, holding)
        else:
            self._refund(step, holding)

    def _check_signature(self, step: Step) -> None:
        """Only a bank that has a key acts, and signs with one that stands. That it signs where it acts, and nowhere
        else, its leaf has shown already."""
        profile, index = step.profile, step.entry
        keys = self._board.banks.get(profile.bank, ())
        if profile.kind == HOLD_KIND or not profile.signed:
            # What a bank asked for with a request may be approved when the key has ended meanwhile.
            if not any(place < index for key in keys for place, _ in key.added):
                self._add("hold-bank", f"a key of {profile.bank} that was announced before", "none", index)
        elif not any(stands(key, index, step.at) for key in keys):
            self._add("hold-bank", f"a key of {profile.bank} that stands at {step.at}", "none", index)

    def _hold(self, step: Step, holding: Holding) -> None:
        index, offer = step.entry, step.profile.offer
        self._expect("hold-lines", holding.expected_hold(step.lines), step)
        if not self._board.is_listed(offer, index):
            self._add("hold-offer", "an offer that is listed", offer, index)
        for name, amount in (*_amounts(step.lines).items(), ("value", step.value)):
            if amount % step.units:
                self._add("hold-share", f"{name} that {step.units} units share", amount, index)
        self._holds[step.transfer] = _Hold(step, step.lines, step.units, step.value)

    def _capture(self, step: Step) -> None:
        if step.transfer in self._named:
            self._captures[step.transfer] = step
        hold = self._hold_of(step)
        if hold is None:
            return
        if step.at >= hold.step.expires_at:
            self._add("hold-time", f"before {hold.step.expires_at}", step.at, step.entry)
        amounts = _amounts(step.lines)
        try:
            expected = capture_lines(hold.left, points=amounts["points"], co2e_mg=amounts["co2e_mg"])
            held = _amounts(hold.left)
            hold.left = still_held(
                hold.left,
                points=held["points"] - amounts["points"],
                co2e_mg=held["co2e_mg"] - amounts["co2e_mg"],
            )
            self._expect("capture-lines", expected, step)
        except LedgerInvariantBroken as error:
            self._expect("capture-lines", str(error), step)
        self._check_share(step, hold)
        hold.captured = True
        hold.units_left -= step.units
        hold.value_left -= step.value
        if hold.units_left <= 0:
            del self._holds[step.named]

    def _release(self, step: Step, holding: Holding) -> None:
        reason, authority = str(step.profile.rule), step.profile.authority
        if reason not in AUTHORITY_OF:
            self._add("release", f"one of {', '.join(AUTHORITY_OF)}", reason, step.entry)
        elif authority not in AUTHORITY_OF[reason]:
            self._add("step-authority", f"{reason} by {', '.join(AUTHORITY_OF[reason])}", authority, step.entry)
        hold = self._hold_of(step)
        if hold is None:
            return
        if reason == "lapsed" and step.at < hold.step.expires_at:
            self._add("hold-time", f"lapsed from {hold.step.expires_at} on", step.at, step.entry)
        if reason == "rest" and not hold.captured:
            self._add("release", "the rest of what was captured in part", "no capture before", step.entry)
        if (step.units, step.value) != (hold.units_left, hold.value_left):
            wanted = f"all that is left, {hold.units_left} units of {hold.value_left} fen"
            self._add("hold-share", wanted, f"{step.units} units of {step.value} fen", step.entry)
        self._check_share(step, hold)
        self._expect("release-lines", holding.expected_release(hold.left), step)
        del self._holds[step.named]

    def _refund(self, step: Step, holding: Holding) -> None:
        index, reason, authority = step.entry, str(step.profile.rule), step.profile.authority
        if reason not in _REFUND_REASONS:
            self._add("refund", f"one of {', '.join(_REFUND_REASONS)}", reason, index)
        if authority not in REFUND_AUTHORITIES:
            self._add("step-authority", f"by {', '.join(REFUND_AUTHORITIES)}", authority, index)
        if step.named in self._refunded:
            self._add("refund", "a capture that stands", f"refunded by entry {self._refunded[step.named]}", index)
        capture = self._captures.get(step.named)
        if capture is None or capture.participant != step.participant:
            self._add("refund", "an earlier capture of the same participant", step.named, index, step.participant)
            return
        self._refunded.setdefault(step.named, index)
        self._same_parties("refund", step, capture)
        if (step.units, step.value) != (capture.units, capture.value):
            wanted = f"the capture's {capture.units} units of {capture.value} fen"
            self._add("hold-share", wanted, f"{step.units} units of {step.value} fen", index)
        self._expect("refund-lines", holding.expected_refund(capture.lines), step)

    def _hold_of(self, step: Step) -> _Hold | None:
        hold = self._holds.get(step.named)
        if hold is None or hold.step.participant != step.participant:
            wanted = "an earlier hold of the same participant of which something is left"
            self._add("hold", wanted, step.named, step.entry, step.participant)
            return None
        self._same_parties("hold", step, hold.step)
        return hold

    def _same_parties(self, code: str, step: Step, earlier: Step) -> None:
        said = f"{step.profile.bank} {step.profile.pool}"
        agreed = f"{earlier.profile.bank} {earlier.profile.pool}"
        if said != agreed:
            self._add(code, agreed, said, step.entry)

    def _check_share(self, step: Step, hold: _Hold) -> None:
        """Points, grams and value are to the hold's as the units are, of which there were enough."""
        whole, index = hold.step, step.entry
        if step.units > hold.units_left:
            self._add("hold-share", f"at most {hold.units_left} units", step.units, index)
        mine, all_of_it = _amounts(step.lines), _amounts(whole.lines)
        shares = [(name, mine[name], all_of_it[name]) for name in mine]
        for name, part, total in (*shares, ("value", step.value, whole.value)):
            if part * whole.units != total * step.units:
                wanted = f"{name} as {step.units} of {whole.units} units have of {total}"
                self._add("hold-share", wanted, part, index)

    def _expect(self, code: str, expected: Sequence[Line] | str, step: Step) -> None:
        if expected != step.lines:
            wanted = expected if isinstance(expected, str) else [*map(shown, expected)] or "none"
            self._add(code, wanted, [*map(shown, step.lines)], step.entry)


def _amounts(lines: Sequence[Line]) -> dict[str, int]:
    """Points and milligrams of these lines."""
    found = {"points": 0, "co2e_mg": 0}
    for line in lines:
        found[line.asset] += line.amount
    return found

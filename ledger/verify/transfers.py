"""Entries of transfers that are no credits, taken apart: whose they are, what they have in common with others, and what
each has for itself."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from ledger.journal import KINDS
from ledger.verify.canonical import parts_of

(
    CREDIT_KIND, REVERSAL_KIND, LAPSE_KIND, MATURITY_KIND, HOLD_KIND, CAPTURE_KIND, RELEASE_KIND, REFUND_KIND,
) = range(len(KINDS))  # fmt: skip
# Which accounts give and take in each kind, by asset: docs/ledger.md.
ALLOWED = {
    CREDIT_KIND: {
        *((asset, "issuance", taker) for asset in ("co2e_mg", "points") for taker in ("available", "pending", "debt")),
        *(("points", "partner", taker) for taker in ("available", "pending", "debt")),
    },
    REVERSAL_KIND: {
        *((asset, giver, "issuance") for asset in ("co2e_mg", "points") for giver in ("available", "pending", "debt")),
        *(("points", giver, "partner") for giver in ("available", "pending", "debt")),
    },
    LAPSE_KIND: {("points", "available", "lapsed")},
    MATURITY_KIND: {(asset, "pending", taker) for asset in ("co2e_mg", "points") for taker in ("available", "debt")},
    HOLD_KIND: {(asset, "available", "held") for asset in ("co2e_mg", "points")},
    CAPTURE_KIND: {("points", "held", "redeemed"), ("co2e_mg", "held", "partner")},
    RELEASE_KIND: {(asset, "held", taker) for asset in ("co2e_mg", "points") for taker in ("available", "debt")},
    REFUND_KIND: {
        *(("points", "redeemed", taker) for taker in ("available", "debt")),
        *(("co2e_mg", "partner", taker) for taker in ("available", "debt")),
    },
}

_KIND = '"kind":"'
_BEYOND = 14  # characters behind that within which the kind's name has ended


@dataclass(frozen=True, slots=True)
class Profile:
    """What many entries have in common: a record names its place in the list of its chunk's profiles.

    kind       the place in KINDS
    who        the participant's kind, programme and region
    rule       the points rule of a credit or a maturity; the reason of a reversal, a release or a refund
    source     of a credit, and its grade
    authority  of what is taken back, freed or given back; empty where the kind has none
    bank, pool, offer  of a hold and of its steps; the offer of a hold alone
    signed     whether a hold or a step names the bank's signature
    """

    kind: int
    who: tuple[str, str, str]
    rule: str | None = None
    source: str = ""
    grade: str = ""
    authority: str = ""
    bank: str = ""
    pool: str = ""
    offer: str = ""
    signed: bool = False


class Transfer(NamedTuple):
    """An entry taken apart.

    named           the transfer that a reversal, a maturity or a refund names, or the hold that a step draws on
    units, value    of a hold and of its steps, as they are written; empty else
    expires_at      of a hold
    """

    profile: Profile
    at: str
    counter: str
    day: str
    participant: str
    transfer: str
    lines: str
    named: str = ""
    units: str = ""
    value: str = ""
    expires_at: str = ""


def take_apart(text: str) -> Transfer | None:
    """The parts of a canonical entry of a transfer; None where it is none, or a credit.

    text  an entry of which is_plain() holds
    """
    at = text.find(_KIND) + len(_KIND)
    kind = text[at : at + _BEYOND].partition('"')[0]
    parts = parts_of(text, kind)
    return None if parts is None else _PARTS[kind](parts)


Groups = tuple[str, ...]


def _reversal(groups: Groups) -> Transfer:
    at, authority, counter, day, lines, participant, kind, programme, reason, region, reverses, transfer = groups
    profile = Profile(REVERSAL_KIND, (kind, programme, region), reason, authority=authority)
    return Transfer(profile, at, counter, day, participant, transfer, lines, reverses)


def _lapse(groups: Groups) -> Transfer:
    at, counter, day, lines, participant, kind, programme, region, transfer = groups
    return Transfer(Profile(LAPSE_KIND, (kind, programme, region)), at, counter, day, participant, transfer, lines)


def _maturity(groups: Groups) -> Transfer:
    at, authority, counter, day, lines, matures, participant, kind, rule, programme, region, transfer = groups
    profile = Profile(MATURITY_KIND, (kind, programme, region), rule, authority=authority)
    return Transfer(profile, at, counter, day, participant, transfer, lines, matures)


def _hold(groups: Groups) -> Transfer:
    (
        at, bank, counter, day, expires_at, lines, offer, participant, kind, pool, programme, region, signature,
        transfer, units, value,
    ) = groups  # fmt: skip
    profile = Profile(
        HOLD_KIND, (kind, programme, region), bank=bank, pool=pool, offer=offer, signed=signature is not None
    )
    return Transfer(profile, at, counter, day, participant, transfer, lines, "", units, value, expires_at)


def _capture(groups: Groups) -> Transfer:
    (
        at, bank, counter, day, hold, lines, participant, kind, pool, programme, region, signature, transfer, units,
        value,
    ) = groups  # fmt: skip
    profile = Profile(CAPTURE_KIND, (kind, programme, region), bank=bank, pool=pool, signed=signature is not None)
    return Transfer(profile, at, counter, day, participant, transfer, lines, hold, units, value)


def _release(groups: Groups) -> Transfer:
    (
        at, authority, bank, counter, day, hold, lines, participant, kind, pool, programme, reason, region, signature,
        transfer, units, value,
    ) = groups  # fmt: skip
    who = kind, programme, region
    profile = Profile(
        RELEASE_KIND, who, reason, authority=authority, bank=bank, pool=pool, signed=signature is not None
    )
    return Transfer(profile, at, counter, day, participant, transfer, lines, hold, units, value)


def _refund(groups: Groups) -> Transfer:
    (
        at, authority, bank, counter, day, lines, participant, kind, pool, programme, reason, region, reverses,
        signature, transfer, units, value,
    ) = groups  # fmt: skip
    who = kind, programme, region
    profile = Profile(REFUND_KIND, who, reason, authority=authority, bank=bank, pool=pool, signed=signature is not None)
    return Transfer(profile, at, counter, day, participant, transfer, lines, reverses, units, value)


_PARTS: dict[str, Callable[[Groups], Transfer]] = {
    "reversal": _reversal,
    "lapse": _lapse,
    "maturity": _maturity,
    "hold": _hold,
    "capture": _capture,
    "release": _release,
    "refund": _refund,
}

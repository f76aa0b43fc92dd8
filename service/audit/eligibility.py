"""Whether a participant could redeem what they redeemed, by what the log says of them alone: in the second pass."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import date

from service.audit.documents import Documents
from service.audit.findings import Open
from service.products.model import MG_PER_G, Facts, Offer, price, reasons, year_before

UNKNOWN_FACTS = frozenset({"covered", "available_points"})
"""What no entry shows of a person: the register of covered entities, and points at a moment within a batch. What was
decided by stands in the terms of a hold."""


@dataclass(slots=True)
class _Held:
    """A redemption as it stands: the offer's id, its day and end, and its units."""

    offer: str
    day: str
    expires_at: str
    left: int
    captured: int = 0
    given_back: int = 0

    def standing(self, at: str) -> int:
        """Units that are held or captured, less what was given back; a dead hold's are nobody's."""
        return self.captured - self.given_back + (self.left if self.expires_at > at else 0)


Verified = Callable[[str, date, date], int]


@dataclass(frozen=True, slots=True)
class HoldTold:
    """A hold as the first pass hands it on; `covered` is None where its terms are not there."""

    entry: int
    participant: str
    transfer: str
    offer: str
    units: int
    points: int
    at: str
    day: str
    kind: str
    region: str
    expires_at: str
    covered: bool | None
    available_points: int


class Eligibility:
    """Of one partition."""

    def __init__(self, documents: Documents, find: Callable[..., None], open_: Open) -> None:
        self._documents, self._find, self._open = documents, find, open_
        self._redemptions: dict[str, dict[str, _Held]] = {}
        self._captures: dict[str, _Held] = {}

    def hold(self, told: HoldTold, verified_mg: Verified) -> None:
        """Hold one against the offer's price and requirements, then remember it.

        verified_mg   of a participant, in the days behind one up to another. It is handed in each time: kept here it
                      would make a cycle with whoever has this, and a replay does not collect those
        """
        mine = self._redemptions.setdefault(told.participant, {})
        offer = self._documents.offers.get(told.offer)
        if offer is None:
            return
        facts = self._facts(told, offer, mine, verified_mg)
        if told.points != offer.points(told.units, facts):
            wanted = f"{price(offer, facts)} points for each of {told.units} units"
            self._find("offer-price", wanted, told.points, told.entry, told.participant)
        missing = UNKNOWN_FACTS if told.covered is None else frozenset()
        unknown = tuple(one for one in offer.conditions if missing & set(one.formula.expression.names))
        if unknown:
            self._open.add("eligibility", f"entry {told.entry}")
        known = tuple(one for one in offer.conditions if one not in unknown)
        for reason in reasons(replace(offer, conditions=known), facts, told.units):
            if reason.code != "not-valid-today":  # said in the first pass
                self._find("eligible", f"{offer.id}: {reason.en}", f"{told.units} units", told.entry, told.participant)
        mine[told.transfer] = _Held(offer.id, told.day, told.expires_at, told.units)

    def _facts(self, told: HoldTold, offer: Offer, mine: Mapping[str, _Held], verified_mg: Verified) -> Facts:
        day = date.fromisoformat(told.day)
        standing = [(one.day, one.standing(told.at)) for one in mine.values() if one.offer == offer.id]
        verified = verified_mg(told.participant, year_before(day), day) if offer.weighs_grams else 0
        return Facts(
            kind=told.kind,
            region=told.region,
            verified_g=verified // MG_PER_G,
            redeemed_units_this_year=sum(units for when, units in standing if when[:4] == told.day[:4]),
            redeemed_before=any(units > 0 for _, units in standing),
            covered=bool(told.covered),
            available_points=told.available_points,
            day=day,
        )

    def step(self, kind: str, participant: str, transfer: str, named: str, units: int) -> None:
        """Remember what became of a hold; what is wrong with it, the verification says."""
        if kind == "refund":
            captured = self._captures.get(named)
            if captured is not None:
                captured.given_back += units
            return
        held = self._redemptions.get(participant, {}).get(named)
        if held is None:
            return
        held.left -= units
        if kind == "capture":
            held.captured += units
            self._captures[transfer] = held
